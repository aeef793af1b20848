"""The catalogue says what timm and the import say, and is read without torch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import timm
import torch
from meddinov3.catalogue import CATALOGUE, Catalogue, CatalogueEntry, catalogue, find_entry
from meddinov3.checkpoints.importing import ORIGINS
from meddinov3.errors import MedDINOv3Error
from meddinov3.network.backbone import Backbone, BackboneShape

ENTRIES = {entry.id: entry for entry in catalogue()}


def test_what_it_offers() -> None:
    assert list(ENTRIES) == [
        "meddinov3-ct", "dinov3-small", "dinov3-small-plus", "dinov3-base", "dinov3-large",
        "dinov3-huge-plus",
    ]  # fmt: skip
    assert find_entry("dinov3-base") is ENTRIES["dinov3-base"]
    assert find_entry("dinov4") is None


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=list(ENTRIES))
def test_size_is_that_of_the_architecture(entry: CatalogueEntry) -> None:
    with torch.device("meta"):
        network = Backbone(BackboneShape(entry.architecture, in_channels=3))
    megabytes = 4 * sum(p.numel() for p in network.parameters()) / 1e6
    assert entry.megabytes == pytest.approx(megabytes, rel=0.01)


@pytest.mark.parametrize("entry", [e for e in ENTRIES.values() if e.id.startswith("dinov3")])
def test_timm_has_it_at_the_same_place(entry: CatalogueEntry) -> None:
    owner, _, name = entry.repository.partition("/")
    assert owner == "timm" and name.startswith(entry.architecture + ".")
    assert timm.get_pretrained_cfg(name).hf_hub_id == entry.repository
    assert timm.get_pretrained_cfg(name).license == "dinov3-license"


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=list(ENTRIES))
def test_licence_is_the_one_that_an_import_writes(entry: CatalogueEntry) -> None:
    about = ORIGINS[entry.id.partition("-")[0]]
    assert (entry.licence, entry.modality) == (about.licence, about.modality)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "A B"},
        {"repository": "nowhere"},
        {"file": "../model.pth"},
        {"file": "model.onnx"},
        {"megabytes": 0},
        {"megabytes": "many"},
        {"licence": ""},
        {"licence_pages": []},
        {"licence_pages": ["http://example.org"]},
        {"revision": "main"},
        {"sha256": "abc"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_entries_that_are_none(change: dict) -> None:
    content = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    content["backbones"][1] |= change
    with pytest.raises(MedDINOv3Error) as caught:
        Catalogue.from_json(json.dumps(content))
    assert caught.value.code == "bad-description"
    assert "catalogue.json" in caught.value.message
    assert caught.value.remedy == "Install MedDINOv3 again."


def test_ids_are_used_once() -> None:
    twice = Catalogue.from_json(CATALOGUE.read_text(encoding="utf-8")).to_json()
    content = json.loads(twice)
    content["backbones"].append(content["backbones"][0])
    with pytest.raises(MedDINOv3Error, match="share an id"):
        Catalogue.from_json(json.dumps(content))


def test_sizes_in_words() -> None:
    assert ENTRIES["dinov3-small"].size == "about 86 MB"
    assert dataclasses.replace(ENTRIES["dinov3-small"], megabytes=3360).size == "about 3.4 GB"


def test_is_read_without_torch_and_without_the_hubs_library() -> None:
    code = (
        "import sys, meddinov3.hub, meddinov3.catalogue as c; c.catalogue();"
        "sys.exit(repr({'torch', 'timm', 'huggingface_hub', 'SimpleITK'} & set(sys.modules))"
        " if {'torch', 'timm', 'huggingface_hub', 'SimpleITK'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
