"""Where images lie: MRML's matrices (RAS) and the engine's grids (LPS), both ways and exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from meddinov3.grid import FloatArray, Grid
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

Node = Any  # MRML classes have no types
Image = Any  # vtkOrientedImageData

FLIP = np.array([-1.0, -1.0, 1.0])  # RAS to LPS and back
SHEAR = 1e-4  # cosine between axes that are no longer taken for perpendicular


def arrayFromMatrix(matrix: vtk.vtkMatrix4x4) -> FloatArray:
    """The 4 x 4 array of a matrix."""
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def matrixFromArray(array: FloatArray) -> vtk.vtkMatrix4x4:
    """The matrix of a 4 x 4 array."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(array).ravel()])
    return matrix


def gridFromRas(
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    directions: FloatArray,
) -> Grid:
    """A grid from what a volume states in RAS; no number is rounded.

    Args:
        size, spacing: along (i, j, k).
        origin: centre of voxel (0, 0, 0) in RAS, mm.
        directions: 3 x 3; column n is the unit direction of index axis n in RAS.
    """
    r, a, s = (float(value) for value in np.asarray(origin) * FLIP + 0.0)  # no -0.0
    columns, rows, slices = (int(n) for n in size)
    x, y, z = (float(step) for step in spacing)
    turned = np.asarray(directions) * FLIP[:, None] + 0.0
    return Grid((columns, rows, slices), (x, y, z), (r, a, s), turned)


def moved(grid: Grid, ras: FloatArray) -> Grid | None:
    """A grid after a linear transform.

    Args:
        grid: where it lies.
        ras: 4 x 4, from RAS to RAS.

    Returns:
        None if its axes would not be perpendicular any more.
    """
    if np.array_equal(ras, np.eye(4)):
        return grid
    axes = (ras[:3, :3] * FLIP[:, None] * FLIP) @ grid.index_to_patient
    spacing = np.linalg.norm(axes, axis=0)
    if not np.isfinite(axes).all() or spacing.min() <= 0:
        return None
    direction = axes / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > SHEAR:
        return None
    origin = (ras[:3, :3] @ (np.asarray(grid.origin) * FLIP) + ras[:3, 3]) * FLIP
    x, y, z = (float(step) for step in spacing)
    left, back, up = (float(place) for place in origin)
    return Grid(grid.size, (x, y, z), (left, back, up), direction)


def transformBetween(source: Node, target: Node) -> FloatArray | vtk.vtkGeneralTransform:
    """How coordinates in one node become those in another.

    Args:
        source, target: transformable nodes; None for world coordinates.

    Returns:
        A 4 x 4 array in RAS if it is linear, exactly the identity below one parent; else the
        transform.
    """
    above = source.GetParentTransformNode() if source is not None else None
    below = target.GetParentTransformNode() if target is not None else None
    if above == below:
        return np.eye(4)
    kind = slicer.vtkMRMLTransformNode
    matrix = vtk.vtkMatrix4x4()
    if kind.GetMatrixTransformBetweenNodes(above, below, matrix):
        return arrayFromMatrix(matrix)
    transform = vtk.vtkGeneralTransform()
    kind.GetTransformBetweenNodes(above, below, transform)
    return transform


def vtkTransform(transform: FloatArray | vtk.vtkGeneralTransform) -> Any:
    """What :func:`transformBetween` gave, as VTK wants it."""
    if not isinstance(transform, np.ndarray):
        return transform
    linear = vtk.vtkTransform()
    linear.SetMatrix(matrixFromArray(transform))
    return linear


def emptyImage(grid: Grid) -> Image:
    """An image without voxels whose extent and place are those of a grid."""
    image = slicer.vtkOrientedImageData()
    image.SetSpacing(*grid.spacing)
    image.SetOrigin(*(float(value) for value in np.asarray(grid.origin) * FLIP + 0.0))
    directions = np.eye(4)
    directions[:3, :3] = grid.direction * FLIP[:, None] + 0.0
    image.SetDirectionMatrix(matrixFromArray(directions))
    image.SetExtent(0, grid.size[0] - 1, 0, grid.size[1] - 1, 0, grid.size[2] - 1)
    return image


def imageOf(array: np.ndarray, grid: Grid, box: tuple[slice, ...] | None = None) -> Image:
    """An image with a copy of an array.

    Args:
        array: (k, j, i), on all of `grid` or on the box of it.
        grid: where index (0, 0, 0) lies; the image's extent counts from there.
        box: slices of (k, j, i); all of the grid for None.
    """
    image = emptyImage(grid)
    if box is not None:
        image.SetExtent(*(end for part in reversed(box) for end in (part.start, part.stop - 1)))
    scalars = numpy_to_vtk(np.ascontiguousarray(array).ravel(), deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def voxelsOf(image: Image) -> tuple[np.ndarray, Grid] | None:
    """An image's voxels (k, j, i), as a view, and the grid of just these; None if it has none."""
    scalars = image.GetPointData().GetScalars()
    if scalars is None or image.IsEmpty():
        return None
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    array = vtk_to_numpy(scalars).reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
    matrix = vtk.vtkMatrix4x4()
    image.GetDirectionMatrix(matrix)
    directions = arrayFromMatrix(matrix)[:3, :3]
    origin = np.asarray(image.GetOrigin())
    if (i0, j0, k0) != (0, 0, 0):
        origin = origin + directions @ (np.asarray(image.GetSpacing()) * (i0, j0, k0))
    return array, gridFromRas(array.shape[::-1], image.GetSpacing(), origin, directions)
