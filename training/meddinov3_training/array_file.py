"""Arrays in ``.npy`` files, written and read one slice at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

CLOCK = 2.0  # seconds; some file systems keep times no better


@dataclass(frozen=True)
class ArrayFile:
    """What a file holds, and how to recognise that it is still what was written.

    Attributes:
        dtype: numpy's name.
        shape: of the whole array.
        offset: bytes before the first value.
        bytes, changed: size and time of change (seconds) when it was written.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    bytes: int
    changed: float

    @staticmethod
    def of(path: Path) -> ArrayFile:
        """What a file's own header says.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no such file.
        """
        with open(path, "rb") as stream:
            np.lib.format.read_magic(stream)
            shape, _, kind = np.lib.format.read_array_header_1_0(stream)
            found = path.stat()
            return ArrayFile(kind.name, shape, stream.tell(), found.st_size, found.st_mtime)

    @property
    def whole(self) -> int:
        """Slices that the file holds in full."""
        each = int(np.prod(self.shape[1:])) * np.dtype(self.dtype).itemsize
        return max(0, self.bytes - self.offset) // each

    def is_at(self, path: Path) -> bool:
        """Whether `path` is the file that was written, as far as its size and time tell."""
        try:
            found = path.stat()
        except OSError:
            return False
        return found.st_size == self.bytes and abs(found.st_mtime - self.changed) <= CLOCK

    def read(self, path: Path, number: int) -> np.ndarray:
        """A copy of slice `number`; the file is mapped only meanwhile.

        So any number of files can be in use, and on Windows none of them is held.
        """
        kind, shape = np.dtype(self.dtype), self.shape[1:]
        begin = self.offset + number * int(np.prod(shape)) * kind.itemsize
        return np.array(np.memmap(path, kind, "r", begin, shape))


class ArrayWriter:
    """Writes an array slice after slice, not through a map: a full disk is then an OSError.

    Args:
        path: the file, replaced unless `begun`.
        shape: of the whole array.
        kind: of its values.
        begun: slices that the file holds already and that are kept.
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], kind: np.dtype[Any], begun: int = 0
    ) -> None:
        self._path, self._shape, self._kind = path, tuple(map(int, shape)), kind
        self._begun = begun
        self._stream: IO[bytes]
        self._offset = 0

    def __enter__(self) -> Self:
        self._stream = open(self._path, "rb+" if self._begun else "wb")
        header = np.lib.format.header_data_from_array_1_0(np.empty(0, self._kind))
        np.lib.format.write_array_header_1_0(self._stream, {**header, "shape": self._shape})
        self._offset = self._stream.tell()
        each = int(np.prod(self._shape[1:])) * self._kind.itemsize
        self._stream.seek(self._offset + self._begun * each)
        self._stream.truncate()
        return self

    def append(self, plane: np.ndarray) -> None:
        """Write the next slice."""
        self._stream.write(np.ascontiguousarray(plane, self._kind).data)

    def to_disk(self) -> None:
        """Bring what was written to the disk."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    @property
    def written(self) -> ArrayFile:
        """The file after it was closed."""
        found = self._path.stat()
        return ArrayFile(self._kind.name, self._shape, self._offset, found.st_size, found.st_mtime)
