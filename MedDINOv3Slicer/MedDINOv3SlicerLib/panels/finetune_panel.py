"""Fine-tune: what to learn from, where to start, how long; then the training is watched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer.util
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.case_words import libraryText
from MedDINOv3SlicerLib.panels.attempt import Gate, Problems, shown
from MedDINOv3SlicerLib.panels.finetune_needs import Chart, FineTuneLogic
from MedDINOv3SlicerLib.panels.question import Question
from MedDINOv3SlicerLib.panels.run_view import RunView
from MedDINOv3SlicerLib.problem import Problem
from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.signal import Signal

if TYPE_CHECKING:
    from meddinov3.cases.library import Library

    from MedDINOv3SlicerLib.model_shelf import Base

FEWEST = 2  # cases: one to learn from says little, none nothing


class FineTunePanel:
    """The section "Fine-tune".

    ``modelsChanged()``: one was kept, or a backbone was fetched. ``trainingChanged()``: one
    started, ended or was chosen.
    """

    def __init__(self, logic: FineTuneLogic, problems: Problems) -> None:
        self._logic, self._problems = logic, problems
        self.widget = slicer.util.loadUI(resourcePath("UI/FineTune.ui"))
        self.ui: Any = slicer.util.childWidgetVariables(self.widget)
        self.modelsChanged = Signal()
        self._bases: list[Base] = []
        self._library: Library | None = None
        self._downloading, self._deviceChosen = "", False
        self.question = Question()
        place = qt.QVBoxLayout(self.ui.messagePlace)
        place.setContentsMargins(0, 0, 0, 0)
        place.addWidget(problems.widget)
        place.addWidget(self.question.widget)
        self.run = RunView(self.ui, logic, problems, self.question, self._keptModel)
        self.trainingChanged = self.run.changed
        self.startGate, self.downloadGate = Gate(self.ui.startButton), Gate(self.ui.downloadButton)
        self._fillChoices()
        ui = self.ui
        ui.libraryCombo.connect("activated(int)", self._chooseLibrary)
        ui.deviceCombo.connect("currentIndexChanged(int)", self._chooseDevice)
        ui.baseCombo.connect("currentIndexChanged(int)", lambda row: self._showBase())
        ui.nameEdit.connect("textChanged(QString)", lambda text: self._showGates())
        for edit in (ui.decoderRateEdit, ui.backboneRateEdit):
            edit.connect("textChanged(QString)", lambda text: self._showGates())
        ui.stepsSpin.connect("valueChanged(int)", self._chooseSteps)
        ui.startButton.connect("clicked(bool)", self._start)
        ui.downloadButton.connect("clicked(bool)", self._askDownload)
        self.enter()

    def setChart(self, chart: Chart | None, widget: Any = None) -> None:
        """Draw curves with `chart`; `widget`, which bounds its height, is put into the panel."""
        self.run.chart = chart
        if widget is not None:
            layout = self.ui.chartPlace.layout() or qt.QVBoxLayout(self.ui.chartPlace)
            layout.setContentsMargins(0, 0, 0, 0)
            layout.addWidget(widget)

    def enter(self) -> None:
        """See what is there now: default device, libraries, models, trainings."""
        if not self._deviceChosen:
            self._fillDevices()
        self.refresh()
        self.run.find()

    def exit(self) -> None:
        """Trainings go on without being looked at."""
        self.run.stopLooking()

    def setScene(self, scene: Any) -> None:
        """Trainings belong to no scene."""

    def sceneClosed(self) -> None:
        """Trainings belong to no scene; the chart looks after its own nodes."""

    def cleanup(self) -> None:
        """The widget goes."""
        self.run.stopLooking()
        self.modelsChanged = Signal()

    def libraryChanged(self, library: Library | None) -> None:
        """The panel of training cases uses another library, or changed it."""
        if library is not None:
            self._library = library
        self.refresh()

    def refresh(self) -> None:
        """Read libraries and bases anew; what is chosen stays chosen."""
        combo, chosen = self.ui.baseCombo, self.base
        with shown(self._problems, keep=True):
            self._listLibraries()
            self._bases = list(self._logic.bases())
        combo.clear()
        for base in self._bases:
            combo.addItem(base.title, base.id)
        row = combo.findData(chosen.id) if chosen is not None else 0
        combo.setCurrentIndex(max(row, 0) if self._bases else -1)
        self._showBase()

    @property
    def base(self) -> Base | None:
        """What is chosen to start from."""
        row = self.ui.baseCombo.currentIndex
        return self._bases[row] if 0 <= row < len(self._bases) else None

    def _chooseDevice(self, _row: int) -> None:
        self._deviceChosen = True

    def _fillDevices(self) -> None:
        combo = self.ui.deviceCombo
        combo.blockSignals(True)  # nobody chose
        with shown(self._problems, keep=True):
            devices = self._logic.devices()
            combo.clear()
            for name, text in devices:
                combo.addItem(text, name)
        combo.blockSignals(False)

    def _fillChoices(self) -> None:
        ui = self.ui
        for text, frozen in (
            (_("as fits the device"), None),
            (_("everything"), False),
            (_("only the new layers (backbone frozen)"), True),
        ):
            ui.frozenCombo.addItem(text, frozen)
        for text, preset in (
            (_("by the smallest structure"), "auto"),
            (_("coarse, for processors and small GPUs"), "small"),
            (_("896 pixels, as MedDINOv3 was evaluated"), "paper-896"),
        ):
            ui.presetCombo.addItem(text, preset)

    def _listLibraries(self) -> None:
        combo = self.ui.libraryCombo
        combo.clear()
        folders = list(self._logic.recentLibraries())
        for folder in folders:
            combo.addItem(folder.name, str(folder))
        if self._library is None and folders:
            self._library = self._logic.openLibrary(folders[0])
        elif self._library is not None:
            self._library.refresh()
        chosen = str(self._library.folder) if self._library is not None else ""
        combo.setCurrentIndex(combo.findData(chosen))
        self.ui.libraryLabel.text = (
            libraryText(self._library)
            if self._library is not None
            else _("No library yet: make one under Training cases.")
        )

    def _chooseLibrary(self, row: int) -> None:
        with shown(self._problems):
            self._library = self._logic.openLibrary(Path(self.ui.libraryCombo.itemData(row)))
            self._listLibraries()
        self._showGates()

    def _showBase(self) -> None:
        base = self.base
        self.ui.baseLabel.text = base.what if base is not None else ""
        self.ui.downloadButton.visible = base is not None and not base.here
        self._showGates()

    def _chooseSteps(self, steps: int) -> None:
        self.ui.minutesSpin.enabled = not steps
        self.ui.minutesSpin.toolTip = (
            _("A number of steps is set under Advanced; the time follows from it.")
            if steps
            else _("The training is planned to end in this time.")
        )

    # Downloading a base

    def _askDownload(self) -> None:
        base = self.base
        if base is not None:
            pages = "".join(f"\n{page}" for page in base.pages)
            self.question.ask(
                _("Download {title}, {size}, and accept its licence ({licence})?{pages}").format(
                    title=base.title, size=base.size, licence=base.licence, pages=pages
                ),
                _("Accept and download"),
                lambda: self._download(base),
            )

    def _download(self, base: Base) -> None:
        self._downloading = base.title
        with shown(self._problems):
            try:
                self._logic.download(base, self._downloadProgressed, self._downloadEnded)
            except BaseException:
                self._downloading = ""
                raise
        self._showGates()

    def _downloadProgressed(self, share: float) -> None:
        self.ui.baseLabel.text = _("Downloading {title}: {percent:.0f} %").format(
            title=self._downloading, percent=100 * share
        )

    def _downloadEnded(self, problem: Problem | None) -> None:
        self._downloading = ""
        if problem is not None:
            self._problems.show(problem)
        self.refresh()
        self.modelsChanged.emit()

    # Starting

    def advanced(self) -> dict[str, Any]:
        """Options of ``meddinov3 finetune`` that were chosen, by their names without dashes."""
        ui = self.ui
        chosen = {
            "batch": ui.batchSpin.value if ui.batchSpin.value != 16 else None,
            "hold-out": ui.holdOutSpin.value if ui.holdOutSpin.value >= 0 else None,
            "steps": ui.stepsSpin.value or None,
            "preset": ui.presetCombo.currentData if ui.presetCombo.currentIndex > 0 else None,
            "frozen": (None, False, True)[max(0, ui.frozenCombo.currentIndex)],
            "decoder-rate": _rate(ui.decoderRateEdit.text),
            "backbone-rate": _rate(ui.backboneRateEdit.text),
        }
        return {name: value for name, value in chosen.items() if value is not None}

    def _start(self) -> None:
        ui, base, library = self.ui, self.base, self._library
        assert base is not None and library is not None
        with shown(self._problems):
            training = self._logic.start(
                library.folder, base.id, ui.nameEdit.text.strip(), float(ui.minutesSpin.value),
                str(ui.deviceCombo.currentData or "auto"), self.advanced(),
            )  # fmt: skip
            self.run.find(training)

    def _keptModel(self) -> None:
        self.refresh()
        self.modelsChanged.emit()

    def _showGates(self) -> None:
        self.startGate.set(self._whyNot())
        self.downloadGate.set(
            _("A download is under way.") if self._downloading else ""
        )  # fmt: skip

    def _whyNot(self) -> str:
        library, base, ui = self._library, self.base, self.ui
        if library is None:
            return _("Make a case library first, under Training cases.")
        cases = len(library.record.training_cases)
        if cases < FEWEST:
            return _(
                "{count} cases take part; {needed} or more are needed. Add some under Training"
                " cases."
            ).format(count=cases, needed=FEWEST)
        if base is None:
            return _("Choose what to start from.")
        if not base.here:
            return _("Download what to start from first.")
        if not ui.nameEdit.text.strip():
            return _("Give the new model a name first.")
        rates = (ui.decoderRateEdit.text, ui.backboneRateEdit.text)
        if any(text.strip() and _rate(text) is None for text in rates):
            return _("A learning rate is a small number such as 0.0003.")
        return ""


def _rate(text: str) -> float | None:
    try:
        rate = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return rate if 0 < rate < 1 else None
