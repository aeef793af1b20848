"""Fine-tuning: what stops a start, how a training is followed, and what may be kept of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from meddinov3.cases.library import Library
from panel_bed import FakeProblems, cutOff
from panel_bed import opened as on_screen
from pythonqt import click
from small_library import add, make_library

pytest_plugins = ("panel_bed",)
TEXTS = {"training": "Training", "paused": "Paused", "done": "Completed", "failed": "Failed",
         "interrupted": "Interrupted; it can go on", "stopped": "Stopped"}  # fmt: skip


@dataclass
class Status:
    """As ``jobs.training_state.TrainingStatus``."""

    state: str
    share: float | None = None
    secondsLeft: float | None = None
    device: str = ""
    cases: int = 0
    heldOut: int = 0
    caseScores: tuple[Any, ...] = ()
    problem: Any = None

    @property
    def text(self) -> str:
        return TEXTS[self.state]

    @property
    def running(self) -> bool:
        return self.state in ("training", "paused")


@dataclass
class FakeTraining:
    serial: str
    folder: Path
    now: Status
    order: Any = field(default_factory=lambda: SimpleNamespace(name="Livers 2"))
    points: list[Any] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    insisted: int = 0

    @property
    def model(self) -> Path | None:
        return self.folder if self.now.state in ("done", "stopped") else None

    def status(self) -> Status:
        return self.now

    def curve(self) -> Sequence[Any]:
        return self.points

    def insist(self) -> None:
        self.insisted += 1

    def pause(self) -> None:
        self.asked.append("pause")

    def stop(self) -> None:
        self.asked.append("stop")


class FakeLogic:
    def __init__(self, folder: Path, bases: list[Any]) -> None:
        self.folder, self.found = folder, bases
        self.runs: list[FakeTraining] = []
        self.recent: list[Path] = []
        self.started: list[Any] = []
        self.kept: list[str] = []
        self.shownPaths: list[Path] = []
        self.base: Mapping[str, float] | str = "it finds other structures."
        self.fetching: Any = None

    def recentLibraries(self) -> Sequence[Path]:
        return self.recent

    def openLibrary(self, folder: Path) -> Library:
        return Library.open(folder)

    def bases(self) -> Sequence[Any]:
        return self.found

    def devices(self) -> Sequence[tuple[str, str]]:
        return [("auto", "NVIDIA RTX 4090 (automatic)"), ("cpu", "Processor")]

    def download(self, base: Any, progressed: Callable[..., Any], ended: Any) -> None:
        self.fetching = (base, progressed, ended)

    def start(self, *order: Any) -> FakeTraining:
        self.started.append(order)
        self.runs.insert(0, FakeTraining("new", self.folder, Status("training", 0.25, 600.0)))
        return self.runs[0]

    def trainings(self) -> Sequence[FakeTraining]:
        return self.runs

    def goOn(self, training: FakeTraining) -> None:
        training.asked.append("go on")

    def baseScores(self, training: FakeTraining) -> Mapping[str, float] | str:
        return self.base

    def reasons(self, training: FakeTraining) -> Sequence[str]:
        return ["spacing 0.8 mm: the tumour gets 3.5 tokens", "no mirroring: left kidney"]

    def report(self, training: FakeTraining) -> Path | None:
        return self.folder / "report.html" if training.model else None

    def modelName(self, training: FakeTraining) -> str:
        return "livers-2"

    def keep(self, training: FakeTraining, name: str) -> Path:
        self.kept.append(name)
        return self.folder

    def show(self, path: Path) -> None:
        self.shownPaths.append(path)


class Opened:
    def __init__(self, app: Any, folder: Path, cases: int = 2) -> None:
        from MedDINOv3SlicerLib.model_shelf import Base
        from MedDINOv3SlicerLib.panels.finetune_panel import FineTunePanel

        bases = [
            Base("livers", "Livers (model)", "Finds liver, tumour. Licence: CC0-1.0."),
            Base("dinov3-s", "DINOv3 ViT-S (to download)", "Not here yet: about 86 MB.", False,
                 "about 86 MB", "DINOv3 License", ("https://example.org/licence",)),
        ]  # fmt: skip
        self.app = app.app
        self.logic, self.problems = FakeLogic(folder, bases), FakeProblems(app.qt)
        if cases:
            library = make_library(folder / "livers")
            for seed in range(cases):
                add(library, seed)
            self.logic.recent = [folder / "livers"]
        self.new = lambda: on_screen(app, FineTunePanel(self.logic, self.problems))


@pytest.fixture
def opened(bed: Any, tmp_path: Path) -> Opened:
    it = Opened(bed, tmp_path)
    it.panel = it.new()
    return it


def follow(opened: Opened, status: Status) -> FakeTraining:
    opened.logic.runs = [FakeTraining("one", opened.logic.folder, status)]
    opened.panel.enter()
    return opened.logic.runs[0]


def scores(**dice: float) -> tuple[Any, ...]:
    return tuple(SimpleNamespace(case=case, mean=value) for case, value in dice.items())


def table(ui: Any) -> list[tuple[str, ...]]:
    return [
        tuple(ui.scoreTable.item(row, column).text() for column in range(3))
        for row in range(ui.scoreTable.rowCount)
    ]


def test_one_button_starts_and_the_training_is_shown(opened: Opened, tmp_path: Path) -> None:
    ui = opened.panel.ui
    assert not ui.startButton.enabled and "name" in ui.startButton.toolTip
    ui.nameEdit.text = "Livers 2"
    ui.minutesSpin.value = 45
    click(ui.startButton)
    assert opened.logic.started == [(tmp_path / "livers", "livers", "Livers 2", 45.0, "auto", {})]
    assert "Training, 25 %, 10 min left" in ui.stateLabel.text
    assert ui.progressBar.value == 25
    assert opened.panel.run.timer.active, "it is looked at again"


def test_advanced_settings_become_options(opened: Opened) -> None:
    ui = opened.panel.ui
    ui.batchSpin.value, ui.holdOutSpin.value, ui.stepsSpin.value = 4, 0, 500
    ui.frozenCombo.currentIndex, ui.presetCombo.currentIndex = 2, 1
    ui.decoderRateEdit.text = "0,0005"
    assert opened.panel.advanced() == {
        "batch": 4, "hold-out": 0, "steps": 500, "preset": "small", "frozen": True,
        "decoder-rate": 0.0005,
    }  # fmt: skip
    assert not ui.minutesSpin.enabled and "steps" in ui.minutesSpin.toolTip
    ui.nameEdit.text = "x"
    ui.backboneRateEdit.text = "fast"
    assert not ui.startButton.enabled and "learning rate" in ui.startButton.toolTip


def test_too_few_cases_are_told(bed: Any, tmp_path: Path) -> None:
    it = Opened(bed, tmp_path, cases=1)
    panel = it.new()
    assert "1 cases take part; 2 or more" in panel.ui.startButton.toolTip
    add(Library.open(tmp_path / "livers"), 9)
    panel.libraryChanged(Library.open(tmp_path / "livers"))
    panel.ui.nameEdit.text = "x"
    assert panel.ui.startButton.enabled


def test_without_a_library_the_tip_says_so(bed: Any, tmp_path: Path) -> None:
    panel = Opened(bed, tmp_path, cases=0).new()
    assert "case library" in panel.ui.startButton.toolTip
    assert "No training" in panel.ui.stateLabel.text
    for name in ("pause", "goOn", "stop", "keep", "reasons", "report", "folder"):
        button = getattr(panel.ui, f"{name}Button")
        assert not button.enabled and button.toolTip == "Choose a training first."


def test_a_base_that_is_not_here_is_downloaded_only_after_asking(opened: Opened) -> None:
    ui = opened.panel.ui
    ui.nameEdit.text = "x"
    ui.baseCombo.currentIndex = 1
    assert "Download" in ui.startButton.toolTip and "86 MB" in ui.baseLabel.text
    click(ui.downloadButton)
    for part in ("86 MB", "DINOv3 License", "https://example.org/licence"):
        assert part in opened.panel.question.label.text
    assert opened.logic.fetching is None
    click(opened.panel.question.yesButton)
    base, progressed, ended = opened.logic.fetching
    assert base.id == "dinov3-s" and "under way" in ui.downloadButton.toolTip
    progressed(0.5)
    assert "50 %" in ui.baseLabel.text
    opened.logic.found[1] = type(base)("dinov3-s", "DINOv3 ViT-S (backbone)", "Knows scans.")
    ended(None)
    assert opened.panel.base.id == "dinov3-s" and ui.startButton.enabled
    assert not ui.downloadButton.visible


def test_a_download_that_fails_is_told(opened: Opened) -> None:
    from MedDINOv3SlicerLib.problem import Problem

    opened.panel.ui.baseCombo.currentIndex = 1
    click(opened.panel.ui.downloadButton)
    click(opened.panel.question.yesButton)
    opened.logic.fetching[2](Problem("The hub cannot be reached.", "Try later.", code="offline"))
    assert opened.problems.shown.code == "offline"
    assert opened.panel.ui.downloadButton.enabled


def test_curves_grow_while_it_trains(opened: Opened) -> None:
    drawn: list[int] = []
    opened.panel.setChart(SimpleNamespace(update=lambda points: drawn.append(len(points))))
    training = follow(opened, Status("training", 0.1))
    training.points = [1, 2, 3]
    opened.panel.run.timer.timeout.emit()
    assert drawn[-1] == 3


def test_a_training_is_paused_goes_on_and_is_stopped_after_asking(opened: Opened) -> None:
    training, ui = follow(opened, Status("training", 0.1)), opened.panel.ui
    assert "not waiting" in ui.goOnButton.toolTip
    click(ui.pauseButton)
    said = training.insisted
    opened.panel.run.timer.timeout.emit()
    assert training.insisted > said, "what was not heard is said again"
    training.now = Status("paused", 0.1)
    opened.panel.run.look()
    assert not ui.pauseButton.enabled
    click(ui.goOnButton)
    click(ui.stopButton)
    assert training.asked == ["pause", "go on"]
    click(opened.panel.question.yesButton)
    assert training.asked == ["pause", "go on", "stop"]


def test_trainings_of_earlier_sessions_are_found_with_their_states(opened: Opened) -> None:
    names = ["training", "interrupted", "failed", "done"]
    opened.logic.runs = [
        FakeTraining(name, opened.logic.folder, Status(name)) for name in names
    ]  # fmt: skip
    opened.panel.enter()
    combo = opened.panel.ui.runCombo
    assert [combo.itemText(row) for row in range(combo.count)] == [
        f"Livers 2: {TEXTS[name]}" for name in names
    ]
    combo.currentIndex = 1
    combo.activated.emit(1)
    assert opened.panel.ui.goOnButton.enabled and not opened.panel.ui.stopButton.enabled


def test_a_failed_training_never_says_completed(opened: Opened) -> None:
    from MedDINOv3SlicerLib.problem import Problem

    training, ui = follow(opened, Status("training", 0.9)), opened.panel.ui
    training.now = Status("failed", 0.9, problem=Problem("The disk is full.", "Free some."))
    opened.panel.run.timer.timeout.emit()
    assert "Failed" in ui.stateLabel.text
    assert "ompleted" not in ui.stateLabel.text + ui.runCombo.currentText
    assert opened.problems.shown.what == "The disk is full."
    assert not ui.progressBar.visible and not opened.panel.run.timer.active
    assert not ui.keepButton.enabled and "no model" in ui.keepButton.toolTip


def test_new_and_base_are_shown_side_by_side(opened: Opened) -> None:
    opened.logic.base = {"case_0001": 0.8, "case_0002": 0.6}
    follow(opened, Status("done", caseScores=scores(case_0001=0.9, case_0002=0.7)))
    assert table(opened.panel.ui) == [
        ("case_0001", "0.800", "0.900"), ("case_0002", "0.600", "0.700"),
        ("mean", "0.700", "0.800"),
    ]  # fmt: skip


def test_means_are_over_the_cases_that_both_have(opened: Opened) -> None:
    opened.logic.base = {"case_0001": 0.8}
    follow(opened, Status("done", caseScores=scores(case_0001=0.9, case_0002=0.1)))
    assert table(opened.panel.ui)[-1] == ("mean", "0.800", "0.900")


def test_everything_that_can_be_chosen_is_wide_enough_to_read(opened: Opened) -> None:
    ui = opened.panel.ui
    ui.advancedGroup.collapsed = False
    follow(opened, Status("training", 0.1))
    opened.app.processEvents()
    for name in ("library", "base", "run", "device", "frozen", "preset"):
        assert getattr(ui, f"{name}Combo").width > 150, name


def test_without_scores_of_the_base_it_is_said_why(opened: Opened) -> None:
    follow(opened, Status("done", caseScores=scores(case_0001=0.9)))
    assert table(opened.panel.ui) == [("case_0001", "-", "0.900")]
    assert "it finds other structures" in opened.panel.ui.compareLabel.text


def test_the_model_is_kept_under_a_name(opened: Opened) -> None:
    heard: list[int] = []
    opened.panel.modelsChanged.connect(lambda: heard.append(1))
    follow(opened, Status("done", caseScores=scores(case_0001=0.9)))
    ui = opened.panel.ui
    assert ui.keepEdit.text == "livers-2"
    ui.keepEdit.text = ""
    assert not ui.keepButton.enabled and "name" in ui.keepButton.toolTip
    ui.keepEdit.text = "livers-final"
    click(ui.keepButton)
    assert opened.logic.kept == ["livers-final"] and heard == [1]


def test_reasons_and_report_can_be_opened(opened: Opened, tmp_path: Path) -> None:
    follow(opened, Status("done"))
    click(opened.panel.ui.reasonsButton)
    assert "3.5 tokens" in opened.panel.ui.reasonsLabel.text
    click(opened.panel.ui.reportButton)
    click(opened.panel.ui.folderButton)
    assert opened.logic.shownPaths == [tmp_path / "report.html", tmp_path]


def test_leaving_stops_looking_but_not_the_training(opened: Opened) -> None:
    training = follow(opened, Status("training", 0.1))
    opened.panel.exit()
    assert not opened.panel.run.timer.active and training.asked == []


def test_it_fits_the_modules_column(opened: Opened) -> None:
    opened.panel.ui.advancedGroup.collapsed = False
    follow(opened, Status("done", caseScores=scores(case_0001=0.9)))
    assert cutOff(opened.panel.widget) == 0


def test_what_cannot_be_read_while_it_is_watched_is_shown_not_raised(opened: Opened) -> None:
    def refuse(training: Any) -> Path:
        raise PermissionError(13, "Permission denied", "report.html")

    opened.logic.report = refuse
    follow(opened, Status("training", 0.5))
    assert "Permission denied" in opened.problems.shown.what
    assert opened.panel.run.timer.active


def test_others_hear_when_a_training_starts_and_ends(opened: Opened) -> None:
    heard: list[str] = []
    opened.panel.trainingChanged.connect(lambda: heard.append(training.now.state))
    training = FakeTraining("one", opened.logic.folder, Status("training", 0.5))
    opened.logic.runs = [training]
    opened.panel.enter()
    opened.panel.run.look()
    training.now = Status("done")
    opened.panel.run.look()
    assert heard == ["training", "done"]
