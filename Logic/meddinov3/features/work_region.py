"""How much of a scan is looked at for one answer: around the points, growing with the mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from meddinov3.errors import MedDINOv3Error
from meddinov3.features.grid import FeatureGrid
from meddinov3.features.prompts import PlacedPrompts, Prompts
from meddinov3.progress import Steps, StopQuestion
from meddinov3.region import IndexBox, index_box

LEAST_TOKENS, LEAST_MM, LEAST_VOXELS = 3.0, 15.0, 6  # to each side of the points
GROWTH = 0.5  # of the region's length, to each side that the mask touches
MOST_GROWTHS = 6
MOST_VOXELS = 6_000_000

# The mask (S, rows, columns) of one structure in a box of the oriented scan.
Solve = Callable[[IndexBox], np.ndarray]


def first_region(prompts: Prompts, placed: PlacedPrompts, where: FeatureGrid) -> IndexBox:
    """Where to look first: the box, or the points and the mask so far with a margin.

    Raises:
        MedDINOv3Error: the box does not touch the scan or the encoded part of it.
    """
    if prompts.box is not None:
        return _common(index_box(prompts.box, where.grid, where.orientation), where.box)
    places = [placed.inside]
    if prompts.previous is not None:
        seen = where.orientation.view(prompts.previous, where.grid)[where.box] != 0
        if seen.any():
            for axis, part in enumerate(where.box):
                shown = np.flatnonzero(seen.any(axis=tuple({0, 1, 2} - {axis}))) + part.start
                corner = placed.inside[:1].repeat(2, axis=0)
                corner[:, axis] = shown[[0, -1]]
                places.append(corner)
    reached = np.concatenate(places)
    spacing = where.orientation.spacing(where.grid)
    margin = max(LEAST_MM, LEAST_TOKENS * max(where.token_spacing))
    region = []
    for axis, (part, mm) in enumerate(zip(where.box, spacing, strict=True)):
        more = max(LEAST_VOXELS, round(margin / mm))
        low, high = int(reached[:, axis].min()) - more, int(reached[:, axis].max()) + 1 + more
        region.append(slice(max(part.start, low), min(part.stop, high)))
    return (region[0], region[1], region[2])


def grow(
    region: IndexBox, where: FeatureGrid, solve: Solve, fixed: bool, stop: StopQuestion | None
) -> tuple[IndexBox, np.ndarray]:
    """Solve, and look further as long as the mask touches the region's border.

    Args:
        region: where to begin.
        where: bounds.
        solve: gives the mask.
        fixed: never look further: the user drew a box.
        stop: asked before each look.

    Returns:
        The region that was looked at last, and its mask.
    """
    steps = Steps("answering", MOST_GROWTHS + 1, None, stop)
    for _ in range(MOST_GROWTHS + 1):
        steps.check()
        mask = solve(region)
        wider = region if fixed else _wider(region, mask, where)
        if wider == region:
            break
        region = wider
    return region, mask


def _wider(region: IndexBox, mask: np.ndarray, where: FeatureGrid) -> IndexBox:
    edges = []
    for axis, (part, limit) in enumerate(zip(region, where.box, strict=True)):
        more = max(1, round(GROWTH * (part.stop - part.start)))
        ends = np.moveaxis(mask, axis, 0)
        sides = (bool(ends[0].any()), bool(ends[-1].any()))
        edges.append(slice(
            max(limit.start, part.start - more) if sides[0] else part.start,
            min(limit.stop, part.stop + more) if sides[1] else part.stop,
        ))  # fmt: skip
    voxels = np.prod([part.stop - part.start for part in edges])
    return region if voxels > MOST_VOXELS else (edges[0], edges[1], edges[2])


def _common(one: IndexBox, other: IndexBox) -> IndexBox:
    parts = [
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    ]
    if any(part.stop <= part.start for part in parts):
        raise MedDINOv3Error(
            "empty-region",
            "The box does not touch the part of the scan whose features are known.",
            "Move it over the structure.",
        )
    return (parts[0], parts[1], parts[2])
