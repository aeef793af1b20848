"""Image files: geometry and voxels as stored, and errors that say what to do."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import random_grid, sitk_image
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.reading import read_label_map, read_volume, stem

ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
EXACT = (".mha", ".mhd")
TYPES = (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64)
CUBE = Grid((4, 5, 6), (1.0, 2.0, 3.0), (5.0, 6.0, 7.0), np.eye(3))


def random_scan(grid: Grid, dtype: type, seed: int = 0) -> np.ndarray:
    """Values over the whole range of a type."""
    random = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        return random.normal(0, 1e4, grid.shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, grid.shape, endpoint=True).astype(dtype)


def save(path: Path, array: np.ndarray, grid: Grid) -> Path:
    sitk.WriteImage(sitk_image(array, grid), str(path))
    return path


def refusal(path: Path) -> MedDINOv3Error:
    """The error of reading a scan; it names the file or folder and says what to do."""
    with pytest.raises(MedDINOv3Error) as caught:
        read_volume(path)
    assert path.name in caught.value.message
    assert caught.value.remedy
    return caught.value


class TestRoundTrip:
    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize("seed", range(4))
    def test_geometry_of_any_grid(self, tmp_path: Path, seed: int, ending: str) -> None:
        grid = random_grid(seed)
        array = random_scan(grid, np.int16, seed)
        volume = read_volume(save(tmp_path / f"scan{ending}", array, grid))
        np.testing.assert_array_equal(volume.channels[0], array)
        assert volume.grid.size == grid.size
        # NIfTI keeps float32: 1.5e-5 mm at an origin of 300 mm, and as much for directions.
        tolerance = 1e-4 if ".nii" in ending else 1e-9
        corners = np.array(np.meshgrid(*((0, n - 1) for n in grid.size))).reshape(3, -1).T
        np.testing.assert_allclose(
            volume.grid.to_patient(corners.astype(float)),
            grid.to_patient(corners.astype(float)),
            atol=tolerance,
        )
        if ending in EXACT:
            assert (volume.grid.spacing, volume.grid.origin) == (grid.spacing, grid.origin)
            np.testing.assert_array_equal(volume.grid.direction, grid.direction)

    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize("dtype", TYPES)
    def test_voxel_types_stay_as_stored(self, tmp_path: Path, dtype: type, ending: str) -> None:
        array = random_scan(CUBE, dtype)
        volume = read_volume(save(tmp_path / f"scan{ending}", array, CUBE))
        assert volume.channels[0].dtype == dtype
        np.testing.assert_array_equal(volume.channels[0], array)
        assert len(volume.channels) == 1
        assert (volume.modality, volume.source) == ("", ())

    def test_nifti_slope_and_intercept_are_applied(self, tmp_path: Path) -> None:
        array = random_scan(CUBE, np.int16)
        path = save(tmp_path / "scan.nii", array, CUBE)
        content = bytearray(path.read_bytes())
        content[112:120] = struct.pack("<2f", 0.5, -1000.0)  # scl_slope, scl_inter
        path.write_bytes(content)
        volume = read_volume(path)
        expected = array.astype(np.float64) * 0.5 - 1000
        np.testing.assert_allclose(volume.channels[0], expected, atol=1e-3)

    def test_an_array_may_outlive_its_volume(self, tmp_path: Path) -> None:
        """It views ITK's memory, so it must hold on to it: else it shows whatever comes next."""
        array = random_scan(CUBE, np.float32)
        path = save(tmp_path / "scan.nrrd", array, CUBE)
        for kept in [read_volume(path).channels[0] for _ in range(20)]:
            np.testing.assert_array_equal(kept, array)

    def test_names_with_spaces_and_accents(self, tmp_path: Path) -> None:
        folder = tmp_path / "Größe und Äpfel"
        folder.mkdir()
        array = random_scan(CUBE, np.uint8)
        volume = read_volume(save(folder / "Schädel übersicht.nii.gz", array, CUBE))
        np.testing.assert_array_equal(volume.channels[0], array)


class TestDimensions:
    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    def test_a_trailing_dimension_of_one_is_dropped(self, tmp_path: Path, ending: str) -> None:
        grid = random_grid(3)
        array = random_scan(grid, np.int16)
        series = sitk.JoinSeries([sitk_image(array, grid)])
        path = tmp_path / f"scan{ending}"
        sitk.WriteImage(series, str(path))
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.channels[0], array)
        assert volume.grid.same_as(grid)

    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    def test_a_time_series_is_refused(self, tmp_path: Path, ending: str) -> None:
        image = sitk_image(random_scan(CUBE, np.int16), CUBE)
        path = tmp_path / f"series{ending}"
        sitk.WriteImage(sitk.JoinSeries([image, image]), str(path))
        error = refusal(path)
        assert error.code == "not-3d"
        assert "4 x 5 x 6 x 2" in error.message

    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    def test_a_picture_is_refused(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"slice{ending}"
        sitk.WriteImage(sitk.Image([8, 9], sitk.sitkInt16), str(path))
        assert refusal(path).code == "not-3d"

    def test_a_scan_of_one_slice_is_three_dimensional(self, tmp_path: Path) -> None:
        grid = Grid((4, 5, 1), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
        volume = read_volume(save(tmp_path / "slice.nii.gz", random_scan(grid, np.int16), grid))
        assert volume.grid.size == (4, 5, 1)
        assert volume.grid.spacing == pytest.approx((1, 2, 3))

    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    def test_a_colour_image_is_refused(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"photo{ending}"
        sitk.WriteImage(sitk.Image([4, 5, 6], sitk.sitkVectorUInt8, 3), str(path))
        error = refusal(path)
        assert error.code == "colour-image"
        assert "3 values" in error.message


class TestUnreadable:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "gone.nii.gz").code == "file-missing"

    @pytest.mark.parametrize("ending", [*ENDINGS, ".txt"])
    @pytest.mark.parametrize("content", [b"", b"this is no image\n" * 40], ids=["empty", "text"])
    def test_a_file_that_is_no_image(self, tmp_path: Path, content: bytes, ending: str) -> None:
        path = tmp_path / f"scan{ending}"
        path.write_bytes(content)
        error = refusal(path)
        assert error.code == "unreadable"
        assert ".nrrd" in error.remedy

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
    def test_a_file_that_ends_too_early(self, tmp_path: Path, ending: str) -> None:
        grid = Grid((64, 64, 16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
        path = save(tmp_path / f"scan{ending}", random_scan(grid, np.int16), grid)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert refusal(path).code == "unreadable"

    def test_a_header_whose_voxels_are_missing(self, tmp_path: Path) -> None:
        path = save(tmp_path / "scan.mhd", random_scan(CUBE, np.int16), CUBE)
        (tmp_path / "scan.raw").unlink()
        assert refusal(path).code == "unreadable"

    def test_nothing_is_printed(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "scan.nii.gz"
        path.write_bytes(b"nonsense")
        refusal(path)
        assert capfd.readouterr() == ("", "")


class TestLabelMaps:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
    def test_whole_numbers_stay_as_they_are(self, tmp_path: Path, dtype: type) -> None:
        grid = random_grid(7)
        array = np.random.default_rng(0).integers(0, 60, grid.shape).astype(dtype)
        labels, found = read_label_map(save(tmp_path / "labels.nrrd", array, grid))
        np.testing.assert_array_equal(labels, array)
        assert labels.dtype == dtype
        assert found.same_as(grid, 1e-9)

    def test_whole_numbers_in_floats_become_integers(self, tmp_path: Path) -> None:
        array = np.random.default_rng(0).integers(0, 60, CUBE.shape)
        path = save(tmp_path / "labels.nii.gz", array.astype(np.float32), CUBE)
        labels, _ = read_label_map(path)
        assert labels.dtype.kind in "iu"
        np.testing.assert_array_equal(labels, array)

    @pytest.mark.parametrize("value", [0.5, float("nan"), float("inf")])
    def test_anything_else_is_no_label_map(self, tmp_path: Path, value: float) -> None:
        array = np.zeros(CUBE.shape, np.float32)
        array[1, 2, 3] = value
        with pytest.raises(MedDINOv3Error) as caught:
            read_label_map(save(tmp_path / "labels.nrrd", array, CUBE))
        assert caught.value.code == "not-labels"
        assert caught.value.remedy

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            read_label_map(tmp_path / "labels.nii.gz")
        assert caught.value.code == "file-missing"


class TestStem:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("scan.nii.gz", "scan"),
            ("scan.NII.GZ", "scan"),
            ("scan.seg.nrrd", "scan"),
            ("scan.nrrd", "scan"),
            ("patient.1.2.mha", "patient.1.2"),
            ("scan.tar", "scan"),
        ],
    )
    def test_is_the_name_without_its_ending(self, name: str, expected: str) -> None:
        assert stem(Path(name)) == expected

    def test_of_a_folder_is_its_whole_name(self, tmp_path: Path) -> None:
        folder = tmp_path / "series.1.2"
        folder.mkdir()
        assert stem(folder) == "series.1.2"
        assert stem(folder / "..") == tmp_path.name
