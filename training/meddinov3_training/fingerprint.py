"""What training cases are like, gathered one case at a time.

nnU-Net's fingerprint (Isensee et al. 2021: spacings, sizes, foreground intensities, the share
of a scan that is not empty), and how large structures are, from which the in-plane spacing
follows. Only one scan is in memory for each worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from meddinov3.description import JsonFile
from meddinov3.grid import Grid, nearest_axes
from meddinov3.intensity import nonzero_box
from meddinov3.progress import ProgressCallback, Steps, StopQuestion
from meddinov3.volume import Volume
from scipy import ndimage

from meddinov3_training.dataset import Case, Dataset, read_case_label
from meddinov3_training.in_threads import in_threads

SAMPLES_PER_CASE = 20_000
SEED = 1234  # nnU-Net's
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class CaseFingerprint:
    """One case. Triples follow the patient's axes left, posterior, superior.

    Attributes:
        id: of the case.
        orientation: of the stored array, e.g. ``RAS``.
        size: voxels.
        spacing: mm.
        nonzero_share: of the voxels, in the box around what is not zero in any channel.
        voxels: for each label, by name; labels that are absent are left out.
        diameters: for each label, mm: of the disc with the label's area in its largest slice,
            for slices stacked along each axis.
    """

    id: str
    orientation: str
    size: tuple[int, int, int]
    spacing: Triple
    nonzero_share: float
    voxels: dict[str, int]
    diameters: dict[str, Triple]


@dataclass(frozen=True)
class Intensities:
    """Voxels of one channel with a label above 0; every case weighs the same, as in nnU-Net.

    Attributes:
        mean, std, median, minimum, maximum: unclipped.
        low, high: 0.5 and 99.5 percentiles.
    """

    mean: float
    std: float
    median: float
    minimum: float
    maximum: float
    low: float
    high: float


@dataclass(frozen=True)
class Fingerprint(JsonFile):
    """All training cases.

    Attributes:
        cases: in the order given.
        foreground: for each channel; None if no label is drawn anywhere.
    """

    file = "fingerprint.json"
    remedy = "Delete it; it is made again from the cases."

    cases: tuple[CaseFingerprint, ...]
    foreground: tuple[Intensities | None, ...]


def read_fingerprint(
    dataset: Dataset,
    cases: Sequence[Case],
    report: ProgressCallback | None = None,
    *,
    workers: int = 0,
    stop: StopQuestion | None = None,
) -> Fingerprint:
    """Read every case once.

    Args:
        dataset: names and labels.
        cases: those trained on; a fingerprint of others would leak into the scores.
        report: told after each case.
        workers: cases read at a time; each holds one scan and its label map.
        stop: asked before each case.

    Raises:
        MedDINOv3Error: a case cannot be read, or its label map does not fit.
        Cancelled: `stop` said so.
    """
    steps = Steps("looking at cases", len(cases), report, stop)

    def look(job: tuple[int, Case]) -> tuple[CaseFingerprint, list[np.ndarray]]:
        steps.check()
        number, case = job
        volume = case.read()
        return examine_case(
            case.id, volume, read_case_label(case, volume, dataset), dataset, number
        )

    read = []
    for found in in_threads(look, enumerate(cases), workers):
        read.append(found)
        steps.advance()
    return join(read)


def join(read: Sequence[tuple[CaseFingerprint, list[np.ndarray]]]) -> Fingerprint:
    """Put cases together: see :func:`examine_case`."""
    channels = zip(*(samples for _, samples in read), strict=True)
    return Fingerprint(
        tuple(case for case, _ in read),
        tuple(_figures(np.concatenate(samples).astype(np.float64)) for samples in channels),
    )


def examine_case(
    name: str, volume: Volume, labels: np.ndarray, dataset: Dataset, number: int = 0
) -> tuple[CaseFingerprint, list[np.ndarray]]:
    """Look at one case.

    Args:
        name: the case's id.
        volume: its scan.
        labels: (k, j, i).
        dataset: names and members of the labels.
        number: seeds the samples.

    Returns:
        The case's figures, and for each channel intensities where a label is drawn, sampled with
        replacement; none if no label is.
    """
    kept = volume.channels[0][nonzero_box(*volume.channels)].size
    axes = _patient_axes(volume.grid)
    voxels, diameters = _structures(labels, volume.grid, axes, dataset)
    figures = CaseFingerprint(
        name,
        volume.grid.orientation,
        (volume.grid.size[axes[0]], volume.grid.size[axes[1]], volume.grid.size[axes[2]]),
        _triple([float(volume.grid.spacing[axis]) for axis in axes]),
        kept / labels.size,
        voxels,
        diameters,
    )
    return figures, _samples(volume, labels, number)


def _patient_axes(grid: Grid) -> list[int]:
    """Which of the index axes (i, j, k) runs along left, posterior, superior."""
    nearest = [axis for axis, _ in nearest_axes(grid.direction)]
    return [nearest.index(axis) for axis in range(3)]


def _triple(values: Sequence[float]) -> Triple:
    first, second, third = values
    return (first, second, third)


def _structures(
    labels: np.ndarray, grid: Grid, axes: Sequence[int], dataset: Dataset
) -> tuple[dict[str, int], dict[str, Triple]]:
    """Voxels of each label, and its diameters in slices along the patient's axes."""
    boxes = ndimage.find_objects(labels)
    volume = float(np.prod(grid.spacing))
    voxels, diameters = {}, {}
    for label, members in zip(dataset.labels, dataset.members, strict=True):
        found = [boxes[v - 1] for v in members if 0 < v <= len(boxes) and boxes[v - 1]]
        if not found:
            continue
        box = tuple(
            slice(min(b[n].start for b in found), max(b[n].stop for b in found)) for n in range(3)
        )
        inside = np.isin(labels[box], members)
        voxels[label.name] = int(inside.sum())
        sizes = []
        for axis in axes:
            stacked = 2 - axis
            across = tuple(n for n in range(3) if n != stacked)
            area = inside.sum(axis=across).max() * volume / grid.spacing[axis]
            sizes.append(float(2 * np.sqrt(area / np.pi)))
        diameters[label.name] = _triple(sizes)
    return voxels, diameters


def _samples(volume: Volume, labels: np.ndarray, number: int) -> list[np.ndarray]:
    random = np.random.default_rng([SEED, number])
    inside = labels > 0
    drawn = []
    for channel in volume.channels:
        values = channel[inside]
        values = values[np.isfinite(values)]
        chosen = random.choice(values, SAMPLES_PER_CASE) if values.size else values
        drawn.append(chosen.astype(np.float32))
    return drawn


def _figures(values: np.ndarray) -> Intensities | None:
    if not values.size:
        return None
    low, median, high = np.percentile(values, [0.5, 50, 99.5])
    return Intensities(
        float(values.mean()), float(values.std()), float(median), float(values.min()),
        float(values.max()), float(low), float(high),
    )  # fmt: skip
