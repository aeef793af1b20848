"""Optional clean-up of a label map, one label at a time, in the label's own box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from meddinov3.grid import Grid
from meddinov3.labels import Label


@dataclass(frozen=True)
class Cleanup:
    """What to do to each label.

    Attributes:
        largest: keep the largest connected part only (faces touch).
        fill_holes: fill background enclosed by the label, never another label.
        minimum_ml: remove connected parts below this volume.
    """

    largest: bool = False
    fill_holes: bool = False
    minimum_ml: float = 0.0

    @property
    def asked(self) -> bool:
        """Whether there is anything to do."""
        return self.largest or self.fill_holes or self.minimum_ml > 0


def clean(label_map: np.ndarray, grid: Grid, labels: Sequence[Label], cleanup: Cleanup) -> None:
    """Clean a label map (k, j, i) in place.

    Args:
        label_map: values of `labels`, 0 elsewhere.
        grid: for the voxel volume.
        labels: to clean, in this order.
        cleanup: what to do.
    """
    voxel_ml = abs(float(np.linalg.det(grid.index_to_patient))) / 1000
    boxes = ndimage.find_objects(label_map)
    for value in sorted({label.value for label in labels}):
        box = boxes[value - 1] if value <= len(boxes) else None
        if box is None:
            continue
        part = label_map[box]
        mask = part == value
        if cleanup.largest or cleanup.minimum_ml > 0:
            components, count = ndimage.label(mask)
            # Plane by plane: bincount and fancy indexing copy what they are given.
            sizes = np.zeros(count + 1, dtype=np.int64)
            for plane in components:
                sizes += np.bincount(plane.ravel(), minlength=count + 1)
            sizes[0] = 0
            keep = sizes * voxel_ml >= cleanup.minimum_ml
            keep[0] = False
            if cleanup.largest:
                keep &= np.arange(count + 1) == sizes.argmax()
            for number, plane in enumerate(components):
                removed = mask[number] & ~keep[plane]
                part[number][removed] = 0
                mask[number][removed] = False
            del components
        if cleanup.fill_holes:
            part[ndimage.binary_fill_holes(mask) & (part == 0)] = value
