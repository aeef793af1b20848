"""What a run starts from, and what it refuses before anything is lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import describe, make_bundle
from meddinov3.backbone_file import write_backbone
from meddinov3.bundle import read_bundle
from meddinov3.checkpoints.pth import read_pth
from meddinov3.checkpoints.upstream import backbone_weights, shape_of, unwrap
from meddinov3.description import BackboneDescription, Sampling
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import SliceOrientation
from meddinov3.model_store import read_description
from meddinov3.segmentation import load_model, segment
from meddinov3_training import task as task_module
from meddinov3_training.finetune import finetune
from short_runs import alone, contents, events_of, narrow_base, quick, told  # noqa: F401
from synthetic_dataset import save, write_dataset

# What a base keeps.


@pytest.mark.parametrize(
    ("names", "restarted"), [(("ball", "box"), False), (("box", "ball"), True), (("x", "y"), True)]
)
def test_last_layer_is_kept_for_the_same_labels_only(
    tmp_path: Path, names: tuple[str, str], restarted: bool
) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", *names)
    finetune(dataset, tmp_path / "run", quick(base, validation=0))
    notes = told(tmp_path / "run", "start")[0]["notes"]
    assert any("starts anew" in note for note in notes) == restarted


# Refusals.


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    before = contents(tmp_path)
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, tmp_path / "run", quick(base))
    assert caught.value.code == "run-exists"
    assert contents(tmp_path) == before


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    (tmp_path / "run").mkdir()
    assert finetune(dataset, tmp_path / "run", quick(base)).is_dir()


@pytest.mark.parametrize("held_out", [3, 4, -1])
def test_some_cases_must_be_left_for_training(tmp_path: Path, held_out: int) -> None:
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, tmp_path / "run", quick(base, validation=held_out))
    assert caught.value.code == "split"


def test_a_fifth_is_held_out_unless_told_otherwise(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 6), narrow_base(tmp_path / "base", "x", "y")
    finetune(dataset, tmp_path / "run", quick(base, validation=None, steps=1))
    start = told(tmp_path / "run", "start")[0]
    assert (start["training"], start["held_out"]) == (5, 1)


def test_a_base_with_other_channels_is_refused(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, tmp_path / "run", quick(base, slice_offsets=(-2.0, 0.0, 2.0)))
    assert caught.value.code == "base-does-not-fit"


def test_labels_off_their_scan_are_refused(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    save(dataset / "labelsTr" / "case_1.nrrd", np.zeros((12, 40, 31), np.uint8))
    with pytest.raises(MedDINOv3Error, match="case_1") as caught:
        finetune(dataset, tmp_path / "run", quick(base, validation=0))
    assert caught.value.code == "dataset-defects"


def test_a_run_that_diverges_leaves_no_model(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(
            dataset, tmp_path / "run", quick(base, steps=20, decoder_rate=1e30, backbone_rate=1e30)
        )
    assert caught.value.code == "diverged"
    assert not list((tmp_path / "run").rglob("model.json"))


# What is known beforehand must not cost the training.


@pytest.mark.parametrize(
    "wrong",
    [{"spacing": (0.0, 1.0)}, {"spacing": (-1.0, -1.0)}, {"decoder_rate": -1.0},
     {"backbone_rate": float("nan")}, {"slice_offsets": (float("nan"),)}, {"slice_offsets": ()},
     {"name": "../elsewhere"}, {"name": "a/b"}, {"name": "config.json"},
     {"name": "fold_0"}, {"name": "nul"}, {"name": "x."},
     {"steps": None, "seconds": 0.0}],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_be_meant(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(tmp_path / "d", tmp_path / "run", quick(tmp_path, **wrong))
    assert caught.value.code == "bad-settings"
    assert not (tmp_path / "run").exists()


def test_a_defect_of_a_held_out_case_shows_before_training(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    for number in range(3):  # whichever is held out
        save(dataset / "labelsTr" / f"case_{number}.nrrd", np.full((12, 40, 32), number + 7))
    with pytest.raises(MedDINOv3Error):
        finetune(dataset, tmp_path / "run", quick(base, steps=10**6))
    assert [e["event"] for e in events_of(tmp_path / "run")][-1] == "error", "watchers must know"
    write_dataset(dataset, 3)
    assert finetune(dataset, tmp_path / "run", quick(base)).is_dir(), "mended, it finds no obstacle"
    assert told(tmp_path / "run", "error") == []


def test_a_model_survives_scoring_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("scoring")

    monkeypatch.setattr("meddinov3_training.validation.predict", fails)
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    with pytest.raises(RuntimeError, match="scoring"):
        finetune(dataset, tmp_path / "run", quick(base, name="mine"))
    read_bundle(tmp_path / "run" / "mine")


def test_context_licence_and_attribution_come_from_the_base(tmp_path: Path) -> None:
    described = dataclasses.replace(
        describe(
            "x", "y", sampling=Sampling(SliceOrientation(), (1.0, 1.0), (64, 64), (-2.0, 0.0, 2.0))
        ),
        licence="CC-BY-SA-4.0",
        attribution="Decathlon",
    )
    base = make_bundle(tmp_path / "base", described)
    dataset = write_dataset(tmp_path / "d", 2, licence="CC0")
    bundle = finetune(dataset, tmp_path / "run", quick(base, validation=0))
    made = read_description(bundle)
    assert made.sampling.slice_offsets == (-2.0, 0.0, 2.0)
    assert made.licence == "CC0; CC-BY-SA-4.0"
    assert made.attribution == "Decathlon"
    assert len(made.training["dataset_sha256"]) == 64


def test_channels_of_one_name_can_be_addressed(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", 2, channels=("MR", "MR"))
    base = narrow_base(tmp_path / "base", "x", "y", channels=2)
    bundle = finetune(dataset, tmp_path / "run", quick(base, validation=0))
    image = dataset / "imagesTr" / "case_0_0000.nrrd"
    second = {"MR 2": str(dataset / "imagesTr" / "case_0_0001.nrrd")}
    result = segment(image, load_model(str(bundle), device="cpu"), channels=second)
    assert result.label_map.shape == (12, 40, 32)


def test_a_backbone_file_is_a_base(tmp_path: Path, data: Path) -> None:
    tensors = unwrap(read_pth(data / "reference_checkpoints" / "model.pth"))
    shape = shape_of(tensors, 3)
    described = BackboneDescription(
        "", "Reference", shape.name, 3, shape.overrides, origin="meddinov3", licence="Apache-2.0"
    )
    write_backbone(tmp_path / "ref", described, backbone_weights(tensors, 3))
    bundle = finetune(
        write_dataset(tmp_path / "d", 2),
        tmp_path / "run",
        quick(tmp_path / "ref", validation=0, backbone_rate=0.0),
    )
    made, network = read_bundle(bundle)
    assert made.network.backbone_source == "backbone ref"
    assert made.licence == "Apache-2.0"
    kept = network.backbone.vit.blocks[0].attn.qkv.weight
    torch.testing.assert_close(kept, tensors["blocks.0.attn.qkv.weight"], atol=1e-3, rtol=1e-3)


def test_numbers_that_are_none_do_not_spoil_the_training(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    path = dataset / "imagesTr" / "case_0_0000.nrrd"
    scan = sitk.GetArrayFromImage(sitk.ReadImage(path))
    scan[3, 4, 5], scan[6, 7, 8] = np.nan, np.inf
    save(path, scan)
    finetune(dataset, tmp_path / "run", quick(base, steps=6, validation=0))
    assert any("2 voxel(s)" in note for note in told(tmp_path / "run", "start")[0]["notes"])


@pytest.mark.parametrize(
    ("channels", "modality"),
    [(("CT",), "CT"), (("ct ",), "CT"), (("MRI T1", "MR"), "MR"), (("either_CT_or_MR",), ""),
     (("CT", "MR"), ""), (("ADC",), ""), (("PET", "CT"), "")],
)  # fmt: skip
def test_modality_is_what_every_channel_says(channels: tuple[str, ...], modality: str) -> None:
    assert task_module._modality(channels) == modality
