"""Scans and label maps between processes: uncompressed files in a private folder.

Arrays are plain ``.npy``, which costs a fraction of a second for a large CT where compression
would cost several; geometry is JSON, so that no number is rounded.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid

if TYPE_CHECKING:
    from filelock import FileLock

PREFIX = "meddinov3-"
MADE = re.compile(PREFIX + r"[a-z0-9_]{8}")  # as mkdtemp names them
LOCK_FILE, SCAN_FILE = "in-use", "scan.json"
LABEL_FILE, ARRAY_FILE = "label_map.npy", "array.npy"
ABANDONED = 24 * 3600.0  # seconds after which a folder without lock was forgotten
SPARE = 64 * 2**20  # bytes to leave free


class Exchange:
    """A folder that only this user can read, gone when closed.

    What crashed programs left behind is swept away first: a folder whose lock nobody holds.

    Attributes:
        folder: absolute.
    """

    def __init__(self, parent: Path | None = None) -> None:
        """Sweep and make the folder.

        Args:
            parent: where; the system's place for temporary files by default.

        Raises:
            MedDINOv3Error: no folder can be made there, or the package filelock is missing.
        """
        place = parent or Path(tempfile.gettempdir())
        _lock(place)  # refuses before anything is made
        sweep(place)
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place)).resolve()
            self._lock = _lock(self.folder)
            self._lock.acquire(timeout=5)
        except OSError as error:
            raise MedDINOv3Error(
                "no-temporary-folder",
                f"No folder for temporary files can be made: {error.strerror or error}.",
                "Free space on the disk, or let TMPDIR (TEMP on Windows) name another folder.",
            ) from error
        self._count = 0

    def new(self, purpose: str) -> Path:
        """A path in the folder that is not taken; nothing is made there."""
        self._count += 1
        return self.folder / f"{self._count:04d}-{purpose}"

    def close(self) -> None:
        """Remove the folder and all in it."""
        self._lock.release()
        for _ in range(3):  # a worker may just write what nobody waits for any more
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                break

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sweep(place: Path) -> list[Path]:
    """Remove this user's exchange folders that no running program holds.

    Returns:
        The folders removed.
    """
    removed = []
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # also filelock.Timeout: in use
            if MADE.fullmatch(folder.name) is None or not _ours(folder):
                continue
            if (folder / LOCK_FILE).exists():
                with _lock(folder).acquire(timeout=0):
                    pass
                shutil.rmtree(folder, ignore_errors=True)
            elif time.time() - folder.stat().st_mtime < ABANDONED:
                continue  # being made at this moment
            else:
                folder.rmdir()  # without our lock only if there is nothing in it
            removed.append(folder)
    return removed


def _ours(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    return sys.platform == "win32" or folder.stat().st_uid == os.getuid()


def _lock(folder: Path) -> FileLock:
    # Held by the operating system for as long as the process lives, however it ends.
    try:
        from filelock import FileLock  # not part of Slicer; comes with the set-up
    except ModuleNotFoundError as error:
        raise MedDINOv3Error(
            "not-set-up",
            "Scans cannot be handed over: the package filelock is missing.",
            "Set MedDINOv3 up; where another Python computes, install filelock into this one too.",
        ) from error
    return FileLock(folder / LOCK_FILE)


@dataclass(frozen=True)
class ExchangedScan:
    """A scan as it was handed over: as :class:`meddinov3.volume.Volume`."""

    channels: tuple[np.ndarray, ...]
    grid: Grid
    modality: str


def write_scan(
    folder: Path, channels: Sequence[np.ndarray], grid: Grid, modality: str = ""
) -> None:
    """Hand over a scan.

    Args:
        folder: new.
        channels: (k, j, i) numbers, all on `grid`.
        grid: where the voxels lie.
        modality: DICOM modality, or "".

    Raises:
        MedDINOv3Error: the arrays do not fit the grid, or the disk is full.
    """
    if any(channel.shape != grid.shape for channel in channels):
        raise MedDINOv3Error(
            "wrong-shape",
            f"A channel of {' x '.join(map(str, channels[0].shape))} voxels does not fit a grid of "
            f"{' x '.join(map(str, grid.shape))}.",
            "Choose volumes of the same size and position.",
        )
    facts = {
        "size": list(grid.size),
        "spacing": list(grid.spacing),
        "origin": list(grid.origin),
        "direction": grid.direction.tolist(),
        "modality": modality,
        "channels": len(channels),
    }
    with _new_folder(folder, sum(channel.nbytes for channel in channels)):
        for number, channel in enumerate(channels):
            np.save(folder / f"channel{number}.npy", channel, allow_pickle=False)
        (folder / SCAN_FILE).write_text(json.dumps(facts), encoding="utf-8")


def read_scan(folder: Path) -> ExchangedScan:
    """The scan that was handed over.

    Raises:
        MedDINOv3Error: it is not there, or not whole.
    """
    try:
        facts = json.loads((folder / SCAN_FILE).read_text(encoding="utf-8"))
        grid = Grid(
            tuple(facts["size"]),
            tuple(facts["spacing"]),
            tuple(facts["origin"]),
            np.array(facts["direction"], dtype=np.float64),
        )
        channels = tuple(
            np.load(folder / f"channel{number}.npy", allow_pickle=False)
            for number in range(facts["channels"])
        )
        if not channels or any(channel.shape != grid.shape for channel in channels):
            raise ValueError("the arrays do not fit the grid")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MedDINOv3Error(
            "no-scan",
            f"The scan that was handed over cannot be read: {error}.",
            "Try again; if a clean-up program empties the temporary folder, except this one.",
        ) from error
    return ExchangedScan(channels, grid, str(facts["modality"]))


def write_label_map(folder: Path, label_map: np.ndarray) -> None:
    """Hand a label map (k, j, i) back.

    Raises:
        MedDINOv3Error: the disk is full.
    """
    with _new_folder(folder, label_map.nbytes):
        np.save(folder / LABEL_FILE, label_map, allow_pickle=False)


def read_label_map(folder: Path, grid: Grid) -> np.ndarray:
    """The label map (k, j, i) that was handed back.

    Raises:
        MedDINOv3Error: it is not there, not whole, or not of the scan's shape.
    """
    try:
        label_map: np.ndarray = np.load(folder / LABEL_FILE, allow_pickle=False)
        if label_map.shape != grid.shape or label_map.dtype.kind != "u":
            raise ValueError("it does not fit the scan")
    except (OSError, ValueError) as error:
        raise MedDINOv3Error(
            "no-result", f"The label map cannot be read: {error}.", "Segment again."
        ) from error
    return label_map


def write_array(folder: Path, array: np.ndarray) -> None:
    """Hand over any array of numbers, such as an overlay.

    Raises:
        MedDINOv3Error: the disk is full.
    """
    with _new_folder(folder, array.nbytes):
        np.save(folder / ARRAY_FILE, array, allow_pickle=False)


def read_array(folder: Path) -> np.ndarray:
    """The array that was handed over.

    Raises:
        MedDINOv3Error: it is not there, or not whole.
    """
    try:
        array: np.ndarray = np.load(folder / ARRAY_FILE, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MedDINOv3Error(
            "no-result", f"The result cannot be read: {error}.", "Ask again."
        ) from error
    return array


@contextmanager
def _new_folder(folder: Path, size: int) -> Iterator[None]:
    """Make a folder for `size` bytes; it is gone again if writing fails."""
    free = shutil.disk_usage(folder.parent).free
    if free < size + SPARE:
        raise disk_full(
            folder.parent, f"{size / 2**20:.0f} MiB are needed, {free / 2**20:.0f} are free"
        )
    try:
        folder.mkdir()
    except FileExistsError as error:
        raise MedDINOv3Error(
            "exists", f"'{folder.name}' exists already and is left alone.", "Name a new folder."
        ) from error
    except OSError as error:
        raise disk_full(folder.parent, error.strerror or str(error)) from error
    try:
        yield
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise disk_full(folder.parent, error.strerror or str(error)) from error
        raise


def disk_full(place: str | Path, why: str) -> MedDINOv3Error:
    """The error for a temporary folder that holds no more."""
    return MedDINOv3Error(
        "disk-full",
        f"The temporary folder '{place}' cannot hold the scan: {why}.",
        "Free space on that disk, or let TMPDIR (TEMP on Windows) name another folder.",
    )
