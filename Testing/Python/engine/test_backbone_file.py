"""Backbone files: a backbone with its mask token, from others' files and back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from meddinov3.backbone_file import read_backbone, shape_of_file, write_backbone
from meddinov3.checkpoints.pth import read_pth
from meddinov3.checkpoints.upstream import backbone_weights, shape_of, unwrap
from meddinov3.description import BackboneDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.network.backbone import Backbone


@pytest.fixture
def tensors(data: Path) -> dict[str, torch.Tensor]:
    return unwrap(read_pth(data / "reference_checkpoints" / "model.pth"))


@pytest.fixture
def folder(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    shape = shape_of(tensors, 3)
    described = BackboneDescription(
        "", "Reference", shape.name, 3, shape.overrides, shape.norm_eps, origin="meddinov3"
    )
    weights = backbone_weights(tensors, 3)
    write_backbone(tmp_path / "reference", described, weights, tensors["mask_token"])
    return tmp_path / "reference"


def refusal(folder: Path) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        read_backbone(folder)
    return caught.value


def change_json(folder: Path, **entries: object) -> None:
    path = folder / "backbone.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_features_are_those_of_the_published_code(folder: Path, data: Path) -> None:
    read = read_backbone(folder)
    network = Backbone(shape_of_file(read.description)).eval()
    network.load_state_dict(dict(read.weights))
    expected = np.load(data / "reference_checkpoints" / "expected.npz")
    slices = torch.from_numpy(expected["x"]).repeat(1, 3, 1, 1)
    with torch.inference_mode():
        found = network(slices).transpose(1, 2).unflatten(2, (4, 6))
    np.testing.assert_allclose(found.numpy(), expected["features_rope_fp32"], atol=1e-4)


def test_the_mask_token_is_kept(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    read = read_backbone(folder)
    assert read.mask_token is not None
    assert torch.equal(read.mask_token, tensors["mask_token"].reshape(1, -1))
    assert read.description.has_mask_token
    assert read.description.id == "reference"
    assert {path.name for path in folder.iterdir()} == {"backbone.json", "backbone.safetensors"}


def test_altered_weights(folder: Path) -> None:
    path = folder / "backbone.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    assert refusal(folder).code == "weights-altered"


@pytest.mark.parametrize(
    ("entries", "code"),
    [({"backbone": "resnet50"}, "unknown-backbone"), ({"format": 9}, "later-format"),
     ({"in_channels": 1}, "weights-do-not-fit"), ({"has_mask_token": False}, "weights-do-not-fit"),
     ({"surprise": 1}, "bad-description"), ({"overrides": {"num_heads": 7}}, "bad-description"),
     ({"overrides": {"surprise": 1}}, "bad-description")],
    ids=str,
)  # fmt: skip
def test_a_description_of_something_else(folder: Path, entries: dict, code: str) -> None:
    change_json(folder, **entries)
    assert refusal(folder).code == code


def test_no_backbone(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == "no-backbone"


def test_incomplete_weights_are_not_written(folder: Path) -> None:
    read = read_backbone(folder)
    weights = dict(read.weights)
    weights.pop("vit.cls_token")
    described = dataclasses.replace(read.description, name="Short")
    with pytest.raises(MedDINOv3Error, match="cls_token"):
        write_backbone(folder.with_name("short"), described, weights)
    assert not folder.with_name("short").exists()


@pytest.mark.parametrize(
    ("width", "gated", "periods", "name", "heads"),
    [(384, False, 16, "vit_small_patch16_dinov3", 6), (384, True, 16,
      "vit_small_plus_patch16_dinov3", 6), (1024, False, 16, "vit_large_patch16_dinov3", 16),
     (1280, True, 16, "vit_huge_plus_patch16_dinov3", 20),
     (4096, True, 32, "vit_7b_patch16_dinov3", 32), (4096, True, None,
      "vit_7b_patch16_dinov3", 32)],
)  # fmt: skip
def test_sizes_are_told_from_the_tensors(
    width: int, gated: bool, periods: int | None, name: str, heads: int
) -> None:
    """Every name that Meta's files map to equals a network that timm builds."""
    with torch.device("meta"):
        tensors = {
            "patch_embed.proj.weight": torch.empty(width, 3, 16, 16),
            "storage_tokens": torch.empty(1, 4, width),
            f"blocks.0.mlp.{'w1' if gated else 'fc1'}.weight": torch.empty(8, width),
        }
        if periods:
            tensors["rope_embed.periods"] = torch.empty(periods)
    shape = shape_of(tensors)
    assert (shape.name, shape.overrides["num_heads"]) == (name, heads)
    renamed = backbone_weights(tensors)
    assert f"vit.blocks.0.mlp.{'fc1_g' if gated else 'fc1'}.weight" in renamed
