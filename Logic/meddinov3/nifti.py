"""Voxels of single-file NIfTI, read straight into the array that holds them.

ITK reads NIfTI through a second buffer of the same size and fills a truncated file with
zeros. Geometry, which is the hard part, stays with ITK; only the voxels are read here.

Format: NIfTI-1 and NIfTI-2 headers (nifti.nimh.nih.gov).
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

ENDINGS = (".nii", ".nii.gz")
TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8",
    256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
GZIP_MAGIC = b"\x1f\x8b"


class NotSupportedHereError(Exception):
    """Another flavour of NIfTI: leave it to ITK."""


class BadSpacingError(Exception):
    """A spacing that is zero, negative or no number; ITK would put 1 mm in its place."""


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype
    offset: int
    slope: float
    intercept: float


def read_voxels(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read the voxels of a ``.nii`` or ``.nii.gz`` file.

    Args:
        path: the file.
        shape: (k, j, i), as ITK reads it from the header.

    Returns:
        The array (k, j, i), in the stored type in the machine's byte order; float32 (float64
        if stored so) where the header rescales.

    Raises:
        BadSpacingError: the header's spacing cannot be meant.
        NotSupportedHereError: a two-file image or an unusual voxel type.
        EOFError: the file ends too early.
        OSError: damaged compression, or unreadable.
    """
    with _voxels_of(path) as (stream, header):
        return _read_array(stream, header, shape)


def holds(path: Path, array: np.ndarray) -> bool:
    """Whether a file that was just written holds all of an array (k, j, i), plane by plane.

    ITK's writer is silent when the disk is full.

    Raises:
        OSError: unreadable.
    """
    try:
        with _voxels_of(path) as (stream, header):
            plane = np.empty(array.shape[1:], dtype=header.dtype)
            for expected in array:
                _fill(stream, plane)
                if not np.array_equal(plane, expected):
                    return False
    except (EOFError, BadSpacingError, NotSupportedHereError):
        return False
    return True


@contextmanager
def _voxels_of(path: Path) -> Iterator[tuple[BinaryIO, _Header]]:
    """The stream at its first voxel; afterwards the checksum, if any, is compared."""
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
        with gzip.open(path, "rb") if packed else open(path, "rb") as stream:
            source = cast("BinaryIO", stream)
            header = _read_header(source)
            source.seek(header.offset)
            yield source, header
            while packed and source.read(2**20):  # the checksum is compared at the very end
                pass
    except zlib.error as error:
        raise OSError(str(error)) from error


def _read_header(stream: BinaryIO) -> _Header:
    start = stream.read(540)
    if len(start) < 348:
        raise EOFError("the file ends too early")
    for order in "<>":
        (size,) = struct.unpack_from(order + "i", start)
        if size == 348 and start[344:347] == b"n+1":
            (kind,) = struct.unpack_from(order + "h", start, 70)
            offset, slope, intercept = struct.unpack_from(order + "3f", start, 108)
            spacing = struct.unpack_from(order + "3f", start, 80)
        elif size == 540 and start[4:7] == b"n+2":
            (kind,) = struct.unpack_from(order + "h", start, 12)
            (offset,) = struct.unpack_from(order + "q", start, 168)
            slope, intercept = struct.unpack_from(order + "2d", start, 176)
            spacing = struct.unpack_from(order + "3d", start, 112)
        else:
            continue
        if not (np.isfinite(spacing).all() and min(spacing) > 0):
            raise BadSpacingError(str(spacing))
        if kind not in TYPES or not np.isfinite([slope, intercept]).all():
            raise NotSupportedHereError(f"voxel type {kind}")
        if not size + 4 <= offset < 2**31:  # the header and its extension flag come first
            raise NotSupportedHereError(f"voxels at byte {offset}")
        return _Header(np.dtype(order + TYPES[kind]), int(offset), float(slope), float(intercept))
    raise NotSupportedHereError("no single-file NIfTI")


def _read_array(stream: BinaryIO, header: _Header, shape: tuple[int, int, int]) -> np.ndarray:
    native = header.dtype.newbyteorder("=")
    rescaled = header.slope != 0 and (header.slope, header.intercept) != (1, 0)
    held = np.result_type(native, np.float32) if rescaled and native.kind == "f" else native
    if rescaled and native.kind != "f":
        held = np.dtype(np.float32)
    voxels = np.empty(shape, dtype=held)
    plane = np.empty(shape[1:], dtype=header.dtype)
    for number in range(shape[0]):
        _fill(stream, plane)
        voxels[number] = plane
        if rescaled:
            voxels[number] *= header.slope
            voxels[number] += header.intercept
    return voxels


def _fill(stream: BinaryIO, plane: np.ndarray) -> None:
    view = memoryview(plane).cast("B")  # type: ignore[arg-type]
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the file ends too early")
        filled += count
