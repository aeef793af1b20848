"""How far a job is, and its log."""

from __future__ import annotations

from typing import Any, Protocol

from meddinov3.progress import time_in_words
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.panels.problem_box import copyText


class Progress(Protocol):
    """See meddinov3.progress."""

    @property
    def phase(self) -> str: ...

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...

    @property
    def seconds_left(self) -> float | None: ...


class JobDisplay:
    """The bar, the line below it and the folded log of a panel."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        ui.progressBar.visible = False
        ui.progressLabel.visible = False
        ui.logBox.visible = False
        ui.copyLogButton.connect("clicked(bool)", lambda: copyText(ui.logText.plainText))

    def begin(self, text: str) -> None:
        """A job starts."""
        self._ui.progressBar.setRange(0, 0)
        self._ui.progressBar.visible = True
        self._say(text)

    def progress(self, progress: Progress) -> None:
        """A job went on."""
        if progress.total:
            self._ui.progressBar.setRange(0, progress.total)
            self._ui.progressBar.setValue(progress.done)
        else:
            self._ui.progressBar.setRange(0, 0)
        self._say(progressText(progress))

    def end(self, text: str, log: str) -> None:
        """A job ended, in whatever way."""
        self._ui.progressBar.visible = False
        self._say(text)
        self._ui.logText.setPlainText(log)
        self._ui.logBox.visible = bool(log)

    def _say(self, text: str) -> None:
        self._ui.progressLabel.text = text
        self._ui.progressLabel.visible = bool(text)


def progressText(progress: Progress) -> str:
    """What is being done and how long it will take."""
    phase = progress.phase[:1].upper() + progress.phase[1:]
    if progress.seconds_left is None:
        return phase
    return _("{phase}, about {time} left").format(
        phase=phase, time=time_in_words(progress.seconds_left)
    )
