"""Training samples: one interpolation from the scan's slice to an augmented patch.

Rotation, scaling, mirroring and shift are composed with the resampling to the network's
spacing, so that every pixel is interpolated once. The intensity changes are nnU-Net's kinds
(Isensee et al. 2021) with strengths of our own: the noise is stronger, all channels change
together, a low resolution comes a little less often. Rotation is limited because scans are
brought into one orientation first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from meddinov3.description import Sampling
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Ranges and probabilities.

    Attributes:
        rotation, rotation_p: degrees either way.
        scaling, scaling_p: zoom, log-uniform between 1/scaling and scaling.
        shift: of the patch, in pixels either way.
        noise_p, blur_p, brightness_p, contrast_p, low_resolution_p, gamma_p: chance of each.
    """

    rotation: float = 30.0
    rotation_p: float = 0.5
    scaling: float = 1.3
    scaling_p: float = 0.5
    shift: float = 8.0
    noise_p: float = 0.1
    blur_p: float = 0.2
    brightness_p: float = 0.15
    contrast_p: float = 0.15
    low_resolution_p: float = 0.15
    gamma_p: float = 0.3


@dataclass(frozen=True)
class PatchFrame:
    """Where a patch lies in a slice.

    Attributes:
        centre: (row, column) in slice pixels.
        rotation: radians.
        zoom: above 1 the structure appears larger.
        mirror: sign along (rows, columns).
    """

    centre: tuple[float, float]
    rotation: float = 0.0
    zoom: float = 1.0
    mirror: tuple[float, float] = (1.0, 1.0)


class Random:
    """Random numbers of one training run, reproducible from its seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> float:
        """A float between low and high."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform(0, 1) < probability

    def choose(self, count: int) -> int:
        """An integer from 0 to count - 1."""
        return int(torch.randint(count, (), generator=self.generator))


def draw_frame(
    random: Random, augmentation: Augmentation, sampling: Sampling, centre: tuple[float, float]
) -> PatchFrame:
    """Draw rotation, zoom and mirroring for a patch around `centre`."""
    turn = augmentation.rotation if random.chance(augmentation.rotation_p) else 0.0
    zoom = math.log(augmentation.scaling) if random.chance(augmentation.scaling_p) else 0.0
    flips = [axis in sampling.mirror_axes and random.chance(0.5) for axis in (0, 1)]
    return PatchFrame(
        centre,
        math.radians(random.uniform(-turn, turn)),
        math.exp(random.uniform(-zoom, zoom)),
        (-1.0 if flips[0] else 1.0, -1.0 if flips[1] else 1.0),
    )


def sampling_grid(
    frame: PatchFrame,
    patch: tuple[int, int],
    target: tuple[float, float],
    size: tuple[int, int],
    spacing: tuple[float, float],
) -> Tensor:
    """Coordinates for ``grid_sample`` (1, rows, columns, 2), (x, y) in [-1, 1].

    Args:
        frame: the patch in the slice.
        patch: its size in pixels.
        target: its spacing in mm.
        size: of the slice in pixels.
        spacing: of the slice in mm.
    """
    rows, columns = (
        (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * step * sign / frame.zoom
        for n, step, sign in zip(patch, target, frame.mirror, strict=True)
    )
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    cos, sin = math.cos(frame.rotation), math.sin(frame.rotation)
    row = frame.centre[0] + (cos * y - sin * x) / spacing[0]
    column = frame.centre[1] + (sin * y + cos * x) / spacing[1]
    return torch.stack([(2 * column + 1) / size[1] - 1, (2 * row + 1) / size[0] - 1], dim=-1)[None]


def cut_image(slices: Tensor, grid: Tensor) -> Tensor:
    """Cubic interpolation of (1, C, h, w); zero (the mean) beyond the slice's edge."""
    inside = (grid.abs() <= 1).all(dim=-1)[:, None]
    patch = F.grid_sample(slices, grid, "bicubic", "border", align_corners=False)
    return patch * inside


def cut_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """Each label interpolated linearly, the strongest wins (nnU-Net's order 1).

    Args:
        labels: (h, w) integers.
        grid: of :func:`sampling_grid`.

    Returns:
        (rows, columns) integers; 0 beyond the slice's edge.
    """
    present = torch.unique(labels)
    if len(present) == 1 and int(present[0]) == 0:
        return torch.zeros(grid.shape[1:3], dtype=labels.dtype)
    share = (labels[None] == present[:, None, None]).float()[None]
    cut = F.grid_sample(share, grid, "bilinear", "border", align_corners=False)[0]
    winner = present[cut.argmax(dim=0)]
    inside = (grid[0].abs() <= 1).all(dim=-1)
    return torch.where(inside, winner, torch.zeros_like(winner))


def change_intensities(patch: Tensor, random: Random, augmentation: Augmentation) -> Tensor:
    """Random intensity changes of one normalised patch (C, rows, columns)."""
    if random.chance(augmentation.noise_p):
        noise = torch.randn(patch.shape, generator=random.generator)
        patch = patch + noise * math.sqrt(random.uniform(0, 0.1))
    if random.chance(augmentation.blur_p):
        patch = _blur(patch, random.uniform(0.5, 1.0))
    if random.chance(augmentation.brightness_p):
        patch = patch * random.uniform(0.75, 1.25)
    if random.chance(augmentation.contrast_p):
        mean, low, high = patch.mean(), patch.min(), patch.max()
        patch = ((patch - mean) * random.uniform(0.75, 1.25) + mean).clip(low, high)
    if random.chance(augmentation.low_resolution_p):
        size, factor = patch.shape[-2:], random.uniform(0.5, 1.0)
        coarse = [max(1, round(n * factor)) for n in size]
        patch = F.interpolate(patch[None], coarse, mode="nearest-exact")
        patch = F.interpolate(patch, size, mode="bicubic", align_corners=False)[0]
    for inverted, probability in ((True, augmentation.gamma_p / 3), (False, augmentation.gamma_p)):
        if random.chance(probability):
            patch = _gamma(patch, random.uniform(0.7, 1.5), inverted)
    return patch


def _blur(patch: Tensor, sigma: float) -> Tensor:
    radius = max(1, round(3 * sigma))
    steps = torch.arange(-radius, radius + 1, dtype=patch.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    count = patch.shape[0]
    padded = F.pad(patch[None], (radius,) * 4, mode="replicate")
    padded = F.conv2d(padded, kernel.view(1, 1, -1, 1).repeat(count, 1, 1, 1), groups=count)
    return F.conv2d(padded, kernel.view(1, 1, 1, -1).repeat(count, 1, 1, 1), groups=count)[0]


def _gamma(patch: Tensor, gamma: float, inverted: bool) -> Tensor:
    """Gamma of the range, mean and spread kept (nnU-Net's retain_stats)."""
    sign = -1.0 if inverted else 1.0
    values = patch * sign
    mean, std, low = values.mean(), values.std(), values.min()
    span = (values.max() - low).clip(min=1e-7)
    values = ((values - low) / span) ** gamma * span + low
    values = (values - values.mean()) / values.std().clip(min=1e-7) * std + mean
    return values * sign
