"""The frames of one multi-frame DICOM file: where each lies, and its stored values."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from meddinov3.dicom_geometry import no_geometry
from meddinov3.dicom_headers import DECOMPRESS, PREAMBLE, syntax_in_words, transfer_syntax
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import FloatArray

WORD_CAPTURES = "1.2.840.10008.5.1.4.1.1.7.3"
BYTE_CAPTURES = "1.2.840.10008.5.1.4.1.1.7.2"
RLE = "1.2.840.10008.1.2.5"
DEFLATED = "1.2.840.10008.1.2.1.99"
IMPLICIT = "1.2.840.10008.1.2"
UNCOMPRESSED = (IMPLICIT, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", DEFLATED)
# All that says how the voxels of a frame are stored.
PIXEL_ATTRIBUTES = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip


@dataclass(frozen=True)
class FramePlanes:
    """Where frames lie, in the order of the file.

    Attributes:
        corners: LPS positions (n, 3) in mm of the centre of each first voxel.
        cosines: directions (n, 6) in LPS along a row and along a column.
        spacings: (n, 2) in mm between rows and between columns.
        distance: mm between planes as the header says, or their thickness; 0 if it does not.
    """

    corners: FloatArray
    cosines: FloatArray
    spacings: FloatArray
    distance: float


def frame_groups(dataset: Any) -> list[Any]:
    """The functional groups of every frame."""
    return list(dataset.get("PerFrameFunctionalGroupsSequence") or [])


def functional_group(dataset: Any, groups: Any, name: str) -> Any | None:
    """A frame's functional group, its own before the one that all share; None without it."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for place in (groups, *shared):
        found = place.get(name)
        if found:
            return found[0]
    return None


def frame_planes(dataset: Any, what: str) -> FramePlanes:
    """Read the geometry of every frame.

    Args:
        dataset: header of the file.
        what: begins the sentence of a refusal.

    Raises:
        MedDINOv3Error: it is missing for some.
    """
    corners, cosines, spacings, distances = [], [], [], []
    for groups in frame_groups(dataset):
        position = functional_group(dataset, groups, "PlanePositionSequence")
        orientation = functional_group(dataset, groups, "PlaneOrientationSequence")
        measures = functional_group(dataset, groups, "PixelMeasuresSequence")
        try:
            corners.append([float(v) for v in position.ImagePositionPatient])  # type: ignore[union-attr]
            cosines.append([float(v) for v in orientation.ImageOrientationPatient])  # type: ignore[union-attr]
            spacings.append([float(v) for v in measures.PixelSpacing])  # type: ignore[union-attr]
            between = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")  # type: ignore[union-attr]
        except (AttributeError, TypeError, ValueError) as error:
            raise no_geometry(what) from error
        distances.append(abs(float(between or 0)))
    planes = FramePlanes(
        np.array(corners), np.array(cosines), np.array(spacings), max(distances, default=0.0)
    )
    count = int(dataset.get("NumberOfFrames") or 1)
    shapes = (planes.corners.shape, planes.cosines.shape, planes.spacings.shape)
    if shapes != ((count, 3), (count, 6), (count, 2)):
        raise no_geometry(what)
    return planes


def stored_frames(path: Path, what: str) -> Iterator[np.ndarray]:
    """The stored values (rows, columns) of every frame, in the order of the file.

    Args:
        path: a file whose header was read.
        what: begins the sentence of a refusal.

    Raises:
        MedDINOv3Error: cut off, damaged, or compressed in a way not known here.
    """
    from pydicom import dcmread
    from pydicom.pixels import iter_pixels

    header = dcmread(path, stop_before_pixels=True)
    syntax = transfer_syntax(header) or IMPLICIT
    try:
        if syntax not in (*UNCOMPRESSED, RLE):
            yield from _through_gdcm(path)
        elif int(header.BitsAllocated) == 1:
            yield from _bits(path)
        else:
            # A deflated file cannot be read in parts.
            for frame in iter_pixels(dcmread(path) if syntax == DEFLATED else path, raw=True):
                yield _without_spare_bits(frame, int(header.BitsStored))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise what they like
        raise unknown_compression(what, syntax) from error


def unknown_compression(what: str, syntax: str) -> MedDINOv3Error:
    """The refusal of voxels that no decoder here understands, naming how they are stored."""
    if syntax in UNCOMPRESSED:
        return MedDINOv3Error(
            "unreadable", f"{what} cannot be read: it is cut off or damaged.", "Export it again."
        )
    return MedDINOv3Error(
        "unknown-compression",
        f"{what} is compressed as '{syntax_in_words(syntax)}', which is not known here, or is "
        "damaged.",
        DECOMPRESS,
    )


def _bits(path: Path) -> Iterator[np.ndarray]:
    """Frames of one bit a voxel; a frame need not begin at a byte."""
    from pydicom import dcmread

    dataset = dcmread(path)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    content, length = np.frombuffer(dataset.PixelData, np.uint8), rows * columns
    for number in range(int(dataset.get("NumberOfFrames") or 1)):
        first, last = number * length, (number + 1) * length
        bits = np.unpackbits(content[first // 8 : (last + 7) // 8], bitorder="little")
        yield bits[first % 8 : first % 8 + length].reshape(rows, columns)


def _without_spare_bits(frame: np.ndarray, stored: int) -> np.ndarray:
    """Values of the `stored` lowest bits: old files keep overlays in the others."""
    spare = 8 * frame.dtype.itemsize - stored
    return frame if spare <= 0 or frame.dtype.kind == "f" else (frame << spare) >> spare


def _through_gdcm(path: Path) -> Iterator[np.ndarray]:
    """Compressed frames, by the decoders that read ordinary series.

    GDCM would rescale every frame as the first; a copy without geometry and rescaling gives
    the stored values.
    """
    from pydicom import dcmread
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import generate_uid

    source = dcmread(path)
    meta = FileMetaDataset()
    word = int(source.BitsAllocated) > 8
    meta.MediaStorageSOPClassUID = WORD_CAPTURES if word else BYTE_CAPTURES
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    with tempfile.TemporaryDirectory() as folder:
        copy = FileDataset("", {}, file_meta=meta, preamble=b"\0" * PREAMBLE)
        copy.SOPClassUID = meta.MediaStorageSOPClassUID
        copy.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        for name in PIXEL_ATTRIBUTES:
            if name in source:
                copy[name] = source[name]
        copy.save_as(Path(folder) / "frames.dcm", enforce_file_format=True)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(Path(folder) / "frames.dcm"))
        values = sitk.GetArrayFromImage(reader.Execute())
    yield from values.reshape(-1, int(source.Rows), int(source.Columns))
