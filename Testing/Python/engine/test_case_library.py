"""Case libraries: what goes in comes out, whole or not at all, and says nothing of whose it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import random_grid
from meddinov3.cases.library import Library
from meddinov3.cases.records import Changed, Provenance, is_library
from meddinov3.dataset_labels import DatasetLabels, read_labels
from meddinov3.grid import Grid
from meddinov3.labels import Code
from meddinov3.terminology import named_label
from meddinov3_training.dataset import read_case_label, read_dataset
from small_library import (
    GRID,
    LIVER,
    TUMOUR,
    add,
    drawn,
    expected_files,
    files,
    make_library,
    refused,
    scan,
)


class TestWhatGoesInComesOut:
    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.parametrize("dtype", [np.int16, np.float32])
    def test_voxels_and_grid_of_any_orientation(
        self, tmp_path: Path, seed: int, dtype: type
    ) -> None:
        grid = random_grid(seed)
        library = make_library(tmp_path / "library")
        image, label_map = (scan(seed, grid) / 7).astype(dtype), drawn(grid)
        case_id = library.add([image], grid, label_map)
        volume, read = Library.open(tmp_path / "library").read(case_id)
        np.testing.assert_array_equal(volume.channels[0], image)
        assert volume.channels[0].dtype == dtype
        np.testing.assert_array_equal(read, label_map)
        assert volume.grid.size == grid.size
        np.testing.assert_allclose(volume.grid.spacing, grid.spacing, rtol=1e-15)
        np.testing.assert_allclose(volume.grid.direction, grid.direction, atol=1e-15)
        assert volume.grid.origin == grid.origin
        # A grid that was read once is kept to the last bit ever after.
        again = library.add([image + 1], volume.grid, label_map)
        kept = library.read(again)[0].grid
        assert kept.spacing == volume.grid.spacing and kept.origin == volume.grid.origin
        np.testing.assert_array_equal(kept.direction, volume.grid.direction)

    def test_several_channels_keep_their_order(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library", ("T1", "T2"))
        case_id = library.add([scan(1), scan(2).astype(np.float32)], GRID, drawn())
        volume, _ = library.read(case_id)
        np.testing.assert_array_equal(volume.channels[0], scan(1))
        np.testing.assert_array_equal(volume.channels[1], scan(2))

    def test_training_reads_it_with_its_colours(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        value = library.define_label("oddity", (1, 2, 3), Code("99X", "7", "Oddity"))
        label_map = drawn()
        label_map[0, 0, 0] = value
        library.add([scan(0)], GRID, label_map)
        dataset = read_dataset(tmp_path / "library")
        assert (dataset.name, dataset.channels) == ("Livers", ("CT",))
        assert dataset.labels == library.labels.labels
        assert dataset.labels[2].colour == (1, 2, 3)
        (case,) = dataset.cases
        np.testing.assert_array_equal(read_case_label(case, case.read(), dataset), label_map)

    def test_nnunets_file_says_the_same(self, tmp_path: Path) -> None:
        library = Library.create(
            tmp_path / "library", "Livers", ["CT"], (LIVER, TUMOUR), licence="CC0", reference="us"
        )
        add(library, 0)
        content = json.loads((tmp_path / "library" / "dataset.json").read_text(encoding="utf-8"))
        assert content == {
            "name": "Livers",
            "channel_names": {"0": "CT"},
            "labels": {"background": 0, "liver": 1, "tumour": 2},
            "numTraining": 1,
            "file_ending": ".nrrd",
            "licence": "CC0",
            "reference": "us",
            "dataset": {
                "case_0001": {
                    "images": ["imagesTr/case_0001_0000.nrrd"],
                    "label": "labelsTr/case_0001.nrrd",
                }
            },
        }

    def test_regions_and_ignore_label(self, tmp_path: Path) -> None:
        labels = DatasetLabels(
            (named_label("whole", 1, 0), named_label("core", 2, 1)), ((1, 2), (2,)), True, 3
        )
        library = Library.create(tmp_path / "library", "x", ["T1"], labels)
        label_map = drawn()
        label_map[0] = 3
        case_id = library.add([scan(0)], GRID, label_map)
        np.testing.assert_array_equal(library.read(case_id)[1], label_map)
        ones, twos = np.count_nonzero(label_map == 1), np.count_nonzero(label_map == 2)
        assert library.case(case_id).voxels == {"whole": ones + twos, "core": twos}
        content = json.loads((tmp_path / "library" / "dataset.json").read_text(encoding="utf-8"))
        assert read_labels(content) == labels
        assert refused(library.add, [scan(1)], GRID, drawn(), [LIVER, TUMOUR]).code == "regions"
        assert library.define_label("edge") == 4, "3 is the ignore label"

    def test_what_is_known_of_a_case(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        provenance = Provenance("liver-ct", "ab" * 32, {"liver": Changed(0.9, 1.5, 0.25)})
        case_id = library.add(
            [scan(0)], GRID, drawn(), provenance=provenance, status="reviewed", note="größer"
        )
        case = Library.open(tmp_path / "library").case(case_id)
        assert (case.status, case.note, case.provenance) == ("reviewed", "größer", provenance)
        assert (case.size, case.spacing) == (GRID.size, GRID.spacing)
        assert case.voxels == {
            "liver": np.count_nonzero(drawn() == 1), "tumour": np.count_nonzero(drawn() == 2),
        }  # fmt: skip
        assert case.added.endswith("+00:00")


class TestCases:
    def test_ids_are_serial_and_never_used_again(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        assert [add(library, n) for n in range(3)] == ["case_0001", "case_0002", "case_0003"]
        library.remove("case_0003")
        library = Library.open(tmp_path / "library")
        assert add(library, 3) == "case_0004"
        for case in library.cases:
            library.remove(case.id)
        assert files(tmp_path / "library") == {"cases.json", "dataset.json"}
        assert add(Library.open(tmp_path / "library"), 5) == "case_0005"

    def test_replace_keeps_id_status_and_note(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        library.add([scan(0)], GRID, drawn(), status="reviewed", note="mine")
        other = Grid((9, 9, 9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), -np.eye(3))
        for seed in (1, 2):
            library.replace("case_0001", [scan(seed, other)], other, drawn(other))
        case = library.case("case_0001")
        assert (case.status, case.note, case.size) == ("reviewed", "mine", (9, 9, 9))
        volume, label_map = library.read("case_0001")
        np.testing.assert_array_equal(volume.channels[0], scan(2, other))
        np.testing.assert_array_equal(label_map, drawn(other))
        assert files(tmp_path / "library") == expected_files(library)
        assert len(read_dataset(tmp_path / "library").cases) == 1

    def test_a_label_map_alone_can_be_replaced(self, tmp_path: Path) -> None:
        """The same scan is no duplicate of itself."""
        library = make_library(tmp_path / "library")
        add(library, 0)
        library.replace("case_0001", [scan(0)], GRID, (drawn() > 0).astype(np.uint8))
        assert library.case("case_0001").voxels["tumour"] == 0

    def test_excluded_cases_are_seen_by_nobody_who_trains(self, tmp_path: Path) -> None:
        folder = tmp_path / "library"
        library = make_library(folder)
        for seed in range(3):
            add(library, seed)
        library.set_status("case_0002", "excluded")
        assert [case.id for case in read_dataset(folder).cases] == ["case_0001", "case_0003"]
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        assert list(content["dataset"]) == ["case_0001", "case_0003"]
        assert content["numTraining"] == 2
        np.testing.assert_array_equal(library.read("case_0002")[1], drawn())
        library.set_status("case_0002", "reviewed")
        assert len(read_dataset(folder).cases) == 3

    def test_notes(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        add(library, 0)
        library.set_note("case_0001", "motion")
        assert Library.open(tmp_path / "library").case("case_0001").note == "motion"

    def test_two_programs_see_each_others_cases(self, tmp_path: Path) -> None:
        first = make_library(tmp_path / "library")
        second = Library.open(tmp_path / "library")
        assert [add(first, 0), add(second, 1), add(first, 2)] == [
            "case_0001", "case_0002", "case_0003",
        ]  # fmt: skip
        second.refresh()
        assert len(first.cases) == len(second.cases) == 3


class TestLabels:
    def test_a_new_structure_leaves_the_others_alone(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        add(library, 0)
        before = (tmp_path / "library" / library.cases[0].label).read_bytes()
        assert library.define_label("kidney_left") == 3
        assert [label.value for label in library.labels.labels] == [1, 2, 3]
        kidney = library.labels.labels[2]
        assert kidney.type.meaning == "Kidney"
        assert kidney.modifier is not None and kidney.modifier.meaning == "Left"
        assert (tmp_path / "library" / library.cases[0].label).read_bytes() == before
        assert library.cases[0].voxels["kidney_left"] == 0
        assert Library.open(tmp_path / "library").labels == library.labels

    def test_only_a_structure_that_no_case_has_is_removed(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        add(library, 0)
        library.set_status("case_0001", "excluded")
        library.define_label("spleen")
        assert refused(library.remove_label, "liver").code == "label-drawn"
        assert refused(library.remove_label, "bowel").code == "unknown-label"
        library.remove_label("SPLEEN")
        assert library.labels == make_library(tmp_path / "other").labels
        assert set(library.cases[0].voxels) == {"liver", "tumour"}
        content = json.loads((tmp_path / "library" / "dataset.json").read_text(encoding="utf-8"))
        assert set(content["labels"]) == {"background", "liver", "tumour"}

    def test_many_structures(self, tmp_path: Path) -> None:
        labels = [named_label(f"part {n}", n, n) for n in (7, 300)]
        library = Library.create(tmp_path / "library", "x", ["CT"], labels)
        case_id = library.add([scan(0)], GRID, drawn().astype(np.int64) // 2 * 300)
        assert library.read(case_id)[1].dtype == np.uint16
        assert library.case(case_id).voxels == {"part 7": 0, "part 300": 63}

    @pytest.mark.parametrize("name", ["LIVER", " liver ", "background", "Ignore", "", "a\nb"])
    def test_names_that_cannot_be(self, tmp_path: Path, name: str) -> None:
        library = make_library(tmp_path / "library")
        refused(library.define_label, name)
        assert len(Library.open(tmp_path / "library").labels.labels) == 2

    def test_structures_by_name_and_code(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        label_map = drawn() * 4
        theirs = [named_label("Tumour", 4, 0), replace(LIVER, name="Leber", value=8)]
        case_id = library.add([scan(0)], GRID, label_map, theirs)
        expected = np.select([drawn() == 1, drawn() == 2], [2, 1], 0)
        np.testing.assert_array_equal(library.read(case_id)[1], expected)

    def test_unknown_structures_are_all_named(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        theirs = [named_label("bowel", 1, 0), named_label("spleen", 2, 0)]
        error = refused(library.add, [scan(0)], GRID, drawn(), theirs)
        assert error.code == "unknown-label"
        assert "bowel, spleen" in error.message and "liver, tumour" in error.remedy
        error = refused(library.add, [scan(0)], GRID, drawn() * 5)
        assert "value 5, value 10" in error.message
        error = refused(library.add, [scan(0)], GRID, drawn(), [LIVER])
        assert "value 2" in error.message
        assert files(tmp_path / "library") == {"cases.json", "dataset.json"}

    def test_unknown_structures_without_voxels_do_not_matter(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        library.add([scan(0)], GRID, drawn(), [LIVER, TUMOUR, named_label("bowel", 9, 0)])


class TestRefusals:
    def test_arrays_that_are_no_case(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        good, label_map = scan(0), drawn()
        assert refused(library.add, [good[1:]], GRID, label_map).code == "other-grid"
        assert refused(library.add, [good], GRID, label_map[:, 1:]).code == "other-grid"
        assert refused(library.add, [good > 0], GRID, label_map).code == "not-a-scan"
        assert refused(library.add, [good], GRID, label_map * 1.0).code == "not-labels"
        assert refused(library.add, [good], GRID, label_map.astype(int) - 1).code == "not-labels"
        assert refused(library.add, [good], GRID, label_map * np.int32(70000)).code == "not-labels"
        assert refused(library.add, [good, good], GRID, label_map).code == "wrong-channels"
        assert refused(library.add, [good], GRID, label_map, status="done").code == "bad-status"
        hole = good.astype(np.float32)
        hole[0, 0, 0] = np.nan
        assert refused(library.add, [hole], GRID, label_map).code == "not-finite"
        assert files(tmp_path / "library") == {"cases.json", "dataset.json"}

    def test_nothing_drawn_must_be_meant(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        empty = np.zeros(GRID.shape, np.uint8)
        assert refused(library.add, [scan(0)], GRID, empty).code == "nothing-annotated"
        library.add([scan(0)], GRID, empty, allow_empty=True)

    def test_the_same_scan_again(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        add(library, 0), add(library, 1)
        error = refused(library.add, [scan(1).astype(np.float64)], GRID, drawn() // 2)
        assert error.code == "duplicate-case" and "case_0002" in error.message
        error = refused(library.replace, "case_0001", [scan(1)], GRID, drawn())
        assert error.code == "duplicate-case"

    def test_no_such_case(self, tmp_path: Path) -> None:
        library = make_library(tmp_path / "library")
        assert "no cases" in refused(library.remove, "case_0001").remedy
        add(library, 0)
        for call in (library.remove, library.read):
            assert refused(call, "case_0002").code == "no-case"
        assert refused(library.set_status, "case_0001", "gone").code == "bad-status"

    def test_only_libraries_of_ours_are_opened(self, tmp_path: Path) -> None:
        assert refused(Library.open, tmp_path).code == "no-library"
        (tmp_path / "cases.json").write_text('{"cases": []}', encoding="utf-8")
        assert refused(Library.open, tmp_path).code == "no-library"
        assert not is_library(tmp_path)
        assert refused(Library.create, tmp_path, "x", ["CT"]).code == "exists"
        assert refused(Library.create, tmp_path / "new", "x", []).code == "no-channels"
        twice = [LIVER, named_label("Liver", 2, 1)]
        assert refused(Library.create, tmp_path / "new", "x", ["CT"], twice).code == "label-twice"
        assert [path.name for path in tmp_path.iterdir()] == ["cases.json"]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"version": 99, "extra": 1}, "newer-library"),
            ({"next": "x"}, "bad-library"),
            ({"extra": 1}, "bad-library"),
            ({"cases": [{"id": "case_0001"}]}, "bad-library"),
        ],
    )
    def test_damaged_or_newer(self, tmp_path: Path, change: dict[str, Any], code: str) -> None:
        make_library(tmp_path / "library")
        path = tmp_path / "library" / "cases.json"
        content = json.loads(path.read_text(encoding="utf-8")) | change
        path.write_text(json.dumps(content), encoding="utf-8")
        assert refused(Library.open, tmp_path / "library").code == code
        assert json.loads(path.read_text(encoding="utf-8")) == content

    def test_an_empty_folder_may_be_there(self, tmp_path: Path) -> None:
        (tmp_path / "library").mkdir()
        add(make_library(tmp_path / "library"), 0)
