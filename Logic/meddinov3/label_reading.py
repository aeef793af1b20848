"""Any kind of label file on exactly a scan's grid: the one way in for corrected structures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from meddinov3.dicom_headers import RTSTRUCT, SEGMENTATIONS, is_dicom, read_header
from meddinov3.dicom_seg_reading import read_dicom_seg
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.label_map import (
    LabelMap,
    LabelPainter,
    chosen_labels,
    inside,
    numbered,
    on_lattice,
)
from meddinov3.reading import read_label_map
from meddinov3.rtstruct import read_rtstruct
from meddinov3.seg_nrrd_reading import is_segmentation, read_segments
from meddinov3.terminology import named_label
from meddinov3.volume import Volume

HIGHEST = 65535  # label values that are kept


def read_labels_on(path: Path, scan: Volume, structures: Sequence[str] | None = None) -> LabelMap:
    """Read labels onto exactly a scan's grid.

    Args:
        path: a label map (NIfTI, NRRD, MHA), a ``.seg.nrrd``, an RTSTRUCT or a DICOM SEG.
            Label maps must have the scan's voxels in any axis order; they have no names.
        scan: whose grid the result gets.
        structures: names to take; all by default. Where they overlap, later ones in the file
            cover earlier ones, with a note.

    Raises:
        MedDINOv3Error: missing or unreadable, no labels, another grid or frame of reference
            than the scan's, or no such structure.
    """
    if path.is_file() and is_dicom(path):
        return _read_dicom(path, scan, structures)
    if path.is_file() and path.suffix.lower() in (".nrrd", ".nhdr"):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
            segments = is_segmentation(reader)
        except RuntimeError:
            segments = False  # said below, in the words for every image
        if segments:
            return _read_segmentation(path, scan.grid, structures)
    return _read_plain(path, scan.grid, structures)


def _read_dicom(path: Path, scan: Volume, structures: Sequence[str] | None) -> LabelMap:
    header = read_header(path, ("SOPClassUID",))
    uid = "" if header is None else str(header.get("SOPClassUID", ""))
    if uid == RTSTRUCT:
        return read_rtstruct(path, scan, structures)
    if uid in SEGMENTATIONS:
        return read_dicom_seg(path, scan, structures)
    raise MedDINOv3Error(
        "not-labels",
        f"'{path.name}' is a DICOM file but neither an RTSTRUCT nor a DICOM SEG.",
        "Give the file with the contours or segments.",
    )


def _read_segmentation(path: Path, grid: Grid, structures: Sequence[str] | None) -> LabelMap:
    segments, layers, own = read_segments(path)
    wanted = {label.name for label in chosen_labels([label for label, _ in segments], structures)}
    segments = [(label, layer) for label, layer in segments if label.name in wanted]
    values = [label.value for label, _ in segments]
    labels = tuple(label for label, _ in segments)
    if len(set(values)) < len(values):  # layers count by themselves
        labels = numbered(labels)
    painter = LabelPainter(grid.shape, labels)
    cut = 0
    for label, (stored, layer) in zip(labels, segments, strict=True):
        mask = layers[layer] == stored.value
        placed = on_lattice(mask, own, grid)
        if placed is None:
            raise _other_grid(path, own, grid)
        part, box = inside(*placed, grid.shape)
        cut += int(np.count_nonzero(mask)) - int(np.count_nonzero(part))
        painter.paint(box, part, label.value)
    notes = painter.notes()
    if cut:
        notes.append(f"{cut} voxel(s) of the segments lie outside the scan and were left out")
    if cut and not painter.array.any():
        raise MedDINOv3Error(
            "outside-scan",
            f"No voxel of '{path.name}' lies on the scan.",
            "Give the scan that it was made on.",
        )
    return LabelMap(painter.array, grid, labels, tuple(notes))


def _read_plain(path: Path, grid: Grid, structures: Sequence[str] | None) -> LabelMap:
    array, own = read_label_map(path)
    placed = on_lattice(array, own, grid)
    if placed is None or any(part.start for part in placed[1]) or placed[0].shape != grid.shape:
        raise _other_grid(path, own, grid)
    values = np.unique(array)
    if values[0] < 0 or values[-1] > HIGHEST:
        raise MedDINOv3Error(
            "not-labels",
            f"'{path.name}' is no label map: its values reach from {values[0]} to {values[-1]}.",
            "Give a label map, not a scan.",
        )
    labels = chosen_labels(
        [named_label(f"label {v}", int(v), n) for n, v in enumerate(values[values > 0])], structures
    )
    highest = max((label.value for label in labels), default=0)
    result = placed[0].astype(np.min_scalar_type(highest)) if structures is None else None
    if result is None:
        painter = LabelPainter(grid.shape, labels)
        for label in labels:
            painter.paint((slice(None),) * 3, placed[0] == label.value, label.value)
        result = painter.array
    return LabelMap(np.ascontiguousarray(result), grid, labels)


def _other_grid(path: Path, own: Grid, grid: Grid) -> MedDINOv3Error:
    return MedDINOv3Error(
        "other-grid",
        f"'{path.name}' does not lie on the scan's voxels: {own.in_figures()}; the scan: "
        f"{grid.in_figures()}.",
        "Give the scan that it was drawn on, or resample it to the scan's grid first.",
    )
