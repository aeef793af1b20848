"""Small RTSTRUCT files, written with pydicom alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from dicom_series import header, short
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
Drawn = tuple[str, Sequence[np.ndarray]]


def write_rtstruct(
    path: Path,
    drawn: Sequence[Drawn],
    frame: str = "",
    kind: str = "CLOSED_PLANAR",
    colours: Sequence[tuple[int, int, int] | None] = (),
) -> Path:
    """Write contours.

    Args:
        path: of the file.
        drawn: name and contours (n, 3) in LPS mm of every structure.
        frame: frame of reference; none in the file if "".
        kind: geometric type of all contours.
        colours: of the first structures, None for one without.
    """
    data = header(generate_uid(), generate_uid(), frame or generate_uid())
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = RTSTRUCT
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
    data.Modality = "RTSTRUCT"
    del data.FrameOfReferenceUID
    rois, items = [], []
    for number, (name, contours) in enumerate(drawn, start=11):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        if frame:
            roi.ReferencedFrameOfReferenceUID = frame
        item.ReferencedROINumber = number
        if len(colours) > number - 11 and colours[number - 11] is not None:
            item.ROIDisplayColor = list(colours[number - 11] or ())
        item.ContourSequence = []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType = kind
            contour.NumberOfContourPoints = len(points)
            contour.ContourData = [short(value) for value in np.ravel(points)]
            item.ContourSequence.append(contour)
        rois.append(roi)
        items.append(item)
    data.StructureSetROISequence, data.ROIContourSequence = rois, items[::-1]
    data.save_as(path, enforce_file_format=True)
    return path
