"""Whether DICOM slices lie on a regular grid, and which."""

from __future__ import annotations

import numpy as np

from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import FloatArray, Grid

EVEN = 0.05  # mm, and 2 % of the distance: headers round
TURNED = 1.5e-3  # of the height: directions rounded to three digits point aside by up to this
EXPORT_AGAIN = "Export it from the archive again, or convert it with a tool that resamples."


def no_geometry(what: str) -> MedDINOv3Error:
    """The refusal of slices that do not say where they lie."""
    return MedDINOv3Error(
        "no-geometry",
        f"{what} does not say where its slices lie: pixel spacing, position or orientation is "
        "missing in some of them.",
        EXPORT_AGAIN,
    )


def along_normal(corners: FloatArray, cosines: FloatArray) -> FloatArray:
    """How far (n) in mm slices lie along the normal of the first.

    Args:
        corners: LPS positions (n, 3) in mm of the centre of each first voxel.
        cosines: directions (n, 6) in LPS along a row and along a column.
    """
    distance: FloatArray = corners @ np.cross(cosines[0, :3], cosines[0, 3:])
    return distance


def check_slices(what: str, corners: FloatArray, cosines: FloatArray, spacings: FloatArray) -> None:
    """Refuse slices that are turned, shifted, doubled or unevenly spaced.

    Args:
        what: begins the sentence, e.g. ``The DICOM series in 'x'``.
        corners, cosines: as in :func:`along_normal`, in the order of the slices.
        spacings: (n, 2) in mm between rows and between columns.

    Raises:
        MedDINOv3Error: they lie on no regular grid.
    """
    if not all(np.isfinite(part).all() for part in (corners, cosines, spacings)):
        raise no_geometry(what)
    if spacings.min() <= 0:
        raise no_geometry(what)
    across = np.abs((cosines[:, :3] * cosines[:, 3:]).sum(axis=1)).max()
    lengths = np.linalg.norm(cosines.reshape(-1, 3), axis=1)
    problem = ""
    if across > 1e-2 or np.abs(lengths - 1).max() > 1e-2:
        problem = "its rows and columns are not at right angles"
    elif np.abs(spacings - spacings[0]).max() > 1e-3:
        problem = "its slices differ in pixel spacing"
    elif np.abs(cosines - cosines[0]).max() > 1e-3:
        problem = "its slices are turned against each other"
    elif len(corners) > 1:
        problem = _uneven(corners, cosines, float(spacings.min()))
    if problem:
        raise MedDINOv3Error(
            "uneven-series", f"{what} is on no regular grid: {problem}.", EXPORT_AGAIN
        )


def _uneven(corners: FloatArray, cosines: FloatArray, pixel: float) -> str:
    """What is wrong with the steps from slice to slice, or with what they add up to; or ""."""
    steps = np.diff(corners, axis=0)
    normal = np.cross(cosines[0, :3], cosines[0, 3:])
    normal /= np.linalg.norm(normal)
    gaps = steps @ normal
    distance = float(np.median(np.abs(gaps)))
    allowed = max(EVEN, 0.02 * distance)
    sideways = np.linalg.norm(steps - np.outer(gaps, normal), axis=1)
    if (np.abs(gaps) < EVEN / 10).any():
        return "several slices lie at one position (a slice twice, or several time points)"
    heights = (corners - corners[0]) @ normal
    aside = np.linalg.norm(corners - corners[0] - np.outer(heights, normal), axis=1)
    # Small steps add up: the last slice may be off by many pixels.
    far = aside > np.maximum(max(EVEN, pixel / 2), TURNED * np.abs(heights))
    if sideways.max() > allowed or far.any():
        tilt = np.degrees(np.arctan2(sideways.max(), distance))
        if far.any():
            tilt = np.degrees(np.arctan2(aside[far], np.abs(heights[far])).max())
        return f"its slices are shifted sideways as with a tilted gantry ({tilt:.2g} degrees)"
    if (np.abs(np.abs(gaps) - distance) > allowed).any():
        low, high = np.abs(gaps).min(), np.abs(gaps).max()
        return f"its slices lie {low:.2f} to {high:.2f} mm apart (slices are missing?)"
    off = np.abs(heights - np.linspace(0, heights[-1], len(heights))).max()
    if off > max(EVEN, 0.1 * distance):
        return f"its slices lie up to {off:.2f} mm from where even steps would put them"
    return ""


def grid_of_slices(
    size: tuple[int, int],
    corners: FloatArray,
    cosines: FloatArray,
    spacings: FloatArray,
    thickness: float,
) -> Grid:
    """The grid of slices that passed :func:`check_slices` and rise along their normal.

    Args:
        size: columns and rows of a slice.
        corners, cosines, spacings: as there.
        thickness: distance in mm for a single slice.
    """
    rows, columns = (float(part) for part in spacings[0])
    across, down = cosines[0, :3], cosines[0, 3:]
    across = across / np.linalg.norm(across)
    normal = np.cross(across, down)
    normal /= np.linalg.norm(normal)
    count = len(corners)
    distance = float(np.ptp(along_normal(corners, cosines))) / (count - 1) if count > 1 else 0.0
    x, y, z = (float(part) for part in corners[0])
    return Grid(
        (*size, count),
        (columns, rows, distance or thickness or 1.0),
        (x, y, z),
        np.stack([across, np.cross(normal, across), normal], axis=1),
    )
