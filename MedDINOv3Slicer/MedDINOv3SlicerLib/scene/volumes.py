"""Scans of the scene as the engine wants them: arrays without a copy, and grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
import vtk
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from MedDINOv3SlicerLib.scene.geometry import SHEAR, Node, arrayFromMatrix, emptyImage, gridFromRas

MODALITY = "DICOM.Modality"
HOUNSFIELD = "[hnsf'U]"  # UCUM


def gridOf(volumeNode: Node) -> Grid:
    """Where a volume's voxels lie in its own coordinates, transforms above it left out.

    Raises:
        MedDINOv3Error: it has no voxels.
    """
    image = _imageOf(volumeNode)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASDirectionMatrix(matrix)
    return gridFromRas(
        image.GetDimensions(),
        volumeNode.GetSpacing(),
        volumeNode.GetOrigin(),
        arrayFromMatrix(matrix)[:3, :3],
    )


def arrayOf(volumeNode: Node) -> np.ndarray:
    """A volume's voxels (k, j, i); no copy, so do not write to it.

    Raises:
        MedDINOv3Error: it has no voxels, or several values a voxel.
    """
    image = _imageOf(volumeNode)
    scalars = image.GetPointData().GetScalars()
    if scalars.GetNumberOfComponents() != 1:
        raise MedDINOv3Error(
            "not-a-scan",
            _("'{name}' has {count} values in each voxel, as colour pictures have.").format(
                name=volumeNode.GetName(), count=scalars.GetNumberOfComponents()
            ),
            _("Choose a scan with one grey value in each voxel."),
        )
    array: np.ndarray = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    return array


def addVolume(scene: Node, array: np.ndarray, grid: Grid, name: str) -> Node:
    """Put a scan into the scene.

    Args:
        scene: the MRML scene.
        array: (k, j, i) on `grid`; copied.
        grid: where it lies.
        name: of the node.
    """
    kind = array.dtype.newbyteorder("=")  # VTK knows neither the other order nor half floats
    array = array.astype(np.float32 if kind == np.float16 else kind, copy=False)
    scalars = numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True)
    scalars.SetName("ImageScalars")
    image = vtk.vtkImageData()
    image.SetDimensions(*grid.size)
    image.GetPointData().SetScalars(scalars)
    node = scene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    node.UnRegister(None)
    node.SetName(scene.GenerateUniqueName(name))
    place = emptyImage(grid)
    node.SetSpacing(*grid.spacing)
    node.SetOrigin(*place.GetOrigin())
    matrix = vtk.vtkMatrix4x4()
    place.GetDirectionMatrix(matrix)
    node.SetIJKToRASDirectionMatrix(matrix)
    node.SetAndObserveImageData(image)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    return node


def modalityOf(volumeNode: Node) -> str:
    """``CT``, ``MR`` ... as the scene knows it; "" if it does not.

    DICOM's entry is taken from the node or the subject hierarchy; Hounsfield units mean CT.
    """
    found = volumeNode.GetAttribute(MODALITY)
    scene = volumeNode.GetScene()
    if not found and scene is not None:
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        item = hierarchy.GetItemByDataNode(volumeNode) if hierarchy is not None else 0
        found = hierarchy.GetItemAttribute(item, MODALITY) if item else ""
    units = volumeNode.GetVoxelValueUnits()
    if not found and units is not None and units.GetCodeValue() == HOUNSFIELD:
        return "CT"
    return found or ""


def checkChannels(volumeNodes: Sequence[Node]) -> Grid:
    """Refuse volumes that are no channels of one scan.

    Returns:
        The grid that all have.

    Raises:
        MedDINOv3Error: none is given, one is no scan or sheared, or they lie differently.
    """
    if not volumeNodes or any(node is None for node in volumeNodes):
        raise MedDINOv3Error("no-scan", _("No scan is chosen."), _("Choose a loaded volume."))
    for node in volumeNodes:
        if node.IsA("vtkMRMLLabelMapVolumeNode"):
            raise MedDINOv3Error(
                "not-a-scan",
                _("'{name}' is a label map, not a scan.").format(name=node.GetName()),
                _("Choose the CT or MR volume itself."),
            )
        arrayOf(node)
    first, *others = volumeNodes
    grid = gridOf(first)
    if np.abs(grid.direction.T @ grid.direction - np.eye(3)).max() > SHEAR or not min(grid.spacing):
        raise MedDINOv3Error(
            "sheared",
            _("The axes of '{name}' are not perpendicular, as after a tilted gantry.").format(
                name=first.GetName()
            ),
            _("Resample it to a straight grid, e.g. with the module 'Crop Volume'."),
        )
    for other in others:
        same = first.GetParentTransformNode() == other.GetParentTransformNode()
        if not same or not gridOf(other).same_as(grid):
            raise MedDINOv3Error(
                "other-grid",
                _("'{other}' does not lie voxel on voxel with '{first}'.").format(
                    other=other.GetName(), first=first.GetName()
                ),
                _(
                    "Resample it to '{first}' with the module 'Resample Image (BRAINS)', and put"
                    " both under the same transform."
                ).format(first=first.GetName()),
            )
    return grid


def _imageOf(volumeNode: Node) -> vtk.vtkImageData:
    image = volumeNode.GetImageData()
    if image is None or min(image.GetDimensions()) < 1 or image.GetPointData().GetScalars() is None:
        raise MedDINOv3Error(
            "no-scan",
            _("'{name}' holds no image.").format(name=volumeNode.GetName()),
            _("Load the scan again, or choose another volume."),
        )
    return image
