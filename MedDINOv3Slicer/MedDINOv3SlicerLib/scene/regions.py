"""A box drawn in the scene, in the words of ``--roi``."""

from __future__ import annotations

import numpy as np
import vtk
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import FloatArray
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.scene.geometry import Node, arrayFromMatrix, transformBetween
from MedDINOv3SlicerLib.scene.volumes import gridOf

STRAIGHT = 1e-9  # how far an axis may lie off the patient's and count as along it
SQUARE = 1e-4  # cosine between edges that still count as perpendicular


def regionOf(roiNode: Node | None, volumeNode: Node) -> str | None:
    """Say where a box lies in a scan's own coordinates, as the worker reads it.

    Args:
        roiNode: a markups ROI with any rotation and transform, or None.
        volumeNode: the scan; the transform above it is undone.

    Returns:
        ``Segment.region``: six numbers, or fifteen for a box that is turned; see
        :func:`meddinov3.region.read_region`. None without a box.

    Raises:
        MedDINOv3Error: nothing is drawn yet, or the box means its outside.
    """
    if roiNode is None:
        return None
    size = np.array(roiNode.GetSize(), dtype=float)
    if roiNode.GetNumberOfDefinedControlPoints() == 0 or (size <= 0).any():
        raise MedDINOv3Error(
            "empty-region",
            _("The region '{name}' has no box yet.").format(name=roiNode.GetName()),
            _("Draw it in a slice view, or choose no region to segment the whole scan."),
        )
    if roiNode.GetInsideOut():
        raise MedDINOv3Error(
            "bad-region",
            _("The region '{name}' is turned inside out.").format(name=roiNode.GetName()),
            _("Switch 'Inside out' off in the module Markups."),
        )
    corners = _cornersIn(roiNode, volumeNode, size)
    centre = corners.mean(axis=0)
    # Corners are in the order of their signs: edge n is from those below to those above.
    edges = np.stack([_edge(corners, n) for n in range(3)], axis=1)
    lengths = np.linalg.norm(edges, axis=0)
    axes = edges / lengths
    if np.abs(axes.T @ axes - np.eye(3)).max() > SQUARE:  # sheared: a box around it
        axes = gridOf(volumeNode).direction * np.array([[-1.0], [-1.0], [1.0]])
        local = (corners - centre) @ axes
        lengths = np.ptp(local, axis=0)
        centre = centre + axes @ ((local.max(axis=0) + local.min(axis=0)) / 2)
    if ((np.abs(axes) < STRAIGHT) | (np.abs(axes) > 1 - STRAIGHT)).all():
        reach = np.abs(axes @ np.diag(lengths)).sum(axis=1) / 2
        numbers = np.stack([centre - reach, centre + reach], axis=1).ravel()
    else:
        numbers = np.concatenate([centre, lengths, axes.ravel()])
    return ",".join(repr(float(number)) for number in numbers)


def _cornersIn(roiNode: Node, volumeNode: Node, size: FloatArray) -> FloatArray:
    """The corners (8, 3) in RAS of the scan's own coordinates, the last axis changing first."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(roiNode.GetObjectToNodeMatrix())
    toNode = arrayFromMatrix(matrix)
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners: FloatArray = (signs * size / 2) @ toNode[:3, :3].T + toNode[:3, 3]
    transform = transformBetween(roiNode, volumeNode)
    if isinstance(transform, np.ndarray):
        moved: FloatArray = corners @ transform[:3, :3].T + transform[:3, 3]
        return moved
    return np.array([transform.TransformPoint(corner) for corner in corners])


def _edge(corners: FloatArray, axis: int) -> FloatArray:
    cube = corners.reshape(2, 2, 2, 3)
    edge: FloatArray = (np.take(cube, 1, axis) - np.take(cube, 0, axis)).mean(axis=(0, 1))
    return edge
