"""What a folder holds beside the scan: localisers, screen captures, doses, segmentations."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import write_series
from meddinov3.dicom_listing import list_series
from meddinov3.dicom_seg import write_dicom_seg
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.labels import Label
from meddinov3.reading import read_label_map, read_volume
from pydicom.uid import generate_uid

GRID = Grid((8, 6, 5), (1.0, 1.0, 2.5), (-10.0, 20.0, 30.0), np.eye(3))
ARRAY = np.random.default_rng(0).integers(-1000, 2000, GRID.shape).astype(np.int16)
SCREEN = "1.2.840.10008.5.1.4.1.1.7"
DOSE = "1.2.840.10008.5.1.4.1.1.481.2"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_series(tmp_path / "series", ARRAY, GRID)


def refusal(folder: Path, number: int | None = None) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        read_volume(folder, number)
    assert caught.value.remedy
    return caught.value


def another(file: Path, name: str, change: Callable[[pydicom.Dataset], object]) -> Path:
    """A changed copy of a slice, in a series of its own if the change says so."""
    data = pydicom.dcmread(file)
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    change(data)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.save_as(file.with_name(name))
    return file.with_name(name)


def scout(data: pydicom.Dataset) -> None:
    """A coronal overview of other size, with the series of its slices."""
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    data.Rows, data.PixelData = 9, np.full((9, 8), 77, "<u2").tobytes()


def own_scout(data: pydicom.Dataset) -> None:
    scout(data)
    data.SeriesInstanceUID = generate_uid()
    data.SeriesDescription = "Topogram"


def capture(data: pydicom.Dataset) -> None:
    """A dose report as scanners write it beside the slices."""
    data.SOPClassUID, data.SeriesInstanceUID = SCREEN, generate_uid()
    del data.ImagePositionPatient, data.ImageOrientationPatient


def dose(data: pydicom.Dataset) -> None:
    data.SOPClassUID, data.SeriesInstanceUID, data.Modality = DOSE, generate_uid(), "RTDOSE"


@pytest.mark.parametrize("kind", [scout, own_scout])
def test_the_only_scan_beside_a_localiser_is_taken_and_said_so(
    files: list[Path], kind: Callable[[pydicom.Dataset], None]
) -> None:
    another(files[0], "a_scout.dcm", kind)
    volume = read_volume(files[0].parent)
    np.testing.assert_array_equal(volume.channels[0], ARRAY)
    assert [Path(name) for name in volume.source] == files
    assert volume.notes == ("left out beside the scan in its DICOM folder: localiser",)


def test_a_localiser_among_the_slices_is_listed_by_itself(files: list[Path]) -> None:
    another(files[0], "a_scout.dcm", scout)
    told = [str(info) for info in list_series(files[0].parent)]
    assert told == ["CT, 8 x 6, 5 slice(s)", "CT, 8 x 9, 1 slice(s), localiser"]


def test_a_localiser_alone_is_no_scan_unless_it_is_asked_for(files: list[Path]) -> None:
    another(files[0], "scout.dcm", own_scout)
    for file in files:
        file.unlink()
    error = refusal(files[0].parent)
    assert error.code == "localiser"
    assert (read_volume(files[0].parent, 1).channels[0] == 77 - 1024).all()


def test_two_scans_beside_a_localiser_are_asked_for_with_all_named(files: list[Path]) -> None:
    another(files[0], "scout.dcm", own_scout)
    write_series(files[0].parent / "second", ARRAY, GRID)
    error = refusal(files[0].parent)
    assert error.code == "several-series"
    assert "CT 'Topogram', 8 x 9, 1 slice(s), localiser" in error.message
    assert "3 DICOM series" in error.message


def test_captures_doses_and_results_beside_the_scan_are_left_out(files: list[Path]) -> None:
    """A radiotherapy export, and a result that was saved among the slices."""
    folder = files[0].parent
    another(files[0], "report.dcm", capture)
    another(files[0], "dose.dcm", dose)
    label_map = np.ones(GRID.shape, np.uint8)
    write_dicom_seg(
        folder / "result.dcm", label_map, [Label("all", 1, (1, 2, 3))], list(map(str, files)), "t"
    )
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.channels[0], ARRAY)
    (note,) = volume.notes
    assert set(note.split(": ")[1].split(", ")) == {"screen capture", "dose grid", "segmentation"}


def test_a_dose_is_refused_by_name_even_if_asked_for(files: list[Path]) -> None:
    another(files[0], "dose.dcm", dose)
    kinds = [info.kind for info in list_series(files[0].parent)]
    error = refusal(files[0].parent, 1 + kinds.index("dose grid"))
    assert (error.code, "dose grid" in error.message) == ("not-a-scan", True)


def test_a_segmentation_is_no_scan_and_no_plain_label_map(files: list[Path]) -> None:
    path = files[0].parent.parent / "result" / "seg.dcm"
    label_map = np.ones(GRID.shape, np.uint8)
    write_dicom_seg(path, label_map, [Label("all", 1, (1, 2, 3))], list(map(str, files)), "tiny")
    for place in (path, path.parent):
        error = refusal(place)
        assert (error.code, "segmentation" in error.message) == ("not-a-scan", True)
    with pytest.raises(MedDINOv3Error):
        read_label_map(path)


def test_slices_without_a_preamble_are_found(files: list[Path]) -> None:
    """Old exports begin with the data set itself."""
    for file in files:
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        bare = pydicom.Dataset({element.tag: element for element in data})
        pydicom.dcmwrite(file, bare, implicit_vr=True, little_endian=True)
        assert file.read_bytes()[:2] == b"\x08\x00"
    np.testing.assert_array_equal(read_volume(files[0].parent).channels[0], ARRAY)


def test_nothing_is_printed_about_odd_headers(
    files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    for file in files:
        data = pydicom.dcmread(file)
        with pydicom.config.disable_value_validation():
            data.ImageType = ["original", "primary", "axial and far too long for a code string"]
            data.InstanceNumber = 11
            del data.ImagePositionPatient
            data.save_as(file)
        number = b"\x20\x00\x13\x00IS\x02\x00"
        assert number + b"11" in file.read_bytes()
        file.write_bytes(file.read_bytes().replace(number + b"11", number + b"1A"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refusal(files[0].parent)
    assert capfd.readouterr() == ("", "")
