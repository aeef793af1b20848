"""Slicer's ``.seg.nrrd``: segments with names, colours and codes, in one or several layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.label_map import unique_names
from meddinov3.labels import TISSUE, Colour, Label, codes_of, default_colour
from meddinov3.volume import array_of, grid_of

Segment = tuple[Label, int]


def is_segmentation(reader: sitk.ImageFileReader) -> bool:
    """Whether a header that was read describes segments."""
    return any(key.startswith("Segment0_") for key in reader.GetMetaDataKeys())


def read_segments(path: Path) -> tuple[list[Segment], list[np.ndarray], Grid]:
    """Read the segments of a ``.seg.nrrd``.

    Returns:
        Segments in the file's order, each as a label with the value it has in its layer and
        that layer's number; the layers as arrays (k, j, i); their grid.

    Raises:
        MedDINOv3Error: unreadable, fractional, or a segment lacks its layer.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _damaged(path, "it is cut off or its header is garbled") from error
    if image.GetDimension() != 3:
        raise _damaged(path, f"it has {image.GetDimension()} dimensions")
    header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    kind = header.get("Segmentation_MasterRepresentation") or header.get(
        "Segmentation_SourceRepresentation", ""
    )
    if "fractional" in kind.lower():
        raise MedDINOv3Error(
            "fractional-segments",
            f"'{path.name}' holds fractional segments, which a label map cannot hold.",
            "Make binary labelmap the source representation in Slicer and save it again.",
        )
    count = image.GetNumberOfComponentsPerPixel()
    layers = (
        [array_of(image)]
        if count == 1
        else [array_of(sitk.VectorIndexSelectionCast(image, n)) for n in range(count)]
    )
    try:
        segments = _segments(header)
    except (KeyError, ValueError) as error:
        raise _damaged(path, "a segment's entries are garbled") from error
    if any(layer >= count for _, layer in segments):
        raise _damaged(path, "a segment's layer is missing")
    return segments, layers, grid_of(image)


def _damaged(path: Path, reason: str) -> MedDINOv3Error:
    return MedDINOv3Error(
        "unreadable", f"'{path.name}' cannot be read as a segmentation: {reason}.", "Save it again."
    )


def _segments(header: dict[str, str]) -> list[Segment]:
    numbers = sorted(
        int(key[len("Segment") : -len("_ID")])
        for key in header
        if key.startswith("Segment") and key.endswith("_ID")
    )
    names = unique_names(
        [
            header.get(f"Segment{n}_Name", "").strip() or header[f"Segment{n}_ID"] or f"segment {n}"
            for n in numbers
        ]
    )
    segments = []
    for position, (number, name) in enumerate(zip(numbers, names, strict=True)):
        entry = f"Segment{number}_"
        value = int(header.get(entry + "LabelValue", 1))
        if value < 1:
            raise ValueError(f"label value {value}")
        colour = _colour(header.get(entry + "Color", ""), position)
        tags = dict(t.partition(":")[::2] for t in header.get(entry + "Tags", "").split("|"))
        category, kind, modifier = codes_of(tags.get("TerminologyEntry", ""))
        label = Label(name, value, colour, category or TISSUE, kind or TISSUE, modifier)
        segments.append((label, int(header.get(entry + "Layer", 0))))
    return segments


def _colour(text: str, number: int) -> Colour:
    parts = text.split()
    if len(parts) != 3:
        return default_colour(number)
    red, green, blue = (min(255, max(0, round(255 * float(part)))) for part in parts)
    return (red, green, blue)
