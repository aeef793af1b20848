"""The Segment step: choices, obstacles in words, progress, cancel, results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import describe
from meddinov3.description import Purpose
from meddinov3.model_store import InstalledModel
from meddinov3.progress import Progress

CT = replace(
    describe("liver", "spleen", "left kidney", channels=("CT",), purpose=Purpose("CT", "abdomen")),
    **{"id": "abdomen-ct", "name": "Abdomen on CT", "licence": "CC-BY-4.0"},
    scores={"mean_dice": 0.9123, "test_cases": 20},
)
MR = replace(describe("tumour", channels=("T1", "T2")), id="brain-mr", name="Brain on MR")


@pytest.fixture
def make(slicer_app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes a panel on a fake logic and shows it in the booted scene."""
    from segment_fakes import FakeLogic, module_library, order_of

    with module_library(monkeypatch):
        from MedDINOv3SlicerLib.panels.segment_panel import SegmentPanel

        made = []

        def panel(*models: Any, parameters: Any = None) -> Any:
            found = models or (
                InstalledModel(Path("abdomen-ct"), CT),
                InstalledModel(Path("brain-mr"), MR),
            )
            logic = FakeLogic(*found)
            made.append(SegmentPanel(logic, order_of, lambda: parameters))
            made[-1].logic = logic
            made[-1].setScene(slicer_app.scene)
            made[-1].enter()
            return made[-1]

        yield panel
        for one in made:
            one.cleanup()


def test_model_is_described_before_it_is_used(make: Any) -> None:
    panel = make()
    text = panel.ui.modelLabel.text
    for said in ("liver, spleen, left kidney", "CT abdomen", "0.91", "20 cases", "CC-BY-4.0"):
        assert said in text


def test_one_selector_for_each_channel(make: Any, slicer_app: Any) -> None:
    from segment_fakes import scan

    panel = make()
    assert len(panel.channels.combos) == 1
    first = scan(slicer_app, "one")
    panel.choose((first,))
    panel.ui.modelCombo.setCurrentIndex(1)
    assert len(panel.channels.combos) == 2
    assert panel.channels.volumes() == (first, None), "the chosen scan stays"
    assert panel.ui.segmentButton.toolTip == "Choose a scan for T2."
    panel.choose((first, first))
    assert "chosen twice" in panel.ui.segmentButton.toolTip


def test_disabled_button_says_why(make: Any, slicer_app: Any) -> None:
    from segment_fakes import scan

    panel = make()
    button = panel.ui.segmentButton
    assert not button.enabled
    assert button.toolTip == "Choose a scan."
    panel.choose((scan(slicer_app),))
    assert button.enabled
    slicer_app.click(panel.ui.noLabelsButton)
    assert not button.enabled
    assert button.toolTip == "Tick at least one structure."
    slicer_app.click(panel.ui.allLabelsButton)
    assert button.enabled
    slicer_app.scene.Clear(0)
    panel.sceneClosed()
    assert not button.enabled


def test_model_that_cannot_be_used_says_so(make: Any) -> None:
    panel = make(InstalledModel(Path("damaged"), None, "model.json is damaged."))
    assert "model.json is damaged" in panel.ui.segmentButton.toolTip
    assert "model.json is damaged" in panel.ui.modelLabel.text


def test_models_that_cannot_be_listed_say_so(make: Any) -> None:
    from MedDINOv3SlicerLib.model_list import ModelList

    panel = make()
    panel.logic.list = ModelList(problem="Models cannot be listed: no disk.")
    panel.refreshModels()
    assert panel.ui.segmentButton.toolTip == "Models cannot be listed: no disk."
    assert not panel.ui.segmentButton.enabled


def test_order_says_everything_that_was_chosen(make: Any, slicer_app: Any) -> None:
    from segment_fakes import scan, segmentation

    panel = make()
    volume = scan(slicer_app)
    into = segmentation(slicer_app, volume)
    roi = slicer_app.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    panel.choose((volume,))
    panel.ui.roiCombo.setCurrentNode(roi)
    panel.ui.resultCombo.setCurrentNode(into)
    panel.ui.qualityCombo.setCurrentIndex(1)
    panel.ui.deviceCombo.setCurrentIndex(1)
    panel.ui.show3dCheck.checked = True
    panel.labels.choose(("spleen",))
    slicer_app.click(panel.ui.segmentButton)
    ((order, _job),) = panel.logic.started
    assert order.volumes == (volume,) and order.model == "abdomen-ct"
    assert order.roi is roi and order.into is into
    assert (order.device, order.full, order.labels, order.show3d) == ("cpu", True, ("spleen",), 1)
    assert panel.ui.labelsLabel.text == "1 of 3"


def test_progress_then_result(make: Any, slicer_app: Any) -> None:
    from segment_fakes import scan, segmentation

    panel, heard = make(), []
    volume = scan(slicer_app)
    panel.choose((volume,))
    panel.segmented.connect(lambda node, of: heard.append((node, of)))
    slicer_app.click(panel.ui.segmentButton)
    assert panel.ui.segmentButton.text == "Cancel"
    job = panel.logic.started[0][1]
    job.progressed.emit(Progress("segmenting", 30, 120, 130.0))
    assert (panel.ui.progressBar.value, panel.ui.progressBar.maximum) == (30, 120)
    assert panel.ui.progressLabel.text == "Segmenting, about 2 min left"
    job.notes = ["The scan is wider than the model's."]
    result = segmentation(slicer_app, volume, "liver")
    job.finished.emit(result)
    assert heard == [(result, volume)]
    assert panel.ui.segmentButton.text == "Segment" and panel.ui.segmentButton.enabled
    assert panel.ui.progressLabel.text == "Done. The scan is wider than the model's."
    assert panel.ui.logText.plainText == "read 12 slices"
    panel.ui.copyLogButton.clicked.emit(False)
    assert slicer_app.qt.QApplication.clipboard().text() == "read 12 slices"


def test_cancel_button_cancels(make: Any, slicer_app: Any) -> None:
    from segment_fakes import scan

    panel = make()
    panel.choose((scan(slicer_app),))
    slicer_app.click(panel.ui.segmentButton)
    slicer_app.click(panel.ui.segmentButton)
    assert panel.logic.started[0][1].was_cancelled
    assert panel.ui.segmentButton.text == "Segment"
    assert "Cancelled" in panel.ui.progressLabel.text
    assert len(panel.logic.started) == 1


def test_failure_is_shown_in_the_panel(make: Any, slicer_app: Any) -> None:
    from MedDINOv3SlicerLib.problem import Problem
    from segment_fakes import scan

    panel = make()
    panel.choose((scan(slicer_app),))
    slicer_app.click(panel.ui.segmentButton)
    problem = Problem("The card is full.", "Choose a region.", "Traceback ...", "out-of-memory")
    panel.logic.started[0][1].failed.emit(problem)
    assert panel.problems.problem is problem
    assert panel.problems.ui.whatLabel.text == "The card is full."
    slicer_app.click(panel.problems.ui.copyButton)
    said = slicer_app.qt.QApplication.clipboard().text()
    assert said == "The card is full.\n\nChoose a region.\n\nTraceback ..."
    slicer_app.click(panel.ui.segmentButton)
    assert panel.problems.problem is None, "a new try clears it"


def test_refused_installation_starts_nothing(make: Any, slicer_app: Any) -> None:
    from MedDINOv3SlicerLib.install.wording import declined
    from segment_fakes import scan

    panel = make()
    assert panel.logic.ensured == 0, "opening installs nothing"
    panel.logic.refuses = declined("segmenting")
    panel.choose((scan(slicer_app),))
    slicer_app.click(panel.ui.segmentButton)
    assert panel.logic.ensured == 1 and panel.logic.started == []
    assert panel.problems.problem.code == "declined"
    assert panel.ui.segmentButton.text == "Segment" and panel.ui.segmentButton.enabled


def test_time_is_estimated_once_choices_rest(make: Any, slicer_app: Any) -> None:
    from segment_fakes import scan

    panel = make()
    panel.choose((scan(slicer_app),))
    panel.ui.qualityCombo.setCurrentIndex(1)
    slicer_app.wait_until(lambda: panel.logic.estimated)
    ((order, then),) = panel.logic.estimated
    assert order.full
    then(SimpleNamespace(text="About 6 min on CPU, 3.1 GiB of memory", warning=""))
    assert panel.ui.expectedLabel.text == "About 6 min on CPU, 3.1 GiB of memory"
    panel.ui.qualityCombo.setCurrentIndex(0)
    assert panel.ui.expectedLabel.text == ""
    then(SimpleNamespace(text="old", warning=""))
    assert panel.ui.expectedLabel.text == "", "an answer to an older question is not shown"


def test_nothing_is_estimated_before_the_set_up(make: Any, slicer_app: Any) -> None:
    from MedDINOv3SlicerLib.install.packages import Missing
    from segment_fakes import scan

    panel = make()
    panel.logic.lacks = Missing(True)
    panel.choose((scan(slicer_app),))
    panel._estimate()
    assert panel.logic.estimated == [] and panel.logic.ensured == 0


def test_choices_are_kept_with_the_scene(make: Any, slicer_app: Any) -> None:
    from segment_fakes import parameters_of, scan

    volume = scan(slicer_app)
    saved = parameters_of(
        volumes=(volume,), model="abdomen-ct", labels=("liver",), quality="best", device="cpu"
    )
    panel = make(parameters=saved)
    assert panel.model.id == "abdomen-ct"
    assert panel.channels.volumes() == (volume,)
    assert panel.labels.chosen() == ("liver",)
    assert panel.order().full and panel.order().device == "cpu"
    panel.ui.show3dCheck.checked = True
    panel.labels.choose(None)
    assert saved.show3d and saved.labels is None and saved.model == "abdomen-ct"


def test_region_is_drawn_when_it_is_made(make: Any, slicer_app: Any) -> None:
    panel = make()
    node = panel.ui.roiCombo.addNode()
    assert panel.ui.roiPlace.currentNode() is node
    panel.exit()
    assert not panel.ui.roiPlace.placeModeEnabled


def test_shortcut_lives_while_the_module_is_shown(make: Any, slicer_app: Any) -> None:
    from MedDINOv3SlicerLib.panels.shortcuts import Shortcuts

    qt = slicer_app.qt
    window = qt.QMainWindow()
    action = qt.QAction("Save", window)
    action.setShortcut(qt.QKeySequence("Ctrl+Shift+R"))
    window.addAction(action)
    shortcuts, pressed = Shortcuts(), []
    shortcuts.add("Ctrl+Return", lambda: pressed.append("go"))
    shortcuts.add("Ctrl+Shift+R", lambda: pressed.append("taken"))
    assert shortcuts.install(window) == ["Ctrl+Return"], "Slicer's own keys are left alone"
    assert shortcuts.install(window) == [], "a second enter adds nothing"
    (key,) = window.findChildren(qt.QShortcut)
    key.activated.emit()
    assert pressed == ["go"]
    shortcuts.remove()
    assert not window.findChildren(qt.QShortcut)


def test_running_training_is_named_and_nothing_is_measured(make: Any, slicer_app: Any) -> None:
    from segment_fakes import scan

    panel = make()
    panel.logic.advised = "A training is running."
    panel.choose((scan(slicer_app),))
    slicer_app.wait_until(lambda: panel.ui.expectedLabel.text == "A training is running.")
    assert panel.logic.estimated == []
    panel.logic.advised = ""
    panel.refreshModels()
    slicer_app.wait_until(lambda: panel.logic.estimated)
