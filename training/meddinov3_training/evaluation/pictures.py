"""The worst cases as pictures: where prediction and reference part."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid, SliceOrientation
from meddinov3.preview import EDGES, SOFT_TISSUE, VIEWS
from meddinov3.reading import read_label_map, read_volume
from meddinov3.volume import Volume
from numpy.typing import NDArray

from meddinov3_training.evaluation.evaluate import read_pair
from meddinov3_training.evaluation.matching import Pair

REFERENCE, PREDICTION = "#56b4e9", "#e69f00"  # told apart by everybody, and on grey
MARGIN = 12.0  # mm around the structures
SMALLEST = 40.0  # mm along an edge of the picture
WIDTH, TITLE, DPI = 6.4, 0.26, 140  # inches


def case_picture(pair: Pair, structures: DatasetLabels, scan: Path | None) -> bytes:
    """Axial, coronal and sagittal slice with the largest disagreement, as PNG.

    Args:
        pair: files of the case.
        structures: labels to outline; voxels of the ignore label count as agreement.
        scan: behind the outlines; None, or one on another grid, leaves the ground plain.

    Raises:
        MedDINOv3Error: a file cannot be read.
    """
    from matplotlib.figure import Figure

    prediction, reference, _ = read_pair(pair)
    if prediction is None:
        prediction = np.zeros_like(reference)
    grid = read_label_map(pair.reference)[1]
    volume = _scan(scan, grid)
    wrong = _disagreement(prediction, reference, structures)
    used = np.isin(reference, _values(structures)) | np.isin(prediction, _values(structures))
    views = []
    for name, orientation in VIEWS.items():
        seen = orientation.view(wrong, grid)
        number = int(seen.sum(axis=(1, 2)).argmax())
        here = (number, *_frame(orientation.view(used, grid), orientation.spacing(grid)))
        views.append((f"{name} {number + 1} of {len(seen)}", EDGES[name], orientation, here))
    # All panels on one scale: as wide as their slices are in mm.
    sizes = [_size(orientation.spacing(grid), here) for _, _, orientation, here in views]
    tallest = WIDTH * max(rows for rows, _ in sizes) / sum(columns for _, columns in sizes)
    figure = Figure(figsize=(WIDTH, tallest + TITLE), facecolor="black")
    axes = figure.subplots(1, 3, width_ratios=[columns for _, columns in sizes])
    for axis, (title, edges, orientation, here) in zip(axes, views, strict=True):
        _ground(axis, volume, orientation, grid, here)
        for label_map, colour, dashed in (
            (reference, REFERENCE, False),
            (prediction, PREDICTION, True),
        ):
            plane = orientation.view(label_map, grid)[here]
            for members in structures.members:
                _outline(axis, np.isin(plane, members), colour, dashed)
        axis.set_title(title, color="white", fontsize=8, pad=3)
        axis.set_axis_off()
        _letters(axis, edges)
    figure.subplots_adjust(0.005, 0.01, 0.995, 1 - TITLE / (tallest + TITLE), wspace=0.02)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=DPI, facecolor="black")
    return target.getvalue()


def _scan(path: Path | None, grid: Grid) -> Volume | None:
    """A scan on the label map's grid, or None."""
    if path is None:
        return None
    try:
        volume = read_volume(path)
    except MedDINOv3Error:
        return None  # a picture without its ground is better than no report
    return volume if volume.grid.same_as(grid, 0.1) else None


def _values(structures: DatasetLabels) -> list[int]:
    return sorted({value for members in structures.members for value in members})


def _disagreement(
    prediction: np.ndarray, reference: np.ndarray, structures: DatasetLabels
) -> NDArray[np.bool_]:
    """Voxels (k, j, i) that belong to other structures in one than in the other."""
    wrong: NDArray[np.bool_] = prediction != reference
    wrong &= np.isin(prediction, _values(structures)) | np.isin(reference, _values(structures))
    if structures.ignore is not None:
        wrong &= reference != structures.ignore
    return wrong


def _frame(used: np.ndarray, spacing: tuple[float, float, float]) -> tuple[slice, slice]:
    """Rows and columns around all structures, with a margin, of at least SMALLEST mm."""
    sides = []
    for axis in (1, 2):
        other = tuple(n for n in range(3) if n != axis)
        found = np.flatnonzero(used.any(axis=other))
        first, last = (int(found[0]), int(found[-1])) if len(found) else (0, used.shape[axis] - 1)
        size = (last - first + 1) * spacing[axis]
        margin = round(max(MARGIN, (SMALLEST - size) / 2) / spacing[axis])
        sides.append(slice(max(0, first - margin), min(used.shape[axis], last + 1 + margin)))
    return sides[0], sides[1]


def _size(
    spacing: tuple[float, float, float], here: tuple[int, slice, slice]
) -> tuple[float, float]:
    """Height and width of a slice in mm."""
    _, rows, columns = here
    return (rows.stop - rows.start) * spacing[1], (columns.stop - columns.start) * spacing[2]


def _ground(
    axis: Any,
    volume: Volume | None,
    orientation: SliceOrientation,
    grid: Grid,
    here: tuple[int, slice, slice],
) -> None:
    _, rows, columns = orientation.spacing(grid)
    if volume is None:
        shape = np.empty(grid.shape, np.bool_)  # never read: gives the slice's shape
        plane: np.ndarray = np.zeros(orientation.view(shape, grid)[here].shape)
        low, high = -1.0, 8.0
    else:
        plane = orientation.view(volume.channels[0], grid)[here]
        low, high = _window(volume, plane)
    axis.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=rows / columns,
                interpolation="bilinear")  # fmt: skip


def _window(volume: Volume, plane: np.ndarray) -> tuple[float, float]:
    sample = volume.channels[0][:: max(1, volume.grid.size[2] // 32), ::2, ::2]
    low, high = (float(value) for value in np.percentile(sample, (1, 99)))
    if volume.modality == "CT" or (low < -500 and high < 3000):
        return SOFT_TISSUE
    low, high = (float(value) for value in np.percentile(plane, (0.5, 99.5)))
    return low, max(high, low + 1e-6)


def _outline(axis: Any, mask: NDArray[np.bool_], colour: str, dashed: bool) -> None:
    if not mask.any():
        return
    padded = np.pad(mask, 1).astype(float)  # closes outlines at the picture's edge
    rows, columns = (np.arange(n) - 1 for n in padded.shape)
    axis.contour(columns, rows, padded, levels=[0.5], colors=[colour],
                 linewidths=1.5, linestyles=[(0, (3, 1.5))] if dashed else "solid")  # fmt: skip


def _letters(axis: Any, edges: tuple[str, str, str]) -> None:
    from matplotlib.patheffects import withStroke

    left, right, top = edges
    rim = [withStroke(linewidth=1.8, foreground="black")]
    for x, y, letter in ((0.02, 0.5, left), (0.94, 0.5, right), (0.48, 0.94, top)):
        axis.text(
            x,
            y,
            letter,
            transform=axis.transAxes,
            color="white",
            fontsize=7,
            va="center",
            path_effects=rim,
        )
