"""A small picture of a case, by which a person knows it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from meddinov3.atomic import whole_file
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid, SliceOrientation, nearest_axes

PIXELS = 128
SOFT_TISSUE = (-160.0, 240.0)  # Hounsfield units
OPACITY = 0.4
MUCH = 2.0  # times
# By the patient axis that slices are stacked along, as radiologists look at them.
VIEWS = (
    SliceOrientation("PLI", "L"),
    SliceOrientation("LPI", "P"),
    SliceOrientation("LPS", "S"),
)


def write_thumbnail(
    path: Path,
    image: np.ndarray,
    label_map: np.ndarray,
    grid: Grid,
    labels: DatasetLabels,
    is_ct: bool,
) -> None:
    """Write the slice with the most label as PNG, structures in their colours over it.

    Args:
        path: ends in ``.png``.
        image, label_map: (k, j, i) on `grid`.
        grid: gives orientation and aspect.
        labels: colours of the values.
        is_ct: soft-tissue window instead of the 1st to 99th percentile.

    Raises:
        MedDINOv3Error: the file cannot be written.
    """
    import SimpleITK as sitk

    picture = sitk.GetImageFromArray(draw(image, label_map, grid, labels, is_ct), isVector=True)
    with whole_file(path) as temporary:
        try:
            sitk.WriteImage(picture, str(temporary))
        except RuntimeError as error:
            raise MedDINOv3Error(
                "cannot-write",
                f"'{path.name}' could not be written to '{path.parent}'.",
                "Check free space and permissions.",
            ) from error


def draw(
    image: np.ndarray, label_map: np.ndarray, grid: Grid, labels: DatasetLabels, is_ct: bool
) -> np.ndarray:
    """The picture as an array, see :func:`write_thumbnail`.

    Returns:
        uint8 (rows, columns, 3); the longer edge has 128 pixels, both have the same scale.
    """
    view = _view(grid)
    drawn = view.view(label_map, grid)
    filled = np.array([np.count_nonzero(plane) for plane in drawn])
    number = int(filled.argmax()) if filled.any() else len(drawn) // 2
    low, high = SOFT_TISSUE if is_ct else _window(image)
    plane = view.view(image, grid)[number].astype(np.float32)
    plane = np.clip(np.nan_to_num(plane, nan=low), low, high)  # before metal is smeared
    rows, columns = _samples(view.spacing(grid)[1:], plane.shape)
    grey = np.clip((_smooth_at(plane, rows, columns) - low) / (high - low), 0, 1) * 255
    rgb = np.repeat(grey[..., None], 3, axis=2)
    nearest = np.rint(rows).astype(int)[:, None], np.rint(columns).astype(int)[None]
    values = drawn[number][nearest]
    for label, members in zip(labels.labels, labels.members, strict=True):
        mask = np.isin(values, members)
        if mask.any():
            colour = np.array(label.colour, np.float32)
            rgb[mask] += (colour - rgb[mask]) * OPACITY
            rgb[mask & ~_inner(mask)] = colour
    return np.rint(rgb).astype(np.uint8)


def _view(grid: Grid) -> SliceOrientation:
    """Axial, unless another axis is much coarser than that along the body."""
    patient_axes = [axis for axis, _ in nearest_axes(grid.direction)]
    spacing = [grid.spacing[patient_axes.index(axis)] for axis in range(3)]
    coarsest = 2 if max(spacing) < MUCH * spacing[2] else int(np.argmax(spacing))
    return VIEWS[coarsest]


def _window(image: np.ndarray) -> tuple[float, float]:
    step = max(1, round((image.size / 1e6) ** (1 / 3)))  # a million voxels say enough
    sample = image[::step, ::step, ::step]
    sample = sample[np.isfinite(sample)]
    low, high = (float(v) for v in np.percentile(sample, (1, 99))) if sample.size else (0.0, 1.0)
    return low, max(high, low + 1e-6)


def _samples(spacing: tuple[float, ...], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Continuous rows and columns of the picture's pixels."""
    extent = [length * step for length, step in zip(shape, spacing, strict=True)]
    scale = max(extent) / PIXELS  # mm a pixel
    found = []
    for length, size in zip(extent, shape, strict=True):
        count = max(1, round(length / scale))
        centres = (np.arange(count) + 0.5) * (size / count) - 0.5
        found.append(np.clip(centres, 0, size - 1))
    return found[0], found[1]


def _smooth_at(plane: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values at rows and columns, smoothed where several pixels fall into one."""
    from scipy import ndimage

    steps = [n / len(at) for n, at in zip(plane.shape, (rows, columns), strict=True)]
    plane = ndimage.gaussian_filter(plane, [max(0.0, step - 1) / 2 for step in steps])
    where = np.meshgrid(rows, columns, indexing="ij")
    values: np.ndarray = ndimage.map_coordinates(plane, where, order=1, mode="nearest")
    return values


def _inner(mask: np.ndarray) -> np.ndarray:
    """Pixels whose four neighbours belong to the mask too."""
    padded = np.pad(mask, 1, mode="edge")
    inner: np.ndarray = (
        mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    )
    return inner
