"""Annotated folders as nnU-Net and the Decathlon lay them out, and their defects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from meddinov3.errors import MedDINOv3Error
from meddinov3_training.dataset import content_hash, read_case_label, read_dataset
from synthetic_dataset import LABELS, SHAPE, draw_case, save, write_dataset, write_json


def refused(folder: Path) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        read_dataset(folder)
    assert caught.value.message
    assert caught.value.remedy, "a person must be told what to do"
    return caught.value


def change(folder: Path, **entries: Any) -> Path:
    """Replace entries of dataset.json; None removes one."""
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8")) | entries
    return write_json(folder, {key: value for key, value in content.items() if value is not None})


# nnU-Net's raw layout.


def test_raw_layout_with_several_channels(tmp_path: Path) -> None:
    folder = write_dataset(
        tmp_path, 3, channels=("T1", "T2"), ending=".mha", licence="CC0", reference="nobody"
    )
    dataset = read_dataset(folder)
    assert dataset.name == "Balls"
    assert dataset.channels == ("T1", "T2")
    assert [(label.name, label.value) for label in dataset.labels] == [("ball", 1), ("box", 2)]
    assert dataset.members == ((1,), (2,))
    assert not dataset.regions
    assert dataset.ignore is None
    assert (dataset.licence, dataset.reference) == ("CC0", "nobody")
    assert [case.id for case in dataset.cases] == ["case_0", "case_1", "case_2"]
    images, labels = draw_case(1, 2)
    volume = dataset.cases[1].read()
    assert volume.grid.spacing == (1.0, 1.0, 2.0)
    for channel, expected in zip(volume.channels, images, strict=True):
        np.testing.assert_array_equal(channel, expected)
    np.testing.assert_array_equal(read_case_label(dataset.cases[1], volume, dataset), labels)


def test_channels_follow_their_numbers_not_their_text(tmp_path: Path) -> None:
    names = tuple(f"c{n}" for n in range(11))
    folder = write_dataset(tmp_path, 1, channels=names)
    change(folder, channel_names={str(n): names[n] for n in reversed(range(11))})
    dataset = read_dataset(folder)
    assert dataset.channels == names
    assert [p.name for p in dataset.cases[0].images] == [f"case_0_{n:04d}.nrrd" for n in range(11)]


def test_channels_on_another_grid_are_resampled_to_the_first(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, 1, channels=("T1", "T2"))
    ramp = np.broadcast_to(np.arange(0, 32, 2, dtype=np.float32), (12, 40, 16))
    image = sitk.GetImageFromArray(ramp)  # half as many columns, twice as wide
    image.SetSpacing((2.0, 1.0, 2.0))
    image.SetOrigin((-20.0, 5.0, 30.0))
    sitk.WriteImage(image, folder / "imagesTr" / "case_0_0001.nrrd")
    volume = read_dataset(folder).cases[0].read()
    assert volume.channels[1].shape == SHAPE
    np.testing.assert_allclose(
        volume.channels[1][..., :31], np.broadcast_to(np.arange(31.0), (12, 40, 31))
    )


def test_only_files_of_the_stated_ending_are_cases(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, 2, ending=".nii.gz")
    (folder / "labelsTr" / "notes.txt").write_text("not a case")
    save(folder / "labelsTr" / "other.nrrd", np.zeros(SHAPE, np.uint8))
    assert [case.id for case in read_dataset(folder).cases] == ["case_0", "case_1"]


def test_background_is_no_structure_whatever_it_is_called(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, 1, labels={"box": 2, "air": 0, "ball": [1]})
    assert [(label.name, label.value) for label in read_dataset(folder).labels] == [
        ("box", 2), ("ball", 1),
    ]  # fmt: skip


def test_ignore_label_is_no_structure(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path, 1, labels={**LABELS, "ignore": 3}))
    assert dataset.ignore == 3
    assert [label.name for label in dataset.labels] == ["ball", "box"]


def test_regions_keep_their_members_and_order(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": [3], "ignore": 4}
    dataset = read_dataset(write_dataset(tmp_path, 1, labels=labels, regions_class_order=[1, 2, 3]))
    assert dataset.regions
    assert dataset.members == ((1, 2, 3), (2, 3), (3,))
    assert [(label.name, label.value) for label in dataset.labels] == [
        ("whole", 1), ("core", 2), ("active", 3),
    ]  # fmt: skip
    assert dataset.ignore == 4


def test_region_values_come_from_the_class_order(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "active": 3}
    dataset = read_dataset(write_dataset(tmp_path, 1, labels=labels, regions_class_order=[2, 1, 3]))
    assert [label.value for label in dataset.labels] == [2, 1, 3]


# Lists of files.


def test_explicit_file_lists(tmp_path: Path) -> None:
    images, labels = draw_case(7, 2)
    elsewhere = tmp_path / "elsewhere" / "t2.nrrd"
    save(tmp_path / "set" / "scans" / "t1.nrrd", images[0])
    save(elsewhere, images[1])
    save(tmp_path / "set" / "masks" / "m.nrrd", labels)
    entry = {"images": ["scans/t1.nrrd", str(elsewhere)], "label": "masks/m.nrrd"}
    folder = write_json(
        tmp_path / "set",
        {
            "channel_names": {"0": "T1", "1": "T2"},
            "labels": LABELS,
            "file_ending": ".nrrd",
            "dataset": {"patient": entry},
        },
    )
    dataset = read_dataset(folder)
    assert dataset.name == "set", "without a name the folder gives it"
    (case,) = dataset.cases
    assert case.id == "patient"
    volume = case.read()
    np.testing.assert_array_equal(volume.channels[1], images[1])
    np.testing.assert_array_equal(read_case_label(case, volume, dataset), labels)


def test_decathlon_lists(tmp_path: Path) -> None:
    images, labels = draw_case(3)
    save(tmp_path / "imagesTr" / "hippocampus_001.nii.gz", images[0])
    save(tmp_path / "labelsTr" / "hippocampus_001.nii.gz", labels)
    entry = {
        "image": "./imagesTr/hippocampus_001.nii.gz",
        "label": "./labelsTr/hippocampus_001.nii.gz",
    }
    write_json(
        tmp_path,
        {
            "name": "Hippocampus",
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
            "licence": "CC-BY-SA 4.0",
            "training": [entry],
            "test": ["./imagesTs/hippocampus_002.nii.gz"],
        },
    )
    dataset = read_dataset(tmp_path)
    assert dataset.channels == ("MRI",)
    names = [(label.name, label.value) for label in dataset.labels]
    assert names == [("Anterior", 1), ("Posterior", 2)]
    (case,) = dataset.cases
    assert case.id == "hippocampus_001"
    np.testing.assert_array_equal(read_case_label(case, case.read(), dataset), labels)


# Defects.


def test_no_dataset_there(tmp_path: Path) -> None:
    assert refused(tmp_path).code == "no-dataset"
    assert refused(tmp_path / "nowhere").code == "no-dataset"


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00"])
def test_damaged_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    assert refused(tmp_path).code == "no-dataset"


@pytest.mark.parametrize("content", [[], "text", 3, None, {}, {"channel_names": {"0": "CT"}}])
def test_json_that_is_no_dataset(tmp_path: Path, content: Any) -> None:
    assert refused(write_json(tmp_path, content)).code == "bad-dataset"


@pytest.mark.parametrize(
    "entries",
    [
        {"labels": None},
        {"labels": ["background", "ball"]},
        {"labels": {"background": 0, "ball": "one"}},
        {"labels": {"background": 0}},
        {"channel_names": None},
        {"channel_names": {"first": "MR"}},
        {"channel_names": ["MR"]},
        {"file_ending": None},
        {"labels": {"background": 0, "whole": [1, 2], "core": [2]}},
        {"labels": {"background": 0, "a": [1, 2], "b": [2]}, "regions_class_order": [1]},
        {"dataset": {"a": {"images": ["imagesTr/case_0_0000.nrrd"]}}},
        {"dataset": {"a": {"label": "labelsTr/case_0.nrrd"}}},
        {"training": [{"image": "imagesTr/case_0_0000.nrrd"}]},
    ],
)
def test_entries_missing_or_garbled(tmp_path: Path, entries: dict[str, Any]) -> None:
    folder = change(write_dataset(tmp_path, 1), **entries)
    if "training" in entries:  # nnU-Net ignores a list where there is a file ending
        folder = change(folder, file_ending=None)
    assert refused(folder).code == "bad-dataset"


def test_a_list_with_too_few_images_for_the_channels(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, 1, channels=("T1", "T2"))
    entry = {"images": ["imagesTr/case_0_0000.nrrd"], "label": "labelsTr/case_0.nrrd"}
    assert refused(change(folder, dataset={"case_0": entry})).code == "bad-dataset"


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, 4, channels=("T1", "T2"))
    for name in ("case_1_0001", "case_3_0000"):
        (folder / "imagesTr" / f"{name}.nrrd").unlink()
    error = refused(folder)
    assert error.code == "cases-missing"
    for name in ("case_1_0001.nrrd", "case_3_0000.nrrd", "2 files", "4 training cases"):
        assert name in error.message
    assert "case_1_0000.nrrd" not in error.message


def test_a_missing_file_outside_the_folder_is_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "set", 1)
    absent = tmp_path / "elsewhere" / "scan.nrrd"
    entry = {"images": [str(absent)], "label": "labelsTr/case_0.nrrd"}
    error = refused(change(folder, dataset={"a": entry}))
    assert error.code == "cases-missing"
    assert "scan.nrrd" in error.message


def test_no_cases_at_all(tmp_path: Path) -> None:
    error = refused(write_dataset(tmp_path, 0))
    assert error.code == "cases-missing"
    assert "0 training cases" in error.message


@pytest.mark.parametrize("defect", ["spacing", "size", "origin"])
def test_labels_on_another_grid_are_refused(tmp_path: Path, defect: str) -> None:
    folder = write_dataset(tmp_path, 1)
    path = folder / "labelsTr" / "case_0.nrrd"
    image = sitk.ReadImage(path)
    if defect == "size":
        image = image[:, :, :-1]
    elif defect == "spacing":
        image.SetSpacing((1.0, 1.02, 2.0))  # 0.8 mm over forty rows
    else:
        image.SetOrigin((-20.0, 5.0, 30.2))
    sitk.WriteImage(image, path)
    dataset = read_dataset(folder)
    (case,) = dataset.cases
    with pytest.raises(MedDINOv3Error, match="case_0") as caught:
        read_case_label(case, case.read(), dataset)
    assert caught.value.code == "label-grid"


def test_labels_a_hair_off_the_grid_are_accepted(tmp_path: Path) -> None:
    """NIfTI keeps float32, and other programs round."""
    folder = write_dataset(tmp_path, 1)
    path = folder / "labelsTr" / "case_0.nrrd"
    image = sitk.ReadImage(path)
    image.SetOrigin((-20.001, 5.0, 30.01))
    sitk.WriteImage(image, path)
    dataset = read_dataset(folder)
    (case,) = dataset.cases
    np.testing.assert_array_equal(read_case_label(case, case.read(), dataset), draw_case(0)[1])


def test_a_label_map_with_fractions_is_refused(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, 1)
    save(folder / "labelsTr" / "case_0.nrrd", draw_case(0)[1].astype(np.float32) + 0.25)
    dataset = read_dataset(folder)
    (case,) = dataset.cases
    with pytest.raises(MedDINOv3Error) as caught:
        read_case_label(case, case.read(), dataset)
    assert caught.value.code == "not-labels"


def test_values_without_a_name_are_refused(tmp_path: Path) -> None:
    """They would become background, and nobody would know."""
    dataset = read_dataset(write_dataset(tmp_path, 1, labels={"background": 0, "ball": 1}))
    (case,) = dataset.cases
    with pytest.raises(MedDINOv3Error, match="case_0") as caught:
        read_case_label(case, case.read(), dataset)
    assert caught.value.code == "unknown-values"
    assert "[2]" in caught.value.message


def test_two_labels_with_one_value_are_the_datasets_fault(tmp_path: Path) -> None:
    error = refused(write_dataset(tmp_path, 1, labels={"background": 0, "a": 1, "b": 1}))
    assert error.code == "bad-dataset"
    assert "one value" in error.message


def test_what_nnunet_ignores_is_ignored(tmp_path: Path) -> None:
    """A list left over from the Decathlon, and the files macOS leaves on foreign disks."""
    folder = write_dataset(tmp_path, 2, training=[{"image": "gone", "label": "gone"}])
    (folder / "labelsTr" / "._case_0.nrrd").write_bytes(b"Mac OS X")
    assert [case.id for case in read_dataset(folder).cases] == ["case_0", "case_1"]


def test_content_hash_knows_voxels_and_not_names(tmp_path: Path) -> None:
    first = read_dataset(write_dataset(tmp_path / "a", 2)).cases
    second = read_dataset(write_dataset(tmp_path / "b", 2)).cases
    assert content_hash(first) == content_hash(second)
    save(second[1].label, np.zeros((12, 40, 32), np.uint8))
    assert content_hash(first) != content_hash(second)
