"""What panels are given in tests: answers instead of dialogues, a box that remembers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cmake_lists import ROOT

LIBRARY = "MedDINOv3SlicerLib"


def forget() -> None:
    """Other tests load the module's library with another ``qt``."""
    for name in [name for name in sys.modules if name.partition(".")[0] == LIBRARY]:
        del sys.modules[name]


@pytest.fixture
def bed(slicer_app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The booted Slicer, and the module's library importable."""
    monkeypatch.syspath_prepend(ROOT / "MedDINOv3Slicer")
    forget()
    yield slicer_app
    forget()


class FakeProblems:
    """A problem box that keeps what it shows."""

    def __init__(self, qt: Any) -> None:
        self.widget = qt.QWidget()
        self.shown: Any = None

    def show(self, problem: Any) -> None:
        self.shown = problem

    def clear(self) -> None:
        self.shown = None


class FakeChoice:
    """Picks what the test says."""

    def __init__(self, path: Path | None = None, colour: Any = None) -> None:
        self.path, self.picked = path, colour

    def folder(self, title: str, start: Path | None = None) -> Path | None:
        return self.path

    def openFile(self, title: str, kinds: str) -> Path | None:
        return self.path

    def saveFile(self, title: str, start: str, kinds: str) -> Path | None:
        return self.path

    def colour(self, start: tuple[int, int, int]) -> Any:
        return self.picked


def opened(app: Any, panel: Any, width: int = 420) -> Any:
    """The panel on the screen, as wide as the module's column, so that clicks land."""
    panel.widget.resize(width, max(1200, panel.widget.sizeHint.height()))
    panel.widget.show()
    app.app.processEvents()
    return panel


def picture(app: Any, widget: Any, path: Path, width: int = 420) -> None:
    """Lay a panel out at a width and write it as PNG; for looking, not for comparing."""
    widget.resize(width, 10)
    widget.show()
    app.app.processEvents()
    widget.resize(width, max(widget.sizeHint.height(), 200))
    app.app.processEvents()
    widget.grab().save(str(path))


def cutOff(widget: Any, width: int = 420) -> int:
    """By how many pixels a panel is wider than the module's column; 0 if it fits."""
    return max(0, int(widget.minimumSizeHint.width()) - width)
