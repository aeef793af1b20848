"""From a fingerprint to the settings of a training run: what was seen, and what follows.

Intensity schemes follow nnU-Net; the in-plane spacing follows from tokens: a token covers 16
pixels, so small structures need upsampled slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from meddinov3.description import Channel, JsonFile, PromptDescription, Sampling
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import SliceOrientation
from meddinov3.intensity import IntensityScheme

from meddinov3_training.dataset import Dataset
from meddinov3_training.fingerprint import Fingerprint
from meddinov3_training.presets import AUTO, Preset, find_preset
from meddinov3_training.sides import tells_sides

FINEST = 8.0  # at most this many times finer than the scans
PIXELS = 16
BOX_MM = 100.0  # images smaller than this along every axis are crops, not scans
MUCH_EMPTY = 0.75
WILD = 3.0  # times; nnU-Net calls spacings that far apart anisotropic
PATIENT_AXES = "LPS"
NEAR, FAR = 3.0, 24.0  # radii of a click's cones in a click model's fine pixels
ROUGHLY = 1.2  # fine pixels may be so much larger than voxels
UNKNOWN_SIZE = 50.0  # mm, where no structure is drawn


@dataclass(frozen=True)
class Plan(JsonFile):
    """Settings that follow from the data.

    Attributes:
        sampling: orientation, spacing, patch, context, mirroring.
        channels: names and intensity schemes.
        extent: median extent in mm along (slices, rows, columns).
        trained_on: ``boxes`` or ``scans``.
        reasons: why, in words, for the log and the report.
        warnings: what a person should look at, with figures.
        preset: whose limits were kept.
        prompts: of a click model, else None.
    """

    file = "plan.json"
    remedy = "Start the run again in a new folder."

    sampling: Sampling
    channels: tuple[Channel, ...]
    extent: tuple[float, float, float]
    trained_on: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    preset: str = "auto"
    prompts: PromptDescription | None = None


def make_plan(
    dataset: Dataset,
    fingerprint: Fingerprint,
    *,
    spacing: tuple[float, float] | None = None,
    largest_patch: int | None = None,
    slice_offsets: tuple[float, ...] = (0.0,),
    mirror: bool | None = None,
    trained_on: str | None = None,
    preset: str = "auto",
    base_spacing: tuple[float, float] | None = None,
    clicks: bool = False,
) -> Plan:
    """Decide.

    Args:
        dataset: names and labels.
        fingerprint: of the training cases.
        spacing: (rows, columns) in mm, chosen from the data if None.
        largest_patch: pixels along an edge that the device can train on; the preset's if None.
        slice_offsets: context, see :class:`Sampling`.
        mirror: left-right; if None, unless labels tell left from right.
        trained_on: ``boxes`` or ``scans``; guessed from the extents if None.
        preset: see :mod:`meddinov3_training.presets`.
        base_spacing: of a base that knows the structures; taken if nothing else was asked for.
        clicks: for a click model.

    Raises:
        MedDINOv3Error: no such preset, or a CT without any label drawn.
    """
    limits = find_preset(preset)
    orientation = _orientation(fingerprint)
    axes = [_patient_axis(letter) for letter in orientation.letters]
    spacings = np.array([case.spacing for case in fingerprint.cases])[:, axes]
    sizes = np.array([case.size for case in fingerprint.cases])[:, axes]
    extent = np.median(spacings * sizes, axis=0)
    native = np.median(spacings[:, 1:], axis=0)
    reasons = [f"slices run along {orientation.slice_axis}, the coarsest axis"]
    if limits.square is not None and spacing is None:
        spacing = _square(limits.square, native, extent[1:], reasons)
        edge = min(limits.square, (largest_patch or limits.square) // PIXELS * PIXELS)
        patch = (edge, edge)
    else:
        if spacing is None and base_spacing is not None and preset == AUTO.name:
            spacing = base_spacing
            reasons.append("pixels as the base has them, which knows these structures")
        elif spacing is None:
            smallest = _smallest_structure(fingerprint, axes[0])
            spacing = _spacing(limits, smallest, native, extent[1:], reasons)
        patch = _patch(spacing, extent[1:], largest_patch or limits.largest_patch)
    reasons.append(f"patch {patch[0]} x {patch[1]} pixels of {spacing[0]} x {spacing[1]} mm")
    boxes = trained_on or ("boxes" if (extent < BOX_MM).all() else "scans")
    mirror_axes = _mirror_axes(dataset, orientation, mirror)
    reasons.append(f"left and right are {'mirrored' if mirror_axes else 'kept apart'} in training")
    # nnU-Net's names choose the intensity scheme and may repeat; here they address channels.
    channels = tuple(
        Channel(
            name if dataset.channels.count(name) == 1 else f"{name} {n + 1}",
            _scheme(name, n, fingerprint),
        )
        for n, name in enumerate(dataset.channels)
    )
    return Plan(
        Sampling(orientation, spacing, patch, slice_offsets, mirror_axes),
        channels,
        (float(extent[0]), float(extent[1]), float(extent[2])),
        boxes,
        tuple(reasons),
        (*_uneven(fingerprint, orientation, spacings), *_absent(dataset, fingerprint)),
        preset,
        _prompts(spacing, np.median(spacings, axis=0)) if clicks else None,
    )


def _prompts(spacing: tuple[float, float], native: np.ndarray) -> PromptDescription:
    """Sizes of a click model's decoder.

    Fine pixels are as large as the scans' own, or a little smaller, so that its last layers see
    what the scans show and nothing that was interpolated.

    Args:
        spacing: of the network's pixels (rows, columns), mm.
        native: median spacing of (slices, rows, columns), mm.
    """
    folds = min(native[1] / spacing[0], native[2] / spacing[1])
    cells = PIXELS
    while cells > 1 and PIXELS / cells * 2 <= folds * ROUGHLY:
        cells //= 2
    pitch = max(spacing) * PIXELS / cells
    return PromptDescription(
        cells=cells, slice_spacing=round(float(native[0]), 4), near=round(NEAR * pitch, 4),
        far=round(FAR * pitch, 4),
    )  # fmt: skip


def _patient_axis(letter: str) -> int:
    return PATIENT_AXES.index(letter)


def _orientation(fingerprint: Fingerprint) -> SliceOrientation:
    """Standard axial slices, or the axis that is coarsest in the median scan."""
    median = np.median([case.spacing for case in fingerprint.cases], axis=0)
    coarsest = 2 if median[2] >= median.max() * 0.999 else int(median.argmax())
    return SliceOrientation(PATIENT_AXES, PATIENT_AXES[coarsest])


def _spacing(
    limits: Preset,
    smallest: float,
    native: np.ndarray,
    extent: np.ndarray,
    reasons: list[str],
) -> tuple[float, float]:
    """Fine enough for the smallest structure, coarse enough for the largest slice.

    Args:
        limits: tokens wanted and allowed.
        smallest: structure, mm.
        native: median spacing of (rows, columns), mm.
        extent: median extent of (rows, columns), mm.
        reasons: added to.
    """
    wanted = smallest / (limits.tokens_across * PIXELS)
    chosen = np.clip(wanted, native / FINEST, native)
    reasons.append(
        f"the smallest structure measures {smallest:.1f} mm in-plane; {limits.tokens_across} "
        f"tokens of {PIXELS} pixels across it ask for {wanted:.2f} mm, scans have "
        f"{native[0]:.2f} mm"
    )
    pixels = extent / chosen
    coarser = max(1.0, float(np.sqrt(pixels.prod() / (limits.largest_slice * PIXELS**2))))
    if coarser > 1:
        # The scans' own spacing is kept at least, except where the preset asks for little.
        coarsest = native if limits.keeps_native else chosen * coarser
        chosen = np.minimum(chosen * coarser, coarsest)
        reasons.append(
            f"so fine a slice would have {pixels.prod() / PIXELS**2:.0f} tokens; kept to about "
            f"{limits.largest_slice}, small structures may suffer (--spacing decides otherwise)"
        )
    return (round(float(chosen[0]), 6), round(float(chosen[1]), 6))


def _patch(spacing: tuple[float, float], extent: np.ndarray, largest: int) -> tuple[int, int]:
    """The median scan, as nnU-Net; a hair less, so that rounding adds no row of tokens."""
    pixels = np.ceil(extent / spacing / PIXELS - 0.05) * PIXELS
    rows, columns = np.minimum(pixels, largest // PIXELS * PIXELS).astype(int)
    return (int(rows), int(columns))


def _square(
    pixels: int, native: np.ndarray, extent: np.ndarray, reasons: list[str]
) -> tuple[float, float]:
    """Spacing of MedDINOv3's ``2d_896``: nnU-Net's field of view on more pixels.

    Its spacing is nnU-Net's times nnU-Net's patch over 896, along each axis by itself.
    """
    patch = [nnunet_patch(round(float(mm / step))) for mm, step in zip(extent, native, strict=True)]
    rows, columns = (
        round(float(step * old / pixels), 6) for step, old in zip(native, patch, strict=True)
    )
    reasons.append(
        f"nnU-Net's 2D plan would take {patch[0]} x {patch[1]} pixels of {native[0]:.3f} x "
        f"{native[1]:.3f} mm; the same field of view on {pixels} x {pixels} pixels"
    )
    return (rows, columns)


def nnunet_patch(size: int) -> int:
    """Edge of nnU-Net's 2D patch for slices of `size` pixels.

    The median slice, padded until it can be halved as often as it is while at least 8 pixels
    remain. Its memory limit is left out: batches of 2 reach it beyond some 1,250 pixels.
    """
    halvings, rest = 0, size
    while rest >= 8:
        halvings, rest = halvings + 1, -(-rest // 2)
    step: int = 2**halvings
    return -(-size // step) * step


def _mirror_axes(
    dataset: Dataset, orientation: SliceOrientation, mirror: bool | None
) -> tuple[int, ...]:
    """Mirroring left-right only, and only if no label's name knows a side.

    Scans are brought into one orientation, so front-back and head-foot carry information.
    """
    if mirror is None:
        mirror = not tells_sides([label.name for label in dataset.labels])
    return tuple(n for n, letter in enumerate(orientation.letters[1:]) if mirror and letter in "LR")


def _smallest_structure(fingerprint: Fingerprint, slice_axis: int) -> float:
    """Median over cases of each label's diameter (mm) in its largest slice; the smallest one."""
    diameters: dict[str, list[float]] = {}
    for case in fingerprint.cases:
        for name, along in case.diameters.items():
            diameters.setdefault(name, []).append(along[slice_axis])
    medians = (float(np.median(values)) for values in diameters.values())
    return min(medians, default=UNKNOWN_SIZE)


def _scheme(name: str, number: int, fingerprint: Fingerprint) -> IntensityScheme:
    """nnU-Net's choice by channel name; CT figures from sampled foreground voxels."""
    chosen = name.strip().lower()
    if chosen == "ct":
        values = fingerprint.foreground[number]
        if values is None:
            raise MedDINOv3Error(
                "nothing-annotated",
                "No training case has an annotated voxel.",
                "Check the label maps; at least one structure must be drawn.",
            )
        return IntensityScheme("ct", (values.low, values.high), values.mean, max(values.std, 1e-3))
    kinds = {"nonorm": "fixed", "rescale_to_0_1": "range", "rgb_to_0_1": "fixed"}
    kind = kinds.get(chosen, "zscore")
    if kind == "range":
        return IntensityScheme(kind, mask="nonzero_box")
    if kind == "zscore":
        # Where much of the image is empty, only the rest is standardised.
        share = np.median([case.nonzero_share for case in fingerprint.cases])
        return IntensityScheme(kind, mask="nonzero" if share < MUCH_EMPTY else "nonzero_box")
    return IntensityScheme(kind, std=255.0 if chosen == "rgb_to_0_1" else 1.0)


def _uneven(
    fingerprint: Fingerprint, orientation: SliceOrientation, spacings: np.ndarray
) -> list[str]:
    """Cases too different for one plan: spacings far apart, slices that run another way."""
    found = []
    ids = [case.id for case in fingerprint.cases]
    in_plane = np.sqrt(spacings[:, 1] * spacings[:, 2])
    for what, values in (("in-plane spacing", in_plane), ("slice distance", spacings[:, 0])):
        low, high = int(values.argmin()), int(values.argmax())
        if values[high] > WILD * values[low]:
            found.append(
                f"{what} differs {values[high] / values[low]:.1f} times: {values[low]:.2f} mm in "
                f"'{ids[low]}', {values[high]:.2f} mm in '{ids[high]}', median "
                f"{np.median(values):.2f} mm; coarse cases are interpolated, fine ones lose detail"
            )
    across = [
        name for name, row in zip(ids, spacings, strict=True) if row[1:].max() > WILD * row[0]
    ]
    if across:
        found.append(
            f"{len(across)} of {len(ids)} cases ({', '.join(across[:3])}"
            f"{', ...' if len(across) > 3 else ''}) are coarser within a slice than along "
            f"{orientation.slice_axis}: they were scanned in another plane"
        )
    return found


def _absent(dataset: Dataset, fingerprint: Fingerprint) -> list[str]:
    """Labels that no training case shows."""
    shown = {name for case in fingerprint.cases for name in case.voxels}
    absent = [label.name for label in dataset.labels if label.name not in shown]
    if not absent:
        return []
    return [f"no training case shows {', '.join(absent)}: the model cannot learn it"]
