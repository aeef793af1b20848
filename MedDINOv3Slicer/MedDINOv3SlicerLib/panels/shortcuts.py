"""Keyboard shortcuts that live while the module is shown, and take no key from Slicer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer


class Shortcuts:
    """Keys and what they do: installed in enter, removed in exit."""

    def __init__(self) -> None:
        self._wanted: list[tuple[str, Callable[[], None]]] = []
        self._installed: list[Any] = []

    def add(self, key: str, work: Callable[[], None]) -> None:
        """Call `work` when `key` (as Qt writes it, "Ctrl+Return") is pressed."""
        self._wanted.append((key, work))

    def install(self, window: Any = None) -> list[str]:
        """Give the keys to Slicer's window; returns those that were free."""
        window = window or slicer.util.mainWindow()
        if self._installed or window is None:
            return []
        taken = _takenKeys(window)
        free = [(key, work) for key, work in self._wanted if _normal(key) not in taken]
        for key, work in free:
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.connect("activated()", work)
            self._installed.append(shortcut)
        return [key for key, _work in free]

    def remove(self) -> None:
        """Give the keys back."""
        for shortcut in self._installed:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._installed = []


def _normal(key: str) -> str:
    return str(qt.QKeySequence(key).toString())


def _takenKeys(window: Any) -> set[str]:
    found = set()
    for action in window.findChildren(qt.QAction):
        found.add(str(action.shortcut.toString()))
    return found
