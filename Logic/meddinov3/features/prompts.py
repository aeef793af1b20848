"""What a user asks about one structure: points, a box, and the mask so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from meddinov3.errors import MedDINOv3Error
from meddinov3.features.grid import FeatureGrid
from meddinov3.grid import FloatArray
from meddinov3.region import BoxRegion


def _none() -> FloatArray:
    return np.zeros((0, 3))


@dataclass(frozen=True, eq=False)
class Prompts:
    """Everything that is asked at one moment; an answer depends on nothing else.

    Attributes:
        positive: points (n, 3) inside the structure, LPS, mm.
        negative: points (m, 3) outside it.
        box: which holds the structure; nothing outside it is answered.
        previous: the mask so far (k, j, i) on the scan's grid, non-zero inside.
    """

    positive: FloatArray = field(default_factory=_none)
    negative: FloatArray = field(default_factory=_none)
    box: BoxRegion | None = None
    previous: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class PlacedPrompts:
    """The same, as indices of the oriented scan (slices, rows, columns).

    Attributes:
        positive, negative: continuous indices (n, 3).
        inside, outside: the voxels (n, 3) that these lie in.
    """

    positive: FloatArray
    negative: FloatArray
    inside: np.ndarray
    outside: np.ndarray


def place_prompts(prompts: Prompts, where: FeatureGrid) -> PlacedPrompts:
    """Find the voxels of the points.

    Raises:
        MedDINOv3Error: there is neither a positive point nor a box, a point lies outside the
            scan or the encoded part of it, a positive point outside the box, or two points that
            contradict each other in one voxel.
    """
    if not len(prompts.positive) and prompts.box is None:
        raise MedDINOv3Error(
            "no-prompt",
            "Nothing says what is meant: there is neither a positive point nor a box.",
            "Place a point inside the structure, or draw a box around it.",
        )
    groups = []
    for points in (prompts.positive, prompts.negative):
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(points).all() or not all(where.holds(point) for point in points):
            raise MedDINOv3Error(
                "point-outside",
                "A point lies outside the part of the scan whose features are known.",
                "Move it into the scan, or into the region that was prepared.",
            )
        groups.append(where.oriented(points))
    low = [part.start for part in where.box]
    high = [part.stop - 1 for part in where.box]
    inside, outside = (
        np.clip(np.floor(places + 0.5).astype(np.int64), low, high) for places in groups
    )
    meant = np.asarray(prompts.positive, dtype=np.float64).reshape(-1, 3)
    if prompts.box is not None and not prompts.box.contains(meant).all():
        raise MedDINOv3Error(
            "point-outside-box",
            "A positive point lies outside the box.",
            "Make the box larger, or remove the point.",
        )
    if {*map(tuple, inside.tolist())} & {*map(tuple, outside.tolist())}:
        raise MedDINOv3Error(
            "points-contradict",
            "A positive and a negative point lie in the same voxel.",
            "Remove one of them.",
        )
    return PlacedPrompts(groups[0], groups[1], inside, outside)
