"""Step 1: a scan, a model and a few choices to a segmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.panels.channel_selectors import ChannelSelectors
from MedDINOv3SlicerLib.panels.choices import chooseDevice, chosenDevice, enable
from MedDINOv3SlicerLib.panels.job_display import JobDisplay
from MedDINOv3SlicerLib.panels.label_choice import LabelChoice
from MedDINOv3SlicerLib.panels.model_text import modelName, modelText, modelToolTip
from MedDINOv3SlicerLib.panels.problem_box import ProblemBox
from MedDINOv3SlicerLib.panels.segment_needs import (
    Estimate,
    Job,
    SegmentLogic,
    SegmentParameters,
)
from MedDINOv3SlicerLib.panels.shortcuts import Shortcuts
from MedDINOv3SlicerLib.problem import Problem, problemOf
from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.signal import Signal

if TYPE_CHECKING:
    from meddinov3.model_store import InstalledModel

QUIET = 600  # ms without a change before the time is estimated
QUALITIES = ("standard", "best")  # in the order of the .ui file
KEY = "Ctrl+Return"


class SegmentPanel:
    """Chooses, starts, shows progress, cancels.

    Attributes:
        segmented: emitted with the segmentation node and the scan's node.
        deviceChanged: emitted with the device when another one is chosen.
        chosen: emitted when any choice changes, for the batch below.

    Args:
        logic: does the work.
        makeOrder: makes an order from keyword arguments (jobs.orders.SegmentOrder).
        parameters: gives those of the present scene, or None if there is no scene.
    """

    def __init__(
        self,
        logic: SegmentLogic,
        makeOrder: Callable[..., Any],
        parameters: Callable[[], SegmentParameters | None] = lambda: None,
    ) -> None:
        self._logic, self._makeOrder, self._parametersOf = logic, makeOrder, parameters
        self._scene: Any = None
        self._models: list[InstalledModel] = []
        self._job: Job | None = None
        self._restoring = True  # nothing is saved before the scene was read
        self._question, self._keyTaken, self._modelsProblem = 0, False, ""
        self.segmented, self.deviceChanged, self.chosen = Signal(), Signal(), Signal()
        self.widget = slicer.util.loadUI(resourcePath("UI/Segment.ui"))
        self.ui = ui = slicer.util.childWidgetVariables(self.widget)
        self.problems = ProblemBox()
        self.widget.layout().addWidget(self.problems.widget)
        self.channels = ChannelSelectors(ui.channels)
        self.labels = LabelChoice(ui)
        self.display = JobDisplay(ui)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._estimate)
        self.shortcuts = Shortcuts()
        self.shortcuts.add(KEY, self.press)
        self._connect()
        self.refreshModels()

    def setScene(self, scene: Any) -> None:
        """Work on this scene, with the choices saved in it."""
        self._scene, self._restoring = scene, True
        self.widget.setMRMLScene(scene)
        self.channels.setScene(scene)
        self._restore()

    def holdChoices(self) -> None:
        """Save nothing until the scene is set again: it is being read."""
        self._restoring = True

    def sceneClosed(self) -> None:
        """The scene is empty now; its saved choices are gone."""
        self.problems.clear()
        self._restore()

    def enter(self) -> None:
        """Look for models and the default device again; take the shortcut."""
        chooseDevice(self.ui.deviceCombo, self._saved("device", chosenDevice(self.ui.deviceCombo)))
        self.refreshModels()
        self._keyTaken = bool(self.shortcuts.install())
        self._changed()

    def exit(self) -> None:
        """Give the shortcut back."""
        self.shortcuts.remove()
        self.ui.roiPlace.setPlaceModeEnabled(False)

    def cleanup(self) -> None:
        """End what runs; selectors that outlive the page save nothing any more."""
        self.holdChoices()
        self.exit()
        self._timer.stop()
        self._question += 1
        if self._job is not None:
            self._job.cancel()

    def refreshModels(self) -> None:
        """Read the models anew, and what segmenting takes; the chosen one stays chosen."""
        found = self._logic.models()
        before = self.model.id if self.model else self._saved("model", "")
        self._models, self._modelsProblem = list(found.models), found.problem
        combo = self.ui.modelCombo
        combo.blockSignals(True)
        combo.clear()
        for number, model in enumerate(self._models):
            combo.addItem(modelName(model))
            combo.setItemData(number, modelToolTip(model), qt.Qt.ToolTipRole)
        ids = [model.id for model in self._models]
        combo.setCurrentIndex(ids.index(before) if before in ids else min(0, len(ids) - 1))
        combo.blockSignals(False)
        self._showModel()

    @property
    def model(self) -> InstalledModel | None:
        """The chosen model."""
        number = self.ui.modelCombo.currentIndex
        return self._models[number] if 0 <= number < len(self._models) else None

    def order(self, **other: Any) -> Any:
        """What is chosen, as an order."""
        model = self.model
        choices = {
            "volumes": tuple(node for node in self.channels.volumes() if node is not None),
            "model": model.id if model else "",
            "device": chosenDevice(self.ui.deviceCombo),
            "roi": self.ui.roiCombo.currentNode(),
            "labels": self.labels.chosen(),
            "full": self.ui.qualityCombo.currentIndex == 1,
            "into": self.ui.resultCombo.currentNode(),
            "show3d": self.ui.show3dCheck.checked,
        }
        return self._makeOrder(**(choices | other))

    def obstacle(self, withScans: bool = True) -> str:
        """Why Segment cannot be pressed, in a sentence; "" if it can."""
        model = self.model
        if model is None:
            return self._modelsProblem or _("There is no model; add one under Models.")
        if model.description is None:
            return _("This model cannot be used: {problem}").format(problem=model.problem)
        if self.labels.chosen() == ():
            return _("Tick at least one structure.")
        return self.channels.problem() if withScans else ""

    def choose(self, volumes: tuple[Any, ...]) -> None:
        """Choose scans, for instance one that was just loaded."""
        self.channels.setVolumes(volumes)

    def press(self) -> None:
        """What the button does: segment, or cancel."""
        if self._job is not None:
            self._job.cancel()
        elif not self.obstacle():
            self._start()

    def _connect(self) -> None:
        ui = self.ui
        ui.modelCombo.connect("currentIndexChanged(int)", lambda index: self._showModel())
        ui.roiCombo.connect("currentNodeChanged(vtkMRMLNode*)", self._showRegion)
        ui.roiCombo.connect("nodeAddedByUser(vtkMRMLNode*)", self._drawRegion)
        ui.resultCombo.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._changed())
        ui.qualityCombo.connect("currentIndexChanged(int)", lambda index: self._changed())
        ui.deviceCombo.connect("currentIndexChanged(int)", lambda index: self._newDevice())
        ui.show3dCheck.connect("toggled(bool)", lambda on: self._changed())
        ui.segmentButton.connect("clicked(bool)", lambda: self.press())
        self.channels.changed.connect(self._changed)
        self.labels.changed.connect(self._changed)

    def _showModel(self) -> None:
        model = self.model
        self.ui.modelCombo.enabled = bool(self._models)
        if model is None:
            self.ui.modelLabel.text = self._modelsProblem or _("There is no model yet.")
        else:
            self.ui.modelLabel.text = modelText(model)
            self.ui.modelCombo.toolTip = modelToolTip(model)
        description = model.description if model else None
        wanted = self._saved("labels", None)
        restoring, self._restoring = self._restoring, True
        try:
            labels = description.labels if description else ()
            self.labels.setLabels([one.name for one in labels], [one.colour for one in labels])
            names = {one.name for one in labels}
            if wanted is not None and wanted and names.issuperset(wanted):
                self.labels.choose(wanted)
            shown = tuple(one.name for one in description.channels) if description else ()
            self.channels.setChannels(shown)
        finally:
            self._restoring = restoring
        self._changed()

    def _showRegion(self, node: Any) -> None:
        self.ui.roiPlace.setCurrentNode(node)
        self._changed()

    def _drawRegion(self, node: Any) -> None:
        self.ui.roiPlace.setCurrentNode(node)
        self.ui.roiPlace.setPlaceModeEnabled(True)

    def _newDevice(self) -> None:
        parameters = self._parametersOf()
        if parameters is not None and not self._restoring:
            parameters.device = chosenDevice(self.ui.deviceCombo)  # only what somebody chose
        self._changed()
        if not self._restoring:
            self.deviceChanged.emit(chosenDevice(self.ui.deviceCombo))

    def _saved(self, name: str, default: Any) -> Any:
        parameters = self._parametersOf()
        return getattr(parameters, name) if parameters is not None else default

    def _restore(self) -> None:
        parameters = self._parametersOf()
        if parameters is None:
            self._restoring = False
            self._changed()
            return
        self._restoring = True
        try:
            ids = [model.id for model in self._models]
            if parameters.model in ids:
                self.ui.modelCombo.setCurrentIndex(ids.index(parameters.model))
            if any(parameters.volumes):
                self.channels.setVolumes(parameters.volumes)
            self.ui.roiCombo.setCurrentNode(parameters.roi)
            self.ui.resultCombo.setCurrentNode(parameters.segmentation)
            self.labels.choose(parameters.labels or None)
            best = parameters.quality == QUALITIES[1]
            self.ui.qualityCombo.setCurrentIndex(1 if best else 0)
            chooseDevice(self.ui.deviceCombo, parameters.device)
            self.ui.show3dCheck.checked = parameters.show3d
        finally:
            self._restoring = False
        self._changed()

    def _save(self) -> None:
        parameters = self._parametersOf()
        if parameters is None:
            return
        parameters.model = self.model.id if self.model else ""
        parameters.volumes = self.channels.volumes()
        parameters.roi = self.ui.roiCombo.currentNode()
        parameters.segmentation = self.ui.resultCombo.currentNode()
        parameters.labels = self.labels.chosen()
        parameters.quality = QUALITIES[max(self.ui.qualityCombo.currentIndex, 0)]
        parameters.show3d = self.ui.show3dCheck.checked

    def _changed(self) -> None:
        if self._restoring or ((s := self._scene) and (s.IsClosing() or s.IsImporting())):
            return  # selectors follow the nodes; nobody chose
        self._save()
        self._showButton()
        self._question += 1
        self.ui.expectedLabel.text = ""
        if self._job is None and not self.obstacle():
            self._timer.start(QUIET)
        self.chosen.emit()

    def _showButton(self) -> None:
        button = self.ui.segmentButton
        if self._job is not None:
            button.text = _("Cancel")
            enable(button, "", _("Stop; nothing is put into the scene."))
            return
        button.text = _("Segment")
        tip = _("Segment the scan with the chosen model.")
        if self._keyTaken:
            tip = f"{tip} ({KEY})"
        enable(button, self.obstacle(), tip)

    def _estimate(self) -> None:
        # Never a reason to install something, nor to disturb what runs.
        if self._job is not None or self.obstacle() or self._logic.missing():
            return
        problem = self._logic.problemWith(self.channels.volumes())
        if problem is not None:
            self.ui.expectedLabel.text = f"{problem.what} {problem.remedy}"
            return
        advice = self._logic.advice(chosenDevice(self.ui.deviceCombo))
        if advice:  # measuring would take memory from the training
            self.ui.expectedLabel.text = advice
            return
        self._question += 1
        question = self._question
        self.ui.expectedLabel.text = _("Measuring how long it will take...")
        self._logic.estimate(self.order(), lambda found: self._expected(question, found))

    def _expected(self, question: int, found: Estimate | Problem) -> None:
        if question != self._question or self._job is not None:
            return
        if isinstance(found, Problem):
            self.ui.expectedLabel.text = f"{found.what} {found.remedy}"
        else:
            self.ui.expectedLabel.text = " ".join(filter(None, (found.text, found.warning)))

    def _start(self) -> None:
        self.problems.clear()
        problem = self._logic.ensure() or self._logic.problemWith(self.channels.volumes())
        if problem is not None:
            self.problems.show(problem)
            return
        self._question += 1
        self._timer.stop()
        scan = self.channels.volumes()[0]
        try:
            job = self._logic.start(self.order())
        except Exception as error:  # shown in the panel, not in the console only
            self.problems.show(problemOf(error))
            return
        self._job = job
        job.progressed.connect(self.display.progress)
        job.finished.connect(lambda node: self._finished(job, node, scan))
        job.failed.connect(lambda problem: self._failed(job, problem))
        job.cancelled.connect(lambda: self._ended(job, _("Cancelled; the scene is as before.")))
        self.display.begin(_("Starting..."))
        self._showButton()

    def _finished(self, job: Job, node: Any, scan: Any) -> None:
        self._ended(job, " ".join([_("Done."), *job.notes]))
        self.segmented.emit(node, scan)

    def _failed(self, job: Job, problem: Problem) -> None:
        self._ended(job, "")
        self.problems.show(problem)

    def _ended(self, job: Job, text: str) -> None:
        if self._job is not job:
            return
        self._job = None
        self.display.end(text, job.log)
        self._showButton()
        self._changed()
