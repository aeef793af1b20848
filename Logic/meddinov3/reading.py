"""Scans and label maps from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.volume import Volume, grid_of, volume_of

READABLE = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
MODALITY_TAG = "0008|0060"

sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK would print to the terminal


def stem(path: Path) -> str:
    """The file's name without its ending(s); a folder's name as it is."""
    if path.is_dir():
        return path.resolve().name
    for ending in (".seg.nrrd", *READABLE):
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def read_volume(path: Path) -> Volume:
    """Read a scan: NIfTI, NRRD, MHA/MHD, or a folder with one DICOM series.

    Returns:
        The volume in the stored voxel type (DICOM and NIfTI rescaling applied).

    Raises:
        MedDINOv3Error: missing, unreadable, not three-dimensional, not scalar, or several
            series in the folder.

    """
    if path.is_dir():
        return _read_dicom(path)
    return volume_of(_read_image(path))


def read_label_map(path: Path) -> tuple[np.ndarray, Grid]:
    """Read an integer label map as a (k, j, i) array and its grid.

    Raises:
        MedDINOv3Error: as :func:`read_volume`, or values that are no whole numbers.

    """
    image = _read_image(path)
    array = sitk.GetArrayFromImage(image)
    if array.dtype.kind == "f":
        whole = np.rint(array)
        if not np.array_equal(whole, array):
            raise MedDINOv3Error(
                "not-labels",
                f"'{path.name}' is no label map: it holds fractions.",
                "Give a label map, not a scan.",
            )
        array = whole.astype(np.int32)
    return array, grid_of(image)


def _read_image(path: Path) -> sitk.Image:
    if not path.is_file():
        raise MedDINOv3Error("file-missing", f"There is no file '{path}'.", "Check the path.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        dimension, size = reader.GetDimension(), list(reader.GetSize())
        if reader.GetNumberOfComponents() != 1:
            raise MedDINOv3Error(
                "colour-image",
                f"'{path.name}' has {reader.GetNumberOfComponents()} values a voxel.",
                "Give a scalar scan; write the channels to separate files.",
            )
        if dimension > 3 and all(n == 1 for n in size[3:]):
            reader.SetExtractSize([*size[:3], *(0 for _ in size[3:])])
        elif dimension != 3:
            raise MedDINOv3Error(
                "not-3d",
                f"'{path.name}' has {dimension} dimensions ({' x '.join(map(str, size))}).",
                "Give one three-dimensional scan; split a time series first.",
            )
        return reader.Execute()
    except RuntimeError as error:
        raise MedDINOv3Error(
            "unreadable",
            f"'{path.name}' cannot be read as an image: {_reason(error)}",
            f"Readable are {', '.join(READABLE)} and folders with a DICOM series.",
        ) from error


def _read_dicom(folder: Path) -> Volume:
    folder, series = _series_folder(folder)
    if not series:
        raise MedDINOv3Error(
            "no-dicom",
            f"The folder '{folder.name}' holds no DICOM image series.",
            "Give the folder that holds the slices, or an image file.",
        )
    if len(series) > 1:
        raise MedDINOv3Error(
            "several-series",
            f"The folder '{folder.name}' holds {len(series)} DICOM series.",
            "Put the one to segment into a folder of its own.",
        )
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise MedDINOv3Error(
            "unreadable",
            f"The DICOM series in '{folder.name}' cannot be read: {_reason(error)}",
            "Export it again, uncompressed.",
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise MedDINOv3Error(
            "not-3d", f"The DICOM series in '{folder.name}' is no scalar three-dimensional scan."
        )
    tagged = reader.HasMetaDataKey(0, MODALITY_TAG)
    modality = reader.GetMetaData(0, MODALITY_TAG).strip() if tagged else ""
    return volume_of(image, modality, tuple(files))


def _series_folder(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder itself or the only one below it that holds DICOM series, and their ids."""
    below = sorted(path for path in folder.rglob("*") if path.is_dir())
    found = [
        (path, sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(path))) for path in (folder, *below)
    ]
    found = [(path, series) for path, series in found if series]
    if len(found) == 1:
        return found[0]
    return folder, tuple(name for _, series in found for name in series)


def _reason(error: RuntimeError) -> str:
    """The last telling line of an ITK exception, without source locations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [
        line for line in lines if not line.startswith(("Exception thrown", "sitk::ERROR: The"))
    ]
    return (telling or lines or ["unknown reason"])[-1].split("ERROR: ")[-1]
