"""Overlapping windows: covered, weighted and put back as nnU-Net does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from meddinov3.inference.windows import by_windows, gaussian_weights, window_starts
from scipy.ndimage import gaussian_filter
from torch import Tensor


@pytest.mark.parametrize(
    ("length", "window", "starts"),
    [(64, 64, [0]), (65, 64, [0, 1]), (96, 64, [0, 32]), (97, 64, [0, 16, 33]),
     (512, 256, [0, 128, 256]), (600, 256, [0, 115, 229, 344])],
)  # fmt: skip
def test_windows_cover_evenly(length: int, window: int, starts: list[int]) -> None:
    assert window_starts(length, window) == starts


@pytest.mark.parametrize("window", [(64, 96), (16, 16), (33, 50)])
def test_weights_are_a_filtered_point(window: tuple[int, int]) -> None:
    """nnU-Net makes them by filtering a single voxel in the middle; beyond 4 sigma it stops."""
    point = np.zeros(window)
    point[window[0] // 2, window[1] // 2] = 1
    expected = gaussian_filter(point, [n / 8 for n in window], mode="constant", cval=0)
    expected /= expected.max()
    found = gaussian_weights(window).numpy()
    inside = expected > 1e-3
    np.testing.assert_allclose(found[inside], expected[inside], rtol=2e-3)
    assert (found > 0).all()


@pytest.mark.parametrize("size", [(64, 96), (20, 30), (100, 96), (150, 201), (40, 300)])
def test_a_network_without_context_gives_what_it_gives_on_the_whole(size: tuple[int, int]) -> None:
    slices = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    seen = []

    def network(part: Tensor) -> Tensor:
        seen.append(part.shape[-2:])
        return torch.cat([part, -2 * part + 1], dim=1)

    found = by_windows(network, slices, (64, 96))
    torch.testing.assert_close(found, torch.cat([slices, -2 * slices + 1], dim=1))
    assert set(seen) == {torch.Size((64, 96))}


def test_the_middle_of_a_window_counts_most() -> None:
    number = iter([0.0, 1.0])

    def network(part: Tensor) -> Tensor:
        return torch.full_like(part, next(number))

    row = by_windows(network, torch.zeros(1, 1, 16, 24), (16, 16))[0, 0, 8]
    assert row[:8].tolist() == [0] * 8
    assert row[16:].tolist() == [1] * 8
    assert (row[8:16].diff() > 0).all()
    weights = gaussian_weights((16, 16))[8]
    expected = weights[2] / (weights[2] + weights[10])
    assert float(row[10]) == pytest.approx(float(expected), rel=1e-5)
