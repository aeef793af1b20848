"""What is changed at random in a training sample, and its geometry.

Rotation, scaling, mirroring and shift are composed with the resampling to the network's
spacing, so that every pixel is interpolated once. Intensity changes are nnU-Net's: see
:mod:`meddinov3_training.intensity_changes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from meddinov3.description import Sampling
from torch import Tensor

ELONGATED = 1.5  # nnU-Net turns patches of a longer aspect by little


@dataclass(frozen=True)
class Augmentation:
    """Ranges and chances; by default those of nnU-Net's 2D training (Isensee et al. 2021).

    Attributes:
        rotation, rotation_p: degrees either way.
        elongated_rotation: instead, where one edge of the patch is over 1.5 times the other.
        scaling, scaling_p: extent of the patch relative to the plan's, uniform between the two;
            above 1 structures appear smaller.
        shift: of the patch, in pixels either way.
        noise_p, blur_p, brightness_p, contrast_p, low_resolution_p, gamma_inverted_p, gamma_p:
            chance of each change of intensities.
    """

    rotation: float = 180.0
    elongated_rotation: float = 15.0
    rotation_p: float = 0.2
    scaling: tuple[float, float] = (0.7, 1.4)
    scaling_p: float = 0.2
    shift: float = 0.0
    noise_p: float = 0.1
    blur_p: float = 0.2
    brightness_p: float = 0.15
    contrast_p: float = 0.15
    low_resolution_p: float = 0.25
    gamma_inverted_p: float = 0.1
    gamma_p: float = 0.3


NNUNET = Augmentation()
# nnU-Net sees arrays as stored, upside down or not; here every scan is brought into one
# orientation first, so that half a turn shows what no scan will. Smaller turns come more often.
ORIENTED = Augmentation(
    rotation=30.0, elongated_rotation=30.0, rotation_p=0.5, scaling=(1 / 1.3, 1.3), scaling_p=0.5,
    shift=8.0,
)  # fmt: skip
AUGMENTATIONS = {"nnunet": NNUNET, "oriented": ORIENTED}


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
    """Random numbers of one sample.

    Args:
        seed, index: of the run and of the sample; every pair has numbers of its own.
    """

    def __init__(self, seed: int, index: int = 0) -> None:
        mixed = np.random.SeedSequence([seed % 2**64, index])
        self._generator = np.random.Generator(np.random.PCG64(mixed))

    def uniform(self, low: float, high: float) -> float:
        """A float between low and high."""
        return low + (high - low) * float(self._generator.random())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self._generator.random()) < probability

    def choose(self, count: int) -> int:
        """An integer from 0 to count - 1."""
        return int(self._generator.integers(count))


def draw_frame(
    random: Random, augmentation: Augmentation, sampling: Sampling, centre: tuple[float, float]
) -> PatchFrame:
    """Draw rotation, zoom and mirroring for a patch around `centre`."""
    patch = sampling.patch or (1, 1)
    elongated = max(patch) > ELONGATED * min(patch)
    turn = augmentation.elongated_rotation if elongated else augmentation.rotation
    turn = turn if random.chance(augmentation.rotation_p) else 0.0
    extent = augmentation.scaling if random.chance(augmentation.scaling_p) else (1.0, 1.0)
    flips = [axis in sampling.mirror_axes and random.chance(0.5) for axis in (0, 1)]
    return PatchFrame(
        centre,
        math.radians(random.uniform(-turn, turn)),
        1 / random.uniform(*extent),
        (-1.0 if flips[0] else 1.0, -1.0 if flips[1] else 1.0),
    )


def keep_in_sight(
    frame: PatchFrame,
    target: tuple[float, float],
    patch: tuple[int, int],
    spacing: tuple[float, float],
    slice_spacing: tuple[float, float],
) -> PatchFrame:
    """Move a patch until a place lies in its middle half, however it is turned and scaled.

    Args:
        frame: the patch.
        target: (row, column) in slice pixels.
        patch, spacing: its size in pixels and their spacing in mm.
        slice_spacing: mm.
    """
    cos, sin = math.cos(frame.rotation), math.sin(frame.rotation)
    down, right = (
        (place - middle) * step * frame.zoom
        for place, middle, step in zip(target, frame.centre, slice_spacing, strict=True)
    )
    along = (cos * down + sin * right, cos * right - sin * down)  # mm along the patch's edges
    y, x = (
        min(max(mm, -count * step / 4), count * step / 4)
        for mm, count, step in zip(along, patch, spacing, strict=True)
    )
    row = target[0] - (cos * y - sin * x) / (frame.zoom * slice_spacing[0])
    column = target[1] - (sin * y + cos * x) / (frame.zoom * slice_spacing[1])
    return replace(frame, centre=(row, column))


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
    cos, sin = math.cos(frame.rotation), math.sin(frame.rotation)
    # From slice pixels to [-1, 1] while there is one axis: whole grids are slow to fill.
    to_row, to_column = 2 / (size[0] * spacing[0]), 2 / (size[1] * spacing[1])
    row = (2 * frame.centre[0] + 1) / size[0] - 1
    column = (2 * frame.centre[1] + 1) / size[1] - 1
    grid = torch.empty(1, *patch, 2)
    x, y = grid[0, ..., 0], grid[0, ..., 1]
    torch.add((sin * to_column * rows + column)[:, None], cos * to_column * columns, out=x)
    torch.add((cos * to_row * rows + row)[:, None], -sin * to_row * columns, out=y)
    return grid


def cut_image(slices: Tensor, grid: Tensor) -> Tensor:
    """Cubic interpolation of (1, C, h, w); zero (the mean) beyond the slice's edge."""
    patch = F.grid_sample(slices, grid, "bicubic", "border", align_corners=False)
    return _clear_outside(patch, grid)


def cut_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """Each label interpolated linearly, the strongest wins (nnU-Net's order 1).

    The four pixels around a place vote with their bilinear weights, which takes as long for
    one label as for a hundred; the lower value wins a draw. Nothing is computed where the four
    agree, or beyond the part of the patch that labels can reach.

    Args:
        labels: (h, w) integers from 0 to 65535.
        grid: of :func:`sampling_grid`.

    Returns:
        (rows, columns) int64; 0 beyond the slice's edge.
    """
    cut = torch.zeros(grid.shape[1:3], dtype=torch.int64)
    window = _labelled_window(labels, grid)
    if window is not None:
        part = grid[(slice(None), *window)]
        cut[window] = _clear_outside(_interpolate_labels(labels.int(), part), part).long()
    return cut


def _interpolate_labels(labels: Tensor, grid: Tensor) -> Tensor:
    height, width = labels.shape
    below = torch.cat([labels[1:], labels[-1:]])
    around = torch.stack([labels, _next_column(labels), below, _next_column(below)]).flatten(1)
    x = ((grid[..., 0].flatten() + 1) * (width / 2) - 0.5).clamp_(0, width - 1)
    y = ((grid[..., 1].flatten() + 1) * (height / 2) - 0.5).clamp_(0, height - 1)
    cell = (y.floor() * width + x.floor()).long()
    # One look-up for both: the pixel's value, and whether another of the four differs.
    coded = around[0] * 2 + (around[1:] != around[0]).any(dim=0)
    found = coded.take(cell)
    cut, (mixed,) = found >> 1, (found & 1).nonzero(as_tuple=True)
    cut[mixed] = _vote(around[:, cell[mixed]], x[mixed].frac(), y[mixed].frac())
    return cut.view(grid.shape[1:3])


def _next_column(plane: Tensor) -> Tensor:
    return torch.cat([plane[:, 1:], plane[:, -1:]], dim=1)


def _labelled_window(labels: Tensor, grid: Tensor) -> tuple[slice, slice] | None:
    """The (rows, columns) of the patch that labels other than 0 can reach; None for nowhere.

    The grid is affine, so its corners tell where the box around the labels comes to lie.
    """
    spans = []
    for axis in (0, 1):
        shown = labels.any(dim=1 - axis).nonzero().flatten()
        if not len(shown):
            return None
        ends = torch.stack([shown[0] - 1, shown[-1] + 1])  # a pixel reaches the next one's centre
        spans.append((2 * ends + 1) / labels.shape[axis] - 1)
    rows, columns = grid.shape[1:3]
    if min(rows, columns) < 2:
        return (slice(0, rows), slice(0, columns))
    corner = grid[0, 0, 0].double()
    steps = [(grid[0, -1, 0] - corner) / (rows - 1), (grid[0, 0, -1] - corner) / (columns - 1)]
    box = torch.cartesian_prod(spans[1], spans[0]).double()  # (x, y), as the grid
    places = torch.linalg.solve(torch.stack(steps, dim=1), (box - corner).T)
    low = (places.amin(dim=1) - 1).floor().clamp(min=0).int().tolist()
    high = (places.amax(dim=1) + 2).ceil().int().tolist()
    if low[0] >= min(high[0], rows) or low[1] >= min(high[1], columns):
        return None
    return (slice(low[0], min(high[0], rows)), slice(low[1], min(high[1], columns)))


def _clear_outside(patch: Tensor, grid: Tensor) -> Tensor:
    """Zeros, in place, where the grid leaves the slice; not where all its corners lie inside."""
    if grid[0, :: grid.shape[1] - 1 or 1, :: grid.shape[2] - 1 or 1].abs().max() <= 1:
        return patch
    return patch.mul_(grid[0].abs().amax(dim=-1) <= 1)


def _vote(values: Tensor, right: Tensor, below: Tensor) -> Tensor:
    """The value with most weight.

    Args:
        values: (4, n) above left, above right, below left, below right.
        right, below: (n) how far towards the right and the lower pixels, 0 to 1.
    """
    weights = torch.stack(
        [(1 - below) * (1 - right), (1 - below) * right, below * (1 - right), below * right]
    )
    shares = ((values[:, None] == values[None]) * weights[None]).sum(dim=1)
    winner, best = values[0], shares[0]
    for value, share in zip(values[1:], shares[1:], strict=True):
        better = (share > best) | ((share == best) & (value < winner))
        winner, best = torch.where(better, value, winner), torch.where(better, share, best)
    return winner
