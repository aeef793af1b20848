"""The strip on top: whether all is installed, and what computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import slicer
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.install.device_text import DeviceFacts, deviceText
from MedDINOv3SlicerLib.install.packages import Missing
from MedDINOv3SlicerLib.panels.choices import enable
from MedDINOv3SlicerLib.panels.problem_box import ProblemBox
from MedDINOv3SlicerLib.problem import Problem
from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.signal import Signal


class SetupLogic(Protocol):
    """What the strip needs to know and do."""

    def missing(self) -> Missing:
        """What segmenting lacks; quick, installs nothing."""

    def ensure(self) -> Problem | None:
        """Ask and install; None when all is there."""

    def inspect(self, device: str, then: Callable[[DeviceFacts | Problem], None]) -> None:
        """Try the device in the worker; `then` is called later."""


class SetupPanel:
    """States what is missing or which device computes. Opening it installs nothing.

    Attributes:
        ready: emitted with the facts once a device was found to work.
    """

    def __init__(self, logic: SetupLogic, device: Callable[[], str] = lambda: "auto") -> None:
        self._logic, self._device = logic, device
        self._asked = 0  # answers to an older question are not shown
        self._checked = ""  # the device that is known to work
        self.ready = Signal()
        self.widget = slicer.util.loadUI(resourcePath("UI/Setup.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.problems = ProblemBox()
        self.widget.layout().addWidget(self.problems.widget)
        self.ui.setUpButton.connect("clicked(bool)", lambda: self.setUp())
        self.ui.checkButton.connect("clicked(bool)", lambda: self.check())

    def setScene(self, scene: Any) -> None:
        """Nothing here depends on the scene."""

    def sceneClosed(self) -> None:
        """Nothing here depends on the scene."""

    def enter(self) -> None:
        """Look again; a device that worked is not tried a second time."""
        if self._checked != self._device() or self._logic.missing():
            self.check()

    def exit(self) -> None:
        """Nothing to end."""

    def cleanup(self) -> None:
        """Take no further answers."""
        self._asked += 1

    def setUp(self) -> Problem | None:
        """Ask and install what segmenting needs, and show how it went."""
        self.problems.clear()
        problem = self._logic.ensure()
        if problem is not None:
            self.problems.show(problem)
        self.check(keepProblem=problem is not None)
        return problem

    def check(self, keepProblem: bool = False) -> None:
        """Say what is missing, or try the device."""
        self._asked += 1
        self._checked = ""
        if not keepProblem:
            self.problems.clear()
        missing = self._logic.missing()
        self.ui.setUpButton.visible = bool(missing)
        self.ui.checkButton.visible = not missing
        if missing:
            self.ui.statusLabel.text = _missingText(missing)
            return
        self.ui.statusLabel.text = _("Trying the device...")
        enable(self.ui.checkButton, _("The device is being tried."), "")
        asked, device = self._asked, self._device()
        self._logic.inspect(device, lambda found: self._found(asked, device, found))

    def _found(self, asked: int, device: str, found: DeviceFacts | Problem) -> None:
        if asked != self._asked:
            return
        enable(self.ui.checkButton, "", _("Try a computation on the chosen device once more."))
        if isinstance(found, Problem):
            self.ui.statusLabel.text = _("Not ready.")
            self.problems.show(found)
            return
        self._checked = device
        self.ui.statusLabel.text = deviceText(found)
        self.ready.emit(found)


def _missingText(missing: Missing) -> str:
    if missing.torch:
        return _("Not set up yet: PyTorch and some packages are not installed.")
    return _("Not set up yet: {n} Python packages are not installed.").format(
        n=len(missing.packages)
    )
