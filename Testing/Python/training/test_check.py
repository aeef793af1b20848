"""Every defect of a dataset is found, together with all others, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from meddinov3.cases.library import Library
from meddinov3.errors import MedDINOv3Error
from meddinov3.progress import Progress
from meddinov3.terminology import named_label
from meddinov3_training.check import check_dataset, check_folder, require_sound
from meddinov3_training.check_case import Defect
from meddinov3_training.dataset import read_dataset
from meddinov3_training.sides import pairs, side_of
from small_library import GRID, drawn, make_library, scan
from synthetic_cases import SHAPE, nnunet_folder, write

NAMES = ("a", "b", "c", "d")
ENDING = ".nii.gz"


def image(folder: Path, name: str, channel: int = 0) -> Path:
    return folder / "imagesTr" / f"{name}_{channel:04d}{ENDING}"


def label(folder: Path, name: str) -> Path:
    return folder / "labelsTr" / f"{name}{ENDING}"


def alter(path: Path, change: Callable[[np.ndarray], Any]) -> None:
    """Change the voxels of a file in place, or replace them by what is returned."""
    stored = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(stored)
    result = change(array)
    altered = sitk.GetImageFromArray(array if result is None else result)
    altered.CopyInformation(stored)
    sitk.WriteImage(altered, str(path))


def move(path: Path, **geometry: tuple[float, ...]) -> None:
    stored = sitk.ReadImage(str(path))
    for name, value in geometry.items():
        getattr(stored, f"Set{name}")(value)
    sitk.WriteImage(stored, str(path))


def codes(defects: Sequence[Defect]) -> list[tuple[str, str, str]]:
    return [(defect.severity, defect.code, defect.case) for defect in defects]


def only(folder: Path) -> Defect:
    """The one defect that there is."""
    (defect,) = check_folder(folder)
    assert defect.message.endswith(".") and defect.remedy.endswith(".")
    return defect


def test_a_sound_dataset_has_none(tmp_path: Path) -> None:
    folder = nnunet_folder(tmp_path / "set", NAMES, channels=("CT", "PET"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    told: list[Progress] = []
    assert check_folder(folder, told.append) == []
    require_sound([])
    assert [(p.done, p.total) for p in told] == [(n, 4) for n in range(1, 5)]
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["msd_hippocampus_mr", "openkbp_headneck_ct"])
def test_real_datasets_have_none(shared: Path, name: str) -> None:
    assert check_folder(shared / name) == []


class TestFiles:
    def test_missing_files_of_all_cases(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES, channels=("T1", "T2"))
        image(folder, "a").unlink()
        image(folder, "a", 1).unlink()
        image(folder, "c", 1).unlink()
        found = check_folder(folder)
        assert codes(found) == [("error", "file-missing", case) for case in ("a", "a", "c")]
        assert "c_0001.nii.gz" in found[2].message

    def test_a_listed_label_map_is_missing(self, tmp_path: Path) -> None:
        entry = {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/gone.nii.gz"}
        other = {"images": ["imagesTr/b_0000.nii.gz"], "label": "labelsTr/b.nii.gz"}
        folder = nnunet_folder(tmp_path / "set", ["a", "b"], dataset={"x": entry, "y": other})
        assert (only(folder).code, only(folder).case) == ("file-missing", "x")

    def test_images_without_label_maps(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES, numTraining=3)
        label(folder, "d").unlink()
        assert only(folder).code == "unused-images"
        assert "d_0000.nii.gz" in only(folder).message

    def test_another_number_of_cases_than_stated(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES, numTraining=7)
        assert only(folder).code == "case-count"
        assert "7" in only(folder).message and "4" in only(folder).message

    @pytest.mark.parametrize("content", [b"", b"no image"])
    def test_unreadable(self, tmp_path: Path, content: bytes) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        image(folder, "b").write_bytes(content)
        assert codes([only(folder)]) == [("error", "unreadable", "b")]

    def test_cut_off(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        path = image(folder, "b")
        path.write_bytes(path.read_bytes()[:-200])
        assert codes([only(folder)]) == [("error", "unreadable", "b")]

    @pytest.mark.parametrize("shape", [(12, 10), (2, *SHAPE)])
    def test_two_or_four_dimensions(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        stored = sitk.GetImageFromArray(np.zeros(shape, np.int16), isVector=False)
        sitk.WriteImage(stored, str(image(folder, "c")))
        assert codes([only(folder)]) == [("error", "not-3d", "c")]


class TestGeometry:
    @pytest.mark.parametrize(
        "geometry",
        [
            {"Spacing": (1.0, 1.5, 3.0)},
            {"Origin": (0.0, 0.0, 9.0)},
            {"Direction": (-1.0, 0, 0, 0, -1, 0, 0, 0, 1)},
        ],
    )
    def test_label_map_on_another_grid(self, tmp_path: Path, geometry: dict[str, Any]) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        move(label(folder, "b"), **geometry)
        assert codes([only(folder)]) == [("error", "label-grid", "b")]
        assert "10 x 12 x 6 voxels of 1 x 1 x 3 mm" in only(folder).message

    def test_label_map_of_another_size(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        write(label(folder, "b"), np.ones((6, 12, 9), np.uint8))
        assert only(folder).code == "label-grid"
        assert "9 x 12 x 6" in only(folder).message

    def test_channels_on_two_grids(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES, channels=("T1", "T2"))
        move(image(folder, "b", 1), Spacing=(1.0, 1.0, 2.0))
        move(image(folder, "c", 1), Origin=(500.0, 0.0, 0.0))
        assert codes(check_folder(folder)) == [
            ("error", "channels-apart", "c"), ("warning", "channel-grid", "b"),
        ]  # fmt: skip

    def test_wildly_different_spacings(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        for path in (image(folder, "d"), label(folder, "d")):
            move(path, Spacing=(0.3, 1.0, 10.0))
        assert only(folder).severity == "warning" and only(folder).code == "wild-spacing"
        for part in ("left-right 1 mm (from 0.3 to 1)", "head-foot 3 mm (from 3 to 10)"):
            assert part in only(folder).message
        assert "front-back" not in only(folder).message

    def test_axes_are_the_patients_not_the_files(self, tmp_path: Path) -> None:
        """A file with the slices first is no other spacing."""
        folder = nnunet_folder(tmp_path / "set", NAMES)
        for path in (image(folder, "d"), label(folder, "d")):
            stored = sitk.PermuteAxes(sitk.ReadImage(str(path)), (2, 0, 1))
            sitk.WriteImage(stored, str(path))
        assert check_folder(folder) == []

    def test_slices_that_run_different_ways(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        for path in (image(folder, "d"), label(folder, "d")):
            move(path, Spacing=(3.0, 1.0, 1.0))
        assert only(folder).code == "mixed-slices"
        assert "3 axial (a, b, c); 1 sagittal (d)" in only(folder).message


class TestVoxels:
    def test_values_without_a_name(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        for name in ("a", "c"):
            alter(label(folder, name), lambda a: a.__setitem__((0, 0, slice(0, 2)), (7, 9)))
        found = check_folder(folder)
        assert codes(found) == [("error", "unknown-values", case) for case in ("a", "c")]
        assert "7, 9" in found[0].message

    def test_the_ignore_label_has_a_name(self, tmp_path: Path) -> None:
        labels = {"background": 0, "liver": 1, "ignore": 2}
        assert check_folder(nnunet_folder(tmp_path / "set", NAMES, labels=labels)) == []

    def test_fractions(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        alter(label(folder, "b"), lambda a: a * np.float32(0.5))
        assert codes([only(folder)]) == [("error", "not-labels", "b")]

    def test_nothing_annotated(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        for name in ("b", "d"):
            alter(label(folder, name), lambda a: a.fill(0))
        assert codes(check_folder(folder)) == [
            ("warning", "empty-labels", case) for case in ("b", "d")
        ]

    def test_only_the_ignore_label(self, tmp_path: Path) -> None:
        labels = {"background": 0, "liver": 1, "ignore": 2}
        folder = nnunet_folder(tmp_path / "set", NAMES, labels=labels)
        alter(label(folder, "b"), lambda a: a.fill(2))
        assert codes([only(folder)]) == [("warning", "empty-labels", "b")]

    def test_a_label_that_no_case_has(self, tmp_path: Path) -> None:
        labels = {"background": 0, "liver": 1, "tumour": 2, "cyst": 3}
        folder = nnunet_folder(tmp_path / "set", NAMES, labels=labels)
        assert codes([only(folder)]) == [("error", "label-absent", "")]
        assert "'cyst' (value 3)" in only(folder).message

    def test_a_region_that_no_case_has(self, tmp_path: Path) -> None:
        labels = {"background": 0, "whole": [1, 2, 3], "core": [3]}
        folder = nnunet_folder(
            tmp_path / "set", NAMES, labels=labels, regions_class_order=[1, 3], values=(1, 2)
        )
        assert only(folder).code == "label-absent" and "'core'" in only(folder).message

    def test_no_numbers(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)

        def spoil(array: np.ndarray) -> np.ndarray:
            array = array.astype(np.float32)
            array[0, :, :6] = np.nan  # 72 of 720
            return array

        alter(image(folder, "a"), spoil)
        alter(image(folder, "b"), lambda a: np.full_like(a, np.inf, np.float32))
        found = check_folder(folder)
        severities = (("error", "b"), ("warning", "a"))
        assert codes(found) == [(severity, "not-finite", case) for severity, case in severities]
        assert "100 %" in found[0].message and "10 %" in found[1].message

    def test_a_constant_scan(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES, channels=("MR",))
        alter(image(folder, "b"), lambda a: a.fill(5))
        assert codes([only(folder)]) == [("warning", "constant-image", "b")]

    def test_ct_that_is_no_hounsfield(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES, channels=("MR", "ct"))
        for name in ("b", "c"):
            alter(image(folder, name, 1), lambda a: a.__iadd__(1024))
        assert only(folder).code == "not-hounsfield"
        assert "2 of 4 cases (b, c)" in only(folder).message

    def test_the_same_scan_twice(self, tmp_path: Path) -> None:
        """Under another name and as another type of numbers."""
        folder = nnunet_folder(tmp_path / "set", NAMES)
        stored = sitk.ReadImage(str(image(folder, "a")))
        sitk.WriteImage(sitk.Cast(stored, sitk.sitkFloat64), str(image(folder, "c")))
        assert codes([only(folder)]) == [("error", "same-scan", "")]
        assert "a, c" in only(folder).message

    def test_the_same_label_map_twice(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES)
        label(folder, "c").write_bytes(label(folder, "a").read_bytes())
        assert codes([only(folder)]) == [("warning", "same-labels", "")]
        assert "a, c" in only(folder).message

    def test_the_same_channel_twice(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES, channels=("T1", "T2"))
        image(folder, "b", 1).write_bytes(image(folder, "b").read_bytes())
        assert codes([only(folder)]) == [("warning", "same-channels", "b")]


KIDNEYS = {"background": 0, "kidney_left": 1, "kidney_right": 2}


class TestSides:
    def test_swapped_in_one_case(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES, labels=KIDNEYS, values=(2, 1))
        for name in NAMES:  # wide enough to be no chance
            for path in (image(folder, name), label(folder, name)):
                move(path, Spacing=(5.0, 5.0, 5.0))
        assert check_folder(folder) == []
        alter(label(folder, "c"), lambda a: np.array([0, 2, 1], np.uint8)[a])
        assert codes([only(folder)]) == [("warning", "sides-swapped", "c")]
        assert "'kidney_left' lies 10 mm to the patient's right" in only(folder).message

    def test_sides_are_the_patients_whatever_the_orientation(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", NAMES, labels=KIDNEYS, values=(1, 2))
        for name in NAMES:  # right handed, stored from left to right
            for path in (image(folder, name), label(folder, name)):
                move(path, Spacing=(5.0, 5.0, 5.0), Direction=(-1.0, 0, 0, 0, -1, 0, 0, 0, 1))
        assert check_folder(folder) == []

    @pytest.mark.parametrize(
        ("name", "found"),
        [
            ("kidney_left", ("kidney", "left")),
            ("Right parotid gland", ("parotid gland", "right")),
            ("Parotid_L", ("parotid", "left")),
            ("LtKidney", ("kidney", "left")),
            ("Niere re", ("niere", "right")),
            ("liver", None),
            ("L4", None),
            ("vertebra_L1", None),
        ],
    )
    def test_names(self, name: str, found: tuple[str, str] | None) -> None:
        assert side_of(name) == found

    def test_pairs(self) -> None:
        names = ("femur_right", "liver", "kidney left", "Left femur", "lung_left")
        assert pairs([named_label(name, n + 1, n) for n, name in enumerate(names)]) == [(3, 0)]


class TestWholeDatasets:
    def test_one_case(self, tmp_path: Path) -> None:
        folder = nnunet_folder(tmp_path / "set", ["a"])
        assert codes([only(folder)]) == [("warning", "one-case", "")]

    def test_no_case(self, tmp_path: Path) -> None:
        assert codes([only(nnunet_folder(tmp_path / "set", []))]) == [("error", "no-cases", "")]

    def test_all_at_once_errors_first(self, tmp_path: Path) -> None:
        labels = {"background": 0, "liver": 1, "tumour": 2, "cyst": 3}
        folder = nnunet_folder(tmp_path / "set", NAMES, labels=labels)
        image(folder, "a").unlink()
        alter(label(folder, "a"), lambda a: a.__setitem__((0, 0, 0), 9))
        move(label(folder, "b"), Spacing=(1.0, 2.0, 3.0))
        alter(label(folder, "b"), lambda a: a.fill(0))
        alter(image(folder, "c"), lambda a: a.__iadd__(1024))
        label(folder, "d").write_bytes(b"")
        assert codes(check_folder(folder)) == [
            ("error", "label-absent", ""),
            ("error", "file-missing", "a"), ("error", "unknown-values", "a"),
            ("error", "label-grid", "b"), ("error", "unreadable", "d"),
            ("warning", "not-hounsfield", ""), ("warning", "empty-labels", "b"),
        ]  # fmt: skip

    def test_one_message_of_at_most_thirty(self) -> None:
        one = Defect("error", "x", "a", "It is wrong.", "Mend it.")
        with pytest.raises(MedDINOv3Error) as caught:
            require_sound([one, replace(one, severity="warning", message="It is odd.")])
        assert "One defect" in caught.value.message and "- a: It is wrong." in caught.value.message
        assert "odd" not in caught.value.message and caught.value.remedy == "Mend it."
        with pytest.raises(MedDINOv3Error) as caught:
            require_sound([replace(one, case=f"c{n}", remedy=str(n)) for n in range(45)])
        assert "45 defects" in caught.value.message and "c29: " in caught.value.message
        assert "c30: " not in caught.value.message and "and 15 more." in caught.value.message
        assert "dataset check" in caught.value.remedy

    def test_warnings_pass(self) -> None:
        require_sound([Defect("warning", "x", "", "It is odd.", "Look.")])

    def test_a_folder_that_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            check_folder(tmp_path)
        assert caught.value.code == "no-dataset"

    def test_a_dataset_without_a_folder(self, tmp_path: Path) -> None:
        dataset = read_dataset(nnunet_folder(tmp_path / "set", NAMES, numTraining=9))
        assert check_dataset(replace(dataset, folder=None)) == []


def library_with_cases(folder: Path) -> Library:
    library = make_library(folder)
    for seed in range(3):
        label_map = drawn()
        label_map[0, 0, seed] = 1  # no two alike
        library.add([scan(seed)], GRID, label_map)
    return library


class TestLibraries:
    def test_excluded_cases_do_not_count(self, tmp_path: Path) -> None:
        library = library_with_cases(tmp_path / "library")
        assert check_folder(library.folder) == []
        for case in ("case_0001", "case_0002"):
            library.set_status(case, "excluded")
        assert only(library.folder).code == "one-case"
        library.set_status("case_0003", "excluded")
        assert only(library.folder).code == "no-cases"

    def test_without_structures(self, tmp_path: Path) -> None:
        Library.create(tmp_path / "library", "x", ["CT"])
        assert [d.code for d in check_folder(tmp_path / "library")] == ["no-labels", "no-cases"]
        with pytest.raises(MedDINOv3Error) as caught:
            read_dataset(tmp_path / "library")
        assert caught.value.code == "no-labels"

    def test_a_lost_file(self, tmp_path: Path) -> None:
        library = library_with_cases(tmp_path / "library")
        (library.folder / library.cases[1].label).unlink()
        assert codes([only(library.folder)]) == [("error", "file-missing", "case_0002")]
