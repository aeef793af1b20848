"""A region of interest in patient space: a box or a label map."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import FloatArray, Grid, SliceOrientation
from meddinov3.intensity import nonzero_box
from meddinov3.reading import read_label_map

IndexBox = tuple[slice, slice, slice]


class Region(Protocol):
    """Where to segment; voxels whose centre lies outside stay background."""

    def corners(self) -> FloatArray:
        """LPS points (n, 3) in mm whose hull holds the region."""

    def contains(self, points: FloatArray) -> np.ndarray:
        """Whether LPS points (..., 3) in mm lie inside; boolean (...)."""


@dataclass(frozen=True, eq=False)
class BoxRegion:
    """A box with any rotation.

    Attributes:
        centre: LPS, mm.
        half: half the edge lengths, mm.
        axes: 3 x 3; column n is the unit direction of edge n in LPS.
    """

    centre: FloatArray
    half: FloatArray
    axes: FloatArray

    @classmethod
    def between(cls, low: FloatArray, high: FloatArray) -> BoxRegion:
        """A box along the patient's axes between two LPS corners in mm."""
        return cls((low + high) / 2, (high - low) / 2, np.eye(3))

    def corners(self) -> FloatArray:
        """See :class:`Region`."""
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
        corners: FloatArray = self.centre + (signs * self.half) @ self.axes.T
        return corners

    def contains(self, points: FloatArray) -> np.ndarray:
        """See :class:`Region`."""
        local = (points - self.centre) @ self.axes
        return np.asarray((np.abs(local) <= self.half + 1e-6).all(axis=-1))


@dataclass(frozen=True, eq=False)
class LabelRegion:
    """The non-zero voxels of a label map on a grid of its own."""

    labels: np.ndarray
    grid: Grid

    def corners(self) -> FloatArray:
        """See :class:`Region`."""
        if not self.labels.any():
            raise MedDINOv3Error(
                "empty-region", "The region's label map is empty.", "Paint the region first."
            )
        box = nonzero_box(self.labels)
        ends = [(part.start - 0.5, part.stop - 0.5) for part in reversed(box)]
        index = np.array(np.meshgrid(*ends)).reshape(3, -1).T
        return self.grid.to_patient(index)

    def contains(self, points: FloatArray) -> np.ndarray:
        """See :class:`Region`."""
        index = np.floor(self.grid.to_index(points) + 0.5).astype(np.int64)
        size = np.asarray(self.grid.size)
        inside = ((index >= 0) & (index < size)).all(axis=-1)
        i, j, k = np.moveaxis(np.clip(index, 0, size - 1), -1, 0)
        return np.asarray(inside & (self.labels[k, j, i] != 0))


def read_region(text: str) -> Region:
    """Understand ``--roi``.

    Args:
        text: six numbers ``R0,R1,A0,A1,S0,S1`` in mm as Slicer shows them (RAS: right is
            negative x in LPS), a Slicer markups ROI (``.mrk.json``), or a label map. Fifteen
            numbers are a turned box: centre, edge lengths, and the matrix row by row whose
            columns are the directions of its edges, all in RAS.

    Raises:
        MedDINOv3Error: none of these.
    """
    path = Path(text)
    if path.name.lower().endswith(".json"):
        return _read_markups(path)
    with suppress(OSError):  # a text too long for a file name is none
        if path.is_file():
            return LabelRegion(*read_label_map(path))
    try:
        numbers = np.array([float(part) for part in text.replace(",", " ").split()])
    except ValueError:
        numbers = np.array([])
    if numbers.shape == (15,) and np.isfinite(numbers).all() and (numbers[3:6] > 0).all():
        flip = np.array([-1.0, -1.0, 1.0])
        axes = numbers[6:].reshape(3, 3)
        if np.abs(axes.T @ axes - np.eye(3)).max() < 1e-3:
            return BoxRegion(numbers[:3] * flip, numbers[3:6] / 2, axes * flip[:, None])
    if numbers.shape != (6,) or not np.isfinite(numbers).all():
        raise MedDINOv3Error(
            "bad-region",
            f"'{text}' is no region: neither a file that exists nor six numbers.",
            "Give R0,R1,A0,A1,S0,S1 in mm (RAS), a .mrk.json, or a label map.",
        )
    ends = numbers.reshape(3, 2) * np.array([[-1], [-1], [1]])  # RAS to LPS
    return BoxRegion.between(ends.min(axis=1), ends.max(axis=1))


def _read_markups(path: Path) -> BoxRegion:
    try:
        markup = json.loads(path.read_text(encoding="utf-8"))["markups"][0]
        if markup["type"] != "ROI":
            raise ValueError(f"it holds a {markup['type']}")
        flip = np.diag([-1, -1, 1]) if markup.get("coordinateSystem", "LPS") == "RAS" else np.eye(3)
        centre = flip @ np.array(markup["center"], dtype=float)
        half = np.array(markup["size"], dtype=float) / 2
        axes = flip @ np.array(markup.get("orientation", np.eye(3).ravel())).reshape(3, 3)
        if centre.shape != (3,) or half.shape != (3,) or markup.get("insideOut"):
            raise ValueError("a box needs three coordinates and an inside")
        if not np.isfinite([*centre, *half, *axes.ravel()]).all() or (half <= 0).any():
            raise ValueError("its numbers are not finite or not positive")
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise MedDINOv3Error(
            "bad-region",
            f"'{path.name}' holds no markups ROI: {error}.",
            "Save the ROI node in Slicer as .mrk.json.",
        ) from error
    return BoxRegion(centre, half, axes)


def index_box(region: Region | None, grid: Grid, orientation: SliceOrientation) -> IndexBox:
    """The smallest box of (slices, rows, columns) that holds the region; all of it for None.

    Raises:
        MedDINOv3Error: the region lies outside the scan.
    """
    axes, flips = orientation.array_axes(grid)
    shape = tuple(grid.shape[axis] for axis in axes)
    if region is None:
        return (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
    index = grid.to_index(region.corners())[:, ::-1][:, list(axes)]  # (slices, rows, columns)
    slices = []
    for axis, (count, flip) in enumerate(zip(shape, flips, strict=True)):
        ends = index[:, axis] if not flip else count - 1 - index[:, axis]
        low = max(0, int(np.ceil(ends.min() - 1e-6)))
        high = min(count, int(np.floor(ends.max() + 1e-6)) + 1)
        if high <= low:
            raise MedDINOv3Error(
                "empty-region",
                "The region does not touch the scan.",
                "Draw it over the structure; coordinates are millimetres in patient space.",
            )
        slices.append(slice(low, high))
    return (slices[0], slices[1], slices[2])


def patient_points(
    grid: Grid, orientation: SliceOrientation, box: IndexBox, number: int
) -> FloatArray:
    """LPS centres (rows, columns, 3) in mm of the voxels of one slice of a box.

    Args:
        grid: the scan's.
        orientation: the model's.
        box: (slices, rows, columns) in oriented indices.
        number: slice, counted in the whole scan.
    """
    axes, flips = orientation.array_axes(grid)
    rows, columns = np.meshgrid(
        np.arange(box[1].start, box[1].stop), np.arange(box[2].start, box[2].stop), indexing="ij"
    )
    index = np.empty((*rows.shape, 3))
    for array_axis, flip, values in zip(
        axes, flips, (np.full(rows.shape, number), rows, columns), strict=True
    ):
        axis = 2 - array_axis
        index[..., axis] = grid.size[axis] - 1 - values if flip else values
    return grid.to_patient(index)
