"""DICOM as hospitals send it, through the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from conftest import describe, make_bundle
from dicom_series import write_series
from meddinov3.grid import Grid
from meddinov3.label_reading import read_labels_on
from meddinov3.reading import read_volume
from meddinov3_training.cli import main
from multiframe_file import multiframe, saved
from pydicom.uid import generate_uid

GRID = Grid((24, 20, 5), (0.9, 0.9, 2.5), (-10.0, 20.0, 30.0), np.eye(3))
ARRAY = np.random.default_rng(0).integers(-1000, 2000, GRID.shape).astype(np.int16)


def segment(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    command = ["meddinov3", "segment", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", command)
    main()


def test_what_was_left_out_beside_the_scan_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_series(tmp_path / "scan", ARRAY, GRID)
    scout = pydicom.dcmread(files[0])
    scout.SeriesInstanceUID, scout.ImageType = generate_uid(), ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.save_as(tmp_path / "scan" / "scout.dcm")
    model = make_bundle(tmp_path / "tiny", describe("lesion"))
    segment(monkeypatch, tmp_path / "scan", "-o", tmp_path / "mask.nrrd", "-m", model)
    assert "left out beside the scan in its DICOM folder: localiser" in " ".join(
        capsys.readouterr().out.split()
    )
    assert sitk.ReadImage(str(tmp_path / "mask.nrrd")).GetSize() == GRID.size


def test_a_multi_frame_file_to_dicom_seg_equals_its_label_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = saved(multiframe(ARRAY + 1024, GRID, (3, 0, 4, 1, 2)), tmp_path / "enhanced.dcm")
    model = make_bundle(tmp_path / "tiny", describe("lesion", "vessel"))
    for name in ("seg.dcm", "mask.nrrd"):
        segment(monkeypatch, scan, "-o", tmp_path / name, "-m", model)
    volume = read_volume(scan)
    found = read_labels_on(tmp_path / "seg.dcm", volume)
    expected = read_labels_on(tmp_path / "mask.nrrd", volume)
    assert len(found.labels) == len(expected.labels) > 0
    assert expected.array.any()
    present = [label.value for label in expected.labels]
    np.testing.assert_array_equal(
        found.array, np.searchsorted([0, *present], np.asarray(expected.array))
    )


def test_no_slice_of_a_further_channel_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "one", ARRAY, GRID)
    (target, *_) = write_series(tmp_path / "two", ARRAY, GRID)
    before, channel = target.read_bytes(), f"T2={tmp_path / 'two'}"
    model = make_bundle(tmp_path / "tiny", describe("a", channels=("CT", "T2")))
    with pytest.raises(SystemExit):
        segment(monkeypatch, tmp_path / "one", "-c", channel, "-o", target, "-m", model)
    assert "among the scan's own DICOM slices" in " ".join(capsys.readouterr().err.split())
    assert target.read_bytes() == before
