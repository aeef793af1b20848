"""A DICOM series in a folder as one scan.

The positions of the slices are checked here, since the reader below assumes even spacing and
takes what is missing for 1 mm.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from meddinov3.dicom_frames import unknown_compression
from meddinov3.dicom_geometry import EXPORT_AGAIN, check_slices, no_geometry
from meddinov3.dicom_headers import DECOMPRESS, read_header, syntax_in_words, transfer_syntax
from meddinov3.dicom_listing import LOCALISER, NO_SCANS, SeriesInfo, list_series
from meddinov3.dicom_multiframe import read_multiframe
from meddinov3.errors import MedDINOv3Error
from meddinov3.volume import Volume, volume_of

MODALITY = "0008|0060"
PIXEL_SPACING = "0028|0030"
RESCALING = ("0028|1052", "0028|1053")  # intercept, slope
THICKNESS = "0018|0050"
POSITION = "0020|0032"
DIRECTION = "0020|0037"


def read_series(folder: Path, number: int | None = None) -> Volume:
    """Read a DICOM image series in a folder or below it.

    Args:
        folder: searched with everything below it.
        number: which series, counted from 1 in the order of :func:`list_series`; None if there
            is one only, or one beside localisers, screen captures, segmentations and doses.

    Raises:
        MedDINOv3Error: no series, several and no `number`, no such number, no scan, compressed
            in a way not known here, or slices that lie on no grid.
    """
    series = list_series(folder)
    if not series:
        raise MedDINOv3Error(
            "no-dicom",
            f"The folder '{folder.name}' holds no DICOM image series.",
            "Give the folder that holds the slices, or an image file.",
        )
    number = _only_scan(series) if number is None else number
    if number is None and all(info.kind == LOCALISER for info in series):
        raise MedDINOv3Error(
            "localiser",
            f"The folder '{folder.name}' holds {len(series)} localiser(s) and no scan: overview "
            "pictures on which a scan was planned.",
            "Give the folder of the scan; if it is really meant, say so with --series NUMBER.",
        )
    if number is None or not 1 <= number <= len(series):
        listed = "; ".join(f"{n}: {info}" for n, info in enumerate(series, start=1))
        raise MedDINOv3Error(
            "several-series",
            f"The folder '{folder.name}' holds {len(series)} DICOM series. {listed}.",
            "Say which one with --series NUMBER.",
        )
    chosen = series[number - 1]
    _check_kind(chosen, folder.name, len(series))
    if chosen.frames:
        path = Path(chosen.files[0])
        volume = read_multiframe(path)
    else:
        volume = _read_slices(chosen.files, f"The DICOM series in '{folder.name}'")
    beside = dict.fromkeys(info.kind for info in series if info is not chosen and info.kind)
    if not beside or chosen.kind:
        return volume
    note = f"left out beside the scan in its DICOM folder: {', '.join(beside)}"
    return replace(volume, notes=(*volume.notes, note))


def _only_scan(series: list[SeriesInfo]) -> int | None:
    """The number of the series that can be meant, if there is one only."""
    scans = [n for n, info in enumerate(series, start=1) if not info.kind]
    if len(scans) == 1:
        return scans[0]
    return 1 if len(series) == 1 and series[0].kind != LOCALISER else None


def _check_kind(chosen: SeriesInfo, name: str, count: int) -> None:
    if chosen.kind in NO_SCANS.values():
        raise MedDINOv3Error(
            "not-a-scan",
            f"The DICOM object chosen in '{name}' is no scan but a {chosen.kind}.",
            "Give the CT or MR series." + (" Choose another --series NUMBER." * (count > 1)),
        )


def _read_slices(files: tuple[str, ...], what: str) -> Volume:
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = reader.Execute()
        if _varies(reader, len(files), RESCALING):
            # The type of the first slice would cut the others' values to whole numbers.
            reader.SetOutputPixelType(sitk.sitkFloat32)
            image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(files, what) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise MedDINOv3Error(
            "not-3d",
            f"{what} is no scalar three-dimensional scan.",
            "Give a CT or MR series; photographs and screen captures cannot be segmented.",
        )
    _check_grid(reader, len(files), what)
    if len(files) == 1 and reader.HasMetaDataKey(0, THICKNESS):
        thickness = float(reader.GetMetaData(0, THICKNESS) or 0)
        image.SetSpacing((*image.GetSpacing()[:2], thickness or image.GetSpacing()[2]))
    tagged = reader.HasMetaDataKey(0, MODALITY)
    modality = reader.GetMetaData(0, MODALITY).strip() if tagged else ""
    return volume_of(image, modality, files)


def _unreadable(files: tuple[str, ...], what: str) -> MedDINOv3Error:
    """Why slices cannot be read: differing sizes, an unknown compression, or damage."""
    headers = [read_header(Path(name), ("Rows", "Columns")) for name in files]
    sizes = {(int(h.Columns), int(h.Rows)) for h in headers if h is not None}
    if len(sizes) > 1:
        listed = ", ".join(f"{columns} x {rows}" for columns, rows in sorted(sizes))
        return MedDINOv3Error(
            "unreadable", f"{what} cannot be read: its slices differ in size ({listed}).",
            EXPORT_AGAIN,
        )  # fmt: skip
    syntaxes = sorted({transfer_syntax(header) for header in headers if header is not None} - {""})
    if len(syntaxes) == 1:
        return unknown_compression(what, syntaxes[0])
    listed = ", ".join(f"'{syntax_in_words(syntax)}'" for syntax in syntaxes)
    return MedDINOv3Error(
        "unknown-compression",
        f"{what} cannot be read: its slices are damaged, or stored in ways of which one is not "
        f"known here ({listed}).",
        DECOMPRESS,
    )


def _check_grid(reader: sitk.ImageSeriesReader, count: int, what: str) -> None:
    """Refuse slices that are turned, shifted, doubled or unevenly spaced."""
    spacings = _geometry(reader, count, PIXEL_SPACING, 2)
    positions = _geometry(reader, count, POSITION, 3)
    directions = _geometry(reader, count, DIRECTION, 6)
    if spacings is None or (count > 1 and (positions is None or directions is None)):
        raise no_geometry(what)
    if positions is not None and directions is not None:
        check_slices(what, positions, directions, spacings)


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
