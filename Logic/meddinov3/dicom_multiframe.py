"""Scans that are one DICOM file: enhanced CT, MR and PET, and what was converted to them.

Each frame says for itself where it lies and how its values are rescaled; the frames may be in
any order, and hold several time points, echoes or stacks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from meddinov3.dicom_frames import frame_groups, frame_planes, functional_group, stored_frames
from meddinov3.dicom_geometry import EVEN, along_normal, check_slices, grid_of_slices
from meddinov3.dicom_headers import quietly, read_header
from meddinov3.errors import MedDINOv3Error
from meddinov3.volume import Volume

SPLIT = "Export the parts as series of their own, or split it in the archive's software."
# What may differ between frames at one place: functional group, attribute, in words.
VARYING = (
    ("FrameContentSequence", "TemporalPositionIndex", "time points"),
    ("MREchoSequence", "EffectiveEchoTime", "echo times"),
    ("MRDiffusionSequence", "DiffusionBValue", "b-values"),
    ("MRDiffusionSequence", "DiffusionDirectionality", "diffusion maps"),
    ("MRTimingAndRelatedParametersSequence", "FlipAngle", "flip angles"),
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase", "cardiac phases"),
    ("RespiratorySynchronizationSequence", "NominalPercentageOfRespiratoryPhase", "breath phases"),
    ("MRImageFrameTypeSequence", "FrameType", "kinds of image"),
    ("MRImageFrameTypeSequence", "ComplexImageComponent", "kinds of image"),
    ("CTImageFrameTypeSequence", "FrameType", "kinds of image"),
    ("CTXRayDetailsSequence", "KVP", "tube voltages"),
    ("FrameContentSequence", "FrameAcquisitionDateTime", "acquisition times"),
)


@quietly()
def read_multiframe(path: Path, what: str = "") -> Volume:
    """Read a multi-frame DICOM image as one scan, its slices in the order of their position.

    Args:
        path: the file.
        what: begins the sentence of a refusal; the file's name by default.

    Returns:
        The scan with rescaled values: int16, or int32 where they need it, if the rescaling
        gives whole numbers, else float32.

    Raises:
        MedDINOv3Error: colour, no geometry, several stacks, time points, echoes or b-values,
            frames on no regular grid, cut off, or compressed in a way not known here.
    """
    what = what or f"The multi-frame image '{path.name}'"
    header = read_header(path)
    if header is None:
        raise MedDINOv3Error("unreadable", f"{what} cannot be read as DICOM.", "Export it again.")
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise MedDINOv3Error(
            "not-3d",
            f"{what} is in colour and no scan.",
            "Give a CT or MR series; photographs and screen captures cannot be segmented.",
        )
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise MedDINOv3Error("not-a-scan", f"{what} holds a computed map.", "Give the scan.")
    if int(header.get("InConcatenationTotalNumber") or 1) > 1:
        raise MedDINOv3Error(
            "several-parts",
            f"{what} is one of {int(header.InConcatenationTotalNumber)} files that one image was "
            "split into (a concatenation).",
            "Export the image as one file, or as a series of single slices.",
        )
    planes = frame_planes(header, what)
    _check_one_scan(header, planes.cosines, along_normal(planes.corners, planes.cosines), what)
    order = frame_order(header)
    corners, cosines = planes.corners[order], planes.cosines[order]
    check_slices(what, corners, cosines, planes.spacings[order])
    size = (int(header.Columns), int(header.Rows))
    grid = grid_of_slices(size, corners, cosines, planes.spacings, planes.distance)
    stored: np.ndarray | None = None
    place = np.argsort(order)  # the k of every frame in the file
    count = 0
    for frame in stored_frames(path, what):
        if stored is None:
            stored = np.empty(grid.shape, frame.dtype)
        stored[place[count]] = frame
        count += 1
    if stored is None or count != len(order):
        raise MedDINOv3Error(
            "unreadable",
            f"{what} holds {count} of the {len(order)} frames that its header states.",
            "It is cut off or damaged: copy or export it again.",
        )
    values = _rescaled(stored, _rescaling(header)[order])
    return Volume((values,), grid, str(header.get("Modality") or ""), (str(path),))


def frame_order(header: Any) -> np.ndarray:
    """Which frame of the file (counted from 0) lies at each k of the volume that is read."""
    planes = frame_planes(header, "The multi-frame image")
    return np.argsort(along_normal(planes.corners, planes.cosines), kind="stable")


def _check_one_scan(header: Any, cosines: np.ndarray, heights: np.ndarray, what: str) -> None:
    """Refuse frames that make up several scans, saying in what they differ."""
    groups = frame_groups(header)
    turned = np.abs(cosines - cosines[0]).max() > 1e-3
    stacks = {
        str(content.get("StackID", ""))
        for content in (functional_group(header, g, "FrameContentSequence") for g in groups)
        if content is not None
    }
    if len(stacks) > 1 and (turned or not _even(heights)):
        raise MedDINOv3Error(
            "several-scans", f"{what} holds {len(stacks)} stacks of slices.", SPLIT
        )
    if turned or len(heights) < 2 or np.diff(np.sort(heights)).min() >= EVEN / 10:
        return
    differences = dict.fromkeys(
        words for group, name, words in VARYING if _varies(header, groups, group, name)
    )
    raise MedDINOv3Error(
        "several-scans",
        f"{what} holds several frames at one position"
        + (f": they differ in {', '.join(differences)}." if differences else "."),
        SPLIT,
    )


def _even(heights: np.ndarray) -> bool:
    steps = np.diff(np.sort(heights))
    return bool(len(steps) == 0 or np.ptp(steps) <= max(EVEN, 0.02 * float(np.median(steps))))


def _varies(header: Any, groups: list[Any], group: str, name: str) -> bool:
    found = (functional_group(header, frame, group) for frame in groups)
    return len({str(item.get(name, "")) if item is not None else "" for item in found}) > 1


def _rescaling(header: Any) -> np.ndarray:
    """Slope and intercept (n, 2) of every frame, in the order of the file."""
    rows = []
    for groups in frame_groups(header):
        item = functional_group(header, groups, "PixelValueTransformationSequence") or header
        slope, intercept = item.get("RescaleSlope"), item.get("RescaleIntercept")
        rows.append((float(1 if slope is None else slope), float(intercept or 0)))
    return np.array(rows)


def _rescaled(stored: np.ndarray, rescaling: np.ndarray) -> np.ndarray:
    """Apply slopes and intercepts (k, 2) to stored values (k, j, i), in place where it fits."""
    if (rescaling != np.rint(rescaling)).any():
        result = np.empty(stored.shape, np.float32)
        for k, (slope, intercept) in enumerate(rescaling):
            result[k] = stored[k] * slope + intercept
        return result
    ends = [
        int(end) * int(slope) + int(intercept)
        for plane, (slope, intercept) in zip(stored, rescaling, strict=True)
        for end in (plane.min(), plane.max())
    ]
    limits = np.iinfo(np.int16)
    fits = limits.min <= min(ends) and max(ends) <= limits.max
    if fits and stored.dtype.itemsize == 2:
        result = stored.view(np.int16)  # its memory is used again
    else:
        result = np.empty(stored.shape, np.int16 if fits else np.int32)
    for k, (slope, intercept) in enumerate(rescaling):
        result[k] = stored[k].astype(np.int64) * int(slope) + int(intercept)
    return result
