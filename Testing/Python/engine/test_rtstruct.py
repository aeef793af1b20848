"""RTSTRUCT contours as a label map: shapes with known answers, and real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import random_grid
from dicom_series import write_series
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.label_map import LabelMap, on_lattice
from meddinov3.reading import read_label_map, read_volume
from meddinov3.rtstruct import fill, read_rtstruct
from meddinov3.volume import Volume
from pydicom.uid import generate_uid
from rtstruct_file import write_rtstruct

GRID = Grid((12, 10, 6), (0.5, 2.0, 3.0), (-10.0, 20.0, 30.0), np.eye(3))
SQUARE = ((1.5, 1.5), (8.5, 1.5), (8.5, 7.5), (1.5, 7.5))  # columns 2 to 8, rows 2 to 7
HOLE = ((3.5, 3.5), (3.5, 5.5), (6.5, 5.5), (6.5, 3.5))  # columns 4 to 6, rows 4 and 5


def scan_on(grid: Grid) -> Volume:
    return Volume((np.zeros(grid.shape, np.int16),), grid)


def ring(values: slice | int, shape: tuple[int, int, int] = GRID.shape) -> np.ndarray:
    """The square without its hole on some slices."""
    expected = np.zeros(shape, bool)
    expected[values, 2:8, 2:9] = True
    expected[values, 4:6, 4:7] = False
    return expected


def placed(points: object, height: float, grid: Grid = GRID, axis: int = 2) -> np.ndarray:
    """Contour corners (n, 3) in LPS mm from index coordinates in the other two axes."""
    flat = np.array(points, dtype=float)
    return grid.to_patient(np.insert(flat, axis, height, axis=1))


def read(path: Path, grid: Grid = GRID, *names: str) -> LabelMap:
    return read_rtstruct(path, scan_on(grid), names or None)


def refusal(path: Path, scan: Volume | None = None, names: list[str] | None = None) -> str:
    with pytest.raises(MedDINOv3Error) as caught:
        read_rtstruct(path, scan or scan_on(GRID), names)
    assert caught.value.remedy
    return caught.value.code


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "structures.dcm"


class TestFilling:
    @pytest.mark.parametrize("way", ["inner contour", "keyhole", "reversed hole"])
    def test_a_square_with_a_hole(self, path: Path, way: str) -> None:
        """Voxels 0.5 x 2 x 3 mm: 42 - 6 of them."""
        contours = {
            "inner contour": [SQUARE, HOLE],
            "reversed hole": [HOLE[::-1], SQUARE],
            "keyhole": [(*SQUARE, SQUARE[0], *HOLE, HOLE[0], SQUARE[0])],
        }[way]
        write_rtstruct(path, [("ring", [placed(c, 2) for c in contours])])
        found = read(path)
        np.testing.assert_array_equal(found.array == 1, ring(2))
        assert np.count_nonzero(found.array) == 36
        assert found.array.dtype == np.uint8

    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_on_any_grid_and_along_any_axis(self, path: Path, seed: int, axis: int) -> None:
        """Oblique, permuted and flipped: the shape lies where it was drawn."""
        grid = random_grid(seed)
        size = [12, 10]
        size.insert(axis, 6)
        grid = Grid(tuple(size), grid.spacing, grid.origin, grid.direction)  # type: ignore[arg-type]
        contours = [placed(c, k, grid, axis) for c in (SQUARE, HOLE) for k in (1, 2, 3)]
        write_rtstruct(path, [("ring", contours)])
        found = read(path, grid).array
        np.testing.assert_array_equal(np.moveaxis(found, 2 - axis, 0) == 1, ring(slice(1, 4)))

    def test_flipped_slices_and_rows_hold_the_same_patient(self, path: Path) -> None:
        flip = np.diag([-1.0, 1.0, -1.0])
        corner = GRID.to_patient(np.array([11.0, 0.0, 5.0]))
        flipped = Grid(GRID.size, GRID.spacing, tuple(corner), flip)  # type: ignore[arg-type]
        write_rtstruct(path, [("ring", [placed(c, 1) for c in (SQUARE, HOLE)])])
        np.testing.assert_array_equal(read(path, flipped).array, read(path).array[::-1, :, ::-1])

    def test_voxels_of_a_disc_are_those_whose_centres_it_holds(self) -> None:
        angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
        disc = np.stack([20.3 + 9.2 * np.cos(angle), 15.1 + 9.2 * np.sin(angle)], axis=1)
        rows, columns = np.mgrid[:32, :40]
        distance = np.hypot(columns - 20.3, rows - 15.1)
        mask = fill([disc], (32, 40))
        assert mask[distance < 9.19].all()
        assert not mask[distance > 9.2].any()

    def test_shapes_that_share_an_edge_neither_overlap_nor_leave_a_gap(self) -> None:
        left = np.array([(0, 0), (5, 0), (5, 6), (0, 6)], float)
        right = left + [5, 0]
        both = [fill([shape], (8, 12)).astype(int) for shape in (left, right)]
        assert (
            sum(both) == fill([np.array([(0, 0), (10, 0), (10, 6), (0, 6)], float)], (8, 12))
        ).all()
        assert both[0].sum() == both[1].sum() == 30

    def test_a_shape_that_leaves_the_slice_is_cut(self) -> None:
        shape = np.array([(-5, -5), (3.5, -5), (3.5, 2.5), (-5, 2.5)], float)
        mask = fill([shape], (8, 12))
        assert mask[:3, :4].all()
        assert mask.sum() == 12

    def test_a_contour_drawn_twice_does_not_cancel(self, path: Path) -> None:
        write_rtstruct(path, [("ring", [placed(c, 2) for c in (SQUARE, SQUARE, HOLE)])])
        found = read(path)
        np.testing.assert_array_equal(found.array == 1, ring(2))
        assert any("twice" in note for note in found.notes)


class TestSlices:
    def test_contours_between_slices_belong_to_the_nearest(self, path: Path) -> None:
        write_rtstruct(path, [("a", [placed(SQUARE, 1.3), placed(SQUARE, 3.8)])])
        found = read(path)
        assert np.unique(np.nonzero(found.array)[0]).tolist() == [1, 4]
        assert any("0.90 mm beside" in note for note in found.notes)

    def test_denser_contours_are_taken_where_they_are_nearest(self, path: Path) -> None:
        """Two planes for one slice are not combined: the nearer one counts."""
        write_rtstruct(path, [("a", [placed(HOLE, 1.3), placed(SQUARE, 1.1), placed(HOLE, 0.8)])])
        found = read(path)
        assert np.count_nonzero(found.array[1]) == 42
        assert any("2 plane(s) were left out" in note for note in found.notes)

    def test_slices_between_contours_stay_empty_and_are_counted(self, path: Path) -> None:
        write_rtstruct(path, [("a", [placed(SQUARE, k) for k in (0, 2, 4)])])
        found = read(path)
        assert np.unique(np.nonzero(found.array)[0]).tolist() == [0, 2, 4]
        assert any("2 slice(s) between" in note for note in found.notes)

    def test_planes_outside_the_scan_are_left_out_and_said(self, path: Path) -> None:
        write_rtstruct(path, [("a", [placed(SQUARE, k) for k in (4, 5, 6, 7)])])
        found = read(path)
        assert np.unique(np.nonzero(found.array)[0]).tolist() == [4, 5]
        assert any("2 plane(s)" in note for note in found.notes)

    def test_contours_beside_the_scan(self, path: Path) -> None:
        write_rtstruct(path, [("a", [placed(SQUARE, 40)])])
        assert refusal(path) == "outside-scan"

    @pytest.mark.parametrize(
        "points", [((1, 1, 0), (8, 1, 0), (8, 7, 4)), ((1, 1, 1), (8, 1, 1), (8, 7, 3))]
    )
    def test_contours_across_the_slices(self, path: Path, points: tuple) -> None:
        tilted = GRID.to_patient(np.array(points, dtype=float))
        write_rtstruct(path, [("a", [placed(SQUARE, 1), placed(HOLE, 2), tilted])])
        assert refusal(path) == "contours-across"


class TestStructures:
    def test_names_and_colours(self, path: Path) -> None:
        shape = [placed(SQUARE, 2)]
        drawn = [("liver", shape), ("", shape), ("GTV", shape), ("GTV", shape)]
        write_rtstruct(path, drawn, colours=[(1, 2, 300), None, (9, 8, 7)])
        labels = read(path).labels
        assert [label.name for label in labels] == ["liver", "ROI 12", "GTV", "GTV (2)"]
        assert [label.value for label in labels] == [1, 2, 3, 4]
        assert labels[0].colour == (1, 2, 255)
        assert labels[2].colour == (9, 8, 7)
        assert labels[0].type.meaning == "Liver"

    def test_later_structures_cover_earlier_ones_and_each_can_be_had(self, path: Path) -> None:
        drawn = [("big", [placed(SQUARE, 2)]), ("small", [placed(HOLE, 2)])]
        write_rtstruct(path, drawn)
        found = read(path)
        assert np.count_nonzero(found.array == 1) == 36
        assert np.count_nonzero(found.array == 2) == 6
        assert any("'small' covers 6 voxel(s) of 'big'" in note for note in found.notes)
        big = read(path, GRID, "big")
        assert np.count_nonzero(big.array) == 42
        assert not any("covers" in note for note in big.notes)
        assert [(label.name, label.value) for label in read(path, GRID, "small").labels] == [
            ("small", 1)
        ]
        assert refusal(path, names=["medium"]) == "unknown-label"

    @pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR", "OPEN_NONPLANAR"])
    def test_points_and_open_contours_alone(self, path: Path, kind: str) -> None:
        write_rtstruct(path, [("marks", [placed(SQUARE, 2)])], kind=kind)
        assert refusal(path) == "no-contours"

    def test_points_beside_contours_are_left_out_and_said(self, path: Path) -> None:
        drawn = [("isocentre", [placed(SQUARE[:1], 2)]), ("empty", []), ("a", [placed(SQUARE, 2)])]
        write_rtstruct(path, drawn)
        found = read(path)
        assert [label.name for label in found.labels] == ["a"]
        assert any("1 point(s)" in note for note in found.notes)
        assert any("'empty' has no closed contour" in note for note in found.notes)


class TestFrameOfReference:
    def test_of_another_scan(self, path: Path, tmp_path: Path) -> None:
        files = write_series(tmp_path / "series", np.zeros(GRID.shape, np.int16), GRID)
        scan = read_volume(tmp_path / "series")
        frame = pydicom.dcmread(files[0]).FrameOfReferenceUID
        write_rtstruct(path, [("a", [placed(SQUARE, 2)])], frame=frame)
        assert read_rtstruct(path, scan).notes == ()
        write_rtstruct(path, [("a", [placed(SQUARE, 2)])], frame=generate_uid())
        assert refusal(path, scan) == "other-frame"

    def test_of_a_scan_that_does_not_say(self, path: Path) -> None:
        write_rtstruct(path, [("a", [placed(SQUARE, 2)])], frame="1.2.3")
        assert any("frame of reference" in note for note in read(path).notes)


def test_a_file_that_is_none(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"no DICOM")
    assert refusal(path) == "not-rtstruct"
    files = write_series(tmp_path / "series", np.zeros(GRID.shape, np.int16), GRID)
    assert refusal(files[0]) == "not-rtstruct"


@pytest.mark.parametrize("modality", ["ct", "mr_t1"])
def test_real_contours_equal_the_mask_of_the_same_patient(shared: Path, modality: str) -> None:
    """IBSI's NIfTI mask of patient 025 was made from these contours by others' software."""
    folder = shared / "sts_dicom_rtstruct" / modality
    scan = read_volume(folder / "image")
    found = read_rtstruct(next((folder / "mask").iterdir()), scan)
    mask, grid = read_label_map(shared / f"sts_softtissue_tumour/{modality}/labels/sts_025.nii.gz")
    view, box = on_lattice(mask, grid, scan.grid) or pytest.fail("not the scan's voxels")
    expected = np.zeros(scan.grid.shape, np.uint8)
    expected[box] = view
    np.testing.assert_array_equal(found.array, expected)
    assert np.count_nonzero(found.array) == 9655
    assert found.notes == ()
    (label,) = found.labels
    assert (label.name.startswith("GTV_Mass"), label.colour) == (True, (255, 0, 0))
