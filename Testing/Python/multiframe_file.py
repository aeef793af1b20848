"""Small enhanced multi-frame DICOM images, written with pydicom alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from dicom_series import header, short
from meddinov3.grid import Grid
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import generate_uid

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
Rescaling = tuple[float, float]


def item(**attributes: object) -> list[Dataset]:
    """A sequence of one item."""
    dataset = Dataset()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return [dataset]


def multiframe(
    array: np.ndarray,
    grid: Grid,
    order: Sequence[int] | None = None,
    rescaling: Sequence[Rescaling] = ((1, -1024),),
    stored: str = "<u2",
    sop_class: str = ENHANCED_CT,
) -> FileDataset:
    """An enhanced image of stored values (k, j, i).

    Args:
        array: whole numbers that `stored` holds.
        grid: right-handed directions.
        order: which k each frame of the file holds.
        rescaling: slope and intercept, one for all frames or one for each of the file.
        stored: numpy type of the stored values.
        sop_class: UID.
    """
    order = range(len(array)) if order is None else order
    data = header(generate_uid(), generate_uid(), generate_uid())
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = sop_class
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
    data.Modality = "MR" if sop_class == ENHANCED_MR else "CT"
    data.InstanceNumber = 1
    data.NumberOfFrames, data.Rows, data.Columns = array.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    kind = np.dtype(stored)
    data.BitsAllocated = data.BitsStored = 8 * kind.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(kind.kind == "i")
    data.PixelData = array[list(order)].astype(kind).tobytes()
    shared = Dataset()
    shared.PlaneOrientationSequence = item(
        ImageOrientationPatient=[short(v) for v in grid.direction[:, :2].T.ravel()]
    )
    shared.PixelMeasuresSequence = item(
        PixelSpacing=[short(grid.spacing[1]), short(grid.spacing[0])],
        SliceThickness=short(grid.spacing[2]),
    )
    frames = []
    for number, k in enumerate(order):
        frame = Dataset()
        corner = grid.to_patient(np.array([0.0, 0.0, float(k)]))
        frame.PlanePositionSequence = item(ImagePositionPatient=[short(v) for v in corner])
        frame.FrameContentSequence = item(StackID="1", InStackPositionNumber=int(k) + 1)
        if len(rescaling) > 1:
            frame.PixelValueTransformationSequence = _transformation(rescaling[number])
        frames.append(frame)
    if len(rescaling) == 1:
        shared.PixelValueTransformationSequence = _transformation(rescaling[0])
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = frames
    return data


def _transformation(rescaling: Rescaling) -> list[Dataset]:
    slope, intercept = rescaling
    return item(RescaleSlope=short(slope), RescaleIntercept=short(intercept), RescaleType="US")


def saved(
    data: FileDataset, path: Path, change: Callable[[FileDataset], object] | None = None
) -> Path:
    """Write the image after a change to it."""
    if change is not None:
        change(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path
