"""DICOM SEG beside the DICOM series that was segmented, through highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meddinov3 import __version__
from meddinov3.atomic import whole_file
from meddinov3.dicom_listing import is_multiframe
from meddinov3.dicom_multiframe import frame_order
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Code, Label

SERIES_NUMBER = 300
# What DICOM asks to be present, if empty, and anonymisers remove; copied from the scan's slices.
REFERRED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "ReferringPhysicianName",
)  # fmt: skip


def write_dicom_seg(
    path: Path,
    label_map: np.ndarray,
    labels: Sequence[Label],
    source: Sequence[str],
    model: str,
) -> list[str]:
    """Write a binary DICOM segmentation that refers to its source series.

    Args:
        path: ends in ``.dcm``.
        label_map: (k, j, i) on the series' grid.
        labels: segments; those without a voxel are left out, as DICOM asks.
        source: the slices' files in the order of k, or the one multi-frame file.
        model: id, recorded as the algorithm.

    Returns:
        What the user should know.

    Raises:
        MedDINOv3Error: the scan was no DICOM series, or the segmentation is empty.
    """
    import highdicom
    import pydicom
    from highdicom.seg import (
        SegmentAlgorithmTypeValues,
        Segmentation,
        SegmentationTypeValues,
        SegmentDescription,
    )
    from pydicom.uid import ExplicitVRLittleEndian

    if not source:
        raise MedDINOv3Error(
            "not-dicom",
            "DICOM SEG refers to DICOM slices, and this scan is no DICOM series.",
            "Choose .seg.nrrd or .nii.gz, or give the DICOM folder as input.",
        )
    shown = [label for label in labels if (label_map == label.value).any()]
    if not shown:
        raise MedDINOv3Error(
            "empty-segmentation",
            "Nothing was found, and a DICOM SEG needs at least one voxel.",
            "Choose .seg.nrrd or .nii.gz for an empty result.",
        )
    slices = [pydicom.dcmread(name, stop_before_pixels=True) for name in source]
    notes = _complete(slices)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=f"MedDINOv3 {model}"[:64],
        version=__version__,
        family=highdicom.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
    )
    descriptions = [
        SegmentDescription(
            segment_number=number,
            segment_label=label.name[:64],
            segmented_property_category=_concept(label.category),
            segmented_property_type=_concept(label.type),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            anatomic_regions=None,
            display_color=highdicom.color.CIELabColor.from_rgb(*label.colour),
        )
        for number, label in enumerate(shown, start=1)
    ]
    values = np.zeros(label_map.shape, dtype=np.uint8 if len(shown) < 256 else np.uint16)
    for number, label in enumerate(shown, start=1):
        values[label_map == label.value] = number
    if len(source) == 1 and is_multiframe(slices[0]):
        values = values[np.argsort(frame_order(slices[0]))]  # frames in the order of the file
    segmentation = Segmentation(
        source_images=slices,
        pixel_array=values,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="MedDINOv3",
        manufacturer_model_name=model[:64],
        software_versions=__version__,
        device_serial_number="0",
        series_description=f"MedDINOv3 {model}"[:64],
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    segmentation.SpecificCharacterSet = "ISO_IR 192"  # UTF-8: names in any script
    for item, label in zip(segmentation.SegmentSequence, shown, strict=True):
        if label.modifier is not None:
            kind = item.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [_concept(label.modifier)]
    with whole_file(path) as temporary:
        segmentation.save_as(temporary)
    return notes


def _complete(slices: list[Any]) -> list[str]:
    """Fill identifiers that an anonymiser emptied, so that the result can refer to something."""
    from pydicom.uid import generate_uid

    study, series = generate_uid(), generate_uid()
    emptied = not all(item.get("StudyInstanceUID") for item in slices)
    for item in slices:
        item.SOPClassUID = item.get("SOPClassUID") or item.file_meta.MediaStorageSOPClassUID
        item.SOPInstanceUID = (
            item.get("SOPInstanceUID") or item.file_meta.MediaStorageSOPInstanceUID
        )
        item.StudyInstanceUID = item.get("StudyInstanceUID") or study
        item.SeriesInstanceUID = item.get("SeriesInstanceUID") or series
        for name in REFERRED:
            if name not in item:
                setattr(item, name, "")
    if not emptied:
        return []
    return [
        "the DICOM slices carry no study identifier (an anonymiser emptied it): the DICOM SEG "
        "got a new one and will not be found beside its scan in an archive"
    ]


def _concept(code: Code) -> object:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)
