"""A box drawn in the scene means the same voxels to the engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from meddinov3.errors import MedDINOv3Error
from meddinov3.region import read_region
from scene_stage import Stage, grid_of, rigid

pytest_plugins = ("scene_fixtures",)


def roi(stage: Stage, turn: np.ndarray | None = None) -> Any:
    from vtk import vtkMatrix4x4

    node = stage.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    node.SetCenter(20, -15, 148)
    node.SetSize(5, 4, 9)
    if turn is not None:
        matrix = vtkMatrix4x4()
        turn = turn.copy()
        turn[:3, 3] = (28, -15, 148)
        matrix.DeepCopy([float(value) for value in turn.ravel()])
        node.SetAndObserveObjectToNodeMatrix(matrix)
    return node


@pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned"])
@pytest.mark.parametrize("moved", ["neither", "scan", "box", "both"])
def test_the_engine_chooses_the_points_slicer_says_are_inside(
    stage: Stage, turned: bool, moved: str
) -> None:
    import vtk
    from MedDINOv3SlicerLib.scene.regions import regionOf

    volume = stage.volume(grid_of("LPS"))
    box = roi(stage, rigid(3) if turned else None)
    if moved in ("scan", "both"):
        volume.SetAndObserveTransformNodeID(stage.transform(rigid(1)).GetID())
    if moved in ("box", "both"):
        box.SetAndObserveTransformNodeID(stage.transform(rigid(2)).GetID())
    text = regionOf(box, volume)
    assert text is not None
    assert len(text.split(",")) == (6 if (turned, moved) == (False, "neither") else 15)

    world = np.random.default_rng(0).uniform(-8, 8, (3000, 3)) + box.GetCenterWorld()
    expected = np.array([box.IsPointInROIWorld(point) for point in world])
    assert 100 < expected.sum() < 2900
    matrix = vtk.vtkMatrix4x4()
    if volume.GetParentTransformNode():
        volume.GetParentTransformNode().GetMatrixTransformFromWorld(matrix)
    local = np.array([matrix.MultiplyPoint((*point, 1.0))[:3] for point in world])
    np.testing.assert_array_equal(read_region(text).contains(local * [-1, -1, 1]), expected)


def test_no_box_is_no_region(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.regions import regionOf

    assert regionOf(None, stage.volume(grid_of("LPS"))) is None


def test_a_box_not_drawn_yet_or_inside_out_is_refused(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.regions import regionOf

    volume = stage.volume(grid_of("LPS"))
    with pytest.raises(MedDINOv3Error, match="no box yet"):
        regionOf(stage.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "new"), volume)
    box = roi(stage)
    box.SetInsideOut(True)
    with pytest.raises(MedDINOv3Error, match="inside out"):
        regionOf(box, volume)


def test_a_sheared_scan_gets_a_box_around_the_region(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.regions import regionOf

    volume = stage.volume(grid_of("LPS"))
    shear = np.eye(4)
    shear[0, 1] = 0.4
    volume.SetAndObserveTransformNodeID(stage.transform(shear).GetID())
    box = roi(stage)
    text = regionOf(box, volume)
    assert text is not None
    corners = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    world = np.array(box.GetCenterWorld()) + corners * np.array(box.GetSize()) / 2
    local = world @ np.linalg.inv(shear[:3, :3]).T
    assert read_region(text).contains(local * [-1, -1, 1]).all()
