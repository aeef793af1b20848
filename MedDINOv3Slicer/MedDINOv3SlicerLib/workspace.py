"""The module's page: its sections, and what each tells the others."""

from __future__ import annotations

from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.jobs.orders import SegmentOrder
from MedDINOv3SlicerLib.module_logic import ModuleLogic
from MedDINOv3SlicerLib.panels.batch_panel import BatchPanel
from MedDINOv3SlicerLib.panels.cases_panel import CasesPanel
from MedDINOv3SlicerLib.panels.chart_view import ChartView
from MedDINOv3SlicerLib.panels.correct_panel import CorrectPanel
from MedDINOv3SlicerLib.panels.finetune_panel import FineTunePanel
from MedDINOv3SlicerLib.panels.models_panel import ModelsPanel
from MedDINOv3SlicerLib.panels.problem_box import ProblemBox
from MedDINOv3SlicerLib.panels.segment_panel import SegmentPanel
from MedDINOv3SlicerLib.panels.setup_panel import SetupPanel
from MedDINOv3SlicerLib.scene.curves import TrainingChart
from MedDINOv3SlicerLib.training_logic import TrainingLogic

Node = Any


class Workspace:
    """Builds the panels and connects them.

    Attributes:
        widget: the page.
        setup, segment, batch, correct, cases, finetune, models: its panels.
        sections: the collapsible buttons by the panels' names.
    """

    def __init__(self, logic: ModuleLogic) -> None:
        self._logic = logic
        self._shown, self._usingScene = False, False
        self._observers: list[int] = []
        self.setup = SetupPanel(logic.segmentation, self._device)
        self.segment = SegmentPanel(logic.segmentation, SegmentOrder, lambda: logic.parameters)
        self.batch = BatchPanel(logic.segmentation, self.segment, logic.preferences)
        self.correct = CorrectPanel(logic.correction, logic.preferences)
        self.cases = CasesPanel(logic.cases, ProblemBox())
        self.training = TrainingLogic(logic)
        self.finetune = FineTunePanel(self.training, ProblemBox())
        self.chart = ChartView(lambda: TrainingChart(logic.scene))
        self.finetune.setChart(self.chart, self.chart.widget)
        self.models = ModelsPanel(logic.shelf, ProblemBox())
        self._panels = (
            self.setup, self.segment, self.batch, self.correct, self.cases, self.finetune,
            self.models,
        )  # fmt: skip
        self.sections: dict[str, Any] = {}
        self.widget = self._page()
        self._connect()
        self._useScene()
        self._watchScene()

    def enter(self) -> None:
        """The module is shown."""
        self._shown = True
        for panel in self._panels:
            panel.enter()

    def exit(self) -> None:
        """Another module is shown; what runs goes on."""
        self._shown = False
        for panel in self._panels:
            panel.exit()

    def settingsChanged(self) -> None:
        """Folders, device, Python or packages are others; seen on entering if not shown now."""
        if self._shown:
            self.exit()
            self.enter()

    def cleanup(self) -> None:
        """The page goes: Slicer quits, or the module is reloaded."""
        self._shown = False
        for heard in (self.segment.refreshModels, self.finetune.refresh):
            self._logic.shelf.changed.disconnect(heard)
        self._logic.cases.reopened.disconnect(self._onReopened)
        for observer in self._observers:
            self._logic.scene.RemoveObserver(observer)
        self._observers = []
        self.chart.remove()
        for panel in self._panels:
            panel.cleanup()
        self.widget.setParent(None)  # a reload only hides it, and its selectors would go on
        self.widget.deleteLater()

    def _page(self) -> Any:
        page = qt.QWidget()
        layout = qt.QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.setup.widget)
        for name, title, panel, parent, folded in (
            ("segment", _("1. Segment"), self.segment, None, False),
            ("batch", _("Several scans"), self.batch, "segment", True),
            ("correct", _("2. Correct"), self.correct, None, True),
            ("cases", _("3. Training cases"), self.cases, None, True),
            ("finetune", _("4. Fine-tune"), self.finetune, None, True),
            ("models", _("Models"), self.models, None, True),
        ):
            section = ctk.ctkCollapsibleButton()
            section.text = title
            inside = qt.QVBoxLayout(section)
            panel.widget.layout().setContentsMargins(0, 0, 0, 0)
            inside.addWidget(panel.widget)
            section.collapsed = folded
            (layout if parent is None else self.sections[parent].layout()).addWidget(section)
            self.sections[name] = section
        note = qt.QLabel(
            _("Everything stays on this computer. Research software, not for clinical use.")
        )
        note.wordWrap = True
        note.enabled = False
        layout.addWidget(note)
        return page

    def _connect(self) -> None:
        self.segment.segmented.connect(self._onSegmented)
        self.segment.deviceChanged.connect(lambda device: self.setup.check())
        self.segment.chosen.connect(self.cases.sceneChanged)
        self.correct.chosen.connect(self._onCorrecting)
        self.correct.corrected.connect(lambda node: self.cases.sceneChanged())
        self._logic.cases.reopened.connect(self._onReopened)
        self.cases.libraryChanged.connect(self.finetune.libraryChanged)
        # Kept, fetched, imported or removed: all go through the shelf. The models panel hears it
        # by itself.
        self._logic.shelf.changed.connect(self.segment.refreshModels)
        self._logic.shelf.changed.connect(self.finetune.refresh)
        self.finetune.trainingChanged.connect(self.segment.refreshModels)  # and its forecast
        if self.cases.library is not None:
            self.finetune.libraryChanged(self.cases.library)

    def _onSegmented(self, segmentation: Node, scan: Node) -> None:
        self.sections["correct"].collapsed = False
        self.correct.edit(segmentation, scan)

    def _onCorrecting(self, segmentation: Node | None, scan: Node | None) -> None:
        scene = self._logic.scene
        if self._usingScene or scene.IsClosing() or scene.IsImporting():
            return  # selectors follow the nodes; nobody chose
        parameters = self._logic.parameters
        parameters.corrected, parameters.correctedScan = segmentation, scan
        self.cases.sceneChanged()

    def _onReopened(self, volumes: tuple[Node, ...], segmentation: Node) -> None:
        self.segment.choose(volumes)
        self.sections["correct"].collapsed = False
        self.correct.edit(segmentation, volumes[0])

    def _device(self) -> str:
        return self._logic.parameters.device

    def _watchScene(self) -> None:
        scene = self._logic.scene
        self._observers = [
            scene.AddObserver(slicer.vtkMRMLScene.EndCloseEvent, self._onClosed),
            scene.AddObserver(slicer.vtkMRMLScene.StartImportEvent, self._onImporting),
            scene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, self._onImported),
        ]

    def _onClosed(self, *_what: Any) -> None:
        for panel in self._panels:
            panel.sceneClosed()

    def _onImporting(self, *_what: Any) -> None:
        self._usingScene = True  # selectors follow the nodes until the choices are read
        self.segment.holdChoices()

    def _onImported(self, *_what: Any) -> None:
        # Slicer's own widgets take the nodes in after this event, some after the batch around it.
        qt.QTimer.singleShot(0, lambda: self._observers and self._useScene())

    def _useScene(self) -> None:
        parameters = self._logic.parameters
        corrected, scan = parameters.corrected, parameters.correctedScan
        self._usingScene = True
        try:
            self.chart.setScene(self._logic.scene)
            for panel in self._panels:
                panel.setScene(self._logic.scene)
        finally:
            self._usingScene = False
        if corrected is not None:
            self.correct.edit(corrected, scan)
