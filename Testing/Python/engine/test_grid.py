"""Index and patient coordinates, orientation codes, and slices seen the model's way."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import random_grid, sitk_image
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid, SliceOrientation, nearest_axes

SEEDS = range(24)
UPRIGHT = Grid((4, 5, 6), (0.5, 0.75, 3.0), (10.0, -20.0, 30.0), np.eye(3))

# For a DICOM orient code such as LPS the array is (k, j, i) = (S, P, L); a slice axis in front,
# then of the other two the later letter along rows and the earlier along columns.
PLANES = {"S": (0, 1, 2), "P": (1, 0, 2), "L": (2, 0, 1)}


def oriented_by_itk(array: np.ndarray, grid: Grid, code: str) -> sitk.Image:
    return sitk.DICOMOrient(sitk_image(array, grid), code)


def numbered(grid: Grid) -> np.ndarray:
    """Every voxel its own number, so that any mix-up shows."""
    return np.arange(np.prod(grid.size), dtype=np.int32).reshape(grid.shape)


def random_indices(grid: Grid, seed: int) -> np.ndarray:
    """Points in the grid and around it, (50, 3)."""
    random = np.random.default_rng(seed)
    return random.uniform(-5, np.array(grid.size) + 5, (50, 3))


class TestCoordinates:
    def test_a_voxel_lies_where_spacing_and_origin_put_it(self) -> None:
        position = UPRIGHT.to_patient(np.array([2.0, 4.0, 1.0]))
        np.testing.assert_allclose(position, [11.0, -17.0, 33.0], atol=1e-12)

    def test_a_turned_axis_follows_its_direction_column(self) -> None:
        # i runs to the head, j to the right, k to the front.
        direction = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
        grid = Grid((4, 5, 6), (2.0, 3.0, 5.0), (1.0, 1.0, 1.0), direction)
        np.testing.assert_allclose(grid.to_patient(np.array([1.0, 1.0, 1.0])), [-2, -4, 3])

    @pytest.mark.parametrize("seed", SEEDS)
    def test_positions_equal_those_of_simpleitk(self, seed: int) -> None:
        grid = random_grid(seed)
        image = sitk_image(numbered(grid), grid)
        indices = random_indices(grid, seed)
        expected = [image.TransformContinuousIndexToPhysicalPoint(i.tolist()) for i in indices]
        np.testing.assert_allclose(grid.to_patient(indices), expected, atol=1e-9)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_index_to_patient_and_back_is_where_it_began(self, seed: int) -> None:
        grid = random_grid(seed)
        indices = random_indices(grid, seed)
        np.testing.assert_allclose(grid.to_index(grid.to_patient(indices)), indices, atol=1e-9)

    def test_points_keep_any_leading_shape(self) -> None:
        points = np.zeros((2, 3, 4, 3))
        assert UPRIGHT.to_patient(points).shape == (2, 3, 4, 3)
        assert UPRIGHT.to_index(points).shape == (2, 3, 4, 3)

    def test_shape_is_numpy_order(self) -> None:
        assert UPRIGHT.shape == (6, 5, 4)


class TestSameGrid:
    def test_a_shift_within_tolerance_is_the_same(self) -> None:
        shifted = Grid(UPRIGHT.size, UPRIGHT.spacing, (10.0005, -20.0, 30.0), np.eye(3))
        assert UPRIGHT.same_as(shifted)

    def test_a_larger_shift_is_another(self) -> None:
        shifted = Grid(UPRIGHT.size, UPRIGHT.spacing, (10.002, -20.0, 30.0), np.eye(3))
        assert not UPRIGHT.same_as(shifted)
        assert UPRIGHT.same_as(shifted, tolerance=0.01)

    def test_a_spacing_error_is_counted_at_the_far_corner(self) -> None:
        # 5 steps of 0.0003 mm along k: 0.0015 mm at the last slice.
        stretched = Grid(UPRIGHT.size, (0.5, 0.75, 3.0003), UPRIGHT.origin, np.eye(3))
        assert not UPRIGHT.same_as(stretched)
        assert UPRIGHT.same_as(stretched, tolerance=0.0016)

    def test_another_size_is_another(self) -> None:
        longer = Grid((4, 5, 7), UPRIGHT.spacing, UPRIGHT.origin, np.eye(3))
        assert not UPRIGHT.same_as(longer, tolerance=1e9)

    def test_a_mirrored_axis_is_another(self) -> None:
        mirrored = Grid(UPRIGHT.size, UPRIGHT.spacing, UPRIGHT.origin, np.diag([-1.0, 1, 1]))
        assert not UPRIGHT.same_as(mirrored)


class TestOrientationCode:
    def test_letters_name_the_side_an_axis_runs_to(self) -> None:
        """As SimpleITK has it: the identity in LPS space is LPS, its letters naming the far end."""
        assert UPRIGHT.orientation == "LPS"
        code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines
        assert code(np.eye(3).ravel().tolist()) == "LPS"

    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            ([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], "RAS"),
            ([[0, 1, 0], [0, 0, -1], [1, 0, 0]], "PIL"),
            ([[0, -1, 0], [0, 0, -1], [-1, 0, 0]], "AIR"),
        ],
    )
    def test_axis_aligned_examples(self, columns: list[list[float]], expected: str) -> None:
        grid = Grid((3, 3, 3), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.array(columns, float).T)
        assert grid.orientation == expected

    @pytest.mark.parametrize("seed", range(60))
    def test_any_grid_has_the_code_that_simpleitk_gives(self, seed: int) -> None:
        grid = random_grid(seed)
        code = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines
        assert grid.orientation == code(grid.direction.ravel().tolist())

    def test_every_patient_axis_is_used_once_at_45_degrees(self) -> None:
        half = np.sqrt(0.5)
        direction = np.array([[half, half, 0], [half, -half, 0], [0, 0, 1]])
        axes = [axis for axis, _ in nearest_axes(direction)]
        assert sorted(axes) == [0, 1, 2]
        assert axes[2] == 2


class TestView:
    @pytest.mark.parametrize("slice_axis", PLANES)
    @pytest.mark.parametrize("seed", range(0, 24, 2))
    def test_equals_dicom_orient_on_upright_grids(self, seed: int, slice_axis: str) -> None:
        grid = random_grid(seed, oblique=False)
        array = numbered(grid)
        expected = sitk.GetArrayFromImage(oriented_by_itk(array, grid, "LPS"))
        view = SliceOrientation("LPS", slice_axis).view(array, grid)
        np.testing.assert_array_equal(view, expected.transpose(PLANES[slice_axis]))

    @pytest.mark.parametrize("seed", range(1, 24, 2))
    def test_equals_dicom_orient_on_oblique_grids(self, seed: int) -> None:
        grid = random_grid(seed, oblique=True)
        array = numbered(grid)
        for code, axis, order in (
            ("RAS", "S", (0, 1, 2)),
            ("LPI", "P", (1, 0, 2)),
            ("PLI", "L", (1, 0, 2)),
        ):
            expected = sitk.GetArrayFromImage(oriented_by_itk(array, grid, code))
            view = SliceOrientation(code, axis).view(array, grid)
            np.testing.assert_array_equal(view, expected.transpose(order), err_msg=code)

    @pytest.mark.parametrize("slice_axis", "LPS")
    @pytest.mark.parametrize("seed", range(12))
    def test_spacing_and_extent_follow_the_axes(self, seed: int, slice_axis: str) -> None:
        grid = random_grid(seed)
        orientation = SliceOrientation("LPS", slice_axis)
        image = oriented_by_itk(numbered(grid), grid, "LPS")
        order = PLANES[slice_axis]
        spacing = np.array(image.GetSpacing()[::-1])[list(order)]
        size = np.array(image.GetSize()[::-1])[list(order)]
        np.testing.assert_allclose(orientation.spacing(grid), spacing, rtol=1e-12)
        np.testing.assert_allclose(orientation.extent(grid), spacing * size, rtol=1e-12)

    def test_left_is_left_whichever_way_the_scan_is_stored(self) -> None:
        """One bright voxel at the same patient position in LPS, RAS and LAS copies."""
        scan = np.zeros((6, 5, 4), np.int16)
        scan[1, 0, 3] = 7  # low k, front, left
        lps = sitk_image(scan, UPRIGHT)
        seen = []
        for code in ("LPS", "RAS", "LAS", "SLP"):
            image = sitk.DICOMOrient(lps, code)
            grid = Grid(
                image.GetSize(),
                image.GetSpacing(),
                image.GetOrigin(),
                np.array(image.GetDirection()).reshape(3, 3),
            )
            assert grid.orientation == code
            seen.append(SliceOrientation().view(sitk.GetArrayFromImage(image), grid))
        for view in seen:
            assert np.argwhere(view).tolist() == [[1, 0, 3]]

    @pytest.mark.parametrize("seed", SEEDS)
    def test_writing_through_the_view_lands_in_the_same_place(self, seed: int) -> None:
        grid = random_grid(seed)
        orientation = SliceOrientation("LPS", "LPS"[seed % 3])
        label_map = np.zeros(grid.shape, np.uint8)
        view = orientation.view(label_map, grid)
        chosen = tuple(int(n) // 2 for n in view.shape)
        view[chosen] = 9
        image = oriented_by_itk(label_map, grid, "LPS")
        written = sitk.GetArrayFromImage(image).transpose(PLANES["LPS"[seed % 3]])
        assert np.argwhere(written == 9).tolist() == [list(chosen)]
        assert np.count_nonzero(label_map) == 1

    def test_the_view_copies_nothing(self) -> None:
        grid = random_grid(5)
        array = numbered(grid)
        assert np.shares_memory(SliceOrientation("RAI", "A").view(array, grid), array)


class TestBadCodes:
    @pytest.mark.parametrize(
        ("code", "slice_axis"),
        [("LPX", "L"), ("LRS", "S"), ("LP", "P"), ("LPSS", "S"), ("", ""), ("lps", "s")],
    )
    def test_a_code_that_is_none_is_refused(self, code: str, slice_axis: str) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            SliceOrientation(code, slice_axis)
        assert caught.value.code == "bad-orientation"
        assert caught.value.remedy

    @pytest.mark.parametrize("slice_axis", ["I", "", "LP", "LPS"])
    def test_a_slice_axis_is_one_letter_of_the_code(self, slice_axis: str) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            SliceOrientation("LPS", slice_axis)
        assert caught.value.code == "bad-orientation"
