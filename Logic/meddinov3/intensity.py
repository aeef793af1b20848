"""Intensities as the network wants them; the same code for training and inference.

The schemes are nnU-Net's (its names in brackets): ``ct`` clips and standardises with fixed
figures [CTNormalization], ``zscore`` standardises each scan [ZScoreNormalization], ``range``
maps a scan's minimum and maximum to 0 and 1 [RescaleTo01Normalization], ``fixed`` only
shifts and scales [RGBTo01Normalization, NoNormalization]. All are a clip, a shift and a
scale, so a scan is never copied as a whole: statistics are gathered slice by slice and the
transform is applied to the slices in hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from meddinov3.errors import MedDINOv3Error

Array = TypeVar("Array")  # numpy or torch

SCHEMES = ("ct", "zscore", "range", "fixed")
MASKS = ("none", "nonzero_box", "nonzero")

# MedDINOv3's released demonstration: +-1000 HU, then these figures.
MEDDINOV3_CT = {"clip": (-1000.0, 1000.0), "mean": 65.1084213256836, "std": 178.01663208007812}


@dataclass(frozen=True)
class IntensityScheme:
    """How one input channel is normalised.

    Attributes:
        kind: ``ct``, ``zscore``, ``range`` or ``fixed``.
        clip: (low, high) before anything else, or None.
        mean: subtracted (``ct``, ``fixed``).
        std: divided by (``ct``, ``fixed``).
        mask: voxels that count for ``zscore``: ``none`` all of them, ``nonzero_box`` the box
            around non-zero voxels (nnU-Net's crop), ``nonzero`` the non-zero region with its
            holes filled; outside it voxels then stay zero (use_mask_for_norm; takes one more
            byte a voxel).
    """

    kind: str = "zscore"
    clip: tuple[float, float] | None = None
    mean: float = 0.0
    std: float = 1.0
    mask: str = "none"

    def __post_init__(self) -> None:
        if self.kind not in SCHEMES or self.mask not in MASKS or not self.std > 0:
            raise MedDINOv3Error(
                "bad-intensity-scheme",
                f"Intensity scheme {self.kind!r}, mask {self.mask!r}, std {self.std} is unknown.",
                f"Kinds are {', '.join(SCHEMES)}; masks are {', '.join(MASKS)}; std is positive.",
            )

    @classmethod
    def meddinov3_ct(cls) -> IntensityScheme:
        """The released MedDINOv3 figures for CT in Hounsfield units."""
        return cls("ct", MEDDINOV3_CT["clip"], MEDDINOV3_CT["mean"], MEDDINOV3_CT["std"])  # type: ignore[arg-type]

    def fit(self, slices: np.ndarray) -> IntensityTransform:
        """Find the transform for one channel.

        Args:
            slices: (slices, rows, columns), any type; read slice by slice, not copied.
        """
        if self.kind in ("ct", "fixed"):
            return IntensityTransform(self.clip, self.mean, self.std)
        if self.kind == "range":
            low, high = float(slices.min()), float(slices.max())
            if self.clip is not None:
                low, high = (min(max(end, self.clip[0]), self.clip[1]) for end in (low, high))
            return IntensityTransform(self.clip, low, max(high - low, 1e-8))
        region = _nonzero_region(slices) if self.mask == "nonzero" else None
        if self.mask == "nonzero_box":
            slices = slices[nonzero_box(slices)]
        mean, std = _moments(slices, region, self.clip)
        return IntensityTransform(self.clip, mean, max(std, 1e-8), region)


@dataclass(frozen=True)
class IntensityTransform:
    """Clip, subtract, divide; fitted to one channel of one scan.

    Attributes:
        clip: (low, high) or None.
        mean: subtracted.
        std: divided by.
        region: boolean (slices, rows, columns) outside which voxels become 0, or None.
    """

    clip: tuple[float, float] | None
    mean: float
    std: float
    region: np.ndarray | None = None

    def apply(self, values: Array) -> Array:
        """Normalise float32 values, a numpy array or a torch tensor of any shape."""
        work: Any = values
        if self.clip is not None:
            work = work.clip(*self.clip)
        result: Array = (work - self.mean) / self.std
        return result


def _moments(
    slices: np.ndarray, region: np.ndarray | None, clip: tuple[float, float] | None
) -> tuple[float, float]:
    """Mean and population standard deviation, combined over slices (Chan's formula)."""
    count, mean, squares = 0, 0.0, 0.0
    for number, plane in enumerate(slices):
        values = plane if region is None else plane[region[number]]
        if values.size == 0:
            continue
        values = values.astype(np.float64)
        if clip is not None:
            values = values.clip(*clip)
        step = values.mean() - mean
        total = count + values.size
        squares += (
            float(((values - values.mean()) ** 2).sum()) + step**2 * count * values.size / total
        )
        mean += step * values.size / total
        count = total
    if count == 0:
        return 0.0, 1.0
    return float(mean), float(np.sqrt(squares / count))


def _nonzero_region(slices: np.ndarray) -> np.ndarray:
    from scipy import ndimage  # slow to import, and listing models needs none of it

    return np.asarray(ndimage.binary_fill_holes(slices != 0))


def nonzero_box(slices: np.ndarray) -> tuple[slice, slice, slice]:
    """The box (slices, rows, columns) around non-zero voxels; everything if there are none."""
    rows, columns = np.zeros(slices.shape[1], bool), np.zeros(slices.shape[2], bool)
    shown = np.zeros(len(slices), bool)
    for number, plane in enumerate(slices):
        filled = plane != 0
        shown[number] = filled.any()
        rows |= filled.any(axis=1)
        columns |= filled.any(axis=0)
    if not shown.any():
        return (slice(None), slice(None), slice(None))
    ends = [np.flatnonzero(axis)[[0, -1]] for axis in (shown, rows, columns)]
    first, second, third = (slice(int(low), int(high) + 1) for low, high in ends)
    return (first, second, third)
