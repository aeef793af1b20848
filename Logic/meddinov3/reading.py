"""Scans and label maps from disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from meddinov3 import nifti
from meddinov3.dicom_headers import SEGMENTATIONS, is_dicom, quietly, read_header
from meddinov3.dicom_listing import is_multiframe
from meddinov3.dicom_multiframe import read_multiframe
from meddinov3.dicom_series import read_series
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.volume import Volume, grid_of, volume_of

READABLE = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")

sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK would print to the terminal


def stem(path: Path) -> str:
    """The file's name without its ending(s); a folder's name as it is."""
    if path.is_dir():
        return path.resolve().name
    for ending in (".seg.nrrd", *READABLE):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def read_volume(path: Path, series: int | None = None) -> Volume:
    """Read a scan: NIfTI, NRRD, MHA/MHD, a folder with DICOM series, a multi-frame DICOM file.

    Args:
        path: file or folder.
        series: which of several series in the folder, counted from 1.

    Returns:
        The volume in the stored voxel type (DICOM and NIfTI rescaling applied).

    Raises:
        MedDINOv3Error: missing, unreadable, not three-dimensional, not scalar, or several
            series in the folder and none chosen.
    """
    volume = read_series(path, series) if path.is_dir() else _read_file(path)
    return replace(volume, inputs=(str(path),))


def read_label_map(path: Path) -> tuple[np.ndarray, Grid]:
    """Read an integer label map as a (k, j, i) array and its grid.

    Raises:
        MedDINOv3Error: as :func:`read_volume`, or values that are no whole numbers.
    """
    volume = _read_file(path)
    array = volume.channels[0]
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or (np.rint(array) != array).any():
            raise MedDINOv3Error(
                "not-labels",
                f"'{path.name}' is no label map: it holds values that are no whole numbers.",
                "Give a label map, not a scan.",
            )
        array = array.astype(np.int32)
    return array, volume.grid


def read_grid(path: Path) -> Grid:
    """Where a file's voxels lie; of image files only the header is read.

    Raises:
        MedDINOv3Error: as :func:`read_volume`.
    """
    _check_there(path)
    if is_dicom(path):
        return _read_dicom_file(path).grid
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except (RuntimeError, OSError) as error:
        raise _unreadable(path, error) from error
    _check_shape(reader, path)
    return grid_of(reader) if reader.GetDimension() == 3 else _read_file(path).grid


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise MedDINOv3Error("file-missing", f"There is no file '{path}'.", "Check the path.")


def _read_file(path: Path) -> Volume:
    _check_there(path)
    if is_dicom(path):
        return _read_dicom_file(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_shape(reader, path)
        if path.name.lower().endswith(nifti.ENDINGS):
            return _read_nifti(reader, path)
        return volume_of(reader.Execute())
    except MemoryError as error:
        raise MedDINOv3Error(
            "scan-too-large",
            f"'{path.name}' does not fit into memory: its header states "
            f"{' x '.join(map(str, reader.GetSize()))} voxels.",
            "If that is not its real size the file is damaged: export it again. Otherwise crop it.",
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise _unreadable(path, error) from error


@quietly()
def _read_dicom_file(path: Path) -> Volume:
    header = read_header(path)
    uid = "" if header is None else str(header.get("SOPClassUID", ""))
    if uid in SEGMENTATIONS:
        raise MedDINOv3Error(
            "not-a-scan", f"'{path.name}' is a DICOM segmentation, no scan.", "Give the scan."
        )
    if header is None or not is_multiframe(header):
        raise MedDINOv3Error(
            "single-slice",
            f"'{path.name}' is a single DICOM file, not a series.",
            "Give the folder that holds all slices of the series.",
        )
    return read_multiframe(path)


def _bad_geometry(path: Path) -> MedDINOv3Error:
    return MedDINOv3Error(
        "bad-geometry",
        f"The header of '{path.name}' gives no usable spacing, position or direction: a number in "
        "it is zero, negative or none at all.",
        "Correct the header, or export the scan again.",
    )


# What ITK says, and what it means.
REASONS = (
    ("Unable to determine ImageIO reader", "it is no image of a kind known here, or damaged."),
    ("No such file", "it is cut off, or the file with its voxels is missing."),
    ("Bad direction", "its header puts all axes into one plane."),
)


def _unreadable(path: Path, error: Exception) -> MedDINOv3Error:
    text, reason = str(error), _reason(error)
    remedy = f"Copy or export it again; readable are {', '.join(READABLE)} and DICOM folders."
    if path.stat().st_size == 0:
        reason = "it is empty."
    elif "orthonormal" in text:
        reason = "its header (sform) describes sheared axes, which is no voxel grid."
        remedy = "Resample it to a regular grid, or correct the header's sform."
    else:
        reason = next((means for says, means in REASONS if says in text), reason)
    return MedDINOv3Error(
        "unreadable", f"'{path.name}' cannot be read as an image: {reason}", remedy
    )


def _check_shape(reader: sitk.ImageFileReader, path: Path) -> None:
    """One value a voxel, three dimensions; further ones of length 1 are left out."""
    dimension, size = reader.GetDimension(), list(reader.GetSize())
    if reader.GetNumberOfComponents() != 1:
        raise MedDINOv3Error(
            "colour-image",
            f"'{path.name}' has {reader.GetNumberOfComponents()} values a voxel.",
            "Give a scalar scan; write the channels to separate files.",
        )
    geometry = (*reader.GetSpacing(), *reader.GetOrigin(), *reader.GetDirection())
    if not np.isfinite(geometry).all() or min(reader.GetSpacing()) <= 0:
        raise _bad_geometry(path)
    if dimension > 3 and all(n == 1 for n in size[3:]):
        reader.SetExtractSize([*size[:3], *(0 for _ in size[3:])])
    elif dimension != 3:
        raise MedDINOv3Error(
            "not-3d",
            f"'{path.name}' has {dimension} dimensions ({' x '.join(map(str, size))}).",
            "Give one three-dimensional scan; split a time series first.",
        )


def _read_nifti(reader: sitk.ImageFileReader, path: Path) -> Volume:
    if reader.GetDimension() != 3:
        return volume_of(reader.Execute())
    grid = grid_of(reader)
    try:
        return Volume((nifti.read_voxels(path, grid.shape),), grid)
    except nifti.BadSpacingError as error:
        raise _bad_geometry(path) from error
    except nifti.NotSupportedHereError:
        return volume_of(reader.Execute())


def _reason(error: Exception) -> str:
    """The last telling line of an exception, without ITK's source locations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [
        line for line in lines if not line.startswith(("Exception thrown", "sitk::ERROR: The"))
    ]
    reason = (telling or lines or ["unknown reason"])[-1].split("ERROR: ")[-1]
    return reason if reason.endswith(".") else reason + "."
