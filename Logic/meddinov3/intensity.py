"""Intensities as the network wants them; the same code for training and inference.

The schemes are nnU-Net's (its names in brackets): ``ct`` clips and standardises with fixed
figures [CTNormalization], ``zscore`` standardises each scan [ZScoreNormalization], ``range``
maps a scan's minimum and maximum to 0 and 1 [RescaleTo01Normalization], ``fixed`` only
shifts and scales [RGBTo01Normalization, NoNormalization]. All are a clip, a shift and a
scale, so a scan is never copied as a whole: statistics are gathered slice by slice and the
transform is applied to the slices in hand.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
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
        mask: voxels that count for ``zscore`` and ``range``: ``none`` all of them,
            ``nonzero_box`` the box around voxels that are non-zero in any channel (nnU-Net's
            crop), ``nonzero`` those voxels themselves with their holes filled; outside them
            voxels then stay zero (use_mask_for_norm; holds one byte a voxel, four in passing).
    """

    kind: str = "zscore"
    clip: tuple[float, float] | None = None
    mean: float = 0.0
    std: float = 1.0
    mask: str = "none"

    def __post_init__(self) -> None:
        low, high = self.clip or (0.0, 1.0)
        numbers = math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0
        ordered = math.isfinite(low) and math.isfinite(high) and low <= high
        if self.kind not in SCHEMES or self.mask not in MASKS or not numbers or not ordered:
            raise MedDINOv3Error(
                "bad-intensity-scheme",
                f"Intensity scheme {self.kind!r}, mask {self.mask!r}, clip {self.clip}, "
                f"mean {self.mean}, std {self.std} makes no sense.",
                f"Kinds are {', '.join(SCHEMES)}; masks are {', '.join(MASKS)}; std is positive, "
                "the clip does not descend.",
            )

    @classmethod
    def meddinov3_ct(cls) -> IntensityScheme:
        """The released MedDINOv3 figures for CT in Hounsfield units."""
        return cls("ct", MEDDINOV3_CT["clip"], MEDDINOV3_CT["mean"], MEDDINOV3_CT["std"])  # type: ignore[arg-type]

    def fit(self, slices: np.ndarray, body: NonzeroBody | None = None) -> IntensityTransform:
        """Find the transform for one channel.

        Args:
            slices: (slices, rows, columns), any type; read slice by slice, not copied. Values
                that are no finite numbers count for nothing.
            body: the non-zero part of all channels; of `slices` alone if None.
        """
        if self.kind in ("ct", "fixed"):
            return IntensityTransform(self.clip, self.mean, self.std)
        body = body or NonzeroBody([slices])
        region = body.region if self.mask == "nonzero" else None
        if self.mask == "nonzero_box":
            slices = slices[body.box]
        if self.kind == "range":
            low, high = _range(slices, region, self.clip)
            return IntensityTransform(self.clip, low, max(high - low, 1e-8), region)
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


class NonzeroBody:
    """Where any channel of a scan is not zero (nnU-Net's ``create_nonzero_mask``).

    Args:
        channels: arrays (slices, rows, columns) of one shape.
    """

    def __init__(self, channels: Sequence[np.ndarray]) -> None:
        self._channels = tuple(channels)

    @functools.cached_property
    def box(self) -> tuple[slice, slice, slice]:
        """The box (slices, rows, columns) around it; everything if there is nothing."""
        return nonzero_box(*self._channels)

    @functools.cached_property
    def region(self) -> np.ndarray:
        """Boolean (slices, rows, columns), holes filled."""
        from scipy import ndimage  # slow to import, and listing models needs none of it

        filled = np.zeros(self._channels[0].shape, dtype=bool)
        for channel in self._channels:
            for number, plane in enumerate(channel):
                filled[number] |= _filled(plane)
        return np.asarray(ndimage.binary_fill_holes(filled))


def _values(
    slices: np.ndarray, region: np.ndarray | None, clip: tuple[float, float] | None
) -> Iterator[np.ndarray]:
    """The voxels that count, slice by slice, float64, clipped; empty slices left out."""
    for number, plane in enumerate(slices):
        values = plane.ravel() if region is None else plane[region[number]]
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            values = values[np.isfinite(values)]
        if values.size:
            values = values.astype(np.float64)
            yield values if clip is None else values.clip(*clip, out=values)


def _range(
    slices: np.ndarray, region: np.ndarray | None, clip: tuple[float, float] | None
) -> tuple[float, float]:
    ends = [(float(v.min()), float(v.max())) for v in _values(slices, region, clip)]
    if not ends:
        return 0.0, 1.0
    return min(low for low, _ in ends), max(high for _, high in ends)


def _moments(
    slices: np.ndarray, region: np.ndarray | None, clip: tuple[float, float] | None
) -> tuple[float, float]:
    """Mean and population standard deviation, combined over slices (Chan's formula)."""
    count, mean, squares = 0, 0.0, 0.0
    for values in _values(slices, region, clip):
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


def _filled(plane: np.ndarray) -> np.ndarray:
    filled: np.ndarray = plane != 0
    if plane.dtype.kind == "f":
        filled &= np.isfinite(plane)
    return filled


def nonzero_box(*channels: np.ndarray) -> tuple[slice, slice, slice]:
    """The box (slices, rows, columns) around voxels that are non-zero in any of the channels.

    Everything if there are none.
    """
    shape = channels[0].shape
    shown, rows, columns = (np.zeros(n, dtype=bool) for n in shape)
    for channel in channels:
        for number, plane in enumerate(channel):
            filled = _filled(plane)
            shown[number] |= filled.any()
            rows |= filled.any(axis=1)
            columns |= filled.any(axis=0)
    if not shown.any():
        return (slice(None), slice(None), slice(None))
    ends = [np.flatnonzero(axis)[[0, -1]] for axis in (shown, rows, columns)]
    first, second, third = (slice(int(low), int(high) + 1) for low, high in ends)
    return (first, second, third)
