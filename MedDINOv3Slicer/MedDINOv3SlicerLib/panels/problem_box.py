"""Shows a failure in the panel: what happened, what to do, details to copy. No pop-up."""

from __future__ import annotations

import qt
import slicer

from MedDINOv3SlicerLib.problem import Problem
from MedDINOv3SlicerLib.resources import resourcePath


class ProblemBox:
    """A frame that is hidden while there is nothing to say. Put ``widget`` into a layout."""

    def __init__(self) -> None:
        self.widget = slicer.util.loadUI(resourcePath("UI/Problem.ui"))
        self.ui = slicer.util.childWidgetVariables(self.widget)
        self.problem: Problem | None = None
        self.ui.detailsText.visible = False
        self.widget.visible = False
        self.ui.closeProblemButton.connect("clicked(bool)", lambda: self.clear())
        self.ui.detailsButton.connect("toggled(bool)", self._showDetails)
        self.ui.copyButton.connect("clicked(bool)", lambda: self._copy())

    def show(self, problem: Problem) -> None:
        """Show a problem instead of the one before."""
        self.problem = problem
        self.ui.whatLabel.text = problem.what
        self.ui.remedyLabel.text = problem.remedy
        self.ui.remedyLabel.visible = bool(problem.remedy)
        self.ui.detailsText.setPlainText(problem.details)
        self.ui.detailsButton.visible = bool(problem.details)
        self.ui.detailsButton.checked = False
        self.widget.visible = True

    def clear(self) -> None:
        """Hide it."""
        self.problem = None
        self.widget.visible = False

    def _showDetails(self, shown: bool) -> None:
        self.ui.detailsText.visible = shown

    def _copy(self) -> None:
        if self.problem is not None:
            parts = (self.problem.what, self.problem.remedy, self.problem.details)
            copyText("\n\n".join(part for part in parts if part))


def copyText(text: str) -> None:
    """Put text on the clipboard."""
    qt.QApplication.clipboard().setText(text)
