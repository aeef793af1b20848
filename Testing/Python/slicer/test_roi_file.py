"""A markups ROI saved by Slicer's own writer means the same box to ``--roi``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from meddinov3.region import read_region
from real_slicer import real_slicer
from scipy.spatial.transform import Rotation

CENTRE = np.array([10.0, 20.0, 30.0])  # RAS


@pytest.fixture(scope="module")
def slicer() -> ModuleType:
    return real_slicer()


@pytest.mark.parametrize("in_ras", [False, True], ids=["LPS", "RAS"])
@pytest.mark.parametrize("seed", range(4))
def test_points_inside_the_box(slicer: ModuleType, tmp_path: Path, seed: int, in_ras: bool) -> None:
    import vtk

    turn = Rotation.random(random_state=seed).as_matrix() if seed else np.eye(3)
    matrix = vtk.vtkMatrix4x4()
    for row in range(3):
        matrix.SetElement(row, 3, CENTRE[row])
        for column in range(3):
            matrix.SetElement(row, column, turn[row, column])
    scene = slicer.vtkMRMLScene()
    roi = scene.AddNode(slicer.vtkMRMLMarkupsROINode())
    roi.SetSize(8, 14, 20)
    roi.SetAndObserveObjectToNodeMatrix(matrix)
    storage = scene.AddNode(slicer.vtkMRMLMarkupsROIJsonStorageNode())
    if in_ras:
        storage.UseRASOn()
    path = tmp_path / "roi.mrk.json"
    storage.SetFileName(str(path))
    assert storage.WriteData(roi) == 1
    assert f'"coordinateSystem": "{"RAS" if in_ras else "LPS"}"' in path.read_text()

    points = np.random.default_rng(seed).uniform(-14, 14, (3000, 3)) + CENTRE
    vtk.vtkMatrix4x4.Invert(roi.GetObjectToWorldMatrix(), matrix)
    local = np.array([matrix.MultiplyPoint((*point, 1.0))[:3] for point in points])
    expected = (np.abs(local) <= np.array(roi.GetSize()) / 2).all(axis=1)
    assert 100 < sum(expected) < 2900
    chosen = read_region(str(path)).contains(points * [-1, -1, 1])
    np.testing.assert_array_equal(chosen, expected)
