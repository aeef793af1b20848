"""Segments written to files lie where the scan's own file lies."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.labels import ANATOMICAL_STRUCTURE, Code, Label
from meddinov3.reading import read_label_map
from scene_stage import Stage, grid_of, rigid

pytest_plugins = ("scene_fixtures",)
KIDNEY = Code("SCT", "64033007", "Kidney")
LABELS = (
    Label("Leber / groß", 1, (10, 200, 30)),
    Label("kidney", 2, (255, 0, 128), ANATOMICAL_STRUCTURE, KIDNEY,
          Code("SCT", "7771000", "Left")),
    Label("KIDNEY", 5, (0, 0, 255)),
    Label("nothing", 6, (1, 1, 1)),
)  # fmt: skip


def label_map(grid: Grid) -> np.ndarray:
    array = np.zeros(grid.shape, np.uint8)
    array[1:4, 2:6, 2:5], array[1:4, 2:6, 6:9], array[5, 3:6, 3:8] = 1, 2, 5
    return array


def segmented(stage: Stage, grid: Grid, transformed: bool) -> tuple[Any, Any]:
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    volume = stage.volume(grid)
    if transformed:
        volume.SetAndObserveTransformNodeID(stage.transform(rigid(1)).GetID())
    return placeResult(stage.scene, volume, label_map(grid), LABELS, name="Doe^Jane"), volume


@pytest.mark.parametrize("kind", ["nifti", "nrrd"])
@pytest.mark.parametrize("code", ["LPS", "LAS", "RAS"])
@pytest.mark.parametrize("transformed", [False, True], ids=["", "moved"])
def test_label_maps(stage: Stage, tmp_path: Path, kind: str, code: str, transformed: bool) -> None:
    from MedDINOv3SlicerLib.scene.export import exportSegments

    grid = grid_of(code, oblique=True)
    node, volume = segmented(stage, grid, transformed)
    path, table = exportSegments(node, volume, tmp_path / "out", kind)
    found, place = read_label_map(path)
    assert place.same_as(grid, 1e-4)
    np.testing.assert_array_equal(found, np.take([0, 1, 2, 0, 0, 3], label_map(grid)))
    with open(table, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [(row["index"], row["name"]) for row in rows] == [
        ("1", "Leber / groß"), ("2", "kidney"), ("3", "KIDNEY"), ("4", "nothing")
    ]  # fmt: skip
    assert (rows[1]["color"], rows[1]["code"], rows[1]["side"]) == ("#ff0080", "64033007", "Left")
    assert not any("Doe" in path.name for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("transformed", [False, True], ids=["", "moved"])
def test_surfaces(stage: Stage, tmp_path: Path, transformed: bool) -> None:
    import vtk
    from MedDINOv3SlicerLib.scene.export import exportSegments

    grid = grid_of("LAS", oblique=True)
    node, volume = segmented(stage, grid, transformed)
    if transformed:  # the segmentation elsewhere in the tree, at the same place
        node.HardenTransform()
    paths = exportSegments(node, volume, tmp_path, "stl")
    assert [path.name for path in paths] == ["Leber _ groß.stl", "kidney.stl", "KIDNEY (2).stl"]
    for path, value in zip(paths, (1, 2, 5), strict=True):
        assert b"SPACE=LPS" in path.read_bytes()[:80]
        reader = vtk.vtkSTLReader()
        reader.SetFileName(str(path))
        reader.Update()
        bounds = np.array(reader.GetOutput().GetBounds()).reshape(3, 2)
        index = np.argwhere(label_map(grid) == value)[:, ::-1].astype(float)
        inside = grid.to_patient(index)
        reach = np.array(grid.spacing).max()
        assert (bounds[:, 0] <= inside.min(axis=0) + reach / 2).all()
        assert (bounds[:, 0] >= inside.min(axis=0) - reach).all()
        assert (bounds[:, 1] >= inside.max(axis=0) - reach / 2).all()
        assert (bounds[:, 1] <= inside.max(axis=0) + reach).all()
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_chosen_segments_only(stage: Stage, tmp_path: Path) -> None:
    from MedDINOv3SlicerLib.scene.export import exportSegments

    node, volume = segmented(stage, grid_of("LPS"), False)
    second = node.GetSegmentation().GetNthSegmentID(1)
    assert [p.name for p in exportSegments(node, volume, tmp_path, "stl", [second])] == [
        "kidney.stl"
    ]
    path, _ = exportSegments(node, volume, tmp_path, "nrrd", [second])
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(found, label_map(grid_of("LPS")) == 2)


def test_nothing_drawn_is_said(stage: Stage, tmp_path: Path) -> None:
    from MedDINOv3SlicerLib.scene.export import exportSegments

    node, volume = segmented(stage, grid_of("LPS"), False)
    empty = node.GetSegmentation().GetNthSegmentID(3)
    for kind in ("stl", "nifti", "nrrd"):
        with pytest.raises(MedDINOv3Error, match="nothing to write"):
            exportSegments(node, volume, tmp_path / "out", kind, [empty])
    assert not (tmp_path / "out").exists()


def test_the_scan_s_own_file_is_not_overwritten(stage: Stage, tmp_path: Path) -> None:
    from MedDINOv3SlicerLib.scene.export import exportSegments

    node, volume = segmented(stage, grid_of("LPS"), False)
    scan = tmp_path / "segmentation.nrrd"
    scan.write_bytes(b"the scan")
    volume.AddDefaultStorageNode()
    volume.GetStorageNode().SetFileName(str(scan))
    with pytest.raises(MedDINOv3Error, match="overwrite"):
        exportSegments(node, volume, tmp_path, "nrrd")
    assert scan.read_bytes() == b"the scan"
