"""Folders, files and colours that a person picks in the system's own dialogues."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import qt


class Choice(Protocol):
    """What panels ask; tests answer. None if nothing was picked."""

    def folder(self, title: str, start: Path | None = None) -> Path | None: ...

    def openFile(self, title: str, kinds: str) -> Path | None: ...

    def saveFile(self, title: str, start: str, kinds: str) -> Path | None: ...

    def colour(self, start: tuple[int, int, int]) -> tuple[int, int, int] | None: ...


class DialogueChoice:
    """Asks with dialogues over `parent`."""

    def __init__(self, parent: Any) -> None:
        self._parent = parent

    def folder(self, title: str, start: Path | None = None) -> Path | None:
        text = qt.QFileDialog.getExistingDirectory(self._parent, title, str(start or ""))
        return Path(text) if text else None

    def openFile(self, title: str, kinds: str) -> Path | None:
        text = qt.QFileDialog.getOpenFileName(self._parent, title, "", kinds)
        return Path(text) if text else None

    def saveFile(self, title: str, start: str, kinds: str) -> Path | None:
        text = qt.QFileDialog.getSaveFileName(self._parent, title, start, kinds)
        return Path(text) if text else None

    def colour(self, start: tuple[int, int, int]) -> tuple[int, int, int] | None:
        picked = qt.QColorDialog.getColor(qt.QColor(*start), self._parent)
        if not picked.isValid():
            return None
        return (picked.red(), picked.green(), picked.blue())


def colourIcon(colour: tuple[int, int, int]) -> Any:
    """A square of one colour."""
    picture = qt.QPixmap(14, 14)
    picture.fill(qt.QColor(*colour))
    return qt.QIcon(picture)
