"""The folder of a training run, which explains itself."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meddinov3.description import JsonFile
from meddinov3.errors import MedDINOv3Error

Event = dict[str, Any]


class Run:
    """A run's folder: settings, plan, and one JSON object a line for everything that happens.

    Args:
        folder: made by :meth:`open`.
        listener: told every event as well.
    """

    def __init__(self, folder: Path, listener: Callable[[Event], None] | None) -> None:
        self.folder, self._listener = folder, listener
        self._start = time.monotonic()

    @staticmethod
    def check(folder: Path) -> None:
        """Refuse a folder that holds something.

        Raises:
            MedDINOv3Error: it is a file or not empty.
        """
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise MedDINOv3Error(
                "run-exists",
                f"'{folder.name}' is a file or a folder that is not empty.",
                "Choose a new --output.",
            )

    def open(self) -> None:
        """Make the folder.

        Raises:
            MedDINOv3Error: it cannot be made, or holds something.
        """
        self.check(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MedDINOv3Error(
                "cannot-write",
                f"The folder '{self.folder}' cannot be made: {error.strerror or error}.",
                "Choose another --output.",
            ) from error

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._start

    def tell(self, event: str, **content: Any) -> None:
        """Append an event to ``events.jsonl``."""
        line = {"event": event, "seconds": round(self.elapsed, 3), **content}
        with open(self.folder / "events.jsonl", "a", encoding="utf-8", newline="\n") as stream:
            stream.write(json.dumps(line) + "\n")
        if self._listener is not None:
            self._listener(line)

    def save(self, name: str, content: Any) -> None:
        """Write a dataclass as JSON."""
        if isinstance(content, JsonFile):
            text = content.to_json()
        else:
            text = json.dumps(dataclasses.asdict(content), indent=2, default=str) + "\n"
        (self.folder / name).write_text(text, encoding="utf-8", newline="\n")
