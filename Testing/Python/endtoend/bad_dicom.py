"""DICOM that is no one scan, by name, as ``bad_input.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from bad_input import Arguments
from dicom_series import write_series
from meddinov3.dicom_seg import write_dicom_seg
from meddinov3.grid import Grid
from meddinov3.labels import Label
from multiframe_file import item, multiframe, saved
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2K, generate_uid

GRID = Grid((8, 6, 5), (1.0, 1.0, 2.5), (-10.0, 20.0, 30.0), np.eye(3))
ARRAY = np.zeros(GRID.shape, np.int16)


def series(folder: Path, change: Callable[[int, FileDataset], object]) -> Arguments:
    """A series whose slices were changed one by one, told their number."""
    for number, file in enumerate(write_series(folder / "series", ARRAY, GRID)):
        data = pydicom.dcmread(file)
        change(number, data)
        data.save_as(file)
    return [folder / "series"]


def frames(folder: Path, change: Callable[[FileDataset], object]) -> Arguments:
    """A multi-frame image that was changed."""
    return [saved(multiframe(ARRAY + 1024, GRID), folder / "enhanced.dcm", change)]


def _localiser(folder: Path) -> Arguments:
    def change(_number: int, data: FileDataset) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    return series(folder, change)


def _several(folder: Path) -> Arguments:
    def change(number: int, data: FileDataset) -> None:
        data.SeriesInstanceUID = f"1.2.{number // 2}"
        data.SeriesDescription = f"part {number // 2}"
        if number == 4:
            data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    return series(folder, change)


def _tilt(folder: Path) -> Arguments:
    def change(number: int, data: FileDataset) -> None:
        data.ImagePositionPatient[1] = number

    return series(folder, change)


def _compressed(folder: Path) -> Arguments:
    def change(_number: int, data: FileDataset) -> None:
        data.PixelData = encapsulate([b"no codec's stream"])
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = HTJ2K

    return series(folder, change)


def _sizes(folder: Path) -> Arguments:
    def change(number: int, data: FileDataset) -> None:
        if number == 2:
            data.Rows, data.PixelData = 3, data.PixelData[: 8 * 3 * 2]

    return series(folder, change)


def _time_points(folder: Path) -> Arguments:
    def change(data: FileDataset) -> None:
        for number, frame in enumerate(data.PerFrameFunctionalGroupsSequence):
            frame.FrameContentSequence[0].TemporalPositionIndex = 1 + number % 2
            position = 30 + 2.5 * (number // 2)
            frame.PlanePositionSequence = item(ImagePositionPatient=[-10, 20, position])

    return frames(folder, change)


def _stacks(folder: Path) -> Arguments:
    def change(data: FileDataset) -> None:
        for frame in data.PerFrameFunctionalGroupsSequence[3:]:
            frame.FrameContentSequence[0].StackID = "2"
            frame.PlaneOrientationSequence = item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])

    return frames(folder, change)


def _placeless(folder: Path) -> Arguments:
    def change(data: FileDataset) -> None:
        del data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence

    return frames(folder, change)


def _part(folder: Path) -> Arguments:
    def change(data: FileDataset) -> None:
        data.ConcatenationUID = generate_uid()
        data.InConcatenationNumber, data.InConcatenationTotalNumber = 1, 3

    return frames(folder, change)


def _segmentation(folder: Path) -> Arguments:
    slices = write_series(folder / "series", ARRAY, GRID)
    path = folder / "result.dcm"
    write_dicom_seg(path, ARRAY + 1, [Label("all", 1, (1, 2, 3))], list(map(str, slices)), "tiny")
    return [path]


DICOM_CASES: dict[str, Callable[[Path], Arguments]] = {
    "localiser alone": _localiser,
    "several DICOM series": _several,
    "tilted gantry": _tilt,
    "unknown compression": _compressed,
    "slices of several sizes": _sizes,
    "several time points in one file": _time_points,
    "several stacks in one file": _stacks,
    "frames without geometry": _placeless,
    "part of a concatenation": _part,
    "segmentation instead of a scan": _segmentation,
}
