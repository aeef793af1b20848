"""The folder of a training run, which explains itself and outlives whoever started it."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from meddinov3.atomic import whole_file
from meddinov3.description import JsonFile
from meddinov3.errors import MedDINOv3Error
from meddinov3.plain_json import to_plain
from meddinov3.run_folder import (
    CONFIG,
    CONTROL,
    EVENTS,
    LOCK,
    OWNER,
    Event,
    is_running,
    owner,
    read_command,
    send_command,
)

__all__ = ["CONFIG", "EVENTS", "Event", "Run", "is_running", "send_command"]
WATCHED = 1.0  # seconds: whoever asks whether the run goes on holds its lock for a moment


class Run:
    """A run's folder: settings, plan, one JSON object a line for everything that happens.

    ``control.json`` holds ``{"command": "pause"}`` (or ``stop``, ``go on``), written by whoever
    watches. ``owner.json`` tells process and start; a lock that the operating system drops with
    the process tells whether that is still true.

    Attributes:
        folder: the run's.
        listeners: told every event as well.

    Args:
        folder: made by :meth:`open`.
        listener: the first of them.
        silent: write nothing: the run belongs to another process of the group.
    """

    def __init__(
        self, folder: Path, listener: Callable[[Event], None] | None, silent: bool = False
    ) -> None:
        self.folder, self._silent = folder, silent
        self.listeners = [] if listener is None else [listener]
        self._start = time.monotonic()
        self._lock: FileLock | None = None

    @staticmethod
    def check(folder: Path, resume: bool = False) -> None:
        """Refuse a folder that holds something, or that holds no run to go on with.

        Raises:
            MedDINOv3Error: so it is.
        """
        if resume:
            if not (folder / CONFIG).is_file():
                raise MedDINOv3Error(
                    "no-run",
                    f"'{folder.name}' holds no run that could be continued.",
                    "Start one without --resume.",
                )
            return
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise MedDINOv3Error(
                "run-exists",
                f"'{folder.name}' is a file or a folder that is not empty.",
                "Choose a new --output, or continue the run in it with --resume.",
            )

    def open(self, resume: bool = False) -> None:
        """Make the folder, or take it over, and keep others out.

        Raises:
            MedDINOv3Error: it cannot be made, holds something else, or is in use.
        """
        if self._silent:
            return
        self.check(self.folder, resume)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / LOCK)
            self._lock.acquire(timeout=WATCHED)
        except Timeout as error:
            raise MedDINOv3Error(
                "run-in-use",
                f"Another process is training in '{self.folder.name}' ({owner(self.folder)}).",
                "Wait for it, or stop it first.",
            ) from error
        except OSError as error:
            raise MedDINOv3Error(
                "cannot-write",
                f"The folder '{self.folder}' cannot be made: {error.strerror or error}.",
                "Choose another --output.",
            ) from error
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.write_json(OWNER, {"pid": os.getpid(), "started": started})
        (self.folder / CONTROL).unlink(missing_ok=True)
        if resume:
            _mend(self.folder / EVENTS)

    def close(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.release()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, or was taken up again."""
        return time.monotonic() - self._start

    def command(self) -> str:
        """What the watcher wants: ``pause``, ``stop`` or ``go on``."""
        return read_command(self.folder)

    def tell(self, event: str, **content: Any) -> None:
        """Append an event to ``events.jsonl``."""
        if self._silent:
            return
        line = {"event": event, "seconds": round(self.elapsed, 3), **content}
        with (
            suppress(OSError),  # on a full disk the reason must still reach the user
            open(self.folder / EVENTS, "a", encoding="utf-8", newline="\n") as stream,
        ):
            stream.write(json.dumps(line) + "\n")
        for listener in list(self.listeners):
            try:
                listener(line)
            except Exception as error:
                # A run outlives whoever started it, and a picture that cannot be drawn.
                self.listeners.remove(listener)
                self.tell("warning", text=f"a listener failed and is told no more: {error!r}")

    def save(self, name: str, content: Any) -> None:
        """Write a dataclass as JSON, with its format's version if it is a file's."""
        if isinstance(content, JsonFile):
            self.write_json(name, json.loads(content.to_json()))
        else:
            self.write_json(name, to_plain(content))

    def write_json(self, name: str, content: Any) -> None:
        """Write a file whole or not at all."""
        if self._silent:
            return
        with whole_file(self.folder / name) as partial:
            text = json.dumps(content, indent=2, default=str) + "\n"
            partial.write_text(text, encoding="utf-8", newline="\n")


def _mend(events: Path) -> None:
    """End a last line that a crash cut off, so that the next event has its own."""
    if events.is_file():
        with open(events, "rb+") as stream:
            content = stream.read()
            if content and not content.endswith(b"\n"):
                stream.write(b"\n")
