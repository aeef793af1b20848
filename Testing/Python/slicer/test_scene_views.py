"""Pictures of a scene show the scan and what was segmented in it, where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_slicer import real_slicer
from scene_views import render3D, renderSlice

SIZE = (128, 96)


@pytest.fixture
def scene() -> Any:
    """A grey scan of 40 x 40 x 40 mm, and a red ball of 8 mm on the patient's left."""
    slicer = real_slicer()
    scene = slicer.vtkMRMLScene()
    colours, segmentations = slicer.vtkMRMLColorLogic(), slicer.vtkSlicerSegmentationsModuleLogic()
    for logic in (colours, segmentations):
        logic.SetMRMLScene(scene)
    colours.AddDefaultColorNodes()
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    array = np.full((40, 40, 40), 100, np.int16)
    array[:, :20] = 300
    slicer.util.updateVolumeFromArray(volume, array)
    volume.SetOrigin(-20, -20, -20)
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(0, 400)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Result")
    segmentation.CreateDefaultDisplayNodes()
    import vtk

    ball = vtk.vtkSphereSource()
    ball.SetCenter(-10, 0, 0)
    ball.SetRadius(8)
    ball.Update()
    segmentation.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "ball", [1, 0, 0])
    yield scene
    scene.Clear(1)


def red(pixels: np.ndarray) -> np.ndarray:
    """Where it is clearly red, as (row, column) pairs."""
    channels = pixels.astype(int)
    return np.argwhere(channels[..., 0] - channels[..., 1:].max(axis=-1) > 60)


def test_slice_shows_scan_and_segment_on_the_left_of_the_patient(
    scene: Any, tmp_path: Path
) -> None:
    nodes = scene.GetNumberOfNodes()
    pixels = renderSlice(scene, "Axial", tmp_path / "axial.png", SIZE)
    assert (tmp_path / "axial.png").stat().st_size > 200
    assert pixels.shape == (96, 128, 3)
    found = red(pixels)
    assert len(found) > 100
    # Radiologists look from the feet: the patient's left is on the picture's right; here R = -10
    # is left.
    assert found[:, 1].mean() > 64 + 5
    assert abs(found[:, 0].mean() - 48) < 5
    back, front = pixels[80, 30], pixels[15, 30]
    assert back.mean() > front.mean() + 50, "the bright half lies behind"
    assert pixels[53, 85].mean() > pixels[43, 85].mean() + 20, "the scan shines through"
    assert scene.GetNumberOfNodes() == nodes, "the view leaves nothing in the scene"


def test_slice_elsewhere_does_not_show_the_segment(scene: Any, tmp_path: Path) -> None:
    pixels = renderSlice(scene, "Axial", tmp_path / "x.png", SIZE, at=(0, 0, 15))
    assert len(red(pixels)) == 0


def test_3d_shows_the_segment(scene: Any, tmp_path: Path) -> None:
    pixels = render3D(scene, tmp_path / "3d.png", SIZE)
    assert len(red(pixels)) > 100
