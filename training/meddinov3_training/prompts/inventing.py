"""Structures that nobody drew, so that a click model follows clicks and not what it knows.

Where a library shows a few structures only, a model learns to find these whatever is clicked. Some
questions are therefore about a piece of the picture itself: what is connected to a place, of like
intensity and not too far away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

RADII = (6.0, 20.0)  # fine pixels
SQUEEZE = (0.6, 1.6)  # of each axis
SIMILAR = (0.6, 1.4)  # deviations of the intensities around the place
FEWEST = 60  # voxels
TRIES = 4


def invented(
    picture: np.ndarray, valid: np.ndarray, spacing: Sequence[float], random: np.random.Generator
) -> np.ndarray | None:
    """A connected piece of a picture, boolean (S, rows, columns); None if there is none.

    Args:
        picture: intensities (S, rows, columns).
        valid: where something is annotated; nothing is invented elsewhere.
        spacing: mm along the axes.
        random: where and how large.
    """
    places = np.argwhere(valid)
    axes = np.ogrid[tuple(slice(count) for count in picture.shape)]
    for _ in range(TRIES if len(places) else 0):
        place = places[random.integers(len(places))]
        radius = random.uniform(*RADII) * spacing[2]
        edges = radius * random.uniform(*SQUEEZE, 3)
        near = (
            sum(
                ((axis - at) * mm / edge) ** 2
                for axis, at, mm, edge in zip(axes, place, spacing, edges, strict=True)
            )
            <= 1
        ) & valid
        around = picture[near]
        reach = random.uniform(*SIMILAR) * float(around.std())
        smooth = ndimage.uniform_filter(picture, (1, 3, 3))
        alike = near & (np.abs(smooth - smooth[tuple(place)]) <= reach)
        parts, _ = ndimage.label(ndimage.binary_opening(alike))
        if parts[tuple(place)]:
            piece = ndimage.binary_fill_holes(parts == parts[tuple(place)])
            if piece.sum() >= FEWEST:
                found: np.ndarray = piece & valid
                return found
    return None
