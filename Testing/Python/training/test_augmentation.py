"""Patches against numpy, and against the resampling that inference uses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from meddinov3.description import Sampling
from meddinov3.inference.plane import network_size, to_network
from meddinov3_training.augmentation import (
    Augmentation,
    PatchFrame,
    Random,
    change_intensities,
    cut_image,
    cut_labels,
    draw_frame,
    sampling_grid,
)
from scipy import ndimage
from torch import Tensor

QUARTER = math.pi / 2
STILL = Augmentation(
    rotation_p=0, scaling_p=0, shift=0, noise_p=0, blur_p=0, brightness_p=0,
    contrast_p=0, low_resolution_p=0, gamma_p=0,
)  # fmt: skip


def middle(size: tuple[int, int]) -> tuple[float, float]:
    return ((size[0] - 1) / 2, (size[1] - 1) / 2)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def smooth(rows: int, columns: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(rows) / 5.0, torch.arange(columns) / 7.0, indexing="ij")
    return (torch.sin(y) + torch.cos(0.8 * x + y))[None, None]


def counted(rows: int, columns: int) -> Tensor:
    """A slice (1, 1, rows, columns) whose pixels all differ."""
    return torch.arange(rows * columns, dtype=torch.float32).reshape(1, 1, rows, columns)


def near(tensor: Tensor, array: np.ndarray, tolerance: float = 1e-2) -> None:
    """`counted` values are whole numbers, so a hundredth tells any two pixels apart."""
    np.testing.assert_allclose(tensor.numpy(), array, atol=tolerance)


# An untouched patch is what inference sees.


@pytest.mark.parametrize("target", [(0.5, 0.5), (0.25, 0.75), (0.9, 0.45)])
def test_identity_equals_the_resampling_of_inference(target: tuple[float, float]) -> None:
    size, spacing = (36, 30), (1.0, 1.5)
    slices = smooth(*size)
    pixels = network_size(size, spacing, target)
    expected = to_network(slices, pixels)
    grid = sampling_grid(PatchFrame(middle(size)), pixels, target, size, spacing)
    patch = cut_image(slices, grid)
    inner = (..., slice(4, -4), slice(4, -4))
    assert (patch - expected)[inner].abs().max() < 2e-5
    assert expected.std() > 0.5


def test_identity_at_equal_spacing_is_the_slice_itself() -> None:
    slices, labels = noise(1, 3, 21, 32), (noise(21, 32, seed=1) > 0).long() * 4
    grid = sampling_grid(PatchFrame(middle((21, 32))), (21, 32), (0.7, 1.3), (21, 32), (0.7, 1.3))
    assert (cut_image(slices, grid) - slices).abs().max() < 1e-4
    assert torch.equal(cut_labels(labels, grid), labels)


def test_a_patch_is_a_window_of_the_resampled_slice() -> None:
    slices = smooth(40, 40)
    whole = to_network(slices, (80, 80))
    # Rows 16 to 47 and columns 32 to 63 of the 80: middle 31.5 and 47.5, in slice pixels
    # (31.5 + 0.5) / 2 - 0.5 and (47.5 + 0.5) / 2 - 0.5.
    grid = sampling_grid(PatchFrame((15.5, 23.5)), (32, 32), (1.0, 1.0), (40, 40), (2.0, 2.0))
    assert (cut_image(slices, grid) - whole[..., 16:48, 32:64]).abs().max() < 2e-5


# Geometry.


@pytest.mark.parametrize(("turn", "times"), [(QUARTER, -1), (-QUARTER, 1), (math.pi, 2)])
def test_quarter_turns_with_unequal_spacing(turn: float, times: int) -> None:
    # 6 rows of 2 mm and 8 columns of 1 mm; turned, 8 rows of 1 mm and 6 columns of 2 mm.
    slices = counted(6, 8)
    shape, target = ((6, 8), (2.0, 1.0)) if times == 2 else ((8, 6), (1.0, 2.0))
    frame = PatchFrame(middle((6, 8)), rotation=turn)
    grid = sampling_grid(frame, shape, target, (6, 8), (2.0, 1.0))
    expected = np.rot90(slices[0, 0].numpy(), times)
    near(cut_image(slices, grid)[0, 0], expected)
    np.testing.assert_array_equal(cut_labels(slices[0, 0].long(), grid).numpy(), expected)


@pytest.mark.parametrize("mirror", [(1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)])
def test_mirroring(mirror: tuple[float, float]) -> None:
    slices = counted(6, 9)
    frame = PatchFrame(middle((6, 9)), mirror=mirror)
    grid = sampling_grid(frame, (6, 9), (2.0, 0.5), (6, 9), (2.0, 0.5))
    expected = slices[0, 0].numpy()[:: int(mirror[0]), :: int(mirror[1])]
    near(cut_image(slices, grid)[0, 0], expected)
    np.testing.assert_array_equal(cut_labels(slices[0, 0].long(), grid).numpy(), expected)


def test_zoom_makes_structures_larger() -> None:
    labels = torch.arange(8 * 6).reshape(8, 6)
    frame = PatchFrame(middle((8, 6)), zoom=2.0)
    grid = sampling_grid(frame, (16, 12), (3.0, 1.0), (8, 6), (3.0, 1.0))
    expected = np.kron(labels.numpy(), np.ones((2, 2), dtype=int))
    np.testing.assert_array_equal(cut_labels(labels, grid).numpy(), expected)
    slices = noise(1, 1, 8, 6)
    assert (cut_image(slices, grid) - to_network(slices, (16, 12))).abs().max() < 1e-4


@pytest.mark.parametrize("shift", [(2, -3), (-1, 4), (0, 30)])
def test_shift_moves_the_patch_and_leaves_zeros(shift: tuple[int, int]) -> None:
    slices = 1 + counted(7, 10)
    centre = (3 + shift[0], 4.5 + shift[1])
    grid = sampling_grid(PatchFrame(centre), (7, 10), (1.5, 0.8), (7, 10), (1.5, 0.8))
    expected = np.zeros((7, 10))
    for r, c in np.ndindex(7, 10):
        if 0 <= r + shift[0] < 7 and 0 <= c + shift[1] < 10:
            expected[r, c] = slices[0, 0, r + shift[0], c + shift[1]]
    near(cut_image(slices, grid)[0, 0], expected)
    np.testing.assert_array_equal(cut_labels(slices[0, 0].long(), grid).numpy(), expected)


def test_turn_zoom_and_mirror_act_in_millimetres() -> None:
    size, spacing, target = (60, 80), (1.2, 0.7), (0.9, 1.1)
    turn, zoom, centre = math.radians(25), 1.25, (31.0, 36.5)
    frame = PatchFrame(centre, turn, zoom, (1.0, -1.0))
    grid = sampling_grid(frame, (16, 24), target, size, spacing)[0].double().numpy()
    matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = matrix @ np.diag([1 / zoom, -1 / zoom])
    for r, c in np.ndindex(16, 24):
        down, right = matrix @ [(r - 7.5) * 0.9, (c - 11.5) * 1.1]  # mm from the patch's middle
        row, column = centre[0] + down / 1.2, centre[1] + right / 0.7
        # grid_sample: x before y, -1 and 1 at the outer edges of the first and last pixel.
        expected = [(column + 0.5) / 80 * 2 - 1, (row + 0.5) / 60 * 2 - 1]
        np.testing.assert_allclose(grid[r, c], expected, atol=1e-5)


# Labels.


def test_labels_stay_among_those_of_the_slice() -> None:
    labels = torch.tensor([0, 3, 7, 200])[noise(30, 24).argsort(dim=1) % 4]
    frame = PatchFrame(middle((30, 24)), 0.4, 0.8)
    grid = sampling_grid(frame, (64, 64), (0.4, 0.4), (30, 24), (1.0, 1.5))
    cut = cut_labels(labels, grid)
    assert cut.dtype == labels.dtype
    assert set(cut.unique().tolist()) == {0, 3, 7, 200}


def test_labels_are_interpolated_linearly_one_by_one() -> None:
    blocks = torch.tensor([0, 5, 2, 9, 1])[(7 * noise(9, 8)).abs().long() % 5]
    labels = blocks.repeat_interleave(4, 0).repeat_interleave(4, 1)
    frame = PatchFrame((17.3, 15.1), rotation=0.5, zoom=1.1)
    grid = sampling_grid(frame, (24, 24), (0.7, 0.7), (36, 32), (1.0, 1.0))
    where = [(grid[0, ..., 1] + 1) * 36 / 2 - 0.5, (grid[0, ..., 0] + 1) * 32 / 2 - 0.5]
    shares = np.stack([
        ndimage.map_coordinates((labels == v).double().numpy(), where, order=1) for v in range(10)
    ])  # fmt: skip
    best = np.sort(shares, axis=0)
    clear = best[-1] - best[-2] > 1e-4
    assert clear.mean() > 0.95
    expected = shares.argmax(axis=0)
    np.testing.assert_array_equal(cut_labels(labels, grid).numpy()[clear], expected[clear])


def test_beyond_the_edge_image_and_labels_are_zero() -> None:
    """A slice of ones in a patch 20 mm wider on every side, four pixels to one of the slice."""
    size, spacing, target = (10, 12), (4.0, 4.0), (1.0, 1.0)
    grid = sampling_grid(PatchFrame(middle(size)), (80, 88), target, size, spacing)
    inside = np.zeros((80, 88))
    inside[20:60, 20:68] = 1
    near(cut_image(torch.ones(1, 1, *size), grid)[0, 0], inside, 1e-5)
    labels = cut_labels(torch.full(size, 6), grid)
    np.testing.assert_array_equal(labels.numpy(), 6 * inside)


# What is drawn.


def test_frames_stay_in_their_ranges() -> None:
    random, sampling = Random(0), Sampling(mirror_axes=(1,))
    frames = [
        draw_frame(random, Augmentation(rotation_p=1, scaling_p=1), sampling, (5.0, 6.0))
        for _ in range(400)
    ]
    turns = np.degrees([frame.rotation for frame in frames])
    zooms = np.log([frame.zoom for frame in frames]) / math.log(1.3)
    for values, limit in ((turns, 30), (zooms, 1)):
        assert np.abs(values).max() <= limit * (1 + 1e-6)
        assert values.min() < -0.9 * limit < 0.9 * limit < values.max()
        assert abs(values.mean()) < 0.15 * limit  # five standard errors
    assert {frame.centre for frame in frames} == {(5.0, 6.0)}
    assert {frame.mirror[0] for frame in frames} == {1.0}
    assert 140 < sum(frame.mirror[1] < 0 for frame in frames) < 260


def test_half_of_the_frames_are_not_turned() -> None:
    random = Random(1)
    frames = [draw_frame(random, Augmentation(), Sampling(), (0.0, 0.0)) for _ in range(400)]
    assert 140 < sum(frame.rotation == 0 for frame in frames) < 260
    assert 140 < sum(frame.zoom == 1 for frame in frames) < 260


# Intensities.


def test_without_probabilities_nothing_changes() -> None:
    patch = noise(2, 32, 32)
    assert torch.equal(change_intensities(patch.clone(), Random(0), STILL), patch)
    for seed in range(20):
        frame = draw_frame(Random(seed), STILL, Sampling(), (1.0, 2.0))
        assert frame == PatchFrame((1.0, 2.0))


@pytest.mark.parametrize("seed", range(5))
def test_gamma_keeps_mean_spread_and_order(seed: int) -> None:
    patch = noise(1, 40, 40, seed=seed).exp() - 3  # skewed, so that gamma matters
    changed = change_intensities(patch, Random(seed), replace(STILL, gamma_p=1))
    assert (changed - patch).abs().max() > 0.01
    assert changed.mean().item() == pytest.approx(patch.mean().item(), abs=1e-4)
    assert changed.std().item() == pytest.approx(patch.std().item(), rel=1e-4)
    along = changed.flatten()[patch.flatten().argsort()]
    assert (along.diff() >= -1e-5).all()


def test_brightness_multiplies_by_three_quarters_to_five_quarters() -> None:
    patch, factors = noise(1, 16, 16), []
    for seed in range(40):
        changed = change_intensities(patch, Random(seed), replace(STILL, brightness_p=1))
        factors.append((changed / patch).median().item())
        assert torch.allclose(changed, patch * factors[-1], atol=1e-5)
    assert 0.75 <= min(factors) < 0.85
    assert 1.15 < max(factors) <= 1.25


def test_contrast_keeps_the_mean_and_the_range() -> None:
    # Two steps from the mean are reached by few pixels, so that clipping hardly moves the mean.
    patch = torch.tensor([[-2.0, 2.0] + [-1.0, 0.0, 1.0] * 20]).reshape(1, 1, -1)
    spreads = []
    for seed in range(30):
        changed = change_intensities(patch, Random(seed), replace(STILL, contrast_p=1))
        assert changed.mean().item() == pytest.approx(0, abs=1e-5)
        assert changed.abs().max() <= 2
        spreads.append(changed[0, 0, 4].item())  # was 1
    assert 0.75 <= min(spreads) < 0.85
    assert 1.15 < max(spreads) <= 1.25


def test_noise_has_a_variance_of_at_most_a_tenth() -> None:
    variances = []
    for seed in range(40):
        changed = change_intensities(
            torch.zeros(1, 64, 64), Random(seed), replace(STILL, noise_p=1)
        )
        variances.append(changed.var().item())
        assert abs(changed.mean().item()) < 5 * math.sqrt(0.1) / 64
    assert max(variances) <= 0.1 * 1.1  # a variance of 4096 samples is known to 2 per cent
    assert np.mean(variances) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_blur_is_a_gaussian_of_half_a_pixel_to_one(seed: int) -> None:
    point = torch.zeros(2, 15, 15)
    point[0, 7, 7] = 1
    blurred = change_intensities(point, Random(seed), replace(STILL, blur_p=1)).numpy()
    # Neighbours fall off by exp(-1 / (2 sigma^2)).
    sigma = math.sqrt(-0.5 / math.log(blurred[0, 7, 8] / blurred[0, 7, 7]))
    assert 0.5 <= sigma <= 1
    expected = ndimage.gaussian_filter(point[0].double().numpy(), sigma, radius=round(3 * sigma))
    np.testing.assert_allclose(blurred[0], expected, atol=1e-6)
    assert (blurred[1] == 0).all(), "channels must not mix"


def test_blur_and_low_resolution_keep_an_even_patch() -> None:
    even = torch.full((1, 33, 47), 1.7)
    for augmentation in (replace(STILL, blur_p=1), replace(STILL, low_resolution_p=1)):
        changed = change_intensities(even, Random(3), augmentation)
        assert torch.allclose(changed, even, atol=1e-5)


def test_low_resolution_loses_detail_only() -> None:
    fine, coarse = noise(1, 48, 48), smooth(48, 48)[0]
    augmentation = replace(STILL, low_resolution_p=1)
    kept = []
    for seed in range(10):
        assert (change_intensities(coarse, Random(seed), augmentation) - coarse).abs().mean() < 0.2
        changed = change_intensities(fine, Random(seed), augmentation)
        assert changed.shape == fine.shape
        kept.append(torch.corrcoef(torch.stack([changed.flatten(), fine.flatten()]))[0, 1].item())
    assert min(kept) < 0.8
    assert max(kept) > min(kept) + 0.05, "the factor must vary"


def test_changes_repeat_for_the_same_seed() -> None:
    patch = noise(2, 24, 24)
    always = Augmentation(noise_p=1, blur_p=1, brightness_p=1, contrast_p=1, gamma_p=1)
    first, again, other = (change_intensities(patch, Random(s), always) for s in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=0.01)
    assert torch.isfinite(first).all()


def test_an_even_patch_survives_every_change() -> None:
    always = Augmentation(
        noise_p=0, blur_p=1, brightness_p=1, contrast_p=1, low_resolution_p=1, gamma_p=1
    )
    for value in (0.0, -2.5):
        changed = change_intensities(torch.full((1, 20, 20), value), Random(0), always)
        assert torch.isfinite(changed).all()
        assert changed.std() < 1e-3
