"""DICOM SEG as a label map on a scan's grid: frames put where they lie in the patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meddinov3.dicom_frames import (
    FramePlanes,
    frame_groups,
    frame_planes,
    functional_group,
    stored_frames,
)
from meddinov3.dicom_geometry import along_normal, check_slices, grid_of_slices
from meddinov3.dicom_headers import SEGMENTATIONS, frame_of_reference, quietly, read_header
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import FloatArray, Grid, nearest_axes
from meddinov3.label_map import (
    LabelMap,
    LabelPainter,
    chosen_labels,
    inside,
    nearest_labels,
    on_lattice,
    unique_names,
)
from meddinov3.labels import TISSUE, Code, Label, default_colour
from meddinov3.volume import Volume

HALF = 0.5  # of the highest value: a fractional segment's edge


@dataclass(frozen=True, eq=False)
class _Frames:
    """The frames that are painted, and how.

    Attributes:
        header: of the file.
        planes: geometry of every frame.
        numbers: segment of every frame; 0 in a label map, whose values are segments.
        threshold: the lowest value that belongs to a segment.
    """

    header: Any
    planes: FramePlanes
    numbers: tuple[int, ...]
    threshold: float


@quietly()
def read_dicom_seg(path: Path, scan: Volume, structures: Sequence[str] | None = None) -> LabelMap:
    """Read a DICOM SEG onto a scan's grid.

    Frames whose voxels coincide with the scan's are copied exactly, whatever their orientation
    and order; others are resampled to the nearest voxel. Fractional segments are cut at half.

    Args:
        path: a binary, fractional or label-map segmentation.
        scan: whose grid the label map gets; its DICOM source says the frame of reference.
        structures: names to take; all by default. Where segments overlap, later ones cover
            earlier ones.

    Returns:
        The label map; values are the segments' numbers.

    Raises:
        MedDINOv3Error: no DICOM SEG, damaged, without geometry, in another frame of reference,
            on no regular grid, beside the scan, or no such structure.
    """
    header = read_header(path)
    if header is None or header.get("SOPClassUID") not in SEGMENTATIONS:
        raise MedDINOv3Error(
            "not-dicom-seg", f"'{path.name}' is no DICOM SEG.", "Give the segmentation's file."
        )
    what = f"The DICOM SEG '{path.name}'"
    own, frame = str(header.get("FrameOfReferenceUID") or ""), frame_of_reference(scan.source)
    if own and frame and own != frame:
        raise MedDINOv3Error(
            "other-frame",
            f"{what} lies in another frame of reference than the scan's: it belongs to another "
            "scan.",
            "Give the scan that it was made on.",
        )
    notes = []
    if not frame:
        notes.append(
            "the scan does not say its frame of reference: the segments were placed by their "
            "position alone"
        )
    frames = _frames(header, what, notes)
    labels = chosen_labels(_labels(header), structures)
    return _painted(path, frames, labels, scan.grid, notes, what)


def _frames(header: Any, what: str, notes: list[str]) -> _Frames:
    planes = frame_planes(header, what)
    kind = str(header.get("SegmentationType") or "BINARY")
    numbers = []
    for groups in frame_groups(header):
        item = functional_group(header, groups, "SegmentIdentificationSequence")
        if item is None and kind != "LABELMAP":
            raise MedDINOv3Error(
                "unreadable",
                f"{what} does not say which segment its frames belong to.",
                "Export it again.",
            )
        numbers.append(int(item.ReferencedSegmentNumber) if item is not None else 0)
    threshold = 1.0
    if kind == "FRACTIONAL":
        threshold = HALF * float(header.get("MaximumFractionalValue") or 255)
        notes.append("fractional segments were cut at one half")
    elif kind == "LABELMAP":
        numbers = [0] * len(numbers)
    return _Frames(header, planes, tuple(numbers), threshold)


def _painted(
    path: Path,
    frames: _Frames,
    labels: Sequence[Label],
    grid: Grid,
    notes: list[str],
    what: str,
) -> LabelMap:
    """Paint the frames on the scan's grid, or on their own and resample that."""
    size = (int(frames.header.Columns), int(frames.header.Rows))
    places = [_frame_grid(frames.planes, n, size, grid) for n in range(len(frames.numbers))]
    empty = np.empty((1, size[1], size[0]), bool)
    target = grid
    if any(on_lattice(empty, place, grid) is None for place in places):
        target = _own_grid(frames.planes, size, what)
        places = [_frame_grid(frames.planes, n, size, target) for n in range(len(frames.numbers))]
        own, wanted = (" x ".join(f"{s:.3g}" for s in g.spacing) for g in (target, grid))
        notes.append(
            f"the segments' voxels ({own} mm) are not the scan's ({wanted} mm): resampled to the "
            "nearest voxel"
        )
    painter = LabelPainter(target.shape, labels)
    cut = 0
    unknown: set[int] = set()
    known = {0, *(int(item.SegmentNumber) for item in frames.header.SegmentSequence)}
    for frame, number, values in _by_segment(path, frames, what):
        present = {number} if number else set(np.unique(values).tolist())
        unknown |= present - known
        for label in labels:
            if label.value not in present:
                continue
            mask = values == label.value if number == 0 else values >= frames.threshold
            found = on_lattice(mask[None], places[frame], target)
            if found is None:
                raise MedDINOv3Error(
                    "uneven-series",
                    f"{what} has frames between its own planes.",
                    "Export it again.",
                )
            part, box = inside(*found, target.shape)
            cut += int(mask.sum()) - int(part.sum())
            painter.paint(box, part, label.value)
    if unknown:
        notes.append(f"values without a segment were left out: {', '.join(map(str, unknown))}")
    array, held = painter.array, int(np.count_nonzero(painter.array))
    if target is not grid:
        array = nearest_labels(array, target, grid)
    if cut:
        notes.append(f"{cut} voxel(s) of the segments lie outside the scan and were left out")
    if (cut or held) and not array.any():
        raise MedDINOv3Error(
            "outside-scan", f"No voxel of {what[0].lower()}{what[1:]} lies on the scan.",
            "Give the scan that it was made on.",
        )  # fmt: skip
    return LabelMap(array, grid, tuple(labels), tuple(notes + painter.notes()))


def _by_segment(path: Path, frames: _Frames, what: str) -> Iterator[tuple[int, int, np.ndarray]]:
    """Frame, segment number and values, segments in order so that later ones cover earlier."""
    if list(frames.numbers) == sorted(frames.numbers):
        for frame, values in enumerate(stored_frames(path, what)):
            yield frame, frames.numbers[frame], values
        return
    # One byte a voxel of every frame, where the file is not in the order of the segments.
    held = [values >= frames.threshold for values in stored_frames(path, what)]
    for frame in np.argsort(frames.numbers, kind="stable"):
        yield int(frame), frames.numbers[frame], held[frame] * frames.threshold


def _frame_grid(planes: FramePlanes, number: int, size: tuple[int, int], target: Grid) -> Grid:
    """One frame as a grid of one slice, as thick as the target's slices along its normal."""
    part = slice(number, number + 1)
    corners, cosines, spacings = planes.corners[part], planes.cosines[part], planes.spacings[part]
    grid = grid_of_slices(size, corners, cosines, spacings, 1.0)
    turned = target.direction.T @ grid.direction
    axis = nearest_axes(turned)[2][0]
    return Grid(grid.size, (*grid.spacing[:2], target.spacing[axis]), grid.origin, grid.direction)


def _own_grid(planes: FramePlanes, size: tuple[int, int], what: str) -> Grid:
    """The grid of the frames' planes; planes without a frame are empty."""
    heights = along_normal(planes.corners, planes.cosines)
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    new = np.concatenate([[True], gaps > max(0.01, 0.01 * planes.distance)])
    chosen = order[new]
    steps = np.diff(heights[chosen])
    step = planes.distance
    if len(steps) and (not step or np.abs(steps / step - np.rint(steps / step)).max() > 0.05):
        step = float(steps.min())
    count = round(float(np.ptp(heights[chosen])) / step) + 1 if len(steps) else 1
    filled: FloatArray = planes.corners[chosen]
    if count > len(chosen):
        along = (heights[chosen] - heights[chosen][0]) / step
        ends = filled[-1] - filled[0]
        missing = np.setdiff1d(np.arange(count), np.rint(along).astype(int))
        between = filled[0] + np.outer(missing / (count - 1), ends)
        filled = np.concatenate([filled, between])
        filled = filled[np.argsort(along_normal(filled, planes.cosines), kind="stable")]
    cosines = np.repeat(planes.cosines[:1], len(filled), axis=0)
    spacings = np.repeat(planes.spacings[:1], len(filled), axis=0)
    check_slices(what, planes.corners[:1], planes.cosines, planes.spacings)
    check_slices(what, filled, cosines, spacings)
    return grid_of_slices(size, filled, cosines, spacings, step)


def _labels(header: Any) -> list[Label]:
    """The segments as labels; the value is the segment's number."""
    segments = [s for s in header.get("SegmentSequence") or [] if int(s.SegmentNumber) > 0]
    names = unique_names(
        [str(s.get("SegmentLabel") or "").strip() or f"segment {s.SegmentNumber}" for s in segments]
    )
    labels = []
    for number, (item, name) in enumerate(zip(segments, names, strict=True)):
        kind = (item.get("SegmentedPropertyTypeCodeSequence") or [None])[0]
        modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence") if kind else None
        labels.append(
            Label(
                name,
                int(item.SegmentNumber),
                _colour(item, number),
                _code((item.get("SegmentedPropertyCategoryCodeSequence") or [None])[0]) or TISSUE,
                _code(kind) or TISSUE,
                _code((modifiers or [None])[0]),
            )
        )
    return labels


def _code(item: Any | None) -> Code | None:
    if item is None:
        return None
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
    scheme, meaning = item.get("CodingSchemeDesignator"), item.get("CodeMeaning")
    return Code(str(scheme or ""), str(value), str(meaning or "")) if value else None


def _colour(item: Any, number: int) -> tuple[int, int, int]:
    from highdicom.color import CIELabColor

    value = item.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        return default_colour(number)
    red, green, blue = CIELabColor.from_dicom_value(tuple(map(int, value))).to_rgb()
    return (int(red), int(green), int(blue))
