"""Patches against numpy, and against the resampling that inference uses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cached_cases import STILL
from meddinov3.description import Sampling
from meddinov3.inference.plane import network_size, to_network
from meddinov3_training.augmentation import (
    NNUNET,
    ORIENTED,
    Augmentation,
    PatchFrame,
    Random,
    cut_image,
    cut_labels,
    draw_frame,
    keep_in_sight,
    sampling_grid,
)
from scipy import ndimage
from torch import Tensor

QUARTER = math.pi / 2


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


def test_labels_equal_those_of_one_map_each() -> None:
    """As nnU-Net resamples a segmentation: a map for each label, linear, then the largest."""
    random = Random(0)
    for number in range(200):
        height, width = 1 + random.choose(40), 1 + random.choose(40)
        labels = torch.zeros(height, width, dtype=torch.int64)
        for value in (1, 2, 300):
            row, column = random.choose(height), random.choose(width)
            labels[row : row + random.choose(20), column : column + random.choose(20)] = value
        frame = PatchFrame(
            (random.uniform(-5, height + 5), random.uniform(-5, width + 5)),
            random.uniform(-4, 4) if number % 3 else 0.0,
            random.uniform(0.5, 2),
            (1.0, -1.0 if number % 2 else 1.0),
        )
        patch = (1 + random.choose(60), 1 + random.choose(60))
        grid = sampling_grid(frame, patch, (0.7, 1.0), (height, width), (1.0, 1.3))
        values = labels.unique()
        maps = (labels[None] == values[:, None, None]).float()[None]
        maps = torch.nn.functional.grid_sample(
            maps, grid, "bilinear", "border", align_corners=False
        )[0]
        inside = (grid[0].abs() <= 1).all(dim=-1)
        assert torch.equal(cut_labels(labels, grid), values[maps.argmax(dim=0)] * inside)


def test_a_marked_point_goes_where_the_transform_says() -> None:
    """Turned by 30 degrees, twice as large, mirrored: a dot 10 mm below and 4 mm right."""
    size, spacing, target = (81, 61), (1.0, 2.0), (0.5, 0.25)
    labels = torch.zeros(size, dtype=torch.int64)
    labels[50, 32] = 1
    frame = PatchFrame((40.0, 30.0), math.radians(30), 2.0, (1.0, -1.0))
    grid = sampling_grid(frame, (161, 321), target, size, spacing)
    # 10 mm down and 4 right; turned back by 30 degrees: down 10 cos + 4 sin = 10.660, right
    # 4 cos - 10 sin = -1.536; twice as large and the columns mirrored: 21.32 and 3.07 mm from
    # the patch's middle, which are 42.6 and 12.3 pixels.
    found = cut_labels(labels, grid).nonzero().double().mean(dim=0)
    assert found.tolist() == pytest.approx([80 + 42.64, 160 + 12.29], abs=0.3)
    image = cut_image(labels[None, None].float(), grid)[0, 0]
    row, column = divmod(int(image.argmax()), 321)
    assert (row, column) == (pytest.approx(122.64, abs=0.6), pytest.approx(172.29, abs=0.6))


@pytest.mark.parametrize("seed", range(20))
def test_a_patch_is_moved_until_a_place_is_in_its_middle_half(seed: int) -> None:
    random = Random(seed)
    target, patch, spacing, own = (30.0, 20.0), (40, 60), (0.5, 0.8), (1.0, 1.5)
    labels = torch.zeros(60, 40, dtype=torch.int64)
    labels[29:32, 19:22] = 1
    frame = PatchFrame(
        (random.uniform(0, 60), random.uniform(0, 40)),
        random.uniform(-math.pi, math.pi),
        random.uniform(0.7, 1.4),
        (1.0, (-1.0, 1.0)[seed % 2]),
    )
    moved = keep_in_sight(frame, target, patch, spacing, own)
    grid = sampling_grid(moved, patch, spacing, (60, 40), own)
    row, column = cut_labels(labels, grid).nonzero().double().mean(dim=0).tolist()
    assert 10 - 1 <= row <= 29 + 1
    assert 15 - 1 <= column <= 44 + 1
    assert keep_in_sight(moved, target, patch, spacing, own).centre == pytest.approx(moved.centre)


# What is drawn.


def frames_of(
    augmentation: Augmentation, sampling: Sampling, count: int = 2000
) -> list[PatchFrame]:
    return [draw_frame(Random(0, n), augmentation, sampling, (5.0, 6.0)) for n in range(count)]


@pytest.mark.parametrize(
    ("augmentation", "patch", "limit", "extent"),
    [
        (NNUNET, (64, 64), 180, (0.7, 1.4)),
        (NNUNET, (64, 96), 180, (0.7, 1.4)),
        (NNUNET, (64, 112), 15, (0.7, 1.4)),  # over 1.5 times as long
        (ORIENTED, (64, 64), 30, (1 / 1.3, 1.3)),
        (ORIENTED, (64, 112), 30, (1 / 1.3, 1.3)),
    ],
)
def test_frames_stay_in_their_ranges(
    augmentation: Augmentation,
    patch: tuple[int, int],
    limit: float,
    extent: tuple[float, float],
) -> None:
    frames = frames_of(augmentation, Sampling(patch=patch, mirror_axes=(1,)))
    turns = np.degrees([f.rotation for f in frames if f.rotation])
    extents = np.array([1 / f.zoom for f in frames if f.zoom != 1])
    for values, (low, high), chance in (
        (turns, (-limit, limit), augmentation.rotation_p),
        (extents, extent, augmentation.scaling_p),
    ):
        assert low <= values.min() < values.max() <= high
        assert values.min() < low + 0.1 * (high - low)
        assert values.max() > high - 0.1 * (high - low)
        # Uniform: a standard deviation of 0.29 of the range, and at least 300 values.
        assert values.mean() == pytest.approx((low + high) / 2, abs=5 * 0.29 * (high - low) / 17)
        assert len(values) / 2000 == pytest.approx(chance, abs=5 * math.sqrt(0.25 / 2000))
    assert {frame.centre for frame in frames} == {(5.0, 6.0)}
    assert {frame.mirror[0] for frame in frames} == {1.0}
    assert 880 < sum(frame.mirror[1] < 0 for frame in frames) < 1120  # 1000 and five times 22


def test_nothing_is_drawn_without_chances() -> None:
    for frame in frames_of(STILL, Sampling(), 20):
        assert frame == PatchFrame((5.0, 6.0))


def test_numbers_follow_from_seed_and_index() -> None:
    drawn = {
        (seed, index): [Random(seed, index).uniform(0, 1), Random(seed, index).choose(10**9)]
        for seed in (0, 1, -1)
        for index in range(50)
    }
    again = [Random(1, 7).uniform(0, 1), Random(1, 7).choose(10**9)]
    assert drawn[1, 7] == again
    assert len({tuple(values) for values in drawn.values()}) == 150
    first = [values[0] for values in drawn.values()]
    assert np.mean(first) == pytest.approx(0.5, abs=5 * 0.29 / math.sqrt(150))
