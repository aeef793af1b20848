"""MedDINOv3Slicer.py as Slicer loads it: for tests of the whole page."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from cmake_lists import ROOT
from panel_bed import forget

MODULE = ROOT / "MedDINOv3Slicer" / "MedDINOv3Slicer.py"


class Opened:
    """The module's code, and pages opened as Slicer does; cleaned up in the end."""

    def __init__(self, app: Any, code: types.ModuleType) -> None:
        self.app, self.code, self.slicer = app, code, app.slicer
        self._widgets: list[Any] = []

    def open(self) -> tuple[Any, Any]:
        """The module's object and its widget, entered."""
        found, widget = self.app.open_module(self.code, MODULE)
        self._widgets.append(widget)
        return found, widget

    def page(self) -> Any:
        """The page alone."""
        return self.open()[1].workspace

    def reload(self, widget: Any) -> Any:
        """As Slicer reloads: cleanup, widgets deleted, and a new one that is not entered."""
        widget.cleanup()
        widget.parent.deleteLater()
        self.app.wait_until(lambda: not widget.parent)
        self._widgets.remove(widget)
        area = self.app.qt.QWidget()
        self.app.qt.QVBoxLayout(area)
        new = self.code.MedDINOv3SlicerWidget(area)
        new.setup()
        self._widgets.append(new)
        return new

    def close(self) -> None:
        """As Slicer quits."""
        for widget in self._widgets:
            widget.exit()
            widget.cleanup()
        self._widgets = []


@pytest.fixture
def module(slicer_app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """The module, its library loaded anew."""
    monkeypatch.syspath_prepend(MODULE.parent)
    forget()
    spec = importlib.util.spec_from_file_location("MedDINOv3Slicer", MODULE)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "MedDINOv3Slicer", code)
    spec.loader.exec_module(code)
    opened = Opened(slicer_app, code)
    yield opened
    opened.close()
    if code.MedDINOv3SlicerLogic._shared is not None:
        code.MedDINOv3SlicerLogic().close()
    forget()
