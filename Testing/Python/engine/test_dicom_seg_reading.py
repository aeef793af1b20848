"""DICOM SEG read onto a scan's grid: ours and others', exact where voxels coincide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import sitk_image
from dicom_series import write_series
from highdicom.seg import SegmentationTypeValues
from meddinov3.dicom_seg import write_dicom_seg
from meddinov3.dicom_seg_reading import read_dicom_seg
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.labels import ANATOMICAL_STRUCTURE, Code, Label, default_colour
from meddinov3.reading import read_label_map, read_volume
from meddinov3.terminology import named_label
from meddinov3.volume import Volume
from pydicom.uid import RLELossless, generate_uid
from test_dicom_seg import LABELS, labels_on, scan_in

Segments = np.ndarray  # boolean (segment, k, j, i)
LIVER = highdicom.sr.CodedConcept("10200004", "SCT", "Liver")
ORGAN = highdicom.sr.CodedConcept("123037004", "SCT", "Anatomical Structure")


def description(number: int, name: str) -> highdicom.seg.SegmentDescription:
    return highdicom.seg.SegmentDescription(
        number, name, ORGAN, LIVER, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
    )


def others_seg(
    path: Path,
    volume: Volume,
    pixels: np.ndarray,
    kind: SegmentationTypeValues = SegmentationTypeValues.BINARY,
    names: tuple[str, ...] = ("one", "two"),
) -> Path:
    """Written with highdicom as other programs do; pixels (k, j, i, segment) or values."""
    slices = [pydicom.dcmread(name) for name in volume.source]
    highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[description(n, name) for n, name in enumerate(names, start=1)],
        series_instance_uid=generate_uid(),
        series_number=5,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="another",
        manufacturer_model_name="program",
        software_versions="1",
        device_serial_number="0",
    ).save_as(path)
    return path


def two_overlapping(volume: Volume) -> np.ndarray:
    """Two blocks (k, j, i, 2) that share voxels, cut off the slices' edges unevenly."""
    pixels = np.zeros((*volume.grid.shape, 2), np.uint8)
    pixels[1:, 1:, : volume.grid.size[0] - 1, 0] = 1
    pixels[: volume.grid.shape[0] - 1, 2:, 1:, 1] = 1
    return pixels


def refusal(path: Path, scan: Volume, names: list[str] | None = None) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        read_dicom_seg(path, scan, names)
    assert caught.value.remedy
    return caught.value


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return scan_in(tmp_path / "series")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seg.dcm"


class TestOurs:
    @pytest.mark.parametrize("seed", range(8))
    def test_comes_back_bit_for_bit(self, tmp_path: Path, path: Path, seed: int) -> None:
        volume = scan_in(tmp_path / "series", seed)
        label_map = labels_on(volume)
        write_dicom_seg(path, label_map, LABELS, volume.source, "tiny")
        found = read_dicom_seg(path, volume)
        np.testing.assert_array_equal(found.array, np.searchsorted([0, 1, 7], label_map))
        assert found.array.shape == volume.grid.shape
        assert found.grid is volume.grid
        assert found.notes == ()

    def test_names_colours_and_codes_come_back(self, volume: Volume, path: Path) -> None:
        write_dicom_seg(path, labels_on(volume), LABELS, volume.source, "tiny")
        liver, kidney = read_dicom_seg(path, volume).labels
        assert (liver.name, liver.value, kidney.name, kidney.value) == (
            "liver", 1, "left kidney", 2,
        )  # fmt: skip
        for found, wrote in ((liver, LABELS[0]), (kidney, LABELS[2])):
            np.testing.assert_allclose(found.colour, wrote.colour, atol=2)  # CIELab rounds
            assert (found.category, found.type) == (wrote.category, wrote.type)
            assert found.modifier == wrote.modifier

    def test_real_organs_bit_for_bit(self, shared: Path, path: Path) -> None:
        """31 organs whose NIfTI lies flipped; SimpleITK puts them on the series' grid."""
        folder = shared / "totalsegmentator_examples/ct_dicom"
        volume = read_volume(folder / "series")
        labels, grid = read_label_map(folder / "label.nii.gz")
        scan = sitk_image(np.asarray(volume.channels[0]), volume.grid)
        organs = sitk.Resample(
            sitk_image(labels.astype(np.uint8), grid), scan, sitk.Transform(),
            sitk.sitkNearestNeighbor,
        )  # fmt: skip
        label_map = sitk.GetArrayFromImage(organs)
        values = np.unique(label_map)[1:]
        named = [named_label(f"organ {v}", int(v), n) for n, v in enumerate(values)]
        write_dicom_seg(path, label_map, named, volume.source, "tiny")
        found = read_dicom_seg(path, volume)
        np.testing.assert_array_equal(
            found.array, np.searchsorted(np.array([0, *values]), label_map)
        )
        assert len(found.labels) == len(values) == 31
        assert not any("resampled" in note for note in found.notes)


class TestOthers:
    def test_overlapping_segments(self, volume: Volume, path: Path) -> None:
        pixels = two_overlapping(volume)
        others_seg(path, volume, pixels)
        found = read_dicom_seg(path, volume)
        np.testing.assert_array_equal(found.array == 2, pixels[..., 1] == 1)
        np.testing.assert_array_equal(found.array == 1, (pixels[..., 0] > pixels[..., 1]))
        both = np.count_nonzero(pixels.all(axis=-1))
        assert any(f"'two' covers {both} voxel(s) of 'one'" in note for note in found.notes)
        one = read_dicom_seg(path, volume, ["one"])
        np.testing.assert_array_equal(one.array == 1, pixels[..., 0] == 1)
        assert one.notes == ()
        assert refusal(path, volume, ["three"]).code == "unknown-label"

    def test_frames_in_any_order(self, volume: Volume, path: Path) -> None:
        """Later segments cover earlier ones even if their frames come first."""
        pixels = two_overlapping(volume)
        others_seg(path, volume, pixels)
        expected = read_dicom_seg(path, volume).array
        data = pydicom.dcmread(path)
        frames = data.pixel_array
        order = np.random.default_rng(1).permutation(len(frames))
        data.PixelData = np.packbits(frames[order].ravel(), bitorder="little").tobytes()
        groups = list(data.PerFrameFunctionalGroupsSequence)
        data.PerFrameFunctionalGroupsSequence = [groups[n] for n in order]
        data.save_as(path)
        np.testing.assert_array_equal(read_dicom_seg(path, volume).array, expected)

    def test_fractional_segments_are_cut_at_half(self, volume: Volume, path: Path) -> None:
        pixels = np.random.default_rng(0).random((*volume.grid.shape, 2))
        others_seg(path, volume, pixels, SegmentationTypeValues.FRACTIONAL)
        found = read_dicom_seg(path, volume, ["two"])
        sure = np.abs(pixels[..., 1] - 0.5) > 0.01
        np.testing.assert_array_equal((found.array == 2)[sure], (pixels[..., 1] >= 0.5)[sure])
        assert any("fractional" in note for note in found.notes)

    def test_a_label_map_segmentation(self, volume: Volume, path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 3, volume.grid.shape).astype(np.uint8)
        others_seg(path, volume, pixels, SegmentationTypeValues.LABELMAP)
        found = read_dicom_seg(path, volume)
        np.testing.assert_array_equal(found.array, pixels)
        assert [label.value for label in found.labels] == [1, 2]
        assert found.notes == ()

    def test_compressed_frames(self, volume: Volume, path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 3, volume.grid.shape).astype(np.uint8)
        others_seg(path, volume, pixels, SegmentationTypeValues.LABELMAP)
        data = pydicom.dcmread(path)
        data.compress(RLELossless, generate_instance_uid=False)
        data.save_as(path)
        np.testing.assert_array_equal(read_dicom_seg(path, volume).array, pixels)

    def test_a_segment_without_colour_and_two_of_one_name(self, volume: Volume, path: Path) -> None:
        others_seg(path, volume, two_overlapping(volume), names=("liver", "liver"))
        labels = read_dicom_seg(path, volume).labels
        assert [label.name for label in labels] == ["liver", "liver (2)"]
        assert labels[0].colour == default_colour(0)
        assert labels[0].type == Code("SCT", "10200004", "Liver")
        assert labels[0].category == ANATOMICAL_STRUCTURE


def reoriented(volume: Volume, axes: tuple[int, int, int], flips: tuple[int, int, int]) -> Volume:
    """The same voxels stored along other axes."""
    image = sitk_image(np.asarray(volume.channels[0]), volume.grid)
    image = sitk.Flip(sitk.PermuteAxes(image, axes), [bool(flip) for flip in flips])
    grid = Grid(
        image.GetSize(), image.GetSpacing(), image.GetOrigin(),
        np.array(image.GetDirection()).reshape(3, 3),
    )  # fmt: skip
    return Volume((sitk.GetArrayFromImage(image),), grid, source=volume.source)


class TestPlacement:
    @pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
    @pytest.mark.parametrize("flips", [(0, 0, 0), (1, 0, 1), (0, 1, 0)])
    def test_on_a_scan_stored_along_other_axes(
        self, volume: Volume, path: Path, axes: tuple[int, int, int], flips: tuple[int, int, int]
    ) -> None:
        """E.g. axial frames on a scan whose slices are sagittal."""
        label_map = labels_on(volume)
        write_dicom_seg(path, label_map, LABELS, volume.source, "tiny")
        other = reoriented(volume, axes, flips)
        found = read_dicom_seg(path, other)
        image = sitk_image(np.searchsorted([0, 1, 7], label_map).astype(np.uint8), volume.grid)
        expected = sitk.Flip(sitk.PermuteAxes(image, axes), [bool(flip) for flip in flips])
        np.testing.assert_array_equal(found.array, sitk.GetArrayFromImage(expected))
        assert found.notes == ()

    def test_part_of_the_scan(self, volume: Volume, path: Path) -> None:
        label_map = labels_on(volume)
        write_dicom_seg(path, label_map, LABELS, volume.source, "tiny")
        grid = volume.grid
        origin = grid.to_patient(np.array([1.0, 0.0, 1.0]))
        size = (grid.size[0] - 1, grid.size[1], grid.size[2] - 1)
        part = Grid(size, grid.spacing, tuple(origin), grid.direction)  # type: ignore[arg-type]
        scan = Volume((np.zeros(part.shape, np.int16),), part, source=volume.source)
        found = read_dicom_seg(path, scan)
        np.testing.assert_array_equal(found.array, np.searchsorted([0, 1, 7], label_map)[1:, :, 1:])
        lost = np.count_nonzero(label_map) - np.count_nonzero(found.array)
        assert lost > 0
        assert any(f"{lost} voxel(s)" in note for note in found.notes)

    def test_other_voxels_are_resampled_to_the_nearest_and_it_is_said(
        self, volume: Volume, path: Path
    ) -> None:
        """Each voxel cut into 2 x 2 x 2: known answer."""
        label_map = labels_on(volume)
        label_map[1, :, 1:] = 1  # no segment on slice 0 and 2 of some grids: planes are missing
        write_dicom_seg(path, label_map, LABELS, volume.source, "tiny")
        grid = volume.grid
        fine = Grid(
            tuple(2 * n for n in grid.size),  # type: ignore[arg-type]
            tuple(s / 2 for s in grid.spacing),  # type: ignore[arg-type]
            tuple(grid.to_patient(np.full(3, -0.25))),  # type: ignore[arg-type]
            grid.direction,
        )
        scan = Volume((np.zeros(fine.shape, np.int16),), fine, source=volume.source)
        found = read_dicom_seg(path, scan)
        expected = np.searchsorted([0, 1, 7], label_map)
        for axis in range(3):
            expected = expected.repeat(2, axis=axis)
        np.testing.assert_array_equal(found.array, expected)
        assert any("nearest" in note for note in found.notes)

    def test_planes_without_a_segment_are_empty_when_resampled(
        self, tmp_path: Path, path: Path
    ) -> None:
        """Frames on slices 1, 2 and 6 of 8 only; the scan's voxels are half as thick."""
        grid = Grid((7, 5, 8), (0.7, 0.9, 3.0), (-10.0, 20.0, 30.0), np.eye(3))
        write_series(tmp_path / "thick", np.zeros(grid.shape, np.int16), grid, thickness=3.0)
        thick = read_volume(tmp_path / "thick")
        label_map = np.zeros(grid.shape, np.uint8)
        label_map[[1, 2, 6], 1:3, 2:] = 1
        write_dicom_seg(path, label_map, [Label("a", 1, (1, 2, 3))], thick.source, "tiny")
        fine = Grid((7, 5, 16), (0.7, 0.9, 1.5), (-10.0, 20.0, 29.25), np.eye(3))
        scan = Volume((np.zeros(fine.shape, np.int16),), fine, source=thick.source)
        found = read_dicom_seg(path, scan)
        np.testing.assert_array_equal(found.array, label_map.repeat(2, axis=0))

    def test_beside_the_scan(self, volume: Volume, path: Path) -> None:
        write_dicom_seg(path, labels_on(volume), LABELS, volume.source, "tiny")
        grid = volume.grid
        far = Grid(grid.size, grid.spacing, (900.0, 900.0, 900.0), grid.direction)
        scan = Volume(volume.channels, far, source=volume.source)
        assert refusal(path, scan).code == "outside-scan"


def other_frame(data: pydicom.Dataset) -> None:
    data.FrameOfReferenceUID = generate_uid()


def no_geometry(data: pydicom.Dataset) -> None:
    del data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def no_segment(data: pydicom.Dataset) -> None:
    del data.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence


def cut_off(data: pydicom.Dataset) -> None:
    data.PixelData = data.PixelData[:2]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (other_frame, "other-frame"),
        (no_geometry, "no-geometry"),
        (no_segment, "unreadable"),
        (cut_off, "unreadable"),
    ],
)
def test_what_cannot_be_placed_is_refused(
    volume: Volume, path: Path, change: Callable[[pydicom.Dataset], None], code: str
) -> None:
    write_dicom_seg(path, labels_on(volume), LABELS, volume.source, "tiny")
    data = pydicom.dcmread(path)
    change(data)
    data.save_as(path)
    assert refusal(path, volume).code == code


def test_a_scan_that_does_not_say_its_frame_is_noted(volume: Volume, path: Path) -> None:
    write_dicom_seg(path, labels_on(volume), LABELS, volume.source, "tiny")
    found = read_dicom_seg(path, Volume(volume.channels, volume.grid))
    assert any("frame of reference" in note for note in found.notes)


def test_a_file_that_is_none(volume: Volume, path: Path) -> None:
    path.write_bytes(b"no DICOM")
    assert refusal(path, volume).code == "not-dicom-seg"
    assert refusal(Path(volume.source[0]), volume).code == "not-dicom-seg"


def test_beside_a_multi_frame_scan(tmp_path: Path, path: Path) -> None:
    from multiframe_file import multiframe, saved

    grid = Grid((7, 5, 6), (0.7, 0.9, 2.5), (-10.0, 20.0, 30.0), np.eye(3))
    values = np.zeros(grid.shape, int)
    volume = read_volume(saved(multiframe(values, grid, (3, 0, 5, 1, 4, 2)), tmp_path / "s.dcm"))
    label_map = np.zeros(grid.shape, np.uint8)
    label_map[1, 2, 3] = label_map[4, 1:3, 2] = 1
    labels = [Label("spot", 1, (9, 8, 7))]
    write_dicom_seg(path, label_map, labels, volume.source, "tiny")
    np.testing.assert_array_equal(read_dicom_seg(path, volume).array, label_map)


def test_series_files_stay_usable_for_writing_after_reading(tmp_path: Path, path: Path) -> None:
    """A result read, corrected and written again is the corrected one."""
    grid = Grid((7, 5, 6), (0.7, 0.9, 2.5), (-10.0, 20.0, 30.0), np.eye(3))
    write_series(tmp_path / "series", np.zeros(grid.shape, np.int16), grid)
    volume = read_volume(tmp_path / "series")
    label_map = np.zeros(grid.shape, np.uint8)
    label_map[2, 2:4, 2:4] = 1
    write_dicom_seg(path, label_map, [Label("spot", 1, (9, 8, 7))], volume.source, "tiny")
    read = read_dicom_seg(path, volume)
    read.array[3, 1, 1] = 1
    write_dicom_seg(path, read.array, read.labels, volume.source, "by hand")
    again = read_dicom_seg(path, volume)
    np.testing.assert_array_equal(again.array, read.array)
