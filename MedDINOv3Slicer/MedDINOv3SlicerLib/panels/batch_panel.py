"""Several scans one after another: of the scene, of a folder, of a time sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import slicer
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.panels.choices import enable
from MedDINOv3SlicerLib.panels.job_display import progressText
from MedDINOv3SlicerLib.panels.problem_box import ProblemBox
from MedDINOv3SlicerLib.panels.segment_panel import SegmentPanel
from MedDINOv3SlicerLib.problem import Problem, problemOf
from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.signal import Signal

SCANS, FOLDER, SEQUENCE = range(3)  # in the order of the .ui file
ROWS = {
    SCANS: ("volumes",),
    FOLDER: ("folder", "output"),
    SEQUENCE: ("sequence",),
}
FIELDS = {
    "volumes": "volumesCombo",
    "folder": "folderEdit",
    "output": "outputEdit",
    "sequence": "sequenceCombo",
}
SHOWN_FAILURES = 5


class Batch(Protocol):
    """Orders on their way; see jobs.batch."""

    progressed: Signal
    finished: Signal

    def start(self) -> None:
        """Begin; signals come after this has returned."""

    def cancel(self) -> None:
        """Stop; what is done stays."""


class BatchLogic(Protocol):
    """Makes batches of an order that says all but the scans. Each may raise MedDINOv3Error."""

    def ensure(self) -> Problem | None:
        """Ask and install what is missing; None when all is there."""

    def batchOfScans(self, order: Any, volumes: tuple[Any, ...]) -> Batch:
        """Scans of the scene; each gets a segmentation of its own."""

    def batchOfFolder(self, order: Any, folder: Path, output: Path | None) -> Batch:
        """Files of a folder; results beside them or in `output`."""

    def batchOfSequence(self, order: Any, browser: Any) -> Batch:
        """Time points of a sequence browser; results become a sequence."""


class BatchPreferences(Protocol):
    """Remembers the folder."""

    def batchFolder(self) -> str: ...

    def setBatchFolder(self, folder: str) -> None: ...


class BatchPanel:
    """Uses the model and choices of the segment panel above it."""

    def __init__(
        self, logic: BatchLogic, segment: SegmentPanel, preferences: BatchPreferences
    ) -> None:
        self._logic, self._segment, self._preferences = logic, segment, preferences
        self._batch: Batch | None = None
        self.widget = slicer.util.loadUI(resourcePath("UI/Batch.ui"))
        self.ui = ui = slicer.util.childWidgetVariables(self.widget)
        self.problems = ProblemBox()
        self.widget.layout().addWidget(self.problems.widget)
        ui.batchProgressBar.visible = False
        ui.batchLabel.visible = False
        ui.folderEdit.currentPath = preferences.batchFolder()
        ui.sourceCombo.connect("currentIndexChanged(int)", lambda index: self._showSource())
        ui.volumesCombo.connect("checkedNodesChanged()", lambda: self._showButton())
        ui.folderEdit.connect("currentPathChanged(QString)", lambda path: self._showButton())
        ui.sequenceCombo.connect("currentNodeChanged(vtkMRMLNode*)", lambda n: self._showButton())
        ui.batchButton.connect("clicked(bool)", lambda: self.press())
        segment.chosen.connect(self._showButton)
        self._showSource()

    def setScene(self, scene: Any) -> None:
        """Offer what is in this scene."""
        self.widget.setMRMLScene(scene)
        self._showButton()

    def sceneClosed(self) -> None:
        """The scans are gone."""
        self.problems.clear()
        self._showButton()

    def enter(self) -> None:
        """Look whether it can begin."""
        self._showButton()

    def exit(self) -> None:
        """A batch goes on while another module is shown."""

    def cleanup(self) -> None:
        """End what runs."""
        if self._batch is not None:
            self._batch.cancel()

    def obstacle(self) -> str:
        """Why it cannot begin; "" if it can."""
        source = self.ui.sourceCombo.currentIndex
        reason = self._segment.obstacle(withScans=False)
        if reason:
            return reason
        if source != FOLDER and len(self._segment.channels.combos) > 1:
            return _("This model needs several scans of a patient; choose a folder of files.")
        if source == SCANS and not self.ui.volumesCombo.checkedNodes():
            return _("Tick at least one scan.")
        if source == FOLDER and not Path(self.ui.folderEdit.currentPath or "-").is_dir():
            return _("Choose a folder with scans.")
        if source == SEQUENCE and self.ui.sequenceCombo.currentNode() is None:
            return _("Choose a sequence.")
        return ""

    def press(self) -> None:
        """What the button does: begin, or cancel."""
        if self._batch is not None:
            self._batch.cancel()
        elif not self.obstacle():
            self._start()

    def _showSource(self) -> None:
        shown = ROWS.get(self.ui.sourceCombo.currentIndex, ())
        for name, field in FIELDS.items():
            getattr(self.ui, field).visible = name in shown
            getattr(self.ui, f"{name}Title").visible = name in shown
        self._showButton()

    def _showButton(self) -> None:
        button = self.ui.batchButton
        running = self._batch is not None
        button.text = _("Cancel") if running else _("Segment all")
        if running:
            enable(button, "", _("Stop; results that are there already stay."))
        else:
            tip = _("Segment these scans with the model and choices above.")
            enable(button, self.obstacle(), tip)

    def _start(self) -> None:
        self.problems.clear()
        problem = self._logic.ensure()
        if problem is not None:
            self.problems.show(problem)
            return
        try:
            batch = self._make()
            batch.progressed.connect(self._progress)
            batch.finished.connect(lambda outcome: self._finished(batch, outcome))
            self._batch = batch
            batch.start()
        except Exception as error:  # shown in the panel, not in the console only
            self._batch = None
            self.problems.show(problemOf(error))
        self.ui.batchProgressBar.visible = self._batch is not None
        self.ui.batchProgressBar.setValue(0)
        self._say(_("Starting...") if self._batch is not None else "")
        self._showButton()

    def _make(self) -> Batch:
        source = self.ui.sourceCombo.currentIndex
        order = self._segment.order(volumes=(), into=None)
        if source == SCANS:
            return self._logic.batchOfScans(order, tuple(self.ui.volumesCombo.checkedNodes()))
        if source == SEQUENCE:
            return self._logic.batchOfSequence(order, self.ui.sequenceCombo.currentNode())
        folder, output = self.ui.folderEdit.currentPath, self.ui.outputEdit.currentPath
        self._preferences.setBatchFolder(folder)
        return self._logic.batchOfFolder(order, Path(folder), Path(output) if output else None)

    def _progress(self, progress: Any) -> None:
        self.ui.batchProgressBar.setValue(round(100 * progress.share))
        text = _("Scan {number} of {total}: {title}").format(
            number=progress.number, total=progress.total, title=progress.title
        )
        if progress.step is not None:
            text = f"{text}\n{progressText(progress.step)}"
        self._say(text)

    def _finished(self, batch: Batch, outcome: Any) -> None:
        if batch is not self._batch:
            return
        self._batch = None
        self.ui.batchProgressBar.visible = False
        self._say(_summary(outcome))
        if outcome.failures:
            self.problems.show(_failures(outcome.failures))
        self._showButton()

    def _say(self, text: str) -> None:
        self.ui.batchLabel.text = text
        self.ui.batchLabel.visible = bool(text)


def _summary(outcome: Any) -> str:
    parts = [_("{n} segmented").format(n=len(outcome.done))]
    if outcome.failures:
        parts.append(_("{n} failed").format(n=len(outcome.failures)))
    if outcome.skipped:
        parts.append(_("{n} not done").format(n=len(outcome.skipped)))
    return ", ".join(parts) + "."


def _failures(failures: Any) -> Problem:
    lines = [f"{order.title}: {problem.what} {problem.remedy}" for order, problem in failures]
    names = ", ".join(order.title for order, _problem in failures[:SHOWN_FAILURES])
    if len(failures) > SHOWN_FAILURES:
        names = _("{names} and {n} more").format(names=names, n=len(failures) - SHOWN_FAILURES)
    return Problem(
        _("Not segmented: {names}.").format(names=names),
        _("The details say why for each; the others are done."),
        "\n".join(lines),
        "batch-failures",
    )
