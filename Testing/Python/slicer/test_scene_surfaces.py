"""Surfaces and fractional segments of the scene read as voxels of the scan."""

from __future__ import annotations

import numpy as np
import pytest
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Label
from scene_stage import Stage, grid_of, rigid

pytest_plugins = ("scene_fixtures",)
LIVER, KIDNEY = Label("liver", 1, (10, 200, 30)), Label("left kidney", 3, (255, 0, 128))


@pytest.mark.parametrize("moved", [False, True], ids=["", "moved"])
def test_surfaces_are_converted_on_the_voxels_of_the_scan(stage: Stage, moved: bool) -> None:
    import vtk
    from MedDINOv3SlicerLib.scene.segmentations import labelMapOn, placeResult

    grid = grid_of("LAS", oblique=True, size=(30, 28, 12))
    volume = stage.volume(grid)
    centre = np.array(grid.to_patient(np.array([15.0, 14.0, 6.0]))) * [-1, -1, 1]
    there = centre
    if moved:
        volume.SetAndObserveTransformNodeID(stage.transform(rigid(6)).GetID())
        there = rigid(6)[:3, :3] @ centre + rigid(6)[:3, 3]
    node = stage.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "surface")
    node.SetSourceRepresentationToClosedSurface()
    ball = vtk.vtkSphereSource()
    ball.SetCenter(*there)
    ball.SetRadius(8)
    ball.SetThetaResolution(60)
    ball.SetPhiResolution(60)
    ball.Update()
    name = node.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "ball", [1, 0, 0])
    found, (label,), notes = labelMapOn(node, volume)
    points = np.moveaxis(np.indices(grid.shape)[::-1], 0, -1).astype(float)
    far = np.linalg.norm(grid.to_patient(points) * [-1, -1, 1] - centre, axis=-1)
    assert found[far < 7.5].all() and not found[far > 8.3].any()
    assert (far < 7.5).sum() > 500
    assert label.name == "ball" and notes == ()
    assert node.GetSegmentation().GetSourceRepresentationName() == "Closed surface"
    assert not node.GetSegmentation().ContainsRepresentation("Binary labelmap")
    with pytest.raises(MedDINOv3Error, match="Closed surface"):
        placeResult(stage.scene, volume, found, (LIVER,), into=node)
    assert node.GetSegmentation().GetSegmentIDs() == (name,)


def test_surfaces_shown_are_made_for_new_segments_too(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.segmentations import placeResult

    grid = grid_of("LPS")
    volume = stage.volume(grid)
    mask = np.zeros(grid.shape, np.uint8)
    mask[2:5, 2:6, 2:6] = 1
    node = placeResult(stage.scene, volume, mask, (LIVER,))
    node.CreateClosedSurfaceRepresentation()
    placeResult(stage.scene, volume, 3 * mask, (KIDNEY,), into=node)
    surface = node.GetSegmentation().GetNthSegment(1).GetRepresentation("Closed surface")
    assert surface.GetNumberOfPoints() > 20


def test_fractional_segments_are_read_as_voxels(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.segmentations import labelMapOn

    grid = grid_of("LPS", size=(20, 20, 12))
    volume = stage.volume(grid)
    node = stage.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    block = np.zeros(grid.shape, np.uint8)
    block[3:9, 4:16, 5:15] = 1
    stage.paint(node, "block", block, grid)
    segmentation = node.GetSegmentation()
    assert segmentation.CreateRepresentation("Closed surface")
    assert segmentation.CreateRepresentation("Fractional labelmap")
    segmentation.SetSourceRepresentationName("Fractional labelmap")
    found = labelMapOn(node, volume)[0]
    assert (found != block).mean() < 0.05
    assert found[4:8, 6:14, 7:13].all()
