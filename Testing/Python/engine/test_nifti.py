"""NIfTI voxels as ITK reads them, in every flavour that turns up, and whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import random_grid, sitk_image
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.reading import read_label_map, read_volume

CODES = {
    "u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64,
    "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280,
}  # fmt: skip
SHAPE = (5, 4, 3)  # k, j, i


def values(kind: str, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if kind[0] == "f":
        return random.normal(0, 1000, SHAPE).astype(kind)
    top = min(np.iinfo(kind).max, 2**40)  # ITK keeps less of wider numbers
    return random.integers(max(np.iinfo(kind).min, -(2**40)), top, SHAPE).astype(kind)


def nifti_1(
    array: np.ndarray, order: str = "<", slope: float = 1, intercept: float = 0, gap: int = 4,
    dims: tuple[int, ...] = (),
) -> bytes:  # fmt: skip
    """A single-file NIfTI-1 image written by the format's definition, 1 x 2 x 3 mm, in RAS."""
    kind = array.dtype.str[1:]
    head = bytearray(348)
    struct.pack_into(order + "i", head, 0, 348)
    size = (*array.shape[::-1], *dims)
    struct.pack_into(order + "8h", head, 40, len(size), *size, *(1,) * (7 - len(size)))
    struct.pack_into(order + "2h", head, 70, CODES[kind], 8 * array.dtype.itemsize)
    struct.pack_into(order + "8f", head, 76, 1, 1, 2, 3, 1, 1, 1, 1)
    struct.pack_into(order + "3f", head, 108, 348 + gap, slope, intercept)
    head[123] = 2  # millimetres
    struct.pack_into(order + "2h", head, 252, 0, 1)  # sform alone
    rows = (1, 0, 0, 10, 0, 2, 0, 20, 0, 0, 3, 30)
    struct.pack_into(order + "12f", head, 280, *rows)
    head[344:348] = b"n+1\0"
    return bytes(head) + bytes(gap) + array.astype(order + kind).tobytes()


def check_equals_itk(path: Path) -> np.ndarray:
    """Voxels and grid as SimpleITK has them; returns the voxels."""
    volume, image = read_volume(path), sitk.ReadImage(str(path))
    expected = sitk.GetArrayFromImage(image)
    np.testing.assert_allclose(
        volume.channels[0].astype(np.float64), expected.astype(np.float64), rtol=1e-6, atol=1e-4
    )
    assert volume.channels[0].dtype.isnative
    assert volume.grid.origin == image.GetOrigin()
    assert volume.grid.spacing == image.GetSpacing()
    return volume.channels[0]


class TestFlavours:
    @pytest.mark.parametrize("order", "<>", ids=["little endian", "big endian"])
    @pytest.mark.parametrize("kind", CODES)
    def test_voxel_types_in_either_byte_order(self, tmp_path: Path, kind: str, order: str) -> None:
        array = values(kind)
        path = tmp_path / "scan.nii"
        path.write_bytes(nifti_1(array, order))
        read = check_equals_itk(path)
        np.testing.assert_array_equal(read, array)
        assert read.dtype == np.dtype(kind)

    @pytest.mark.parametrize(
        ("slope", "intercept"), [(0.5, -1000), (1, -1024), (2, 0), (-1, 7), (1, 0), (1e-4, 0.25)]
    )
    @pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8"])
    def test_slope_and_intercept(
        self, tmp_path: Path, kind: str, slope: float, intercept: float
    ) -> None:
        array = values(kind)
        path = tmp_path / "scan.nii"
        path.write_bytes(nifti_1(array, slope=slope, intercept=intercept))
        expected = array.astype(np.float64) * np.float32(slope) + intercept
        np.testing.assert_allclose(check_equals_itk(path), expected, rtol=1e-5, atol=1e-3)

    def test_a_slope_of_zero_means_none(self, tmp_path: Path) -> None:
        """By the format's definition."""
        array = values("i2")
        path = tmp_path / "scan.nii"
        path.write_bytes(nifti_1(array, slope=0, intercept=0))
        np.testing.assert_array_equal(check_equals_itk(path), array)

    def test_voxels_may_begin_after_extensions(self, tmp_path: Path) -> None:
        array = values("i2")
        path = tmp_path / "scan.nii.gz"
        path.write_bytes(gzip.compress(nifti_1(array, gap=4 + 4096)))
        np.testing.assert_array_equal(check_equals_itk(path), array)

    def test_gzip_in_several_parts(self, tmp_path: Path) -> None:
        """As parallel compressors write it."""
        array = values("i2")
        content = nifti_1(array)
        path = tmp_path / "scan.nii.gz"
        path.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
        np.testing.assert_array_equal(check_equals_itk(path), array)

    def test_an_uncompressed_file_that_is_called_gz(self, tmp_path: Path) -> None:
        array = values("i2")
        path = tmp_path / "scan.nii.gz"
        path.write_bytes(nifti_1(array))
        np.testing.assert_array_equal(check_equals_itk(path), array)

    def test_capital_letters(self, tmp_path: Path) -> None:
        array = values("i2")
        path = tmp_path / "SCAN.NII"
        path.write_bytes(nifti_1(array))
        np.testing.assert_array_equal(read_volume(path).channels[0], array)

    def test_real_scans(self, data: Path) -> None:
        paths = sorted((data / "msd_hippocampus_mr").glob("*/*.nii.gz"))
        assert len(paths) >= 4
        for path in paths:
            check_equals_itk(path)

    def test_a_mask_in_a_rescaled_file_is_a_label_map(self, tmp_path: Path) -> None:
        array = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
        path = tmp_path / "labels.nii"
        path.write_bytes(nifti_1(array, slope=2, intercept=1))
        labels, _ = read_label_map(path)
        np.testing.assert_array_equal(labels, array.astype(int) * 2 + 1)


class TestRefused:
    """A file that ends too early is an error, not a scan with black slices."""

    def check_refused(self, path: Path) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            read_volume(path)
        assert caught.value.code == "unreadable"
        assert path.name in caught.value.message

    @pytest.mark.parametrize("lost", [1, 60, 119])
    def test_uncompressed(self, tmp_path: Path, lost: int) -> None:
        path = tmp_path / "scan.nii"
        path.write_bytes(nifti_1(values("i2"))[:-lost])
        self.check_refused(path)

    @pytest.mark.parametrize("lost", [1, 20, 100])
    def test_compressed(self, tmp_path: Path, lost: int) -> None:
        """The last eight bytes are the checksum: without them the voxels cannot be trusted."""
        path = tmp_path / "scan.nii.gz"
        path.write_bytes(gzip.compress(nifti_1(values("f8")))[:-lost])
        self.check_refused(path)

    def test_one_flipped_bit_in_the_compressed_voxels(self, tmp_path: Path) -> None:
        content = bytearray(gzip.compress(nifti_1(values("f8"))))
        content[-40] ^= 16
        path = tmp_path / "scan.nii.gz"
        path.write_bytes(content)
        self.check_refused(path)

    def test_inside_a_trailing_dimension_of_one(self, tmp_path: Path) -> None:
        path = tmp_path / "scan.nii"
        content = nifti_1(values("i2"), dims=(1,))
        path.write_bytes(content)
        assert read_volume(path).grid.size == (3, 4, 5)
        path.write_bytes(content[:-60])
        self.check_refused(path)

    def test_nifti_2_which_itk_does_not_know(self, tmp_path: Path) -> None:
        head = bytearray(540)
        struct.pack_into("<i", head, 0, 540)
        head[4:12] = b"n+2\0\r\n\x1a\n"
        path = tmp_path / "scan.nii"
        path.write_bytes(bytes(head) + bytes(200))
        self.check_refused(path)

    def test_a_header_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "scan.nii"
        path.write_bytes(nifti_1(values("i2"))[:352])
        self.check_refused(path)


@pytest.mark.parametrize("seed", range(6))
def test_written_by_itk_in_any_orientation(tmp_path: Path, seed: int) -> None:
    grid: Grid = random_grid(seed)
    array = np.random.default_rng(seed).integers(-99, 99, grid.shape).astype(np.int16)
    for ending in (".nii", ".nii.gz"):
        path = tmp_path / f"scan{ending}"
        sitk.WriteImage(sitk_image(array, grid), str(path))
        np.testing.assert_array_equal(check_equals_itk(path), array)


class TestUnusualHeaders:
    @pytest.mark.parametrize("offset", [0.0, 300.0])
    def test_voxels_never_begin_inside_the_header(self, tmp_path: Path, offset: float) -> None:
        content = bytearray(nifti_1(values("i2")))
        struct.pack_into("<f", content, 108, offset)
        path = tmp_path / "scan.nii"
        path.write_bytes(content)
        with contextlib.suppress(MedDINOv3Error):  # refusing is right as well
            check_equals_itk(path)

    @pytest.mark.parametrize("distance", [0.0, -1.0, float("nan"), float("inf")])
    @pytest.mark.parametrize("axis", range(3))
    def test_distances_that_cannot_be_meant(
        self, tmp_path: Path, distance: float, axis: int
    ) -> None:
        """ITK would read some as 1 mm, and programs differ about the sign."""
        content = bytearray(nifti_1(values("i2")))
        struct.pack_into("<f", content, 80 + 4 * axis, distance)
        path = tmp_path / "scan.nii"
        path.write_bytes(content)
        with pytest.raises(MedDINOv3Error) as caught:
            read_volume(path)
        assert caught.value.code == "bad-geometry"

    def test_a_header_that_claims_more_than_there_is_memory(self, tmp_path: Path) -> None:
        content = bytearray(nifti_1(values("i2")))
        struct.pack_into("<8h", content, 40, 3, 32000, 32000, 32000, 1, 1, 1, 1)
        path = tmp_path / "scan.nii"
        path.write_bytes(content)
        with pytest.raises(MedDINOv3Error) as caught:
            read_volume(path)
        assert caught.value.code in ("scan-too-large", "unreadable")
