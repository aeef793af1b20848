"""DICOM series in a folder: which there are, their slices in order, and whether they lie on a grid.

The positions of the slices are checked here, since the reader below assumes even spacing and
takes what is missing for 1 mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from meddinov3.errors import MedDINOv3Error
from meddinov3.volume import Volume, volume_of

MODALITY = "0008|0060"
DESCRIPTION = "0008|103e"
PIXEL_SPACING = "0028|0030"
RESCALING = ("0028|1052", "0028|1053")  # intercept, slope
THICKNESS = "0018|0050"
POSITION = "0020|0032"
DIRECTION = "0020|0037"
EVEN = 0.05  # mm, and 2 % of the distance: headers round
EXPORT_AGAIN = "Export it from the archive again, or convert it with a tool that resamples."


@dataclass(frozen=True)
class SeriesInfo:
    """A DICOM image series in a folder.

    Attributes:
        files: its slices in the order that GDCM gives them.
        modality, description: as the header says.
        size: voxels (columns, rows) of a slice.
    """

    files: tuple[str, ...]
    modality: str
    description: str
    size: tuple[int, int]

    def __str__(self) -> str:
        """In words, e.g. ``CT 'Thorax 1.0', 512 x 512, 312 slices``."""
        name = f" '{self.description}'" if self.description else ""
        shape = f"{self.size[0]} x {self.size[1]}, {len(self.files)} slice(s)"
        return f"{self.modality or '?'}{name}, {shape}"


def list_series(folder: Path) -> list[SeriesInfo]:
    """Every DICOM image series in a folder and below it, always in the same order."""
    below = sorted(path for path in folder.rglob("*") if path.is_dir())
    found = []
    for place in (folder, *below):
        for series in sorted(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place))):
            files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), series)
            found.append(_describe(tuple(files)))
    return found


def _describe(files: tuple[str, ...]) -> SeriesInfo:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(files[0])
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return SeriesInfo(files, "", "", (0, 0))
    texts = {
        tag: reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""
        for tag in (MODALITY, DESCRIPTION)
    }
    size = reader.GetSize()
    return SeriesInfo(files, texts[MODALITY], texts[DESCRIPTION], (size[0], size[1]))


def read_series(folder: Path, number: int | None = None) -> Volume:
    """Read a DICOM image series in a folder or below it.

    Args:
        folder: searched with everything below it.
        number: which series, counted from 1 in the order of :func:`list_series`; None if there
            is one only.

    Raises:
        MedDINOv3Error: no series, several and no `number`, no such number, not scalar, or slices
            that lie on no grid.
    """
    series = list_series(folder)
    if not series:
        raise MedDINOv3Error(
            "no-dicom",
            f"The folder '{folder.name}' holds no DICOM image series.",
            "Give the folder that holds the slices, or an image file.",
        )
    if number is None and len(series) == 1:
        number = 1
    if number is None or not 1 <= number <= len(series):
        listed = "; ".join(f"{n}: {info}" for n, info in enumerate(series, start=1))
        raise MedDINOv3Error(
            "several-series",
            f"The folder '{folder.name}' holds {len(series)} DICOM series. {listed}.",
            "Say which one with --series NUMBER.",
        )
    files = series[number - 1].files
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = reader.Execute()
        if _varies(reader, len(files), RESCALING):
            # The type of the first slice would cut the others' values to whole numbers.
            reader.SetOutputPixelType(sitk.sitkFloat32)
            image = reader.Execute()
    except RuntimeError as error:
        raise MedDINOv3Error(
            "unreadable",
            f"The DICOM series in '{folder.name}' cannot be read: its slices differ in size or "
            "type, are damaged, or are compressed in a way not known here.",
            EXPORT_AGAIN,
        ) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise MedDINOv3Error(
            "not-3d",
            f"The DICOM series in '{folder.name}' is no scalar three-dimensional scan.",
            "Give a CT or MR series; photographs and screen captures cannot be segmented.",
        )
    _check_grid(reader, len(files), folder.name)
    if len(files) == 1 and reader.HasMetaDataKey(0, THICKNESS):
        thickness = float(reader.GetMetaData(0, THICKNESS) or 0)
        image.SetSpacing((*image.GetSpacing()[:2], thickness or image.GetSpacing()[2]))
    tagged = reader.HasMetaDataKey(0, MODALITY)
    modality = reader.GetMetaData(0, MODALITY).strip() if tagged else ""
    return volume_of(image, modality, tuple(files))


def _check_grid(reader: sitk.ImageSeriesReader, count: int, name: str) -> None:
    """Refuse slices that are turned, shifted, doubled or unevenly spaced."""
    spacings = _geometry(reader, count, PIXEL_SPACING, 2)
    positions = _geometry(reader, count, POSITION, 3)
    directions = _geometry(reader, count, DIRECTION, 6)
    if spacings is None or (count > 1 and (positions is None or directions is None)):
        raise MedDINOv3Error(
            "no-geometry",
            f"The DICOM series in '{name}' does not say where its slices lie: pixel spacing, "
            "position or orientation is missing in some of them.",
            EXPORT_AGAIN,
        )
    if count < 2 or positions is None or directions is None:
        return
    problem = ""
    steps = np.diff(positions, axis=0)
    normal = np.cross(directions[0, :3], directions[0, 3:])
    gaps = steps @ normal
    distance = float(np.median(np.abs(gaps)))
    allowed = max(EVEN, 0.02 * distance)
    sideways = np.linalg.norm(steps - np.outer(gaps, normal), axis=1)
    if np.abs(spacings - spacings[0]).max() > 1e-3:
        problem = "its slices differ in pixel spacing"
    elif np.abs(directions - directions[0]).max() > 1e-3:
        problem = "its slices are turned against each other"
    elif (np.abs(gaps) < EVEN / 10).any():
        problem = "several slices lie at one position (a slice twice, or several time points)"
    elif sideways.max() > allowed:
        tilt = np.degrees(np.arctan2(sideways.max(), distance))
        problem = f"its slices are shifted sideways as with a tilted gantry ({tilt:.0f} degrees)"
    elif (np.abs(np.abs(gaps) - distance) > allowed).any():
        low, high = np.abs(gaps).min(), np.abs(gaps).max()
        problem = f"its slices lie {low:.2f} to {high:.2f} mm apart (slices are missing?)"
    if problem:
        raise MedDINOv3Error(
            "uneven-series",
            f"The DICOM series in '{name}' is on no regular grid: {problem}.",
            EXPORT_AGAIN,
        )


def _geometry(
    reader: sitk.ImageSeriesReader, count: int, tag: str, length: int
) -> np.ndarray | None:
    """A tag's numbers for every slice (count, length), or None if a slice lacks them."""
    rows = []
    for number in range(count):
        text = reader.GetMetaData(number, tag) if reader.HasMetaDataKey(number, tag) else ""
        try:
            row = [float(part) for part in text.split("\\")]
        except ValueError:
            return None
        if len(row) != length:
            return None
        rows.append(row)
    return np.array(rows)


def _varies(reader: sitk.ImageSeriesReader, count: int, tags: tuple[str, ...]) -> bool:
    """Whether one of the tags differs between slices."""
    return any(
        len({reader.GetMetaData(n, t) if reader.HasMetaDataKey(n, t) else "" for n in range(count)})
        > 1
        for t in tags
    )
