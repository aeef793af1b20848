"""Regions of interest: what they mean in patient space and which voxels they choose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import random_grid, sitk_image
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid, SliceOrientation
from meddinov3.region import (
    BoxRegion,
    LabelRegion,
    Region,
    index_box,
    patient_points,
    read_region,
)
from scipy.spatial.transform import Rotation

ORIENTATIONS = {
    "axial": (SliceOrientation("LPS", "S"), "LPS", (0, 1, 2)),
    "coronal": (SliceOrientation("RAS", "A"), "RAS", (1, 0, 2)),
    "sagittal": (SliceOrientation("LPI", "L"), "LPI", (2, 0, 1)),
}
SEEDS = range(16)


def point_image(grid: Grid) -> sitk.Image:
    """An image whose values are the LPS positions of its voxels."""
    direction = grid.direction.ravel().tolist()
    return sitk.PhysicalPointSource(
        sitk.sitkVectorFloat64, grid.size, grid.origin, grid.spacing, direction
    )


def centres(grid: Grid, name: str) -> np.ndarray:
    """LPS centres (slices, rows, columns, 3) by way of SimpleITK's reorientation alone."""
    _, code, order = ORIENTATIONS[name]
    image = sitk.DICOMOrient(point_image(grid), code)
    return sitk.GetArrayFromImage(image).transpose(*order, 3)


def middle(grid: Grid) -> np.ndarray:
    return grid.to_patient((np.array(grid.size) - 1) / 2)


def random_box(grid: Grid, seed: int, turned: bool) -> BoxRegion:
    """A box around a random voxel, half as large as the grid at most."""
    random = np.random.default_rng(seed + 1000)
    centre = grid.to_patient(random.uniform(0, np.array(grid.size) - 1))
    reach = np.array(grid.size) * np.array(grid.spacing)
    half = random.uniform(0.1, 0.5, 3) * reach.mean() / 2 + max(grid.spacing) / 2
    rotation = random.uniform(-1, 1, 3) if turned else np.zeros(3)
    return BoxRegion(centre, half, Rotation.from_rotvec(rotation).as_matrix())


def markups(folder: Path, **fields: object) -> str:
    """A file as Slicer saves an ROI node, with some fields replaced (None leaves one out)."""
    roi: dict[str, object] = {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "roiType": "Box",
        "center": [10.0, -20.0, 30.0],
        "orientation": [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0],
        "size": [4.0, 6.0, 8.0],
        "insideOut": False,
    }
    roi = {key: value for key, value in (roi | fields).items() if value is not None}
    path = folder / "roi.mrk.json"
    path.write_text(json.dumps({"markups": [roi]}))
    return str(path)


def inside(region: Region, *points: tuple[float, float, float]) -> list[bool]:
    return region.contains(np.array(points, dtype=float)).tolist()


class TestSixNumbers:
    def test_are_ras_as_slicer_shows_them(self) -> None:
        """R 10..20 is LPS x -20..-10, A 30..50 is y -50..-30, S stays."""
        region = read_region("10,20,30,50,-7,-5")
        low, high = region.corners().min(axis=0), region.corners().max(axis=0)
        np.testing.assert_allclose(low, [-20, -50, -7])
        np.testing.assert_allclose(high, [-10, -30, -5])
        assert inside(region, (-15, -40, -6), (15, -40, -6), (-15, 40, -6)) == [True, False, False]

    @pytest.mark.parametrize(
        "text",
        [
            "10 20 30 50 -7 -5",
            " 10, 20, 30, 50, -7, -5 ",
            "20,10,50,30,-5,-7",
            "1e1,20,30.0,5e1,-7,-5",
        ],
    )
    def test_separators_and_order_do_not_matter(self, text: str) -> None:
        expected = read_region("10,20,30,50,-7,-5").corners()
        np.testing.assert_allclose(
            sorted(read_region(text).corners().tolist()), sorted(expected.tolist())
        )

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "1,2,3,4,5",
            "1,2,3,4,5,6,7",
            "a,b,c,d,e,f",
            "nan,1,2,3,4,5",
            "0,inf,0,1,0,1",
            "liver.nrrd",
            "1,2,3 " * 100,
        ],
    )
    def test_anything_else_is_a_bad_region(self, text: str) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            read_region(text)
        assert caught.value.code == "bad-region"
        assert caught.value.remedy


class TestFifteenNumbers:
    def test_are_a_turned_box_in_ras(self) -> None:
        """Edges 10, 4 and 2 mm: the first runs to R and A alike, the third to S."""
        half = np.sqrt(0.5)
        axes = [half, -half, 0, half, half, 0, 0, 0, 1]
        region = read_region(",".join(map(str, [10, 20, 30, 10, 4, 2, *axes])))
        along, across = np.array([half, half, 0]), np.array([-half, half, 0])
        centre, lps = np.array([10, 20, 30]), np.array([-1, -1, 1])
        points = [centre + 4.9 * along, centre + 5.1 * along, centre + 4.9 * across,
                  centre + 1.9 * across, centre + [0, 0, 0.9], centre + [0, 0, 1.1]]  # fmt: skip
        chosen = inside(region, *(point * lps for point in points))
        assert chosen == [True, False, False, True, True, False]

    @pytest.mark.parametrize(
        "text",
        [
            "0,0,0, 1,1,0, 1,0,0,0,1,0,0,0,1",
            "0,0,0, 1,1,1, 1,0.2,0,0,1,0,0,0,1",
            "0,0,0, 1,1,1, 1,0,0,0,1,0,0,0,nan",
        ],
    )
    def test_that_are_no_box_are_a_bad_region(self, text: str) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            read_region(text)
        assert caught.value.code == "bad-region"


class TestMarkups:
    def test_a_box_in_lps(self, tmp_path: Path) -> None:
        region = read_region(markups(tmp_path))
        np.testing.assert_allclose(region.corners().min(axis=0), [8, -23, 26])
        np.testing.assert_allclose(region.corners().max(axis=0), [12, -17, 34])

    def test_a_file_without_a_coordinate_system_is_lps(self, tmp_path: Path) -> None:
        region = read_region(markups(tmp_path, coordinateSystem=None, orientation=None))
        np.testing.assert_allclose(region.corners().max(axis=0), [12, -17, 34])

    def test_the_same_box_in_ras(self, tmp_path: Path) -> None:
        region = read_region(markups(tmp_path, coordinateSystem="RAS", center=[-10, 20, 30]))
        np.testing.assert_allclose(region.corners().min(axis=0), [8, -23, 26])
        np.testing.assert_allclose(region.corners().max(axis=0), [12, -17, 34])

    def test_a_turned_box_reaches_along_its_own_axes(self, tmp_path: Path) -> None:
        """45 degrees about the head axis: the long edge runs along (1, 1, 0)."""
        c = float(np.sqrt(0.5))
        rows = [c, -c, 0, c, c, 0, 0, 0, 1]  # columns are the edges' directions
        text = markups(tmp_path, center=[0, 0, 0], size=[20, 2, 2], orientation=rows)
        along, across = (6.5, 6.5, 0), (6.5, -6.5, 0)
        assert inside(read_region(text), along, across) == [True, False]

    def test_a_turned_box_is_the_same_in_ras(self, tmp_path: Path) -> None:
        turn = Rotation.from_rotvec([0.3, -0.5, 0.8]).as_matrix()
        flip = np.diag([-1.0, -1.0, 1.0])
        lps = read_region(markups(tmp_path, orientation=turn.ravel().tolist()))
        ras = read_region(
            markups(
                tmp_path,
                coordinateSystem="RAS",
                center=[-10, 20, 30],
                orientation=(flip @ turn).ravel().tolist(),
            )
        )
        points = np.random.default_rng(0).uniform(-8, 8, (4000, 3)) + [10, -20, 30]
        chosen = lps.contains(points)
        assert 100 < chosen.sum() < 3900
        np.testing.assert_array_equal(ras.contains(points), chosen)

    @pytest.mark.parametrize(
        "fields",
        [
            {"type": "Fiducial"},
            {"center": None},
            {"size": None},
            {"center": [1, 2]},
            {"size": [1, 2]},
            {"size": [1, 2, "wide"]},
            {"orientation": [1, 0, 0]},
            {"center": [float("nan"), 0, 0]},
            {"size": [float("inf"), 1, 1]},
            {"insideOut": True},
        ],
        ids=str,
    )
    def test_a_malformed_roi_is_a_bad_region(self, tmp_path: Path, fields: dict) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            read_region(markups(tmp_path, **fields))
        assert caught.value.code == "bad-region"
        assert caught.value.remedy

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b'{"markups": []}', b"\xff\xfe\x00", b'"text"']
    )
    def test_a_file_that_is_no_markups_is_a_bad_region(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "roi.json"
        path.write_bytes(content)
        with pytest.raises(MedDINOv3Error) as caught:
            read_region(str(path))
        assert caught.value.code == "bad-region"

    def test_a_missing_file_is_a_bad_region(self, tmp_path: Path) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            read_region(str(tmp_path / "gone.mrk.json"))
        assert caught.value.code == "bad-region"


class TestLabelMap:
    @pytest.mark.parametrize("seed", range(8))
    def test_on_another_grid_chooses_what_nearest_resampling_does(
        self, tmp_path: Path, seed: int
    ) -> None:
        grid, other = random_grid(seed), random_grid(seed + 100)
        shift = np.array([0.237, -0.411, 0.159]) * min(grid.spacing)  # no centre on an edge
        other = Grid(other.size, grid.spacing, (0.0, 0.0, 0.0), other.direction)
        origin = tuple(middle(grid) - middle(other) + shift)
        other = Grid(other.size, other.spacing, origin, other.direction)
        labels = (np.random.default_rng(seed).random(other.shape) < 0.4).astype(np.uint8) * 3
        path = tmp_path / "region.nrrd"
        sitk.WriteImage(sitk_image(labels, other), str(path))

        scan = sitk_image(np.zeros(grid.shape, np.uint8), grid)
        expected = sitk.Resample(
            sitk_image(labels, other), scan, sitk.Transform(), sitk.sitkNearestNeighbor, 0
        )
        points = sitk.GetArrayFromImage(point_image(grid))
        chosen = read_region(str(path)).contains(points)
        assert chosen.any()
        np.testing.assert_array_equal(chosen, sitk.GetArrayFromImage(expected) != 0)

    def test_corners_are_the_outer_edges_of_the_labelled_voxels(self) -> None:
        labels = np.zeros((6, 5, 4), np.uint8)
        labels[2:4, 1, 0:3] = 5
        grid = Grid((4, 5, 6), (2.0, 1.0, 3.0), (100.0, 0.0, 0.0), np.eye(3))
        corners = LabelRegion(labels, grid).corners()
        np.testing.assert_allclose(corners.min(axis=0), [99, 0.5, 4.5])
        np.testing.assert_allclose(corners.max(axis=0), [105, 1.5, 10.5])

    def test_an_empty_one_is_an_empty_region(self) -> None:
        grid = random_grid(2)
        region = LabelRegion(np.zeros(grid.shape, np.uint8), grid)
        with pytest.raises(MedDINOv3Error) as caught:
            index_box(region, grid, SliceOrientation())
        assert caught.value.code == "empty-region"


class TestIndexBox:
    @pytest.mark.parametrize("name", ORIENTATIONS)
    @pytest.mark.parametrize("seed", SEEDS)
    def test_holds_every_voxel_whose_centre_lies_inside(self, seed: int, name: str) -> None:
        grid = random_grid(seed)
        region = random_box(grid, seed, turned=seed % 3 == 0)
        wanted = region.contains(centres(grid, name))
        assert wanted.any()
        box = index_box(region, grid, ORIENTATIONS[name][0])
        outside = np.ones(wanted.shape, bool)
        outside[box] = False
        assert not (wanted & outside).any()
        assert all(
            0 <= part.start < part.stop <= n for part, n in zip(box, wanted.shape, strict=True)
        )

    @pytest.mark.parametrize("name", ORIENTATIONS)
    @pytest.mark.parametrize("seed", SEEDS)
    def test_is_exactly_that_where_grid_and_box_are_upright(self, seed: int, name: str) -> None:
        grid = random_grid(seed, oblique=False)
        region = random_box(grid, seed, turned=False)
        wanted = np.argwhere(region.contains(centres(grid, name)))
        expected = [
            slice(a, b + 1) for a, b in zip(wanted.min(axis=0), wanted.max(axis=0), strict=True)
        ]
        assert list(index_box(region, grid, ORIENTATIONS[name][0])) == expected

    def test_a_voxel_on_the_border_counts(self) -> None:
        grid = Grid((10, 10, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
        region = BoxRegion.between(np.array([2.0, 3, 4]), np.array([2.0, 5, 4.4]))
        box = index_box(region, grid, SliceOrientation("RAI", "I"))  # flips every axis
        assert box == (slice(5, 6), slice(4, 7), slice(7, 8))

    def test_no_region_is_the_whole_scan(self) -> None:
        grid = Grid((4, 5, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
        box = index_box(None, grid, SliceOrientation("LPS", "P"))
        assert box == (slice(0, 5), slice(0, 6), slice(0, 4))

    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_label_region_on_the_scan_itself_is_its_bounding_box(self, seed: int) -> None:
        grid = random_grid(seed)
        orientation = SliceOrientation("LPS", "LPS"[seed % 3])
        labels = np.zeros(grid.shape, np.uint8)
        view = orientation.view(labels, grid)
        view[1:3, 0:2, 1:] = 1
        box = index_box(LabelRegion(labels, grid), grid, orientation)
        assert box == (slice(1, 3), slice(0, 2), slice(1, view.shape[2]))

    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_region_beside_the_scan_is_empty(self, seed: int) -> None:
        grid = random_grid(seed)
        for axis in range(3):
            index = (np.array(grid.size) - 1) / 2
            index[axis] = grid.size[axis] + 3.0
            half = np.full(3, min(grid.spacing))
            region = BoxRegion(grid.to_patient(index), half, grid.direction)
            with pytest.raises(MedDINOv3Error) as caught:
                index_box(region, grid, SliceOrientation())
            assert caught.value.code == "empty-region"
            assert caught.value.remedy


class TestPatientPoints:
    @pytest.mark.parametrize("name", ORIENTATIONS)
    @pytest.mark.parametrize("seed", SEEDS)
    def test_are_the_centres_of_the_slices_voxels(self, seed: int, name: str) -> None:
        grid = random_grid(seed)
        expected = centres(grid, name)
        shape = expected.shape[:3]
        box = (slice(0, shape[0]), slice(1, shape[1]), slice(0, shape[2] - 1))
        for number in range(shape[0]):
            points = patient_points(grid, ORIENTATIONS[name][0], box, number)
            np.testing.assert_allclose(points, expected[number, 1:, :-1], atol=1e-9)
