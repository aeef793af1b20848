"""DICOM folders: slices in order, geometry, and folders that do not hold one series."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import random_grid, sitk_image
from dicom_series import write_series
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.reading import read_volume
from meddinov3.volume import Volume


def right_handed(seed: int) -> Grid:
    """A grid whose slices follow the normal of rows and columns, as a scanner's do."""
    grid = random_grid(seed)
    sign = np.sign(np.linalg.det(grid.direction))
    return Grid(grid.size, grid.spacing, grid.origin, grid.direction * [1, 1, sign])


def hounsfield(grid: Grid, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1024, 2000, grid.shape).astype(np.int16)


def refusal(folder: Path) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        read_volume(folder)
    assert folder.name in caught.value.message
    assert caught.value.remedy
    return caught.value


def in_patient_order(volume: Volume) -> np.ndarray:
    """Voxels with axes along S, P and L, whatever the storage."""
    image = sitk_image(np.asarray(volume.channels[0]), volume.grid)
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))


class TestOneSeries:
    @pytest.mark.parametrize("seed", range(6))
    def test_voxels_geometry_and_order_of_slices(self, tmp_path: Path, seed: int) -> None:
        grid = right_handed(seed)
        array = hounsfield(grid, seed)
        files = write_series(tmp_path, array, grid)
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.channels[0], array)
        assert volume.grid.same_as(grid, tolerance=1e-5)
        assert volume.modality == "CT"
        assert [Path(name) for name in volume.source] == files

    def test_slice_distance_counts_not_slice_thickness(self, tmp_path: Path) -> None:
        grid = Grid((4, 5, 6), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
        write_series(tmp_path, hounsfield(grid), grid, thickness=5.0)
        assert read_volume(tmp_path).grid.spacing[2] == pytest.approx(2.0)

    def test_a_single_slice_is_as_thick_as_its_header_says(self, tmp_path: Path) -> None:
        grid = Grid((4, 5, 1), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
        write_series(tmp_path, hounsfield(grid), grid, thickness=5.0)
        assert read_volume(tmp_path).grid.spacing[2] == pytest.approx(5.0)

    def test_accents_stray_files_and_a_directory_file_do_not_matter(self, tmp_path: Path) -> None:
        folder = tmp_path / "Thorax nüchtern"
        grid = right_handed(2)
        array = hounsfield(grid)
        write_series(folder, array, grid)
        (folder / "notes.txt").write_text("seen on Monday")
        (folder / "DICOMDIR").write_bytes(b"no real directory")
        volume = read_volume(folder)
        np.testing.assert_array_equal(volume.channels[0], array)

    def test_the_only_series_may_lie_deeper(self, tmp_path: Path) -> None:
        grid = right_handed(3)
        array = hounsfield(grid)
        write_series(tmp_path / "DICOM" / "ST000001" / "SE000001", array, grid)
        (tmp_path / "DICOM" / "empty").mkdir()
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.channels[0], array)
        assert len(volume.source) == len(array)


class TestRealSeries:
    def test_equals_the_nifti_of_the_same_patient(self, shared: Path) -> None:
        from_dicom = read_volume(shared / "sts_dicom_rtstruct/ct/image")
        from_nifti = read_volume(shared / "sts_softtissue_tumour/ct/images/sts_025.nii.gz")
        np.testing.assert_array_equal(in_patient_order(from_dicom), in_patient_order(from_nifti))
        assert from_dicom.grid.same_as(from_nifti.grid, tolerance=1e-4)
        assert from_dicom.modality == "CT"

    def test_a_contour_file_beside_the_slices_is_not_taken_for_a_scan(self, shared: Path) -> None:
        assert read_volume(shared / "sts_dicom_rtstruct/ct").grid.size == (149, 138, 47)
        assert refusal(shared / "sts_dicom_rtstruct/ct/mask").code == "no-dicom"

    def test_mr_says_that_it_is_mr(self, shared: Path) -> None:
        volume = read_volume(shared / "sts_dicom_rtstruct/mr_t1/image")
        assert volume.modality == "MR"
        assert volume.grid.size == (75, 55, 25)

    def test_jpeg_2000_slices_hold_hounsfield_units(self, shared: Path) -> None:
        volume = read_volume(shared / "totalsegmentator_examples/ct_dicom/series")
        assert volume.grid.size == (512, 512, 20)
        assert volume.grid.spacing == pytest.approx((0.9765625, 0.9765625, 2.0))
        for k in (0, 7, 19):
            header = pydicom.dcmread(volume.source[k])
            assert header.ImagePositionPatient[2] == pytest.approx(volume.grid.origin[2] + 2 * k)
            expected = header.pixel_array * header.RescaleSlope + header.RescaleIntercept
            np.testing.assert_array_equal(volume.channels[0][k], expected)

    def test_jpeg_2000_slices_lie_under_their_labels(self, shared: Path) -> None:
        """The liver's label, stored flipped, covers a liver's density in patient space."""
        folder = shared / "totalsegmentator_examples/ct_dicom"
        scan, labels = read_volume(folder / "series"), read_volume(folder / "label.nii.gz")
        assert labels.grid.orientation != scan.grid.orientation
        liver = in_patient_order(scan)[in_patient_order(labels) == 5]
        assert len(liver) == 366_708
        assert 80 < np.median(liver) < 140
        assert liver.std() < 60


class TestNotOneSeries:
    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path).code == "no-dicom"

    def test_a_folder_with_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("no image")
        assert refusal(tmp_path).code == "no-dicom"

    @pytest.mark.parametrize("deeper", [True, False])
    def test_two_series(self, tmp_path: Path, deeper: bool) -> None:
        grid = right_handed(4)
        first, second = (tmp_path / "a", tmp_path / "b") if deeper else (tmp_path, tmp_path)
        write_series(first, hounsfield(grid), grid)
        files = write_series(tmp_path / "other", hounsfield(grid), grid)
        second.mkdir(exist_ok=True)
        for file in files:
            file.rename(second / f"second_{file.name}")
        error = refusal(tmp_path)
        assert error.code == "several-series"
        assert "2" in error.message

    def test_several_series_are_listed_and_one_can_be_chosen(self, tmp_path: Path) -> None:
        thin, thick = right_handed(4), right_handed(6)
        arrays = {}
        for name, grid, seed in (("a", thin, 1), ("b", thick, 2)):
            arrays[name] = hounsfield(grid, seed)
            for file in write_series(tmp_path / name, arrays[name], grid):
                data = pydicom.dcmread(file)
                data.SeriesDescription = f"Thorax {name}"
                data.save_as(file)
        message = refusal(tmp_path).message
        for n, (name, grid) in enumerate((("a", thin), ("b", thick)), start=1):
            columns, rows, slices = grid.size
            told = f"{n}: CT 'Thorax {name}', {columns} x {rows}, {slices} slice(s)"
            assert told in message
            found = read_volume(tmp_path, n).channels[0]
            np.testing.assert_array_equal(found, arrays[name])
        for number in (0, 3):
            with pytest.raises(MedDINOv3Error) as caught:
                read_volume(tmp_path, number)
            assert caught.value.code == "several-series"

    def test_colour_slices(self, tmp_path: Path) -> None:
        grid = Grid((8, 6, 3), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
        for file in write_series(tmp_path, hounsfield(grid), grid):
            data = pydicom.dcmread(file)
            data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
            data.PlanarConfiguration = 0
            data.BitsAllocated = data.BitsStored = 8
            data.HighBit = 7
            data.PixelData = bytes(8 * 6 * 3)
            del data.RescaleSlope, data.RescaleIntercept
            data.save_as(file)
        assert refusal(tmp_path).code in ("not-3d", "colour-image")

    def test_slices_of_unequal_size(self, tmp_path: Path) -> None:
        grid = Grid((8, 6, 3), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
        file = write_series(tmp_path, hounsfield(grid), grid)[1]
        data = pydicom.dcmread(file)
        data.Rows, data.PixelData = 3, data.PixelData[: 8 * 3 * 2]
        data.save_as(file)
        error = refusal(tmp_path)
        assert error.code == "unreadable"
        assert "0x" not in error.message  # an address in memory helps nobody


class TestUnevenSlices:
    """A grid has one distance between slices; a series that has several is on no grid."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]:
        grid = Grid((8, 6, 7), (1.0, 1.0, 2.5), (0.0, 0.0, 0.0), np.eye(3))
        return write_series(tmp_path / "series", hounsfield(grid), grid)

    def test_a_missing_slice_is_an_error_not_a_stretched_scan(self, files: list[Path]) -> None:
        files[3].unlink()
        refusal(files[0].parent)

    def test_a_slice_that_is_there_twice_is_an_error(self, files: list[Path]) -> None:
        shutil.copy(files[3], files[3].with_name("copy.dcm"))
        refusal(files[0].parent)

    def test_rounding_in_the_header_is_none(self, files: list[Path]) -> None:
        for number, file in enumerate(files):
            data = pydicom.dcmread(file)
            data.ImagePositionPatient[2] = f"{2.5 * number + 0.001 * (-1) ** number:.3f}"
            data.save_as(file)
        assert read_volume(files[0].parent).grid.spacing[2] == pytest.approx(2.5, abs=1e-3)

    def test_a_tilted_gantry_is_an_error_not_a_sheared_scan(self, files: list[Path]) -> None:
        """Slices that slide along y as they go up, by 20 degrees."""
        for number, file in enumerate(files):
            data = pydicom.dcmread(file)
            data.ImagePositionPatient[1] = f"{2.5 * number * np.tan(np.radians(20)):.6f}"
            data.save_as(file)
        refusal(files[0].parent)

    def test_nothing_is_printed(self, files: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
        files[3].unlink()
        with contextlib.suppress(MedDINOv3Error):
            read_volume(files[0].parent)
        assert capfd.readouterr() == ("", "")


class TestWithoutGeometry:
    """What a header leaves out is not made up: the order of slices would be chance."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]:
        grid = Grid((8, 6, 5), (1.0, 1.0, 2.5), (0.0, 0.0, 0.0), np.eye(3))
        return write_series(tmp_path / "series", hounsfield(grid), grid)

    @pytest.mark.parametrize(
        "tag", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]
    )
    @pytest.mark.parametrize("how", ["absent in all", "absent in one", "empty in one"])
    def test_is_refused(self, files: list[Path], tag: str, how: str) -> None:
        for file in files if how == "absent in all" else files[2:3]:
            data = pydicom.dcmread(file)
            if how == "empty in one":
                setattr(data, tag, "")
            else:
                delattr(data, tag)
            data.save_as(file)
        error = refusal(files[0].parent)
        assert error.code in ("no-geometry", "uneven-series", "unreadable", "several-series")

    def test_one_pixel_spacing_for_all(self, files: list[Path]) -> None:
        data = pydicom.dcmread(files[2])
        data.PixelSpacing = [1.1, 1.1]
        data.save_as(files[2])
        assert "pixel spacing" in refusal(files[0].parent).message

    def test_slices_rescaled_each_in_their_way_keep_fractions(self, files: list[Path]) -> None:
        expected = read_volume(files[0].parent).channels[0].astype(float)
        data = pydicom.dcmread(files[3])
        data.RescaleSlope = 0.5
        data.save_as(files[3])
        expected[3] = (expected[3] + 1024) * 0.5 - 1024
        found = read_volume(files[0].parent).channels[0]
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert (found % 1 != 0).any()

    def test_a_single_file_asks_for_its_folder(self, files: list[Path]) -> None:
        assert refusal(files[0]).code == "single-slice"
