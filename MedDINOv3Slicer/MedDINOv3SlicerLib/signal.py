"""Signals in plain Python: jobs tell panels what happens without knowing them, or qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Slot = Callable[..., Any]


class Signal:
    """Something that others want to hear of. A slot is kept alive until it is disconnected."""

    def __init__(self) -> None:
        self._slots: list[Slot] = []

    def connect(self, slot: Slot) -> None:
        """Call `slot` with what is emitted from now on; once, however often it is connected."""
        if slot not in self._slots:
            self._slots.append(slot)

    def disconnect(self, slot: Slot) -> None:
        """Call `slot` no more; nothing happens if it was not connected."""
        if slot in self._slots:
            self._slots.remove(slot)

    def emit(self, *what: Any) -> None:
        """Tell everyone; one who raises keeps nobody else from hearing.

        Raises:
            Exception: the first that a slot raised, after all were called.
        """
        first: Exception | None = None
        for slot in list(self._slots):
            try:
                slot(*what)
            except Exception as error:
                first = first or error
        if first is not None:
            raise first
