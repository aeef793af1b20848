"""DICOM files found and their headers read, without a word about what is odd in them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ENDINGS = (".dcm", ".ima")
PREAMBLE = 128
# Files without a preamble begin with group 0002 or 0008.
BARE_BEGINNINGS = (b"\x02\x00", b"\x08\x00")

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
# Later than the installed pydicom may know.
SYNTAX_NAMES = {
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
    "1.2.840.10008.1.2.4.110": "JPEG XL (Lossless)",
    "1.2.840.10008.1.2.4.111": "JPEG XL (JPEG Recompression)",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
DECOMPRESS = (
    "Decompress it first, e.g. with 'gdcmconv --raw' or 'dcmdjpeg', or export it uncompressed."
)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep pydicom from printing what it finds odd, which may hold values of the header."""
    from pydicom.config import disable_value_validation

    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def read_header(path: Path, tags: Sequence[str] | None = None) -> Any | None:
    """A file's header without its voxels, or None if it is no DICOM file.

    Args:
        path: any file.
        tags: keywords to read; all by default.
    """
    from pydicom import dcmread

    try:
        with path.open("rb") as file:
            start = file.read(PREAMBLE + 4)
        bare = start[PREAMBLE:] != b"DICM"
        if bare and start[:2] not in BARE_BEGINNINGS:
            return None
        wanted = None if tags is None else list(tags)
        with quietly():
            header = dcmread(path, stop_before_pixels=True, force=bare, specific_tags=wanted)
            return header if header.get("SOPClassUID") or not bare else None
    except Exception:  # a damaged header fails in as many ways as there are elements
        return None


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM: by its beginning or its ending."""
    if path.suffix.lower() in ENDINGS:
        return True
    try:
        with path.open("rb") as file:
            return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
    except OSError:
        return False


def transfer_syntax(header: Any) -> str:
    """The UID of how a file's voxels are stored; "" if it does not say."""
    meta = getattr(header, "file_meta", None)
    return str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""


def syntax_in_words(uid: str) -> str:
    """A transfer syntax as a person knows it, e.g. ``JPEG-LS Lossless Image Compression``."""
    from pydicom.uid import UID

    return SYNTAX_NAMES.get(uid) or str(UID(uid).name)


def frame_of_reference(source: Sequence[str]) -> str:
    """The frame of reference of a scan's DICOM files; "" if they do not say."""
    header = read_header(Path(source[0]), ["FrameOfReferenceUID"]) if source else None
    return str(header.get("FrameOfReferenceUID") or "") if header is not None else ""
