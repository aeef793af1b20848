"""A question asked inside the panel, where a pop-up would break the work."""

from __future__ import annotations

from collections.abc import Callable

import qt
from slicer.i18n import tr as _


class Question:
    """One sentence, what Yes would do, and Cancel. ``widget`` is hidden while nothing is asked."""

    def __init__(self) -> None:
        self.widget = qt.QFrame()
        self.widget.setFrameShape(qt.QFrame.StyledPanel)
        self.label = qt.QLabel()
        self.label.wordWrap = True
        self.label.setTextFormat(qt.Qt.PlainText)  # names of cases and models are no HTML
        self.yesButton = qt.QPushButton()
        self.noButton = qt.QPushButton(_("Cancel"))
        self._buttons = qt.QWidget()
        row = qt.QHBoxLayout(self._buttons)
        row.setContentsMargins(0, 0, 0, 0)
        row.addStretch(1)
        row.addWidget(self.yesButton)
        row.addWidget(self.noButton)
        layout = qt.QVBoxLayout(self.widget)
        layout.addWidget(self.label)
        layout.addWidget(self._buttons)
        self._then: Callable[[], object] | None = None
        self.yesButton.connect("clicked(bool)", self._agreed)
        self.noButton.connect("clicked(bool)", self.close)
        self.widget.hide()

    def ask(self, text: str, yes: str, then: Callable[[], object]) -> None:
        """Ask; `then` is called if the person presses the button that reads `yes`."""
        self.label.text, self.yesButton.text, self._then = text, yes, then
        self.widget.show()

    def close(self) -> None:
        """Take the question back."""
        self._then = None
        self.widget.hide()

    def _agreed(self) -> None:
        then = self._then
        self.close()
        if then is not None:
            then()
