"""Enhanced multi-frame DICOM: read exactly as one scan, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from conftest import random_grid
from dicom_series import write_series
from meddinov3.dicom_listing import list_series
from meddinov3.dicom_seg import write_dicom_seg
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.labels import Label
from meddinov3.reading import read_volume
from multiframe_file import ENHANCED_MR, item, multiframe, saved
from pydicom.dataset import FileDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

GRID = Grid((7, 5, 6), (0.7, 0.9, 2.5), (-10.0, 20.0, 30.0), np.eye(3))
ORDER = (3, 0, 5, 1, 4, 2)


def right_handed(seed: int) -> Grid:
    grid = random_grid(seed)
    sign = np.sign(np.linalg.det(grid.direction))
    return Grid(grid.size, grid.spacing, grid.origin, grid.direction * [1, 1, sign])


def stored_values(grid: Grid = GRID, low: int = 0, high: int = 3000) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, grid.shape)


def refusal(path: Path) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        read_volume(path)
    assert caught.value.remedy
    return caught.value


class TestExact:
    @pytest.mark.parametrize("seed", range(6))
    def test_voxels_and_geometry_whatever_the_order_of_frames(
        self, tmp_path: Path, seed: int
    ) -> None:
        grid = right_handed(seed)
        values = stored_values(grid)
        order = np.random.default_rng(seed).permutation(len(values))
        path = saved(multiframe(values, grid, list(order)), tmp_path / "scan.dcm")
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.channels[0], values - 1024)
        assert volume.channels[0].dtype == np.int16
        assert volume.grid.same_as(grid, tolerance=1e-5)
        assert volume.modality == "CT"
        assert volume.source == (str(path),)

    def test_in_a_folder_it_is_one_scan(self, tmp_path: Path) -> None:
        values = stored_values()
        saved(multiframe(values, GRID, ORDER, sop_class=ENHANCED_MR), tmp_path / "deep" / "IM1")
        (info,) = list_series(tmp_path)
        assert str(info) == "MR, 7 x 5, 6 frames in one file"
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.channels[0], values - 1024)
        assert volume.modality == "MR"

    def test_a_file_without_an_ending_is_known_by_its_beginning(self, tmp_path: Path) -> None:
        values = stored_values()
        path = saved(multiframe(values, GRID, ORDER), tmp_path / "IM0001")
        np.testing.assert_array_equal(read_volume(path).channels[0], values - 1024)

    def test_several_in_one_series_are_listed_one_by_one(self, tmp_path: Path) -> None:
        first, second = stored_values(), stored_values(low=500)
        uid = generate_uid()
        for name, values in (("a", first), ("b", second)):
            data = multiframe(values, GRID)
            data.SeriesInstanceUID = uid
            saved(data, tmp_path / f"{name}.dcm")
        assert refusal(tmp_path).code == "several-series"
        np.testing.assert_array_equal(read_volume(tmp_path, 2).channels[0], second - 1024)

    def test_equals_the_slices_it_was_converted_from(self, tmp_path: Path) -> None:
        """highdicom converts; the two readers agree."""
        files = write_series(tmp_path / "slices", stored_values() - 1000, GRID)
        slices = [pydicom.dcmread(file) for file in files]
        for data in slices:
            data.Manufacturer = "none"
        converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
            slices, series_instance_uid=generate_uid(), series_number=2,
            sop_instance_uid=generate_uid(), instance_number=1,
        )  # fmt: skip
        converted.save_as(tmp_path / "converted.dcm")
        one, many = read_volume(tmp_path / "converted.dcm"), read_volume(tmp_path / "slices")
        np.testing.assert_array_equal(one.channels[0], many.channels[0])
        assert one.grid.same_as(many.grid, tolerance=1e-6)

    def test_real_slices_converted(self, shared: Path, tmp_path: Path) -> None:
        folder = shared / "sts_dicom_rtstruct/ct/image"
        scan = read_volume(folder)
        slices = [pydicom.dcmread(file) for file in scan.source]
        converted = highdicom.legacy.LegacyConvertedEnhancedCTImage(
            slices, series_instance_uid=generate_uid(), series_number=2,
            sop_instance_uid=generate_uid(), instance_number=1,
        )  # fmt: skip
        converted.save_as(tmp_path / "converted.dcm")
        one = read_volume(tmp_path / "converted.dcm")
        np.testing.assert_array_equal(one.channels[0], scan.channels[0])
        assert one.grid.same_as(scan.grid, tolerance=1e-4)


class TestValues:
    def test_frames_rescaled_each_in_their_way(self, tmp_path: Path) -> None:
        """Enhanced MR and PET: every frame has a slope of its own."""
        values = stored_values()
        slopes = [(0.25 * (n + 1), -3.0 * n) for n in range(6)]
        path = saved(multiframe(values, GRID, ORDER, slopes, sop_class=ENHANCED_MR), tmp_path / "s")
        volume = read_volume(path)
        expected = np.empty(GRID.shape)
        for (slope, intercept), k in zip(slopes, ORDER, strict=True):
            expected[k] = values[k] * slope + intercept
        assert volume.channels[0].dtype == np.float32
        np.testing.assert_array_equal(volume.channels[0], expected)

    @pytest.mark.parametrize(
        ("stored", "low", "high", "rescaling", "found"),
        [
            ("<u2", 0, 4095, (1, -1024), "int16"),
            ("<i2", -2000, 3000, (1, 0), "int16"),
            ("<u2", 0, 65535, (1, -1024), "int32"),
            ("<u2", 0, 4095, (16, -1024), "int32"),
            ("u1", 0, 255, (2, -7), "int16"),
            ("<i2", -2000, 3000, (1, 0.5), "float32"),
        ],
    )
    def test_the_type_holds_every_value(
        self, tmp_path: Path, stored: str, low: int, high: int, rescaling: tuple, found: str
    ) -> None:
        values = stored_values(low=low, high=high)
        values[0, 0, 0], values[1, 1, 1] = low, high
        path = saved(multiframe(values, GRID, ORDER, (rescaling,), stored), tmp_path / "scan.dcm")
        volume = read_volume(path)
        assert volume.channels[0].dtype == found
        np.testing.assert_array_equal(volume.channels[0], values * rescaling[0] + rescaling[1])

    def test_without_a_rescaling_values_are_as_stored(self, tmp_path: Path) -> None:
        data = multiframe(stored_values(), GRID, sop_class=ENHANCED_MR)
        del data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
        volume = read_volume(saved(data, tmp_path / "scan.dcm"))
        np.testing.assert_array_equal(volume.channels[0], stored_values())

    def test_overlay_bits_above_the_stored_ones_do_not_count(self, tmp_path: Path) -> None:
        values = stored_values()
        data = multiframe(values + 0x4000, GRID)
        data.BitsStored, data.HighBit = 12, 11
        volume = read_volume(saved(data, tmp_path / "scan.dcm"))
        np.testing.assert_array_equal(volume.channels[0], values - 1024)

    def test_a_single_frame_is_as_thick_as_its_header_says(self, tmp_path: Path) -> None:
        grid = Grid((7, 5, 1), (0.7, 0.9, 4.0), (0.0, 0.0, 0.0), np.eye(3))
        path = saved(multiframe(stored_values(grid), grid), tmp_path / "scan.dcm")
        assert read_volume(path).grid.spacing == pytest.approx((0.7, 0.9, 4.0))

    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
    def test_compressed_frames(self, tmp_path: Path, syntax: str) -> None:
        data = multiframe(stored_values(), GRID, ORDER)
        data.compress(syntax, generate_instance_uid=False)
        volume = read_volume(saved(data, tmp_path / "scan.dcm"))
        np.testing.assert_array_equal(volume.channels[0], stored_values() - 1024)


def one_place_twice(data: FileDataset) -> None:
    frames = data.PerFrameFunctionalGroupsSequence
    for later, earlier in zip(frames[3:], frames[:3], strict=True):
        later.PlanePositionSequence = earlier.PlanePositionSequence


def time_points(data: FileDataset) -> None:
    one_place_twice(data)
    for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.FrameContentSequence[0].TemporalPositionIndex = 1 + number // 3


def b_values(data: FileDataset) -> None:
    one_place_twice(data)
    for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.MRDiffusionSequence = item(DiffusionBValue=800.0 * (number // 3))


def echoes(data: FileDataset) -> None:
    one_place_twice(data)
    for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.MREchoSequence = item(EffectiveEchoTime=10.0 + number // 3)


def stacks(data: FileDataset) -> None:
    for frame in data.PerFrameFunctionalGroupsSequence[3:]:
        frame.FrameContentSequence[0].StackID = "2"
        frame.PlaneOrientationSequence = item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])


def gap(data: FileDataset) -> None:
    data.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient[2] = 36


def tilt(data: FileDataset) -> None:
    for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient[1] = number


def no_position(data: FileDataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def no_groups(data: FileDataset) -> None:
    del data.PerFrameFunctionalGroupsSequence
    del data.SharedFunctionalGroupsSequence


def too_few_groups(data: FileDataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[-1]


def colour(data: FileDataset) -> None:
    data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"


def concatenation(data: FileDataset) -> None:
    data.ConcatenationUID = generate_uid()
    data.InConcatenationNumber, data.InConcatenationTotalNumber = 1, 3


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (time_points, "several-scans", "time points"),
        (b_values, "several-scans", "b-values"),
        (echoes, "several-scans", "echo times"),
        (stacks, "several-scans", "2 stacks"),
        (one_place_twice, "several-scans", "at one position"),
        (gap, "uneven-series", "mm apart"),
        (tilt, "uneven-series", "tilted gantry"),
        (no_position, "no-geometry", "position"),
        (no_groups, "no-geometry", "position"),
        (too_few_groups, "no-geometry", "position"),
        (colour, "not-3d", "colour"),
        (concatenation, "several-parts", "3 files"),
    ],
)
def test_what_is_no_single_scan_is_refused_by_name(
    tmp_path: Path, change: Callable[[FileDataset], None], code: str, named: str
) -> None:
    path = saved(multiframe(stored_values(), GRID), tmp_path / "scan.dcm", change)
    for place in (path, tmp_path):
        error = refusal(place)
        assert error.code == code
        assert named in error.message


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = saved(multiframe(stored_values(), GRID), tmp_path / "scan.dcm")
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(path).code == "unreadable"


def test_damaged_compression_is_named(tmp_path: Path) -> None:
    data = multiframe(stored_values(), GRID)
    data.compress(JPEGLSLossless)
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless
    error = refusal(saved(data, tmp_path / "scan.dcm"))
    assert error.code == "unknown-compression"
    assert "JPEG 2000 Image Compression (Lossless Only)" in error.message


def test_big_endian(tmp_path: Path) -> None:
    data = multiframe(stored_values(), GRID, ORDER, stored=">u2")
    data["PixelData"].VR = "OW"
    data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    plain = pydicom.Dataset({element.tag: element for element in data})
    plain.file_meta = data.file_meta
    path = tmp_path / "scan.dcm"
    pydicom.dcmwrite(path, plain, implicit_vr=False, little_endian=False, enforce_file_format=True)
    np.testing.assert_array_equal(read_volume(path).channels[0], stored_values() - 1024)


def test_a_dicom_seg_of_it_lies_on_its_own_frames(tmp_path: Path) -> None:
    """Segmentations refer to frames by their place in the file, not in the volume."""
    path = saved(multiframe(stored_values(), GRID, ORDER), tmp_path / "scan.dcm")
    volume = read_volume(path)
    label_map = np.zeros(GRID.shape, np.uint8)
    label_map[1, 2, 3] = label_map[4, 1:3, 2] = 1
    write_dicom_seg(
        tmp_path / "seg.dcm", label_map, [Label("spot", 1, (9, 8, 7))], volume.source, "tiny"
    )
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    found = []
    for groups, frame in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        z = float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        k = round((z - 30) / 2.5)
        assert ORDER[int(source.ReferencedFrameNumber) - 1] == k
        found += [(k, *voxel) for voxel in np.argwhere(frame).tolist()]
    assert sorted(found) == sorted(map(tuple, np.argwhere(label_map).tolist()))
