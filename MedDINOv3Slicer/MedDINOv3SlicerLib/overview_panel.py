"""The page one sees on opening the module: what it does, and which models are here."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import qt
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.model_list import ModelList, describeModel

COMMAND = "meddinov3 segment SCAN --output DIR"
COMMAND_WITH_MODEL = "meddinov3 segment SCAN --model MODEL --output DIR"


class OverviewPanel:
    """Says what the module does and lists the models.

    `readModels` is asked each time the list is shown. Put ``widget`` into a layout; it owns
    everything below it. ``introduction``, ``models`` and ``command`` are labels of rich text.
    """

    def __init__(self, readModels: Callable[[], ModelList]) -> None:
        self._readModels = readModels
        self.widget = qt.QWidget()
        self.introduction = _textLabel(_introduction())
        self.models = _textLabel("")
        self.command = _textLabel("")
        self.refreshButton = qt.QPushButton(_("Look for models again"))
        self.refreshButton.connect("clicked(bool)", self.refresh)
        layout = qt.QVBoxLayout(self.widget)
        for part in (self.introduction, self.models, self.refreshButton, self.command):
            layout.addWidget(part)
        self.refresh()

    def refresh(self) -> None:
        """Read the models again and show them."""
        found = self._readModels()
        self.models.text = _modelText(found)
        self.command.text = _commandText(len(found.models))


def _textLabel(text: str) -> qt.QLabel:
    label = qt.QLabel(text)
    label.wordWrap = True
    label.setTextFormat(qt.Qt.RichText)
    label.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)
    return label


def _introduction() -> str:
    steps = (
        (_("Segment"), _("a loaded CT or MR scan with one of the models below.")),
        (_("Correct"), _("the result by hand with the Segment Editor's tools.")),
        (_("Fine-tune"), _("a model on the corrected cases, and use it for the next scan.")),
    )
    items = "".join(f"<li><b>{step}</b> {what}</li>" for step, what in steps)
    return (
        "<h2>MedDINOv3</h2><p>"
        + _("This module is being built. It will do three things, all on this computer:")
        + f"</p><ol>{items}</ol><p>"
        + _("Scans never leave this computer. Opening this page installs and downloads nothing.")
        + " "
        + _("Not for clinical use.")
        + "</p>"
    )


def _modelText(found: ModelList) -> str:
    heading = "<h3>" + _("Models on this computer") + "</h3>"
    if found.problem:
        return f"{heading}<p>{escape(found.problem)}</p>"
    if not found.models:
        return f"{heading}<p>{_('None.')}</p>"
    items = (f"<li><b>{escape(m.id)}</b>: {escape(describeModel(m))}</li>" for m in found.models)
    return f"{heading}<ul>{''.join(items)}</ul>"


def _commandText(models: int) -> str:
    # With several models the command wants to be told which one.
    command = COMMAND_WITH_MODEL if models > 1 else COMMAND
    return (
        "<h3>"
        + _("What works today")
        + "</h3><p>"
        + _("In a terminal of a Python in which MedDINOv3 is installed with pip:")
        + f"</p><p><code>{escape(command)}</code></p><p>"
        + _("It writes a label map and a segmentation that Slicer opens.")
        + "</p>"
    )
