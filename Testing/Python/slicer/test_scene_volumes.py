"""Volumes of the scene as arrays and grids; what is no scan is refused in a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import random_grid
from meddinov3.errors import MedDINOv3Error
from scene_stage import Stage, grid_of

pytest_plugins = ("scene_fixtures",)
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("seed", range(8))
def test_grids_and_voxels_are_those_of_the_node(stage: Stage, seed: int) -> None:
    from MedDINOv3SlicerLib.scene.volumes import addVolume, arrayOf, gridOf

    grid = random_grid(seed)
    node = stage.volume(grid)
    assert gridOf(node).same_as(grid, 1e-9)
    np.testing.assert_array_equal(arrayOf(node).ravel(), np.arange(np.prod(grid.shape)))
    ours = addVolume(stage.scene, arrayOf(node), grid, "copy")
    there, back = gridOf(ours), gridOf(addVolume(stage.scene, arrayOf(node), gridOf(ours), "b"))
    assert there.same_as(grid, 1e-9)
    assert (there.origin, there.spacing) == (back.origin, back.spacing)
    np.testing.assert_array_equal(there.direction, back.direction)


def test_no_copy_is_made(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.volumes import arrayOf

    node = stage.volume(grid_of("LPS"))
    arrayOf(node)[0, 0, 0] = 77
    assert node.GetImageData().GetScalarComponentAsDouble(0, 0, 0, 0) == 77


def test_half_floats_and_other_byte_orders_are_taken(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.volumes import addVolume, arrayOf

    grid = grid_of("LPS")
    values = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    for kind in (np.float16, ">i2", ">f8"):
        node = addVolume(stage.scene, values.astype(kind), grid, "scan")
        np.testing.assert_array_equal(arrayOf(node), values.astype(kind))


def test_what_is_no_scan_is_refused(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.volumes import arrayOf, checkChannels, gridOf

    empty = stage.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    for read in (gridOf, arrayOf):
        with pytest.raises(MedDINOv3Error, match="'empty' holds no image"):
            read(empty)
    colour = stage.scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    import vtk

    image = vtk.vtkImageData()
    image.SetDimensions(2, 3, 4)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    colour.SetAndObserveImageData(image)
    with pytest.raises(MedDINOv3Error, match="3 values in each voxel"):
        arrayOf(colour)
    labels = stage.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    labels.SetAndObserveImageData(stage.volume(grid_of("LPS")).GetImageData())
    with pytest.raises(MedDINOv3Error, match="label map"):
        checkChannels([labels])
    tilted = stage.volume(grid_of("LPS"))
    assert checkChannels([tilted]).same_as(grid_of("LPS"), 1e-9)
    matrix = vtk.vtkMatrix4x4()
    tilted.GetIJKToRASMatrix(matrix)
    matrix.SetElement(1, 2, 0.8)  # each slice a little further to the front
    tilted.SetIJKToRASMatrix(matrix)
    with pytest.raises(MedDINOv3Error, match="perpendicular"):
        checkChannels([tilted])


def test_modality_comes_from_dicom_or_units(stage: Stage) -> None:
    from MedDINOv3SlicerLib.scene.volumes import modalityOf

    slicer = stage.slicer
    node = stage.volume(grid_of("LPS"))
    assert modalityOf(node) == ""
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("[hnsf'U]", "UCUM", "Hounsfield unit")
    node.SetVoxelValueUnits(units)
    assert modalityOf(node) == "CT"
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(stage.scene)
    item = hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "MR")
    assert modalityOf(node) == "MR"
    node.SetAttribute("DICOM.Modality", "PT")
    assert modalityOf(node) == "PT"


def test_the_scene_layer_needs_neither_torch_nor_qt(slicer_library: object) -> None:
    parts = sorted((ROOT / "MedDINOv3Slicer/MedDINOv3SlicerLib/scene").glob("*.py"))
    names = [f"MedDINOv3SlicerLib.scene.{part.stem}" for part in parts if part.stem != "__init__"]
    assert len(names) > 8
    code = (
        "import sys, types, slicer; m = types.ModuleType('slicer.i18n'); m.tr = str;"
        f"sys.modules['slicer.i18n'] = m; import {', '.join(names)};"
        "bad = {'torch', 'SimpleITK', 'qt', 'scipy', 'platformdirs', 'filelock', 'timm'};"
        "print(sorted(bad & set(sys.modules)))"
    )
    path = f"{ROOT / 'Logic'}{';' if sys.platform == 'win32' else ':'}{ROOT / 'MedDINOv3Slicer'}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.stdout.strip().splitlines()[-1] == "[]"
