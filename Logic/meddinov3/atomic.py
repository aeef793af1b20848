"""Files and folders that exist whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from meddinov3.errors import MedDINOv3Error

WAITS = (0.05, 0.1, 0.2, 0.4, 0.8) if sys.platform == "win32" else ()  # seconds


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target` with the same ending; rename it when done.

    An existing target is replaced only when the new file is complete; on any error the
    temporary file is removed and the target is as it was.

    Raises:
        MedDINOv3Error: the folder cannot be written to or the disk is full.
    """
    # Writers choose the format by the ending, in lower case; the name's length is no problem.
    ending = "".join(target.suffixes[-2:]).lower()
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.partial{ending}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        replace(temporary, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target`; rename it when done. The target must be new.

    Raises:
        MedDINOv3Error: the target exists, the place cannot be written to, or the disk is full.
    """
    if target.exists():
        raise _exists(target)
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.partial")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                _flush(path)
        replace(temporary, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace(source: Path, target: Path) -> None:
    """Rename, as :func:`os.replace`.

    On Windows a few more tries: a virus scanner or an indexer may hold a new file for a moment.

    Raises:
        OSError: it cannot be renamed.
    """
    for wait in WAITS:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(wait)
    os.replace(source, target)


def make_way(target: Path) -> None:
    """Remove an empty folder that a folder chooser made for a :func:`whole_folder`.

    Raises:
        MedDINOv3Error: the target exists and is not empty, or is no folder.
    """
    if target.exists():
        try:
            target.rmdir()  # refuses what is not empty
        except OSError as error:
            raise _exists(target) from error


def _exists(target: Path) -> MedDINOv3Error:
    return MedDINOv3Error(
        "exists", f"'{target.name}' exists already.", "Choose another name or remove it first."
    )


def _flush(path: Path) -> None:
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def _cannot_write(target: Path, error: OSError) -> MedDINOv3Error:
    return MedDINOv3Error(
        "cannot-write",
        f"'{target.name}' could not be written to '{target.parent}': {error.strerror or error}.",
        "Check free space and permissions, close programs that show the file, or choose another "
        "folder.",
    )
