"""DICOM RTSTRUCT as a label map on a scan's grid: contours filled plane by plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from meddinov3.dicom_headers import RTSTRUCT, frame_of_reference, quietly, read_header
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import FloatArray, Grid
from meddinov3.label_map import LabelMap, LabelPainter, chosen_labels, numbered, unique_names
from meddinov3.labels import Label
from meddinov3.terminology import named_label
from meddinov3.volume import Volume

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
FLAT = 0.25  # slice distances by which a contour may leave its plane
ONE_PLANE = 0.01  # slice distances within which contours are in one plane


@dataclass(frozen=True, eq=False)
class _Structure:
    """A region of interest: its label, closed contours (n, 3) in LPS mm, and frame."""

    label: Label
    contours: list[FloatArray]
    open_ones: int
    frame: str


@quietly()
def read_rtstruct(path: Path, scan: Volume, structures: Sequence[str] | None = None) -> LabelMap:
    """Rasterise the contours of an RTSTRUCT on a scan.

    A voxel belongs to a structure if its centre lies inside an odd number of the contours in
    its plane, so that holes may be drawn as inner contours or through a keyhole. A contour
    belongs to the slice whose centre is nearest. Slices without a contour stay empty.

    Args:
        path: the RTSTRUCT.
        scan: whose grid the label map gets; its DICOM source says the frame of reference.
        structures: names to take; all by default. Where structures overlap, later ones in the
            file cover earlier ones.

    Raises:
        MedDINOv3Error: no RTSTRUCT, another frame of reference, contours that do not lie in
            the scan's slices, nothing drawn on the scan, or no such structure.
    """
    header = read_header(path)
    if header is None or header.get("SOPClassUID") != RTSTRUCT:
        raise MedDINOv3Error(
            "not-rtstruct", f"'{path.name}' is no DICOM RTSTRUCT.", "Give the RTSTRUCT's file."
        )
    drawn, notes = _structures(header, path.name)
    wanted = {label.name for label in chosen_labels([part.label for part in drawn], structures)}
    drawn = [part for part in drawn if part.label.name in wanted]
    frame = frame_of_reference(scan.source)
    if any(frame and part.frame and part.frame != frame for part in drawn):
        raise MedDINOv3Error(
            "other-frame",
            f"The contours of '{path.name}' were drawn in another frame of reference than the "
            "scan's: they belong to another scan.",
            "Give the scan that they were drawn on.",
        )
    if not frame:
        notes.append(
            "the scan does not say its frame of reference: the contours were placed by their "
            "coordinates alone"
        )
    axis = _slice_axis([c for part in drawn for c in part.contours], scan.grid, path.name)
    labels = numbered([part.label for part in drawn])
    painter = LabelPainter(scan.grid.shape, labels)
    painted = 0
    for label, part in zip(labels, drawn, strict=True):
        painted += _paint(painter, label, part, scan.grid, axis, notes)
    if not painted:
        raise MedDINOv3Error(
            "outside-scan",
            f"No contour of '{path.name}' lies on a slice of the scan.",
            "Give the scan that they were drawn on.",
        )
    return LabelMap(painter.array, scan.grid, labels, tuple(notes + painter.notes()))


def _structures(header: Any, name: str) -> tuple[list[_Structure], list[str]]:
    """What is drawn, in the order of the structure set, and notes on what is left out."""
    contours = {int(i.ReferencedROINumber): i for i in header.get("ROIContourSequence") or []}
    rois = list(header.get("StructureSetROISequence") or [])
    names = unique_names(
        [str(roi.get("ROIName") or "").strip() or f"ROI {roi.ROINumber}" for roi in rois]
    )
    drawn, notes = [], []
    for number, (roi, called) in enumerate(zip(rois, names, strict=True)):
        item = contours.get(int(roi.ROINumber))
        closed, others = _closed_contours(item)
        if others:
            notes.append(f"'{called}': {others} point(s) or open contour(s) were left out")
        if not closed:
            notes.append(f"'{called}' has no closed contour and was left out")
            continue
        label = named_label(called, number + 1, number)
        colour = item.get("ROIDisplayColor") if item is not None else None
        if colour is not None and len(colour) == 3:
            red, green, blue = (min(255, max(0, int(part))) for part in colour)
            label = replace(label, colour=(red, green, blue))
        frame = str(
            roi.get("ReferencedFrameOfReferenceUID") or header.get("FrameOfReferenceUID") or ""
        )
        drawn.append(_Structure(label, closed, others, frame))
    if not drawn:
        raise MedDINOv3Error(
            "no-contours",
            f"'{name}' holds no closed contour.",
            "Draw structures with closed contours in the slices, or give another file.",
        )
    return drawn, notes


def _closed_contours(item: Any) -> tuple[list[FloatArray], int]:
    """Closed contours (n, 3) in LPS mm, and how many others there are."""
    closed, others = [], 0
    for contour in (item.get("ContourSequence") or []) if item is not None else []:
        points = np.array(contour.get("ContourData") or [], dtype=np.float64)
        if (
            contour.get("ContourGeometricType") not in CLOSED
            or points.size < 9
            or points.size % 3
            or not np.isfinite(points).all()
        ):
            others += 1
        else:
            closed.append(points.reshape(-1, 3))
    return closed, others


def _slice_axis(contours: list[FloatArray], grid: Grid, name: str) -> int:
    """The index axis (0 is i) across which all contours are flat."""
    extents = np.array([np.ptp(grid.to_index(points), axis=0) for points in contours])
    axis = int((extents * grid.spacing).sum(axis=0).argmin())
    tilted = int((extents[:, axis] > FLAT).sum())
    if tilted:
        raise MedDINOv3Error(
            "contours-across",
            f"{tilted} of {len(contours)} contours of '{name}' do not lie in the scan's slices "
            "but across them.",
            "Give the scan that they were drawn on, or export them as DICOM SEG or .seg.nrrd.",
        )
    return axis


def _paint(
    painter: LabelPainter,
    label: Label,
    part: _Structure,
    grid: Grid,
    axis: int,
    notes: list[str],
) -> int:
    """Fill a structure's contours and say what was left out; the number of slices painted."""
    # Rounded, so that centres on an edge do not depend on the last bits.
    index = [np.round(grid.to_index(points), 6) for points in part.contours]
    heights = np.array([points[:, axis].mean() for points in index])
    planes = _planes(heights)
    middle = {number: float(heights[members].mean()) for number, members in planes.items()}
    count = grid.size[axis]
    nearest: dict[int, int] = {}
    for number, height in middle.items():
        k = int(np.floor(height + 0.5))
        held = nearest.get(k)
        if 0 <= k < count and (held is None or abs(height - k) < abs(middle[held] - k)):
            nearest[k] = number
    left_out = len(planes) - len(nearest)
    if left_out:
        notes.append(
            f"'{label.name}': contours in {left_out} plane(s) were left out: outside the scan, or "
            "farther from a slice than others"
        )
    repeated = 0
    others = [n for n in range(3) if n != axis]  # columns before rows, as in (i, j, k)
    limit = np.array([grid.size[n] for n in others])
    for k, number in nearest.items():
        polygons = [index[n][:, others] for n in planes[number]]
        distinct = _distinct(polygons)
        repeated += len(polygons) - len(distinct)
        corners = np.concatenate(distinct)
        low = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
        high = np.clip(np.floor(corners.max(axis=0)) + 1, low, limit).astype(int)
        mask = fill([polygon - low for polygon in distinct], (high - low)[::-1].tolist())
        box = [slice(k, k + 1)] * 3
        for n, first, last in zip(others, low, high, strict=True):
            box[2 - n] = slice(int(first), int(last))
        painter.paint(tuple(box), np.expand_dims(mask, 2 - axis), label.value)
    if repeated:
        notes.append(f"'{label.name}': {repeated} contour(s) that are there twice count once")
    between = max(nearest, default=0) - min(nearest, default=0) + 1 - len(nearest)
    if nearest and between:
        notes.append(
            f"'{label.name}' has no contour on {between} slice(s) between drawn ones: they stay "
            "empty"
        )
    off = max((abs(middle[number] - k) for k, number in nearest.items()), default=0.0)
    if off > 0.1:
        distance = off * grid.spacing[axis]
        notes.append(f"'{label.name}': contours lie up to {distance:.2f} mm beside their slices")
    return len(nearest)


def _planes(heights: np.ndarray) -> dict[int, list[int]]:
    """Contours by plane: heights in slice distances that hardly differ."""
    planes: dict[int, list[int]] = {}
    order = np.argsort(heights, kind="stable")
    number = -1
    for position, contour in enumerate(order):
        if position == 0 or heights[contour] - heights[order[position - 1]] > ONE_PLANE:
            number += 1
        planes.setdefault(number, []).append(int(contour))
    return planes


def _distinct(polygons: list[FloatArray]) -> list[FloatArray]:
    """Polygons without repeats, which would cancel each other."""
    found: dict[bytes, FloatArray] = {}
    for polygon in polygons:
        found.setdefault(np.round(polygon, 4).tobytes(), polygon)
    return list(found.values())


def fill(polygons: Sequence[FloatArray], size: Sequence[int]) -> np.ndarray:
    """Pixels whose centres lie inside an odd number of polygons.

    A centre on an edge counts for one side only: inside on a left or upper edge, outside on a
    right or lower one. So regions that share an edge neither overlap nor leave a gap. (Library
    functions leave centres on an edge undefined or thicken the outline.)

    Args:
        polygons: corners (n, 2) as continuous (column, row) indices, closed by themselves.
        size: rows and columns.

    Returns:
        Boolean (rows, columns).
    """
    rows, columns = size
    crossings = np.zeros((rows, columns + 1), np.int32)
    for polygon in polygons:
        x0, y0 = polygon.T
        x1, y1 = np.roll(polygon, -1, axis=0).T
        first = np.clip(np.ceil(np.minimum(y0, y1)), 0, rows).astype(np.int64)
        last = np.clip(np.ceil(np.maximum(y0, y1)), 0, rows).astype(np.int64)
        count = np.maximum(last - first, 0)  # rows that an edge crosses, its lower end left out
        edge = np.repeat(np.arange(len(polygon)), count)
        row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
        x = np.round(x0[edge] + (row - y0[edge]) * slope, 6)
        column = np.clip(np.ceil(x), 0, columns).astype(np.int64)
        np.add.at(crossings, (row, column), 1)
    inside: np.ndarray = np.cumsum(crossings, axis=1)[:, :columns] % 2 == 1
    return inside
