"""The folder of a training run, which explains itself and outlives whoever started it."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from meddinov3.atomic import whole_file
from meddinov3.description import JsonFile
from meddinov3.errors import MedDINOv3Error
from meddinov3.plain_json import to_plain
from meddinov3.run_folder import (
    COMMANDS,
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

from meddinov3_training.settings import FOLD, RESERVED

__all__ = ["CONFIG", "CONTROL", "EVENTS", "Event", "Run", "is_running", "owner", "send_command"]
WATCHED = 1.0  # seconds: whoever asks whether the run goes on holds its lock for a moment
UNBEGUN = {EVENTS, CONTROL, OWNER, LOCK}  # what a run leaves that ended before it began
KIND, CHECKPOINTS = "cross-validation.json", "checkpoints"
ENDS = ("done", "stopped", "interrupted", "error")


class Run:
    """A run's folder: settings, plan, one JSON object a line for everything that happens.

    ``control.json`` holds ``{"command": "pause"}`` (or ``stop``, ``go on``), written by whoever
    watches. ``owner.json`` tells process and start; a lock that the operating system drops with
    the process tells whether that is still true.

    Attributes:
        folder: the run's.
        listeners: told every event as well.
        last_event: kind of the last event that this process told.
        phase: what is done at present, in words.

    Args:
        folder: made by :meth:`open`.
        listener: the first of them.
        silent: write nothing: the run belongs to another process of the group.
        outer: the run that this one is a fold of; its commands are obeyed as well.
    """

    def __init__(
        self,
        folder: Path,
        listener: Callable[[Event], None] | None,
        silent: bool = False,
        outer: Run | None = None,
    ) -> None:
        self.folder, self._silent, self._outer = folder, silent, outer
        self.listeners = [] if listener is None else [listener]
        self.last_event, self.phase = "", ""
        self._start = time.monotonic()
        self._lock: FileLock | None = None
        self._telling = threading.RLock()
        self._earlier = _size(folder / EVENTS)

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
        held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if folder.is_file() or not (held <= UNBEGUN or _never_trained(folder)):
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
        else:
            _clear(self.folder)
        self._earlier = _size(self.folder / EVENTS)

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
        outer = "go on" if self._outer is None else self._outer.command()
        return max(read_command(self.folder), outer, key=COMMANDS.index)

    def forget_command(self) -> None:
        """It was obeyed: what comes now is not meant by it. An outer run's command stands."""
        with suppress(OSError):
            (self.folder / CONTROL).unlink(missing_ok=True)

    def end_is_told(self) -> bool:
        """Whether some process has told an end of the run since this one took part."""
        with suppress(OSError), open(self.folder / EVENTS, "rb") as stream:
            stream.seek(self._earlier)
            new = stream.read().decode(errors="replace")
            return any(f'{{"event": "{end}"' in new for end in ENDS)
        return False

    def tell(self, event: str, **content: Any) -> None:
        """Append an event to ``events.jsonl``; any thread may."""
        if not self._silent:
            self.tell_anyway(event, **content)

    def tell_anyway(self, event: str, **content: Any) -> None:
        """Tell it although the run belongs to another process of the group."""
        with self._telling:
            self._tell(event, content)

    def _tell(self, event: str, content: Event) -> None:
        line = {"event": event, "seconds": round(self.elapsed, 3), **content}
        self.last_event, self.phase = event, content.get("what", self.phase)
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


@dataclass(frozen=True)
class Outer:
    """The cross-validation that a run is a fold of.

    Attributes:
        run: whose commands are obeyed as well.
        folds: how many share its budget.
    """

    run: Run
    folds: int


def check_place(dataset: Path, output: Path) -> None:
    """Keep a run's folder and the dataset apart: nothing is ever written into a dataset.

    Raises:
        MedDINOv3Error: one of them is the other, or lies in it.
    """
    first, second = dataset.resolve(), output.resolve()
    if first == second or first in second.parents or second in first.parents:
        where = "is" if first == second else "lies in" if first in second.parents else "holds"
        raise MedDINOv3Error(
            "output-and-dataset",
            f"The run's folder '{output}' {where} the dataset's folder '{dataset}'.",
            "Choose an --output beside the dataset, not in it.",
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _never_trained(folder: Path) -> bool:
    """Whether what lies there is a run that failed before anything was learnt; folds likewise."""
    held = {path.name for path in folder.iterdir()}
    folds = {name for name in held if FOLD.fullmatch(name)} if KIND in held else set()
    if not held - folds <= {*RESERVED, *UNBEGUN} or CHECKPOINTS in held:
        return False
    try:
        lines = (folder / EVENTS).read_text(encoding="utf-8").splitlines()
        told = [json.loads(line)["event"] for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    failed = told[-1:] == ["error"] or (told != [] and "start" not in told)
    return failed and all(_never_trained(folder / name) for name in folds)


def _clear(folder: Path) -> None:
    """Remove what a run left that never trained; its slices are used again where they fit."""
    for path in folder.iterdir():
        if path.name in ("cache", LOCK, OWNER):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _mend(events: Path) -> None:
    """End a last line that a crash cut off, so that the next event has its own."""
    if events.is_file():
        with open(events, "rb+") as stream:
            content = stream.read()
            if content and not content.endswith(b"\n"):
                stream.write(b"\n")
