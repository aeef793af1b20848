"""Slicer's ``.seg.nrrd``: names, colours, terminology and extents, read back with slicerio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from conftest import random_grid
from meddinov3.grid import Grid
from meddinov3.labels import ANATOMICAL_STRUCTURE, Code, Label, default_colour
from meddinov3.writing import write_segmentation

KIDNEY = Code("SCT", "64033007", "Kidney")
LABELS = (
    Label("liver, whole", 1, (10, 200, 30), ANATOMICAL_STRUCTURE, Code("SCT", "10200004", "Liver")),
    Label("nothing here", 2, (1, 2, 3)),
    Label("left kidney", 7, (255, 0, 128), ANATOMICAL_STRUCTURE, KIDNEY,
          Code("SCT", "7771000", "Left")),
)  # fmt: skip


@pytest.fixture
def grid() -> Grid:
    return random_grid(3)


@pytest.fixture
def label_map(grid: Grid) -> np.ndarray:
    """Label 1 in two places, 7 in one corner, 2 nowhere."""
    labels = np.zeros(grid.shape, np.uint8)
    labels[1, 1, 2] = labels[3, 2, 5] = 1
    labels[-1, -1, -3:] = 7
    return labels


@pytest.fixture
def written(tmp_path: Path, grid: Grid, label_map: np.ndarray) -> dict[str, Any]:
    path = tmp_path / "case.seg.nrrd"
    write_segmentation(path, label_map, grid, LABELS, "tiny-model")
    return slicerio.read_segmentation(str(path))


def test_names_values_and_order(written: dict[str, Any]) -> None:
    segments = written["segments"]
    assert [segment["name"] for segment in segments] == [label.name for label in LABELS]
    assert [segment["labelValue"] for segment in segments] == [1, 2, 7]
    assert [segment["layer"] for segment in segments] == [0, 0, 0]
    assert len({segment["id"] for segment in segments}) == 3


def test_colours_come_back_to_the_last_of_256_steps(written: dict[str, Any]) -> None:
    for segment, label in zip(written["segments"], LABELS, strict=True):
        assert tuple(round(255 * part) for part in segment["color"]) == label.colour
        np.testing.assert_allclose(segment["color"], np.array(label.colour) / 255, atol=1e-5)


@pytest.mark.parametrize("value", range(256))
def test_every_colour_value_survives_six_digits(value: int) -> None:
    assert round(255 * float(f"{value / 255:.6g}")) == value


def test_terminology(written: dict[str, Any]) -> None:
    liver, nothing, kidney = (segment["terminology"] for segment in written["segments"])
    assert liver["category"] == ["SCT", "123037004", "Anatomical Structure"]
    assert liver["type"] == ["SCT", "10200004", "Liver"]
    assert "typeModifier" not in liver
    assert nothing["type"] == ["SCT", "85756007", "Tissue"]
    assert kidney["type"] == ["SCT", "64033007", "Kidney"]
    assert kidney["typeModifier"] == ["SCT", "7771000", "Left"]


def test_extents_hold_each_segment_in_index_order(written: dict[str, Any], grid: Grid) -> None:
    """i from-to, j from-to, k from-to; from above to where there is nothing, as Slicer has it."""
    columns, rows, slices = grid.size
    extents = [segment["extent"] for segment in written["segments"]]
    assert extents[0] == [2, 5, 1, 2, 1, 3]
    assert extents[1] == [0, -1, 0, -1, 0, -1]
    assert extents[2] == [columns - 3, columns - 1, rows - 1, rows - 1, slices - 1, slices - 1]


def test_what_made_it_is_a_tag(written: dict[str, Any]) -> None:
    assert all(s["tags"]["MedDINOv3.Model"] == "tiny-model" for s in written["segments"])


def test_voxels_and_grid(written: dict[str, Any], grid: Grid, label_map: np.ndarray) -> None:
    np.testing.assert_array_equal(written["voxels"], label_map.T)  # slicerio has (i, j, k)
    np.testing.assert_allclose(written["ijkToLPS"][:3, :3], grid.index_to_patient, atol=1e-12)
    np.testing.assert_allclose(written["ijkToLPS"][:3, 3], grid.origin, atol=1e-12)


def test_one_segment_by_its_terminology(tmp_path: Path, grid: Grid, label_map: np.ndarray) -> None:
    path = tmp_path / "case.seg.nrrd"
    write_segmentation(path, label_map, grid, LABELS)
    whole = slicerio.read_segmentation(str(path))
    kidney = {
        "category": ["SCT", "123037004", "Anatomical Structure"],
        "type": ["SCT", "64033007", "Kidney"],
        "typeModifier": ["SCT", "7771000", "Left"],
    }
    chosen = slicerio.extract_segments(whole, [(kidney, 1)])
    np.testing.assert_array_equal(chosen["voxels"], (label_map == 7).T)


def test_sixty_labels_and_values_above_255(tmp_path: Path) -> None:
    grid = Grid((10, 10, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    values = [*range(1, 60), 1000]
    labels = [Label(f"structure {v}", v, default_colour(n)) for n, v in enumerate(values)]
    label_map = np.random.default_rng(0).choice([0, *values], grid.shape).astype(np.uint16)
    path = tmp_path / "many.seg.nrrd"
    write_segmentation(path, label_map, grid, labels)
    read = slicerio.read_segmentation(str(path))
    assert [segment["labelValue"] for segment in read["segments"]] == values
    np.testing.assert_array_equal(read["voxels"], label_map.T)


def test_names_in_any_script_are_utf8_as_slicer_writes_them(
    tmp_path: Path, grid: Grid, label_map: np.ndarray
) -> None:
    """Read with SimpleITK: slicerio drops what is not ASCII."""
    path = tmp_path / "case.seg.nrrd"
    write_segmentation(path, label_map, grid, [Label("Leber, groß 肝臓", 1, (1, 2, 3))])
    assert sitk.ReadImage(str(path)).GetMetaData("Segment0_Name") == "Leber, groß 肝臓"
    assert "Segment0_Name:=Leber, groß 肝臓\n".encode() in path.read_bytes()


def test_no_labels_at_all_is_an_empty_segmentation(tmp_path: Path, grid: Grid) -> None:
    path = tmp_path / "empty.seg.nrrd"
    write_segmentation(path, np.zeros(grid.shape, np.uint8), grid, LABELS)
    read = slicerio.read_segmentation(str(path))
    assert [segment["extent"] for segment in read["segments"]] == [[0, -1, 0, -1, 0, -1]] * 3
    assert not read["voxels"].any()
