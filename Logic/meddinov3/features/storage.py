"""Where tokens are kept: on the device while the budget lasts, then in files.

The least recently opened scan goes first when both budgets are used up.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from meddinov3.errors import MedDINOv3Error
from meddinov3.memory import machine_memory

HALF = 2  # bytes
MEMORY_SHARE = 0.15  # of the device's memory
DISK_SHARE = 0.5  # of what is free
PREFIX = "meddinov3-tokens-"


class TokenStorage(Protocol):
    """Keeps tokens (token rows, token columns, W) float16 by their place in the box."""

    @property
    def folder(self) -> Path | None:
        """Where files lie; None in memory."""
        ...

    def has(self, place: int) -> bool:
        """Whether this place is kept."""
        ...

    def put(self, place: int, tokens: Tensor) -> None:
        """Keep the tokens of a place, replacing what was there."""
        ...

    def get(self, place: int) -> Tensor:
        """The tokens of a place that is kept."""
        ...

    def close(self) -> None:
        """Give memory or files up."""
        ...


class InMemory:
    """On the device that computes."""

    folder = None

    def __init__(self) -> None:
        self._kept: dict[int, Tensor] = {}

    def has(self, place: int) -> bool:
        """See :class:`TokenStorage`."""
        return place in self._kept

    def put(self, place: int, tokens: Tensor) -> None:
        """See :class:`TokenStorage`."""
        self._kept[place] = tokens.clone()  # a view would keep the whole batch

    def get(self, place: int) -> Tensor:
        """See :class:`TokenStorage`."""
        return self._kept[place]

    def close(self) -> None:
        """See :class:`TokenStorage`."""
        self._kept.clear()


class InFile:
    """In one file of fixed records, opened for each access, so that Windows can remove it."""

    def __init__(self, shape: tuple[int, int, int], parent: Path | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._path = self.folder / "tokens.bin"
        self._path.touch()
        self._shape, self._size = shape, HALF * int(np.prod(shape))
        self._known: set[int] = set()

    def has(self, place: int) -> bool:
        """See :class:`TokenStorage`."""
        return place in self._known

    def put(self, place: int, tokens: Tensor) -> None:
        """See :class:`TokenStorage`."""
        try:
            with self._path.open("r+b") as stream:
                stream.seek(place * self._size)
                stream.write(tokens.cpu().contiguous().numpy().tobytes())
        except OSError as error:
            raise MedDINOv3Error(
                "disk-full",
                f"Features could not be kept in '{self.folder}': {error.strerror or error}.",
                "Free space there, or let TMPDIR (TEMP on Windows) name another folder.",
            ) from error
        self._known.add(place)

    def get(self, place: int) -> Tensor:
        """See :class:`TokenStorage`."""
        with self._path.open("rb") as stream:
            stream.seek(place * self._size)
            values = np.frombuffer(bytearray(stream.read(self._size)), dtype=np.float16)
        return torch.from_numpy(values.reshape(self._shape))

    def close(self) -> None:
        """See :class:`TokenStorage`."""
        shutil.rmtree(self.folder, ignore_errors=True)


class TokenStore:
    """Decides where a scan's tokens are kept, within budgets.

    Args:
        memory: bytes on the device; a share of it if None.
        disk: bytes in files; a share of what is free if None.
        parent: folder for the files; the system's for temporary ones by default.
    """

    def __init__(
        self, memory: int | None = None, disk: int | None = None, parent: Path | None = None
    ) -> None:
        self._memory, self._disk, self._parent = memory, disk, parent
        self._open: OrderedDict[int, tuple[TokenStorage, int, bool]] = OrderedDict()
        self._count = 0

    def open(self, slices: int, shape: tuple[int, int, int], device: torch.device) -> TokenStorage:
        """A place for the tokens of one scan; older scans are given up if need be.

        Args:
            slices: that may be encoded.
            shape: (token rows, token columns, W) of each.
            device: that computes.

        Raises:
            MedDINOv3Error: they fit neither into memory nor on the disk.
        """
        size = slices * HALF * int(np.prod(shape))
        memory = device_memory(device) if self._memory is None else self._memory
        if size <= memory:
            self._make_room(size, memory, in_memory=True)
            storage: TokenStorage = InMemory()
        else:
            place = self._parent or Path(tempfile.gettempdir())
            free = shutil.disk_usage(place).free
            disk = int(free * DISK_SHARE) if self._disk is None else self._disk
            if size > disk:
                raise MedDINOv3Error(
                    "disk-full",
                    f"The features of this scan take {size / 2**30:.1f} GiB; "
                    f"{disk / 2**30:.1f} GiB may be used.",
                    "Draw a region around the structure, choose a smaller backbone, or free space.",
                )
            self._make_room(size, disk, in_memory=False)
            storage = InFile(shape, self._parent)
        self._count += 1
        self._open[self._count] = (storage, size, isinstance(storage, InMemory))
        return storage

    def forget(self, storage: TokenStorage) -> None:
        """Close one and stop counting it."""
        for key, (kept, _, _) in list(self._open.items()):
            if kept is storage:
                del self._open[key]
        storage.close()

    def holds(self, storage: TokenStorage) -> bool:
        """Whether a storage was not given up for another."""
        return any(kept is storage for kept, _, _ in self._open.values())

    def close(self) -> None:
        """Give everything up."""
        for storage, _, _ in self._open.values():
            with suppress(OSError):
                storage.close()
        self._open.clear()

    def _make_room(self, size: int, budget: int, in_memory: bool) -> None:
        while sum(s for _, s, here in self._open.values() if here is in_memory) + size > budget:
            key = next(k for k, (_, _, here) in self._open.items() if here is in_memory)
            storage, _, _ = self._open.pop(key)
            storage.close()


def device_memory(device: torch.device) -> int:
    """Bytes on a device that tokens may take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * 2 * MEMORY_SHARE)
    return int(machine_memory() * MEMORY_SHARE)
