"""A picture of a segmentation that a person can judge at a glance."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from meddinov3.atomic import whole_file
from meddinov3.grid import SliceOrientation
from meddinov3.labels import Label
from meddinov3.segmentation import Segmentation
from meddinov3.volume import Volume

# Radiological convention: the patient's left is on the right, the nose points left.
VIEWS = {
    "axial": SliceOrientation("LPS", "S"),
    "coronal": SliceOrientation("LPI", "P"),
    "sagittal": SliceOrientation("PLI", "L"),
}
EDGES = {
    "axial": ("R", "L", "A"), "coronal": ("R", "L", "S"), "sagittal": ("A", "P", "S"),
}  # fmt: skip
COLUMNS = 4
SOFT_TISSUE = (-160.0, 240.0)


def write_preview(
    path: Path,
    volume: Volume,
    result: Segmentation,
    title: str = "",
    reference: np.ndarray | None = None,
) -> None:
    """Write slices with coloured outlines in three orientations as PNG.

    Args:
        path: ends in ``.png``.
        volume: the scan; its first channel is shown.
        result: its segmentation.
        title: above the picture.
        reference: label map (k, j, i) of the same values, drawn dashed.

    Raises:
        MedDINOv3Error: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(3 * COLUMNS, 3 * len(VIEWS) + 0.8), facecolor="black")
    axes = figure.subplots(len(VIEWS), COLUMNS)
    window = _window(volume)
    for row, (name, orientation) in enumerate(VIEWS.items()):
        labels = orientation.view(result.label_map, volume.grid)
        image = orientation.view(volume.channels[0], volume.grid)
        truth = None if reference is None else orientation.view(reference, volume.grid)
        spacing = orientation.spacing(volume.grid)
        for axis, number in zip(axes[row], _slices_to_show(labels), strict=True):
            axis.imshow(
                image[number], cmap="gray", vmin=window[0], vmax=window[1],
                aspect=spacing[1] / spacing[2], interpolation="bilinear",
            )  # fmt: skip
            for label in result.labels:
                _outline(axis, labels[number], label, "solid")
                if truth is not None:
                    _outline(axis, truth[number], label, "dashed")
            axis.set_axis_off()
            left, right, top = EDGES[name]
            for x, y, letter in ((0.02, 0.5, left), (0.94, 0.5, right), (0.48, 0.94, top)):
                axis.text(x, y, letter, transform=axis.transAxes, color="#9bd", fontsize=8)
            axis.set_title(f"{name} {number + 1}", color="white", fontsize=9)
    shown = [label for label in result.labels if (result.label_map == label.value).any()]
    handles = [Line2D([], [], color=_rgb(label), label=label.name, lw=3) for label in shown[:24]]
    if reference is not None:
        handles.append(Line2D([], [], color="white", ls="--", label="reference"))
    if handles:
        figure.legend(
            handles=handles, loc="lower center", ncols=min(6, len(handles)), frameon=False,
            labelcolor="white", fontsize=9,
        )  # fmt: skip
    figure.suptitle(title, color="white", fontsize=11)
    figure.tight_layout(rect=(0, 0.05, 1, 0.98))
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110, facecolor="black", format="png")


def _slices_to_show(labels: np.ndarray) -> list[int]:
    """Evenly through the segmented part; through the whole scan if nothing was found."""
    found = np.flatnonzero((labels > 0).any(axis=(1, 2)))
    first, last = (found[0], found[-1]) if len(found) else (0, len(labels) - 1)
    inset = (last - first) / (2 * COLUMNS)
    return [round(float(n)) for n in np.linspace(first + inset, last - inset, COLUMNS)]


def _outline(axis: object, labels: np.ndarray, label: Label, style: str) -> None:
    mask = labels == label.value
    if mask.any():
        padded = np.pad(mask, 1).astype(float)  # closes outlines at the picture's edge
        rows, columns = (np.arange(n) - 1 for n in padded.shape)
        axis.contour(  # type: ignore[attr-defined]
            columns, rows, padded, levels=[0.5], colors=[_rgb(label)],
            linewidths=1.4 if style == "solid" else 0.8, linestyles=style,
        )  # fmt: skip


def _rgb(label: Label) -> tuple[float, float, float]:
    red, green, blue = label.colour
    return (red / 255, green / 255, blue / 255)


def _window(volume: Volume) -> tuple[float, float]:
    """Grey values from black to white."""
    sample = volume.channels[0][:: max(1, volume.grid.size[2] // 32), ::2, ::2]
    low, high = (float(v) for v in np.percentile(sample, (1, 99)))
    is_ct = volume.modality == "CT" or (low < -500 and high < 3000)
    return SOFT_TISSUE if is_ct else (low, max(high, low + 1e-6))
