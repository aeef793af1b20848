"""A label map on a scan's grid, painted structure by structure from a file that drew them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import FloatArray, Grid
from meddinov3.labels import Label

ON_LATTICE = 0.1  # voxels by which a voxel centre may miss the other grid's: headers round
IndexBox = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Structures on exactly a scan's grid.

    Attributes:
        array: (k, j, i) unsigned integers, 0 is background.
        grid: the scan's.
        labels: what the values stand for.
        notes: what the user should know: overlaps, what was left out, resampling.
    """

    array: np.ndarray
    grid: Grid
    labels: tuple[Label, ...]
    notes: tuple[str, ...] = ()


class LabelPainter:
    """Paints structures onto a label map, later over earlier, and counts what that hides.

    Args:
        shape: (k, j, i) of the label map.
        labels: whose values may be painted.
    """

    def __init__(self, shape: tuple[int, int, int], labels: Sequence[Label]) -> None:
        highest = max((label.value for label in labels), default=0)
        self.array = np.zeros(shape, np.min_scalar_type(highest))
        self._names = {label.value: label.name for label in labels}
        self._hidden: dict[tuple[int, int], int] = {}

    def paint(self, box: IndexBox, mask: np.ndarray, value: int) -> None:
        """Write `value` into the voxels of a box where `mask` is true."""
        place = self.array[box]
        below = place[mask]
        for earlier, count in zip(*np.unique(below, return_counts=True), strict=True):
            if earlier not in (0, value):
                pair = (value, int(earlier))
                self._hidden[pair] = self._hidden.get(pair, 0) + int(count)
        place[mask] = value

    def notes(self) -> list[str]:
        """How many voxels of which structure lie below which other."""
        if not self._hidden:
            return []
        pairs = "; ".join(
            f"'{self._names[later]}' covers {count} voxel(s) of '{self._names[earlier]}'"
            for (later, earlier), count in self._hidden.items()
        )
        return [
            f"structures overlap, which a label map cannot hold: {pairs}. Choose structures to "
            "get them one by one"
        ]


def unique_names(names: Sequence[str]) -> list[str]:
    """Names made unique by a number behind the second and further ones."""
    found: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name} ({number})"
        found.append(unique)
    return found


def chosen_labels(labels: Sequence[Label], structures: Sequence[str] | None) -> tuple[Label, ...]:
    """The labels of the structures asked for, in the file's order; all for None.

    Raises:
        MedDINOv3Error: a structure is not in the file.
    """
    if structures is None:
        return tuple(labels)
    missing = [name for name in structures if name not in {label.name for label in labels}]
    if missing or not structures:
        raise MedDINOv3Error(
            "unknown-label",
            f"The file holds no structure {', '.join(map(repr, missing)) or 'without a name'}.",
            f"It holds: {', '.join(label.name for label in labels)}.",
        )
    return tuple(label for label in labels if label.name in structures)


def numbered(labels: Sequence[Label]) -> tuple[Label, ...]:
    """The labels with the values 1, 2, ... in their order."""
    return tuple(replace(label, value=n) for n, label in enumerate(labels, start=1))


def on_lattice(array: np.ndarray, grid: Grid, target: Grid) -> tuple[np.ndarray, IndexBox] | None:
    """See an array as part of another grid whose voxels it shares.

    Args:
        array: (k, j, i) on `grid`.
        grid: any permutation, flip or part of `target`.
        target: the grid to see it on.

    Returns:
        A view (k, j, i) along the axes of `target` and the box that it fills, which may lie
        outside the grid in part; None if the grids do not share their voxels.
    """
    steps = np.linalg.inv(target.index_to_patient) @ grid.index_to_patient
    turn = np.rint(steps)
    if not (np.abs(turn).sum(axis=0) == 1).all() or not (np.abs(turn).sum(axis=1) == 1).all():
        return None
    corners = np.array(np.meshgrid(*((0.0, n - 1.0) for n in grid.size))).reshape(3, -1).T
    start = np.rint(target.to_index(np.asarray(grid.origin)))
    missed = target.to_index(grid.to_patient(corners)) - (start + corners @ turn.T)
    if np.abs(missed).max() > ON_LATTICE:
        return None
    axes, flips, box = [], [], []
    for axis in (2, 1, 0):  # k, j, i of the target
        own = int(np.abs(turn[axis]).argmax())
        flip = turn[axis, own] < 0
        low = int(start[axis]) - (grid.size[own] - 1 if flip else 0)
        axes.append(2 - own)
        flips.append(slice(None, None, -1) if flip else slice(None))
        box.append(slice(low, low + grid.size[own]))
    return array.transpose(axes)[tuple(flips)], tuple(box)


def inside(
    view: np.ndarray, box: IndexBox, shape: tuple[int, int, int]
) -> tuple[np.ndarray, IndexBox]:
    """The part of a view whose box lies in a grid of a shape."""
    cut, kept = [], []
    for part, length in zip(box, shape, strict=True):
        low, high = max(part.start, 0), min(part.stop, length)
        high = max(high, low)
        cut.append(slice(low - part.start, high - part.start))
        kept.append(slice(low, high))
    return view[tuple(cut)], tuple(kept)


def nearest_labels(array: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    """A label map resampled to another grid, each voxel from the nearest; outside is 0.

    Args:
        array: (k, j, i) on `grid`.
        grid: where it lies.
        target: the grid wanted.

    Returns:
        (k, j, i) on `target`.
    """
    result = np.zeros(target.shape, array.dtype)
    matrix = np.linalg.inv(grid.index_to_patient) @ target.index_to_patient
    start = grid.to_index(np.asarray(target.origin))
    i, j = (np.arange(n, dtype=np.float64) for n in target.size[:2])
    size = np.asarray(grid.size)
    for k, plane in enumerate(result):
        index: FloatArray = (
            start
            + k * matrix[:, 2]
            + j[:, None, None] * matrix[:, 1]
            + i[None, :, None] * matrix[:, 0]
        )
        nearest = np.floor(index + 0.5).astype(np.int64)
        held = ((nearest >= 0) & (nearest < size)).all(axis=-1)
        x, y, z = nearest[held].T
        plane[held] = array[z, y, x]
    return result
