"""The folder of a training run as others see it: its files, commands and events.

Torch-free: Slicer watches a run that goes on in a process of its own, perhaps one that an earlier
Slicer started. The process's side is :mod:`meddinov3_training.run`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from meddinov3.atomic import whole_file

Event = dict[str, Any]
EVENTS, CONTROL, OWNER, LOCK = "events.jsonl", "control.json", "owner.json", "in-use"
CONFIG = "config.json"
COMMANDS = ("go on", "pause", "stop")


def send_command(folder: Path, command: str) -> None:
    """Ask the process that trains in `folder` to pause, go on or stop."""
    assert command in COMMANDS
    with whole_file(folder / CONTROL) as partial:
        partial.write_text(json.dumps({"command": command}) + "\n", encoding="utf-8")


def read_command(folder: Path) -> str:
    """What was asked last; ``go on`` if nothing was, or it cannot be read."""
    try:
        wanted = json.loads((folder / CONTROL).read_text(encoding="utf-8"))["command"]
    except (OSError, ValueError, KeyError, TypeError):  # not there, or half-written
        return "go on"
    return wanted if wanted in COMMANDS else "go on"


def is_running(folder: Path) -> bool:
    """Whether a process is training in `folder` at this moment."""
    from filelock import FileLock, Timeout  # not part of Slicer; comes with the set-up

    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK).acquire(timeout=0):
            return False
    except Timeout:
        return True


def owner_pid(folder: Path) -> int | None:
    """Number of the process that trains there, or did last."""
    try:
        return int(json.loads((folder / OWNER).read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def owner(folder: Path) -> str:
    """Who trains there, in words."""
    try:
        facts = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return f"process {facts['pid']}, since {facts['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "of unknown number"


class Follower:
    """Reads a run's events while they are being written.

    Args:
        folder: of the run; it may not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / EVENTS
        self._position = 0

    def new_events(self, end: int | None = None) -> list[Event]:
        """The events since the last call.

        Args:
            end: byte of the file to read up to; None for all there is.

        Returns:
            In order. A line that is not complete yet is left for the next call, one that a crash
            cut off is skipped. A file that has become shorter is read from its start.
        """
        try:
            with open(self._path, "rb") as stream:
                if self._position > stream.seek(0, 2):
                    self._position = 0
                stream.seek(self._position)
                whole = stream.read(-1 if end is None else max(0, end - self._position))
        except OSError:  # not there yet, or held by another program
            return []
        whole = whole[: whole.rfind(b"\n") + 1]
        self._position += len(whole)
        return [event for line in whole.splitlines() if (event := _event(line)) is not None]


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    known = isinstance(event, dict) and isinstance(event.get("event"), str)
    return event if known else None
