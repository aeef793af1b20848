"""DICOM SEG beside a DICOM series: each segment on the slices it was found on."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import random_grid, sitk_image
from dicom_series import write_series
from meddinov3.dicom_seg import write_dicom_seg
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.labels import ANATOMICAL_STRUCTURE, Code, Label, default_colour
from meddinov3.reading import read_volume
from meddinov3.volume import Volume

LEFT = Code("SCT", "7771000", "Left")
KIDNEY = Code("SCT", "64033007", "Kidney")
LABELS = (
    Label("liver", 1, (10, 200, 30), ANATOMICAL_STRUCTURE, Code("SCT", "10200004", "Liver")),
    Label("nothing here", 2, (1, 2, 3)),
    Label("left kidney", 7, (255, 0, 128), ANATOMICAL_STRUCTURE, KIDNEY, LEFT),
)


def scan_in(folder: Path, seed: int = 5) -> Volume:
    """A small CT series of an oblique grid."""
    grid = random_grid(seed)
    sign = np.sign(np.linalg.det(grid.direction))
    grid = Grid(grid.size, grid.spacing, grid.origin, grid.direction * [1, 1, sign])
    write_series(folder, np.zeros(grid.shape, np.int16), grid)
    return read_volume(folder)


def labels_on(volume: Volume) -> np.ndarray:
    """Label 1 in one voxel of the lowest slice, 7 in a block of the two highest."""
    label_map = np.zeros(volume.grid.shape, np.uint8)
    label_map[0, 1, 2] = 1
    label_map[-2:, 2:, :2] = 7
    return label_map


def by_slice(path: Path, volume: Volume) -> np.ndarray:
    """Segment numbers (k, j, i), put in place by the slices that the frames refer to."""
    headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in volume.source]
    # The real series has the instance's name in the file's preamble alone.
    names = [h.SOPInstanceUID or h.file_meta.MediaStorageSOPInstanceUID for h in headers]
    read = highdicom.seg.segread(path)
    return read.get_pixels_by_source_instance(
        names,
        combine_segments=True,
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
    )


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return scan_in(tmp_path / "series")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "result" / "case.dcm"


def test_voxels_lie_on_the_slices_they_were_found_on(volume: Volume, path: Path) -> None:
    label_map = labels_on(volume)
    write_dicom_seg(path, label_map, LABELS, volume.source, "tiny")
    numbers = by_slice(path, volume)
    np.testing.assert_array_equal(numbers == 1, label_map == 1)
    np.testing.assert_array_equal(numbers == 2, label_map == 7)


@pytest.mark.parametrize("seed", range(4))
def test_frames_lie_in_the_patient_where_the_voxels_lie(tmp_path: Path, seed: int) -> None:
    """By position alone, as a viewer that does not know the source slices puts them."""
    volume = scan_in(tmp_path / "series", seed)
    label_map = labels_on(volume)
    path = tmp_path / "case.dcm"
    write_dicom_seg(path, label_map, LABELS, volume.source, "tiny")
    data = pydicom.dcmread(path)
    frames = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    shared_part = data.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared_part.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    rows, columns = (float(v) for v in shared_part.PixelMeasuresSequence[0].PixelSpacing)
    found: dict[int, list[np.ndarray]] = {1: [], 2: []}
    for frame, groups in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for j, i in np.argwhere(frame):
            position = corner + cosines[:3] * i * columns + cosines[3:] * j * rows
            found[number].append(position)
    for number, value in ((1, 1), (2, 7)):
        expected = volume.grid.to_patient(np.argwhere(label_map == value)[:, ::-1].astype(float))
        assert len(found[number]) == len(expected)
        distance = np.linalg.norm(np.array(found[number])[:, None] - expected[None], axis=-1)
        assert distance.min(axis=0).max() < 1e-3
        assert distance.min(axis=1).max() < 1e-3


def test_segments_carry_names_codes_and_colours(volume: Volume, path: Path) -> None:
    """Those without a voxel are left out and the others numbered from 1, as DICOM asks."""
    write_dicom_seg(path, labels_on(volume), LABELS, volume.source, "tiny")
    read = highdicom.seg.segread(path)
    liver, kidney = (read.get_segment_description(n) for n in (1, 2))
    assert read.number_of_segments == 2
    assert (liver.segment_label, kidney.segment_label) == ("liver", "left kidney")
    assert liver.segmented_property_type == highdicom.sr.CodedConcept("10200004", "SCT", "Liver")
    assert kidney.segmented_property_category.meaning == "Anatomical Structure"
    assert kidney.algorithm_type.value == "AUTOMATIC"
    assert "tiny" in kidney.algorithm_identification.name
    expected = highdicom.color.CIELabColor.from_rgb(255, 0, 128).value
    assert tuple(kidney.RecommendedDisplayCIELabValue) == tuple(expected)


def test_the_side_is_coded_not_only_named(volume: Volume, path: Path) -> None:
    write_dicom_seg(path, labels_on(volume), LABELS, volume.source, "tiny")
    kind = pydicom.dcmread(path).SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0]
    modifier = kind.SegmentedPropertyTypeModifierCodeSequence[0]
    assert (modifier.CodingSchemeDesignator, modifier.CodeValue) == ("SCT", "7771000")


@pytest.mark.parametrize("name", ["Leber, groß", "肝臓"])
def test_names_in_any_script_are_readable_elsewhere(volume: Volume, path: Path, name: str) -> None:
    """Without a character set a DICOM file may hold nothing but ASCII."""
    labels = [Label(name, 1, (1, 2, 3))]
    write_dicom_seg(path, labels_on(volume), labels, volume.source, "tiny")
    data = pydicom.dcmread(path)
    assert data.SegmentSequence[0].SegmentLabel == name
    assert data.get("SpecificCharacterSet")


def test_study_and_frame_of_reference_are_the_scans_and_the_series_is_new(
    volume: Volume, path: Path
) -> None:
    write_dicom_seg(path, labels_on(volume), LABELS, volume.source, "tiny")
    scan, result = pydicom.dcmread(volume.source[0]), pydicom.dcmread(path)
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert result[keyword].value == scan[keyword].value
    assert result.SeriesInstanceUID != scan.SeriesInstanceUID
    assert result.Modality == "SEG"


def test_a_real_series_with_compressed_slices(shared: Path, tmp_path: Path) -> None:
    """Organs that come with the series, brought onto its grid by SimpleITK."""
    folder = shared / "totalsegmentator_examples/ct_dicom"
    volume = read_volume(folder / "series")
    scan = sitk_image(np.asarray(volume.channels[0]), volume.grid)
    organs = sitk.Resample(
        sitk.ReadImage(str(folder / "label.nii.gz")), scan, sitk.Transform(),
        sitk.sitkNearestNeighbor,
    )  # fmt: skip
    label_map = sitk.GetArrayFromImage(organs).astype(np.uint8)
    values = [1, 5, 6, 52]  # spleen, liver, stomach, aorta
    label_map[~np.isin(label_map, values)] = 0
    labels = [Label(f"organ {v}", v, default_colour(n)) for n, v in enumerate(values)]
    path = tmp_path / "organs.dcm"
    write_dicom_seg(path, label_map, labels, volume.source, "tiny")
    expected = np.searchsorted(np.array([0, *values]), label_map)
    np.testing.assert_array_equal(by_slice(path, volume), expected)


def test_a_scan_that_is_no_dicom_is_refused(volume: Volume, path: Path) -> None:
    with pytest.raises(MedDINOv3Error) as caught:
        write_dicom_seg(path, labels_on(volume), LABELS, (), "tiny")
    assert caught.value.code == "not-dicom"
    assert ".seg.nrrd" in caught.value.remedy


def test_an_empty_result_is_refused(volume: Volume, path: Path) -> None:
    with pytest.raises(MedDINOv3Error) as caught:
        write_dicom_seg(path, labels_on(volume) * 0, LABELS, volume.source, "tiny")
    assert caught.value.code == "empty-segmentation"
    assert caught.value.remedy
    assert not path.exists()


def test_an_interrupted_write_leaves_the_old_file(
    volume: Volume, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"yesterday's result")

    def half_a_file(_self: highdicom.seg.Segmentation, name: Path) -> None:
        Path(name).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(highdicom.seg.Segmentation, "save_as", half_a_file)
    with pytest.raises(KeyboardInterrupt):
        write_dicom_seg(path, labels_on(volume), LABELS, volume.source, "tiny")
    assert path.read_bytes() == b"yesterday's result"
    assert list(path.parent.iterdir()) == [path]
