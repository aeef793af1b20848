"""Scans in memory, and channels of one patient brought onto one grid."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import random_grid, sitk_image
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.volume import Volume, grid_of, image_of, join_channels, volume_of

CUBE = Grid((10, 9, 8), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))


def scan_on(grid: Grid, seed: int = 0, dtype: type = np.int16) -> Volume:
    array = np.random.default_rng(seed).integers(-500, 900, grid.shape).astype(dtype)
    return Volume((array,), grid)


def over(grid: Grid, seed: int) -> Grid:
    """Another oblique grid that covers about the same place."""
    other = random_grid(seed + 50, oblique=True)
    scale = tuple(
        float(s) for s in np.mean(np.array(grid.size) * grid.spacing) / np.array(other.size)
    )
    other = Grid(other.size, scale, (0.0, 0.0, 0.0), other.direction)  # type: ignore[arg-type]
    shift = grid.to_patient((np.array(grid.size) - 1) / 2) - other.to_patient(
        (np.array(other.size) - 1) / 2
    )
    return Grid(other.size, other.spacing, tuple(shift), other.direction)


class TestImages:
    @pytest.mark.parametrize("seed", range(6))
    def test_to_simpleitk_and_back(self, seed: int) -> None:
        volume = scan_on(random_grid(seed), seed)
        image = image_of(volume.channels[0], volume.grid)
        back = volume_of(image, "MR", ("a",))
        np.testing.assert_array_equal(back.channels[0], volume.channels[0])
        assert back.grid.size == volume.grid.size
        assert (back.grid.spacing, back.grid.origin) == (volume.grid.spacing, volume.grid.origin)
        np.testing.assert_array_equal(back.grid.direction, volume.grid.direction)
        assert (back.modality, back.source) == ("MR", ("a",))

    def test_viewing_an_image_copies_nothing_and_cannot_change_it(self) -> None:
        image = sitk_image(np.zeros(CUBE.shape, np.int16), CUBE)
        volume = volume_of(image)
        assert not volume.channels[0].flags.writeable
        image.SetPixel(3, 2, 1, 77)
        assert volume.channels[0][1, 2, 3] == 77

    def test_grid_of_an_image(self) -> None:
        grid = random_grid(9)
        found = grid_of(sitk_image(np.zeros(grid.shape, np.uint8), grid))
        assert found.same_as(grid, tolerance=1e-12)

    def test_an_array_that_does_not_fit_its_grid_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"\(10, 9, 8\).*\(8, 9, 10\)"):
            Volume((np.zeros((10, 9, 8)),), CUBE)


class TestJoin:
    def test_one_scan_stays_as_it_is(self) -> None:
        volume = scan_on(CUBE)
        joined = join_channels([volume])
        assert joined.channels[0] is volume.channels[0]
        assert joined.grid is CUBE

    def test_scans_on_one_grid_are_not_touched(self) -> None:
        first, second = scan_on(CUBE, 1), scan_on(CUBE, 2, np.float64)
        joined = join_channels([first, second])
        assert joined.channels[0] is first.channels[0]
        assert joined.channels[1] is second.channels[0]

    def test_a_difference_below_a_micrometre_is_no_reason_to_resample(self) -> None:
        nudged = Grid(CUBE.size, CUBE.spacing, (0.0005, 0.0, 0.0), np.eye(3))
        second = scan_on(nudged, 2)
        assert join_channels([scan_on(CUBE), second]).channels[1] is second.channels[0]

    @pytest.mark.parametrize("seed", range(8))
    def test_another_grid_is_resampled_linearly(self, seed: int) -> None:
        grid = random_grid(seed)
        first, second = scan_on(grid, 1), scan_on(over(grid, seed), 2)
        joined = join_channels([first, second])
        moving = sitk.Cast(sitk_image(second.channels[0], second.grid), sitk.sitkFloat32)
        expected = sitk.Resample(
            moving,
            sitk_image(first.channels[0], grid),
            sitk.Transform(3, sitk.sitkIdentity),
            sitk.sitkLinear,
            float(second.channels[0].min()),
        )
        np.testing.assert_allclose(joined.channels[1], sitk.GetArrayFromImage(expected), atol=1e-3)
        assert joined.channels[1].std() > 0
        assert joined.grid is grid

    def test_half_a_voxel_of_shift_is_the_mean_of_two_voxels(self) -> None:
        shifted = Grid(CUBE.size, CUBE.spacing, (0.5, 0.0, 0.0), np.eye(3))
        second = scan_on(shifted, 3)
        values = second.channels[0].astype(float)
        joined = join_channels([scan_on(CUBE), second])
        expected = (values[:, :, :-1] + values[:, :, 1:]) / 2
        np.testing.assert_allclose(joined.channels[1][:, :, 1:], expected, atol=1e-3)

    def test_beyond_the_second_scan_lies_its_lowest_value(self) -> None:
        """Air in CT and black in MR, not a 0 that would be water."""
        half = Grid((10, 9, 4), (1.0, 1.0, 2.0), (0.0, 0.0, 8.0), np.eye(3))
        second = scan_on(half, 4)
        joined = join_channels([scan_on(CUBE), second])
        assert (joined.channels[1][:3] == second.channels[0].min()).all()
        np.testing.assert_allclose(joined.channels[1][4:], second.channels[0], atol=1e-3)

    def test_the_first_scan_says_what_and_where_from(self) -> None:
        first, second = scan_on(CUBE, 1), scan_on(over(CUBE, 1), 2)
        first.modality, first.source = "MR", ("a.dcm", "b.dcm")
        second.modality, second.source = "CT", ("c.dcm",)
        joined = join_channels([first, second])
        assert (joined.modality, joined.source) == ("MR", ("a.dcm", "b.dcm"))

    def test_resampled_voxels_outlive_what_they_came_from(self) -> None:
        joined = [
            join_channels([scan_on(CUBE, 1), scan_on(over(CUBE, 3), 2)]).channels[1]
            for _ in range(20)
        ]
        for channel in joined[1:]:
            np.testing.assert_array_equal(channel, joined[0])
        assert joined[0].min() >= -500
        assert joined[0].max() < 900

    @pytest.mark.parametrize("axis", range(3))
    @pytest.mark.parametrize("side", [-1, 1])
    def test_scans_apart_are_an_error(self, axis: int, side: int) -> None:
        origin = [0.0, 0.0, 0.0]
        origin[axis] = 40.0 * side
        apart = Grid(CUBE.size, CUBE.spacing, tuple(origin), np.eye(3))  # type: ignore[arg-type]
        with pytest.raises(MedDINOv3Error) as caught:
            join_channels([scan_on(CUBE), scan_on(apart)])
        assert caught.value.code == "channels-apart"
        assert caught.value.remedy

    def test_scans_that_touch_at_an_edge_are_not_apart(self) -> None:
        beside = Grid(CUBE.size, CUBE.spacing, (9.0, 0.0, 0.0), np.eye(3))
        joined = join_channels([scan_on(CUBE), scan_on(beside, 5)])
        assert len(joined.channels) == 2
