"""The worker's way out: events written by a thread of their own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import BinaryIO

from meddinov3.worker.messages import Event, encode_event


class EventWriter:
    """Writes events in order; whoever reads slowly delays nothing but the reading.

    While the reader lags, newer progress of a request takes the place of older.

    Args:
        stream: unbuffered.
        broken: called when nobody reads any more.
    """

    def __init__(self, stream: BinaryIO, broken: Callable[[], None]) -> None:
        self._stream, self._broken = stream, broken
        self._waiting: deque[tuple[Event, bytes]] = deque()
        self._writing = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write_all, name="events", daemon=True).start()

    def send(self, event: Event) -> None:
        """Queue an event; returns at once.

        Raises:
            TypeError: it holds what JSON cannot.
        """
        line = encode_event(event)
        with self._changed:
            last = self._waiting[-1][0] if self._waiting else None
            if event.kind == "progress" and last and (last.kind, last.id) == ("progress", event.id):
                self._waiting[-1] = (event, line)
            else:
                self._waiting.append((event, line))
            self._changed.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait until all is written; False if it took longer."""
        end = time.monotonic() + seconds
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and not self._writing, end - time.monotonic()
            )

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                _, line = self._waiting.popleft()
                self._writing = True
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[self._stream.write(rest) :]
            except (OSError, ValueError):
                self._broken()
                return
