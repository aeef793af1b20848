"""From a dataset to the settings of a training run: what was seen, and what follows.

The fingerprint follows nnU-Net (foreground percentiles per channel); the in-plane spacing
follows from tokens: a token covers 16 pixels, so small structures need upsampled slices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from meddinov3.description import Channel, Sampling
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import SliceOrientation, nearest_axes
from meddinov3.intensity import IntensityScheme, nonzero_box
from meddinov3.volume import Volume

from meddinov3_training.dataset import Dataset
from meddinov3_training.sides import side_of

TOKENS_ACROSS = 3.5  # of the smallest structure
LARGEST_SLICE = 56 * 56  # tokens of a whole slice: the paper's 896 pixels
FINEST = 8.0  # at most this many times finer than the scans
PIXELS = 16
BOX_MM = 100.0  # images smaller than this along every axis are crops, not scans
SAMPLES_PER_CASE = 20_000
MUCH_EMPTY = 0.75


@dataclass(frozen=True)
class Plan:
    """Settings that follow from the data.

    Attributes:
        sampling: orientation, spacing, patch, context, mirroring.
        channels: names and intensity schemes.
        extent: median extent in mm along (slices, rows, columns).
        trained_on: ``boxes`` or ``scans``.
        reasons: why, in words, for the log and the report.
    """

    sampling: Sampling
    channels: tuple[Channel, ...]
    extent: tuple[float, float, float]
    trained_on: str
    reasons: tuple[str, ...]


def make_plan(
    dataset: Dataset,
    volumes: Sequence[Volume],
    labels: Sequence[np.ndarray],
    *,
    spacing: tuple[float, float] | None = None,
    largest_patch: int = 512,
    slice_offsets: tuple[float, ...] = (0.0,),
    mirror: bool | None = None,
    trained_on: str | None = None,
) -> Plan:
    """Look at the training cases and decide.

    Args:
        dataset: names and labels.
        volumes, labels: the training cases; label maps (k, j, i).
        spacing: (rows, columns) in mm, chosen from the data if None.
        largest_patch: pixels along an edge that the device can train on.
        slice_offsets: context, see :class:`Sampling`.
        mirror: left-right; if None, unless a label is named after a side.
        trained_on: ``boxes`` or ``scans``; guessed from the extents if None.
    """
    reasons = []
    orientation = _orientation(volumes)
    spacings = np.array([orientation.spacing(v.grid) for v in volumes])
    extents = np.array([orientation.extent(v.grid) for v in volumes])
    extent = np.median(extents, axis=0)
    native = np.median(spacings[:, 1:], axis=0)
    reasons.append(f"slices run along {orientation.slice_axis}, the coarsest axis")
    if spacing is None:
        smallest = _smallest_structure(dataset, volumes, labels, orientation)
        wanted = smallest / (TOKENS_ACROSS * PIXELS)
        chosen = np.clip(wanted, native / FINEST, native)
        reasons.append(
            f"the smallest structure measures {smallest:.1f} mm in-plane; {TOKENS_ACROSS} tokens "
            f"of {PIXELS} pixels across it ask for {wanted:.2f} mm, scans have {native[0]:.2f} mm"
        )
        pixels = extent[1:] / chosen
        coarser = max(1.0, float(np.sqrt(pixels.prod() / (LARGEST_SLICE * PIXELS**2))))
        if coarser > 1:
            chosen = np.minimum(chosen * coarser, native)
            reasons.append(
                f"so fine a slice would have {pixels.prod() / PIXELS**2:.0f} tokens; kept to about "
                f"{LARGEST_SLICE}, small structures may suffer (--spacing decides otherwise)"
            )
        spacing = (round(float(chosen[0]), 6), round(float(chosen[1]), 6))
    # The median scan, as nnU-Net; a hair less, so that rounding adds no row of tokens.
    pixels = np.ceil(extent[1:] / spacing / PIXELS - 0.05) * PIXELS
    patch = np.minimum(pixels, largest_patch // PIXELS * PIXELS).astype(int)
    reasons.append(f"patch {patch[0]} x {patch[1]} pixels of {spacing[0]} x {spacing[1]} mm")
    boxes = trained_on or ("boxes" if (extent < BOX_MM).all() else "scans")
    mirror_axes = _mirror_axes(dataset, orientation, mirror)
    reasons.append(f"left and right are {'mirrored' if mirror_axes else 'kept apart'} in training")
    sampling = Sampling(
        orientation, spacing, (int(patch[0]), int(patch[1])), slice_offsets, mirror_axes
    )
    # nnU-Net's names choose the intensity scheme and may repeat; here they address channels.
    channels = tuple(
        Channel(
            name if dataset.channels.count(name) == 1 else f"{name} {n + 1}",
            _scheme(name, n, volumes, labels),
        )
        for n, name in enumerate(dataset.channels)
    )
    return Plan(
        sampling,
        channels,
        (float(extent[0]), float(extent[1]), float(extent[2])),
        boxes,
        tuple(reasons),
    )


def _orientation(volumes: Sequence[Volume]) -> SliceOrientation:
    """Standard axial slices, or the axis that is coarsest in the median scan."""
    by_patient_axis = []
    for volume in volumes:
        nearest = [axis for axis, _ in nearest_axes(volume.grid.direction)]
        by_patient_axis.append([volume.grid.spacing[nearest.index(axis)] for axis in range(3)])
    median = np.median(by_patient_axis, axis=0)
    coarsest = 2 if median[2] >= median.max() * 0.999 else int(median.argmax())
    return SliceOrientation("LPS", "LPS"[coarsest])


def _mirror_axes(
    dataset: Dataset, orientation: SliceOrientation, mirror: bool | None
) -> tuple[int, ...]:
    """Mirroring left-right only, and only if no label's name knows a side.

    Scans are brought into one orientation, so front-back and head-foot carry information.
    """
    if mirror is None:
        mirror = all(side_of(label.name) is None for label in dataset.labels)
    return tuple(n for n, letter in enumerate(orientation.letters[1:]) if mirror and letter in "LR")


def _smallest_structure(
    dataset: Dataset,
    volumes: Sequence[Volume],
    labels: Sequence[np.ndarray],
    orientation: SliceOrientation,
) -> float:
    """Median over cases of each label's diameter (mm) in its largest slice; the smallest one."""
    diameters: dict[int, list[float]] = {}
    for volume, label_map in zip(volumes, labels, strict=True):
        area = float(np.prod(orientation.spacing(volume.grid)[1:]))
        view = orientation.view(label_map, volume.grid)
        for number, members in enumerate(dataset.members):
            pixels = int(np.isin(view, members).sum(axis=(1, 2)).max())
            if pixels:
                diameters.setdefault(number, []).append(2 * np.sqrt(pixels * area / np.pi))
    return float(min((np.median(values) for values in diameters.values()), default=50.0))


def _scheme(
    name: str, number: int, volumes: Sequence[Volume], labels: Sequence[np.ndarray]
) -> IntensityScheme:
    """nnU-Net's choice by channel name; CT figures from sampled foreground voxels."""
    if name.strip().lower() == "ct":
        values = _foreground(number, volumes, labels)
        low, high = np.percentile(values, [0.5, 99.5])
        mean, std = float(values.mean()), float(max(values.std(), 1e-3))  # unclipped, as nnU-Net
        return IntensityScheme("ct", (float(low), float(high)), mean, std)
    kinds = {"nonorm": "fixed", "rescale_to_0_1": "range", "rgb_to_0_1": "fixed"}
    kind = kinds.get(name.strip().lower(), "zscore")
    if kind == "range":
        return IntensityScheme(kind, mask="nonzero_box")
    if kind == "zscore":
        return IntensityScheme(kind, mask=_mask(volumes))
    return IntensityScheme(kind, std=255.0 if name.strip().lower() == "rgb_to_0_1" else 1.0)


def _mask(volumes: Sequence[Volume]) -> str:
    """nnU-Net's rule: where much of the image is empty, only the rest is standardised."""
    shares = []
    for volume in volumes:
        kept = volume.channels[0][nonzero_box(*volume.channels)].size
        shares.append(kept / volume.channels[0].size)
    return "nonzero" if np.median(shares) < MUCH_EMPTY else "nonzero_box"


def _foreground(number: int, volumes: Sequence[Volume], labels: Sequence[np.ndarray]) -> np.ndarray:
    random = np.random.default_rng(1234)
    samples = []
    for volume, label_map in zip(volumes, labels, strict=True):
        inside = volume.channels[number][label_map > 0]
        inside = inside[np.isfinite(inside)]
        if inside.size:
            samples.append(random.choice(inside, SAMPLES_PER_CASE))
    if not samples:
        raise MedDINOv3Error(
            "nothing-annotated",
            "No training case has an annotated voxel.",
            "Check the label maps; at least one structure must be drawn.",
        )
    return np.concatenate(samples).astype(np.float64)
