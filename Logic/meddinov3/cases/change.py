"""What a person changed in a model's proposal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from meddinov3.grid import Grid
from meddinov3.labels import Label


@dataclass(frozen=True)
class Change:
    """How one structure was changed.

    Attributes:
        added, removed: voxels that were put in and taken out.
        added_ml, removed_ml: the same in ml.
        dice: overlap of before and after; 1 where nothing was changed, empty ones included.
    """

    added: int
    removed: int
    added_ml: float
    removed_ml: float
    dice: float


def changes(
    before: np.ndarray, after: np.ndarray, labels: Sequence[Label], grid: Grid
) -> dict[str, Change]:
    """Compare two label maps structure by structure.

    Args:
        before, after: (k, j, i) unsigned integers on `grid`.
        labels: the structures; others are passed over.
        grid: gives the volume of a voxel.

    Returns:
        The change of each label, by name.

    Raises:
        ValueError: the two differ in shape.
    """
    if before.shape != after.shape:
        raise ValueError(f"label maps of {before.shape} and {after.shape} cannot be compared")
    highest = max((label.value for label in labels), default=0) + 1
    counts = np.zeros((4, highest + 1), np.int64)  # before, after, removed, added
    for old, new in zip(before, after, strict=True):  # slices, so that no whole copy is made
        differ = old != new
        for row, values in enumerate((old, new, old[differ], new[differ])):
            below = np.minimum(values, highest).ravel()  # what no label has goes into the last
            counts[row] += np.bincount(below, minlength=highest + 1)
    voxel_ml = abs(float(np.linalg.det(grid.index_to_patient))) / 1000
    found = {}
    for label in labels:
        was, became, removed, added = (int(n) for n in counts[:, label.value])
        dice = 2 * (was - removed) / (was + became) if was + became else 1.0
        found[label.name] = Change(added, removed, added * voxel_ml, removed * voxel_ml, dice)
    return found
