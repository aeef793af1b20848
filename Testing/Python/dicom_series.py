"""Small DICOM CT series, written with pydicom alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from meddinov3.grid import Grid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

INTERCEPT = -1024


def write_series(folder: Path, array: np.ndarray, grid: Grid, thickness: float = 1.0) -> list[Path]:
    """Write a (k, j, i) array in Hounsfield units, one file a slice, names in no useful order.

    Args:
        folder: made if needed.
        array: values from -1024 on.
        grid: right-handed directions.
        thickness: in the header, in mm; the slices' distance is the grid's.

    Returns:
        The files in the order of k.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    files = []
    for k, plane in enumerate(array):
        number = (k * 7 + 3) % 101  # neither file names nor instance numbers follow position
        data = header(series, study, frame)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
        data.InstanceNumber = number
        data.SliceThickness = thickness
        data.PixelSpacing = [short(grid.spacing[1]), short(grid.spacing[0])]
        data.ImageOrientationPatient = [short(v) for v in grid.direction[:, :2].T.ravel()]
        corner = grid.to_patient(np.array([0.0, 0.0, float(k)]))
        data.ImagePositionPatient = [short(v) for v in corner]
        store_pixels(data, plane)
        files.append(folder / f"slice{number:03d}.dcm")
        data.save_as(files[-1], enforce_file_format=True)
    return files


def short(value: float) -> str:
    """A decimal string of at most 16 characters, as DICOM allows."""
    return f"{value:.13g}"[:16]


def header(series: str, study: str, frame: str) -> FileDataset:
    """What every slice of a series has in common."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = CTImageStorage
    data.Modality = "CT"
    data.PatientName, data.PatientID = "Test^Nobody", "0"
    data.PatientBirthDate = data.PatientSex = data.AccessionNumber = data.StudyID = ""
    data.StudyDate = data.SeriesDate = data.ContentDate = "20260101"
    data.StudyTime = data.SeriesTime = data.ContentTime = "120000"
    data.ReferringPhysicianName = ""
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame
    data.PositionReferenceIndicator, data.SeriesNumber = "", 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return data


def store_pixels(data: pydicom.Dataset, plane: np.ndarray) -> None:
    """Put one slice in Hounsfield units into a dataset as unsigned 16 bit with an intercept."""
    data.Rows, data.Columns = plane.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept = 1, INTERCEPT
    data.PixelData = (plane.astype(np.int32) - INTERCEPT).astype("<u2").tobytes()
