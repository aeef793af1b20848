"""Overlapping windows with Gaussian weights, as nnU-Net 2.x predicts.

Windows overlap by half; each window's logits count most in its middle (a Gaussian with an
eighth of the window as standard deviation); a slice smaller than a window is padded evenly
with zeros. Definitions: nnunetv2.inference.sliding_window_prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

STEP = 0.5
SIGMA = 1 / 8


def window_starts(length: int, window: int) -> list[int]:
    """First pixels of windows that cover `length`, evenly spread, at most half a window apart.

    Args:
        length: pixels, at least `window`.
        window: pixels.
    """
    count = math.ceil((length - window) / (window * STEP)) + 1
    step = (length - window) / (count - 1) if count > 1 else 0.0
    return [round(step * number) for number in range(count)]


def gaussian_weights(window: tuple[int, int]) -> Tensor:
    """Weights (rows, columns) with maximum 1, nowhere 0."""
    axes = []
    for length in window:
        distance = torch.arange(length, dtype=torch.float64) - length // 2
        axes.append(torch.exp(-0.5 * (distance / (length * SIGMA)) ** 2))
    weights = axes[0][:, None] * axes[1][None]
    weights = weights / weights.max()
    return weights.clip(min=float(weights[weights > 0].min())).float()


def by_windows(
    network: Callable[[Tensor], Tensor], slices: Tensor, window: tuple[int, int]
) -> Tensor:
    """Logits of slices of any size from a network that is run on windows only.

    Args:
        network: windows (B, C, *window) to logits (B, K, *window).
        slices: (B, C, H, W).
        window: (rows, columns).

    Returns:
        (B, K, H, W) float32.
    """
    size = slices.shape[-2:]
    missing = [max(0, w - n) for w, n in zip(window, size, strict=True)]
    before = [n // 2 for n in missing]
    padding = (before[1], missing[1] - before[1], before[0], missing[0] - before[0])
    slices = F.pad(slices, padding)
    weights = gaussian_weights(window).to(slices.device)
    total: Tensor | None = None
    count = torch.zeros(slices.shape[-2:], device=slices.device)
    for row in window_starts(slices.shape[-2], window[0]):
        for column in window_starts(slices.shape[-1], window[1]):
            part = (..., slice(row, row + window[0]), slice(column, column + window[1]))
            logits = network(slices[part]).float()
            if total is None:
                total = logits.new_zeros(*logits.shape[:2], *slices.shape[-2:])
            total[part] += logits * weights
            count[part] += weights
    assert total is not None
    total /= count
    return total[..., before[0] : before[0] + size[0], before[1] : before[1] + size[1]]
