"""One training watched: its state, curves and scores; paused, stopped, kept as a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.panels.attempt import Gate, Problems, shown
from MedDINOv3SlicerLib.panels.finetune_needs import Chart, FineTuneLogic, Training
from MedDINOv3SlicerLib.panels.question import Question
from MedDINOv3SlicerLib.signal import Signal
from MedDINOv3SlicerLib.training_words import CAN_GO_ON, WITH_MODEL, scoreRows, statusText

EVERY = 1000  # ms between two looks at a training


class RunView:
    """The lower half of the fine-tuning panel; `kept` is called when a model was kept.

    ``changed()`` is emitted when a training starts, ends, or is chosen.
    """

    def __init__(
        self, ui: Any, logic: FineTuneLogic, problems: Problems, question: Question,
        kept: Callable[[], object],
    ) -> None:  # fmt: skip
        self.ui, self._logic, self._problems = ui, logic, problems
        self._question, self._kept = question, kept
        self.chart: Chart | None = None
        self.changed = Signal()
        self._trainings: list[Training] = []
        self._training: Training | None = None
        self._told = ""  # state that was shown last
        self.timer = qt.QTimer()
        self.timer.setInterval(EVERY)
        self.timer.connect("timeout()", self.look)
        self.gates: dict[str, Gate] = {}
        for name, slot in {
            "pause": self._pause, "goOn": self._goOn, "stop": self._askStop, "keep": self._keep,
            "reasons": self._showReasons, "report": self._report, "folder": self._folder,
        }.items():  # fmt: skip
            button = getattr(ui, f"{name}Button")
            button.connect("clicked(bool)", slot)
            self.gates[name] = Gate(button)
        ui.runCombo.connect("activated(int)", self._choose)
        ui.keepEdit.connect("textChanged(QString)", lambda text: self._showGates())
        ui.scoreTable.setColumnCount(3)
        ui.scoreTable.setHorizontalHeaderLabels([_("Held-out case"), _("Base"), _("New")])
        ui.scoreTable.verticalHeader().hide()
        ui.scoreTable.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)

    def find(self, choose: Training | None = None) -> None:
        """List all trainings; `choose` one, or stay at the one that is shown."""
        wanted = choose or self._training
        with shown(self._problems, keep=True):
            self._trainings = list(self._logic.trainings())
        combo = self.ui.runCombo
        combo.clear()
        for training in self._trainings:
            combo.addItem(
                _("{name}: {state}").format(name=training.order.name, state=training.status().text)
            )
        serials = [training.serial for training in self._trainings]
        serial = wanted.serial if wanted is not None else ""
        row = serials.index(serial) if serial in serials else (0 if serials else -1)
        combo.setCurrentIndex(row)
        self._choose(row)

    def stopLooking(self) -> None:
        """Nobody looks; the training goes on."""
        self.timer.stop()

    def _choose(self, row: int) -> None:
        before = self._training
        self._training = self._trainings[row] if 0 <= row < len(self._trainings) else None
        if self._training is None or before is None or before.serial != self._training.serial:
            self._told, self.ui.keepEdit.text = "", ""
            self.ui.reasonsButton.checked = False
        self._showReasons()
        self.look()

    def look(self) -> None:
        """Show how far the training is; look again in a second while it runs."""
        ui, training = self.ui, self._training
        for name in ("progressBar", "chartPlace", "scoreTable", "keepEdit", "compareLabel"):
            getattr(ui, name).visible = training is not None
        if training is None:
            self.timer.stop()
            ui.stateLabel.text = _("No training was started yet.")
            self._showGates()
            return
        with shown(self._problems, keep=True):
            training.insist()
            status = training.status()
            ui.stateLabel.text = statusText(status)
            ui.progressBar.visible = status.running
            ui.progressBar.maximum = 0 if status.share is None else 100
            ui.progressBar.value = round(100 * (status.share or 0.0))
            if self.chart is not None:
                self.chart.update(training.curve())
            self._showScores(training, status)
            if status.state != self._told:
                self._told = status.state
                self._changedTo(training, status)
            if status.running:
                self.timer.start()
            else:
                self.timer.stop()
        self._showGates()

    def _changedTo(self, training: Training, status: Any) -> None:
        row = self.ui.runCombo.currentIndex
        self.ui.runCombo.setItemText(
            row, _("{name}: {state}").format(name=training.order.name, state=status.text)
        )
        if status.problem is not None:
            self._problems.show(status.problem)
        if status.state in WITH_MODEL and not self.ui.keepEdit.text:
            self.ui.keepEdit.text = self._logic.modelName(training)
        self.changed.emit()

    def _showScores(self, training: Training, status: Any) -> None:
        table, scores = self.ui.scoreTable, status.caseScores
        base = self._logic.baseScores(training) if scores else ""
        rows = scoreRows(scores, None if isinstance(base, str) else base)
        table.setRowCount(len(rows))
        table.visible = bool(rows)
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                table.setItem(number, column, qt.QTableWidgetItem(text))
        if not scores:
            self.ui.compareLabel.text = (
                _("Held-out cases are scored at the end.")
                if status.running
                else _("No held-out case was scored.")
            )
        elif isinstance(base, str):
            self.ui.compareLabel.text = _("The base has no scores here: {why}").format(why=base)
        else:
            self.ui.compareLabel.text = _(
                "Dice of the base and of the new model on held-out cases:"
            )

    def _pause(self) -> None:
        with shown(self._problems):
            assert self._training is not None
            self._training.pause()
        self.look()

    def _goOn(self) -> None:
        with shown(self._problems):
            assert self._training is not None
            self._told = ""
            self._logic.goOn(self._training)
        self.look()

    def _askStop(self) -> None:
        self._question.ask(
            _("Stop this training now? What was learned until here becomes the model."),
            _("Stop"),
            self._stop,
        )

    def _stop(self) -> None:
        with shown(self._problems):
            assert self._training is not None
            self._training.stop()
        self.look()

    def _keep(self) -> None:
        with shown(self._problems):
            assert self._training is not None
            self._logic.keep(self._training, self.ui.keepEdit.text.strip())
            self.ui.compareLabel.text = _("Kept: it is in the list of models now.")
            self._kept()

    def _showReasons(self) -> None:
        wanted = self.ui.reasonsButton.checked and self._training is not None
        self.ui.reasonsLabel.visible = wanted
        if wanted:
            with shown(self._problems):
                assert self._training is not None
                reasons = list(self._logic.reasons(self._training))
                self.ui.reasonsLabel.text = (
                    "\n".join(f"- {reason}" for reason in reasons) or _("Nothing is decided yet.")
                )  # fmt: skip

    def _report(self) -> None:
        with shown(self._problems):
            assert self._training is not None
            path = self._logic.report(self._training)
            if path is not None:
                self._logic.show(path)

    def _folder(self) -> None:
        with shown(self._problems):
            assert self._training is not None
            self._logic.show(self._training.folder)

    def _showGates(self) -> None:
        with shown(self._problems, keep=True):  # a timer calls this too
            self._setGates()

    def _setGates(self) -> None:
        training = self._training
        none = "" if training is not None else _("Choose a training first.")
        status = training.status() if training is not None else None
        state, running = (status.state, status.running) if status is not None else ("", False)
        ended = none or ("" if running else _("This training has ended."))
        pausing = ended or ("" if state == "training" else _("It can be paused while it trains."))
        self.gates["pause"].set(pausing)
        self.gates["stop"].set(ended or (
            "" if state in ("training", "paused") else _("It can be stopped while it trains.")
        ))  # fmt: skip
        self.gates["goOn"].set(none or ("" if state in CAN_GO_ON else _("It is not waiting.")))
        model = training.model if training is not None and state in WITH_MODEL else None
        keep = none or ("" if model is not None else _("There is no model before the end."))
        named = self.ui.keepEdit.text.strip()
        self.gates["keep"].set(keep or ("" if named else _("Give the model a name first.")))
        self.ui.keepEdit.enabled = not keep
        self.gates["reasons"].set(none)
        self.gates["folder"].set(none)
        report = self._logic.report(training) if training is not None else None
        self.gates["report"].set(
            none or ("" if report is not None else _("The report is written at the end."))
        )
