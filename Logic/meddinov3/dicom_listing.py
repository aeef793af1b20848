"""What DICOM images a folder holds: series, multi-frame images, and what is no scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meddinov3.dicom_headers import SEGMENTATIONS, quietly, read_header

TAGS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription",
    "ImageType", "Rows", "Columns", "NumberOfFrames", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient",
)  # fmt: skip
MULTI_FRAME = (
    "1.2.840.10008.5.1.4.1.1.2.1",  # enhanced CT
    "1.2.840.10008.5.1.4.1.1.2.2",  # legacy converted enhanced CT
    "1.2.840.10008.5.1.4.1.1.4.1",  # enhanced MR
    "1.2.840.10008.5.1.4.1.1.4.4",  # legacy converted enhanced MR
    "1.2.840.10008.5.1.4.1.1.130",  # enhanced PET
    "1.2.840.10008.5.1.4.1.1.128.1",  # legacy converted enhanced PET
)
SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
NO_SCANS = {
    **dict.fromkeys(SEGMENTATIONS, "segmentation"),
    "1.2.840.10008.5.1.4.1.1.481.2": "dose grid",
    "1.2.840.10008.5.1.4.1.1.30": "computed map",
}
LOCALISER, SCREEN_CAPTURE = "localiser", "screen capture"


@dataclass(frozen=True)
class SeriesInfo:
    """A DICOM image series in a folder, or one multi-frame image.

    Attributes:
        files: its slices in the order of their position, or the one multi-frame file.
        modality, description: as the header says.
        size: voxels (columns, rows) of a slice.
        frames: frames of a multi-frame image, 0 for a series of single slices.
        kind: "" for a scan, else what it is, e.g. ``localiser``.
    """

    files: tuple[str, ...]
    modality: str
    description: str
    size: tuple[int, int]
    frames: int = 0
    kind: str = ""

    def __str__(self) -> str:
        """In words, e.g. ``CT 'Thorax 1.0', 512 x 512, 312 slices``."""
        name = f" '{self.description}'" if self.description else ""
        shape = f"{self.size[0]} x {self.size[1]}, "
        shape += f"{self.frames} frames in one file" if self.frames else self._slices
        return f"{self.modality or '?'}{name}, {shape}" + (f", {self.kind}" if self.kind else "")

    @property
    def _slices(self) -> str:
        return f"{len(self.files)} slice(s)"


@quietly()
def list_series(folder: Path) -> list[SeriesInfo]:
    """Every DICOM image series in a folder and below it, always in the same order.

    Localisers in a series of slices are listed as a series of their own.
    """
    found: dict[tuple[str, ...], list[tuple[Path, Any]]] = {}
    for path in sorted(folder.rglob("*")):
        header = read_header(path, TAGS) if path.is_file() else None
        if header is None or not header.get("Rows") or not header.get("Columns"):
            continue
        own = path.name if is_multiframe(header) else ""
        key = (str(path.parent), str(header.get("SeriesInstanceUID", "")), own, _kind(header))
        found.setdefault(key, []).append((path, header))
    return [_describe(found[key], key[-1]) for key in sorted(found)]


def is_multiframe(header: Any) -> bool:
    """Whether a file holds several frames, or one in the manner of several."""
    return header.get("SOPClassUID") in MULTI_FRAME or _frames(header) > 1


def _frames(header: Any) -> int:
    try:
        return int(header.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        return 1


def _kind(header: Any) -> str:
    uid = str(header.get("SOPClassUID", ""))
    if uid in NO_SCANS:
        return NO_SCANS[uid]
    if (uid + ".").startswith(SECONDARY_CAPTURES + ".") and not header.get("ImagePositionPatient"):
        return SCREEN_CAPTURE
    image_type = header.get("ImageType") or []
    values = [image_type] if isinstance(image_type, str) else list(image_type)
    return LOCALISER if "LOCALIZER" in values[2:] else ""


def _describe(members: list[tuple[Path, Any]], kind: str) -> SeriesInfo:
    files = tuple(str(path) for path, _ in _in_order(members))
    header = members[0][1]
    return SeriesInfo(
        files,
        str(header.get("Modality") or "").strip(),
        str(header.get("SeriesDescription") or "").strip(),
        (int(header.Columns), int(header.Rows)),
        _frames(header) if is_multiframe(header) else 0,
        kind,
    )


def _in_order(members: list[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """By position along the first slice's normal; by number where positions are missing."""
    try:
        cosines = np.array(members[0][1].ImageOrientationPatient, dtype=float)
        normal = np.cross(cosines[:3], cosines[3:])
        heights = [
            float(np.array(header.ImagePositionPatient, dtype=float) @ normal)
            for _, header in members
        ]
    except (AttributeError, TypeError, ValueError):
        heights = [_number(header) for _, header in members]
    order = np.argsort(heights, kind="stable")
    return [members[n] for n in order]


def _number(header: Any) -> float:
    try:
        return float(header.get("InstanceNumber") or 0)
    except (TypeError, ValueError):
        return 0.0
