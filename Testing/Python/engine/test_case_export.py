"""Case libraries to and from nnU-Net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from meddinov3.cases.export import consecutive, export_dataset
from meddinov3.cases.library import Library
from meddinov3.dataset_labels import DatasetLabels, read_labels
from meddinov3.errors import MedDINOv3Error
from meddinov3.progress import Progress
from meddinov3.reading import read_label_map, read_volume
from meddinov3.terminology import named_label
from meddinov3_training.dataset import read_dataset
from meddinov3_training.import_dataset import import_dataset
from small_library import GRID, add, drawn, make_library, scan
from synthetic_cases import nnunet_folder


def content_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    return content


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestExport:
    def test_what_nnunet_asks_for(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library", ("CT", "PET"))
        for seed in range(3):
            library.add([scan(seed), scan(seed + 10)], GRID, drawn())
        library.replace("case_0003", [scan(7), scan(8)], GRID, drawn())
        library.set_status("case_0002", "excluded")
        told: list[Progress] = []
        folder = export_dataset(library, tmp_path / "raw", 7, "Liver_CT", told.append)
        assert folder == tmp_path / "raw" / "Dataset007_Liver_CT"
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*")) == [
            "dataset.json",
            "imagesTr/case_0001_0000.nrrd", "imagesTr/case_0001_0001.nrrd",
            "imagesTr/case_0003_0000.nrrd", "imagesTr/case_0003_0001.nrrd",
            "labelsTr/case_0001.nrrd", "labelsTr/case_0003.nrrd",
        ]  # fmt: skip
        content = content_of(folder)
        assert content["channel_names"] == {"0": "CT", "1": "PET"}
        assert content["labels"] == {"background": 0, "liver": 1, "tumour": 2}
        assert (content["numTraining"], content["file_ending"]) == (2, ".nrrd")
        assert "dataset" not in content
        assert [(p.done, p.total) for p in told] == [(1, 2), (2, 2)]
        dataset = read_dataset(folder)
        np.testing.assert_array_equal(dataset.cases[1].read().channels[1], scan(8))

    def test_values_become_consecutive(self, tmp_path: Path) -> None:
        labels = [named_label("b", 300, 0), named_label("a", 5, 1)]
        library = Library.create(tmp_path / "library", "x", ["CT"], labels)
        label_map = np.choose(drawn(), [0, 5, 300]).astype(np.uint16)
        library.add([scan(0)], GRID, label_map)
        folder = export_dataset(library, tmp_path, 501, "X")
        assert content_of(folder)["labels"] == {"background": 0, "b": 2, "a": 1}
        found, grid = read_label_map(folder / "labelsTr" / "case_0001.nrrd")
        np.testing.assert_array_equal(found, drawn())
        scan_grid = read_volume(folder / "imagesTr" / "case_0001_0000.nrrd").grid
        np.testing.assert_array_equal(grid.direction, scan_grid.direction)
        np.testing.assert_array_equal(library.read("case_0001")[1], label_map)

    def test_regions_and_ignore(self) -> None:
        labels = DatasetLabels(
            (named_label("whole", 2, 0), named_label("core", 4, 1)), ((2, 4), (4,)), True, 3
        )
        found, values = consecutive(labels)
        assert values == {2: 1, 4: 2, 3: 3}
        assert found.members == ((1, 2), (2,)) and found.ignore == 3
        assert [label.value for label in found.labels] == [1, 2]

    def test_region_order_that_is_no_voxel_value(self) -> None:
        labels = DatasetLabels(
            (named_label("whole", 7, 0), named_label("core", 8, 1)), ((1, 2), (2,)), True, None
        )
        found, values = consecutive(labels)
        assert values == {1: 1, 2: 2} and found.members == labels.members
        assert [label.value for label in found.labels] == [1, 2]

    def test_refusals_leave_nothing(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        target = tmp_path / "raw"
        for number, name, code in (
            (501, "X", "nothing-to-export"), (0, "X", "bad-name"), (1000, "X", "bad-name"),
            (501, "a/b", "bad-name"), (501, "", "bad-name"),
        ):  # fmt: skip
            with pytest.raises(MedDINOv3Error) as caught:
                export_dataset(library, target, number, name)
            assert caught.value.code == code
        add(library, 0)
        add(library, 1)
        (tmp_path / "library" / library.cases[1].label).unlink()
        with pytest.raises(MedDINOv3Error, match=r"case_0002\.nrrd"):
            export_dataset(library, target, 501, "X")
        assert not target.exists()

    def test_an_export_is_not_overwritten(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        add(library, 0)
        folder = export_dataset(library, tmp_path, 501, "X")
        before = all_bytes(folder)
        with pytest.raises(MedDINOv3Error) as caught:
            export_dataset(library, tmp_path, 501, "X")
        assert caught.value.code == "exists" and all_bytes(folder) == before


class TestImport:
    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    def test_there_and_back(self, tmp_path: Path, ending: str) -> None:
        source = nnunet_folder(
            tmp_path / "source", ["b", "a"], channels=("CT", "PET"), ending=ending,
            name="Livers", licence="CC0", reference="us",
        )  # fmt: skip
        before = all_bytes(source)
        ids, _ = import_dataset(source, tmp_path / "library")
        assert ids == {"a": "case_0001", "b": "case_0002"}
        assert all_bytes(source) == before
        back = export_dataset(Library.open(tmp_path / "library"), tmp_path / "raw", 1, "X")
        old, new = read_dataset(source), read_dataset(back)
        assert (new.name, new.licence, new.reference) == ("Livers", "CC0", "us")
        assert (new.labels, new.channels) == (old.labels, old.channels)
        for one, two in zip(old.cases, new.cases, strict=True):
            first, second = one.read(), two.read()
            assert first.grid.same_as(second.grid, 1e-9)
            for a, b in zip(first.channels, second.channels, strict=True):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(
                read_label_map(one.label)[0], read_label_map(two.label)[0]
            )

    def test_regions_and_ignore_label(self, tmp_path: Path) -> None:
        labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
        source = nnunet_folder(
            tmp_path / "source", ["a", "b"], labels=labels, values=(1, 2, 3),
            regions_class_order=[1, 2],
        )  # fmt: skip
        import_dataset(source, tmp_path / "library")
        library = Library.open(tmp_path / "library")
        assert library.labels == read_labels(content_of(source))
        folder = export_dataset(library, tmp_path, 2, "Regions")
        content = content_of(folder)
        assert content["labels"] == labels and content["regions_class_order"] == [1, 2]
        assert set(np.unique(read_label_map(folder / "labelsTr" / "case_0001.nrrd")[0])) == {
            0, 1, 2, 3,
        }  # fmt: skip

    def test_a_dataset_with_defects_is_not_imported(self, tmp_path: Path) -> None:
        source = nnunet_folder(tmp_path / "source", ["a", "b", "c"], values=(1, 9))
        (source / "imagesTr" / "b_0000.nii.gz").unlink()
        with pytest.raises(MedDINOv3Error) as caught:
            import_dataset(source, tmp_path / "library")
        for part in ("a: ", "b: ", "c: ", "9", "b_0000.nii.gz"):
            assert part in caught.value.message
        assert not (tmp_path / "library").exists()

    def test_a_structure_that_no_case_has_is_no_hindrance(self, tmp_path: Path) -> None:
        source = nnunet_folder(tmp_path / "source", ["a", "b"], values=(1,))
        import_dataset(source, tmp_path / "library")
        assert Library.open(tmp_path / "library").cases[0].voxels["tumour"] == 0

    def test_into_a_folder_that_is_in_use(self, tmp_path: Path) -> None:
        source = nnunet_folder(tmp_path / "source", ["a", "b"])
        before = all_bytes(source)
        with pytest.raises(MedDINOv3Error) as caught:
            import_dataset(source, source)
        assert caught.value.code == "exists" and all_bytes(source) == before
