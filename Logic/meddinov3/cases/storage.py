"""How a case library is kept on disk: one writer at a time, nothing half-written, swept."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from meddinov3.atomic import whole_file
from meddinov3.cases.records import (
    CASES_FILE,
    DATASET_FILE,
    CaseRecord,
    LibraryRecord,
    no_library,
    read_record,
)
from meddinov3.cases.thumbnail import write_thumbnail
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid

FOLDERS = ("imagesTr", "labelsTr", "thumbnails")
LOCK_FILE = ".lock"
PATIENCE = 5.0  # seconds: another program writes one case in less
SPARE = 16 * 1024**2  # bytes that stay free
OWN_FILE = re.compile(r"case_(\d{4,})(_r\d+)?(_\d{4})?\.(nrrd|png)")
PARTIAL = re.compile(r"\.[0-9a-f]{8}\.partial(\..*)?")


@contextmanager
def locked(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Keep other programs from writing to a library.

    Args:
        folder: the library.
        patience: seconds to wait for another program.

    Raises:
        MedDINOv3Error: the library is gone, another program is writing, the place cannot be
            written to, or the package filelock is missing.
    """
    try:
        from filelock import FileLock, Timeout  # not part of Slicer; comes with the set-up
    except ModuleNotFoundError as error:
        raise MedDINOv3Error(
            "not-set-up",
            "The case library cannot be written to: the package filelock is missing.",
            "Set MedDINOv3 up; where another Python computes, install filelock into this one too.",
        ) from error
    if not (folder / CASES_FILE).is_file():  # the lock would make the folder again
        raise no_library(folder.name, "the file is not there")
    lock = FileLock(str(folder / LOCK_FILE))
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise MedDINOv3Error(
            "library-in-use",
            f"Another program is writing to the case library '{folder.name}'.",
            "Wait until it is done, or close it, and try again.",
        ) from error
    except (OSError, NotImplementedError) as error:
        raise MedDINOv3Error(
            "cannot-write",
            f"The case library '{folder.name}' cannot be written to: {error}.",
            "Check permissions and free space, or move it to a disk of this machine.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_space(folder: Path, needed: int) -> None:
    """Refuse what would fill the disk.

    Args:
        folder: exists.
        needed: bytes.

    Raises:
        MedDINOv3Error: there is less.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE:
        raise MedDINOv3Error(
            "disk-full",
            f"{(needed + SPARE) / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free where "
            f"'{folder.name}' lies.",
            "Free some space, or use a library on another disk.",
        )


def write_case(
    folder: Path,
    case: CaseRecord,
    channels: Sequence[np.ndarray],
    grid: Grid,
    label_map: np.ndarray,
    record: LibraryRecord,
) -> None:
    """Write a case's files, all or none. Headers hold the geometry and nothing else."""
    from meddinov3.writing import write_image, write_label_map

    try:
        for name, channel in zip(case.images, channels, strict=True):
            write_image(folder / name, channel, grid)
        write_label_map(folder / case.label, label_map, grid)
        is_ct = record.channels[0].strip().lower() == "ct"
        write_thumbnail(folder / case.thumbnail, channels[0], label_map, grid, record.labels, is_ct)
    except BaseException:
        delete(folder, case.files)
        raise


def delete(folder: Path, names: Iterable[str]) -> None:
    """Delete files; those that another program holds open stay until the next sweep."""
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()


def commit(folder: Path, record: LibraryRecord) -> None:
    """Make a new state of the library the valid one; on an error the old one stays.

    ``cases.json`` decides and comes last; see :func:`sweep` for a crash between the two.
    """
    dataset = folder / DATASET_FILE
    before = dataset.read_bytes() if dataset.is_file() else None
    _write(dataset, record.dataset_json().encode())
    try:
        _write(folder / CASES_FILE, record.to_json().encode())
    except BaseException:
        if before is not None:
            _write(dataset, before)
        raise


def sweep(folder: Path, record: LibraryRecord) -> None:
    """Finish what a crash interrupted: call it under the lock.

    ``dataset.json`` is made to follow ``cases.json``, and files of cases that were not added
    completely, or removed or replaced, are deleted. Files that somebody else put there stay.
    """
    dataset = folder / DATASET_FILE
    wanted = record.dataset_json().encode()
    if not dataset.is_file() or dataset.read_bytes() != wanted:
        _write(dataset, wanted)
    kept = {name for case in record.cases for name in case.files}
    delete(folder, (path.name for path in folder.iterdir() if PARTIAL.fullmatch(path.name)))
    for part in FOLDERS:
        found = [path.name for path in (folder / part).glob("*") if path.is_file()]
        delete(folder / part, (name for name in found if PARTIAL.fullmatch(name)))
        own = {name: match for name in found if (match := OWN_FILE.fullmatch(name))}
        # Higher numbers cannot be ours: they were not given out yet.
        left = (n for n, m in own.items() if int(m[1]) <= record.next and f"{part}/{n}" not in kept)
        delete(folder / part, left)


def read_swept(folder: Path) -> LibraryRecord:
    """Read a library's record and, unless another program writes just now, sweep.

    Raises:
        MedDINOv3Error: it is no library of ours, or damaged.
    """
    record = read_record(folder)
    with suppress(MedDINOv3Error, OSError), locked(folder, patience=0.0):  # may be read-only
        record = read_record(folder)
        sweep(folder, record)
    return record


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
