"""A simulated user: where somebody would click next to correct a mask.

The next click lies deepest inside the largest wrong part, as in the evaluations of RITM (arXiv
2102.06583) and nnInteractive (arXiv 2503.08373), here in millimetres and three dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SLACK = 0.5  # of the greatest depth: a person's click lies that deep at least


@dataclass(frozen=True)
class Click:
    """One click.

    Attributes:
        index: voxel, in the order of the array's axes.
        positive: whether it says "this belongs to it".
    """

    index: tuple[int, int, int]
    positive: bool


def next_clicks(
    found: np.ndarray,
    wanted: np.ndarray,
    spacing: Sequence[float],
    count: int = 1,
    *,
    valid: np.ndarray | None = None,
    random: np.random.Generator | None = None,
) -> list[Click]:
    """Clicks that would correct a mask, the most needed first, each in a wrong part of its own.

    Args:
        found: boolean (S, rows, columns), what is shown; nothing at all for the first click.
        wanted: the same, what is meant.
        spacing: mm along the three axes.
        count: clicks wanted; fewer are given if fewer parts are wrong.
        valid: where something is annotated; everywhere by default.
        random: clicks somewhere in the deeper half of the part instead of at its deepest point.

    Returns:
        The clicks; none if the mask is right.
    """
    known = np.True_ if valid is None else valid
    parts: list[tuple[int, bool, np.ndarray, tuple[slice, ...]]] = []
    for positive, wrong in ((True, wanted & ~found & known), (False, found & ~wanted & known)):
        labelled, number = ndimage.label(wrong)
        if not number:
            continue
        sizes = np.bincount(labelled.ravel(), minlength=number + 1)
        boxes = ndimage.find_objects(labelled)
        for value in np.argsort(-sizes[1:], kind="stable")[:count] + 1:
            part = labelled[boxes[value - 1]] == value
            parts.append((int(sizes[value]), positive, part, boxes[value - 1]))
    parts.sort(key=lambda entry: -entry[0])
    clicks = []
    for _, positive, part, box in parts[:count]:
        place = deepest(part, spacing, random)
        index = tuple(int(n) + edge.start for n, edge in zip(place, box, strict=True))
        clicks.append(Click(index, positive))  # type: ignore[arg-type]
    return clicks


def deepest(
    part: np.ndarray, spacing: Sequence[float], random: np.random.Generator | None = None
) -> tuple[int, ...]:
    """The voxel furthest from the outside, which begins at the array's edge.

    Args:
        part: boolean, not empty.
        spacing: mm along its axes.
        random: any of the voxels that are at least half as deep instead.
    """
    depth = ndimage.distance_transform_edt(np.pad(part, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    if random is not None:
        deep = np.argwhere(depth >= SLACK * depth.max())
        return tuple(int(n) for n in deep[random.integers(len(deep))])
    deep = np.argwhere(depth >= depth.max() - 1e-6)  # of equally deep ones the most central
    away = (deep - np.argwhere(part).mean(axis=0)) * np.asarray(spacing)
    return tuple(int(n) for n in deep[np.linalg.norm(away, axis=1).argmin()])
