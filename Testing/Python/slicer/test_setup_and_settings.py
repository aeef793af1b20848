"""The status strip, the batch below Segment, and the page in the settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import describe
from meddinov3.model_store import InstalledModel


@pytest.fixture
def logic(slicer_app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from segment_fakes import FakeLogic, module_library

    with module_library(monkeypatch):
        yield FakeLogic(InstalledModel(Path("liver-ct"), describe("liver", channels=("CT",))))


def test_opening_installs_nothing_and_says_what_is_missing(logic: Any, slicer_app: Any) -> None:
    from MedDINOv3SlicerLib.install.packages import Missing
    from MedDINOv3SlicerLib.panels.setup_panel import SetupPanel

    logic.lacks = Missing(True, ("timm",))
    panel = SetupPanel(logic)
    panel.enter()
    assert logic.ensured == 0 and logic.inspected == []
    assert "Not set up yet" in panel.ui.statusLabel.text
    logic.refuses = SimpleNamespace(what="No.", remedy="Later.", details="", code="declined")
    slicer_app.click(panel.ui.setUpButton)
    assert logic.ensured == 1 and panel.problems.problem.code == "declined"


def test_device_is_stated_after_it_was_tried(logic: Any) -> None:
    from MedDINOv3SlicerLib.panels.setup_panel import SetupPanel
    from MedDINOv3SlicerLib.problem import Problem

    panel = SetupPanel(logic, lambda: "cuda")
    panel.enter()
    ((device, then),) = logic.inspected
    assert device == "cuda" and not panel.ui.checkButton.enabled
    then(SimpleNamespace(device="cuda", name="NVIDIA X (12.0 GiB)"))
    assert panel.ui.statusLabel.text == "Ready. Computes on NVIDIA X (12.0 GiB)."
    panel.enter()
    assert len(logic.inspected) == 1, "what worked is not tried again"
    panel.check()
    logic.inspected[1][1](Problem("No kernel for this card.", "Choose the processor."))
    assert panel.problems.problem.remedy == "Choose the processor."
    then(SimpleNamespace(device="cpu", name="old"))
    assert panel.ui.statusLabel.text == "Not ready.", "late answers are not shown"


def test_batch_of_a_folder(logic: Any, slicer_app: Any, tmp_path: Path) -> None:
    from MedDINOv3SlicerLib.panels.batch_panel import FOLDER, BatchPanel
    from MedDINOv3SlicerLib.panels.segment_panel import SegmentPanel
    from MedDINOv3SlicerLib.preferences import Preferences
    from MedDINOv3SlicerLib.problem import Problem
    from segment_fakes import order_of

    segment = SegmentPanel(logic, order_of)
    segment.setScene(slicer_app.scene)
    panel = BatchPanel(logic, segment, Preferences())
    panel.setScene(slicer_app.scene)
    assert panel.ui.batchButton.toolTip == "Tick at least one scan."
    panel.ui.sourceCombo.setCurrentIndex(FOLDER)
    assert panel.ui.batchButton.toolTip == "Choose a folder with scans."
    panel.ui.folderEdit.currentPath = str(tmp_path)
    slicer_app.click(panel.ui.batchButton)
    kind, order, folder, output, batch = logic.batches[0]
    assert (kind, folder, output, batch.started) == ("folder", tmp_path, None, True)
    assert order.volumes == () and Preferences().batchFolder() == str(tmp_path)
    batch.tell(2, 4, "b.nii.gz")
    assert "Scan 2 of 4: b.nii.gz" in panel.ui.batchLabel.text
    failure = (SimpleNamespace(title="b.nii.gz"), Problem("It is damaged.", "Get it again."))
    batch.finished.emit(SimpleNamespace(done=[1, 2, 3], failures=[failure], skipped=[]))
    assert panel.ui.batchLabel.text == "3 segmented, 1 failed."
    assert "b.nii.gz: It is damaged." in panel.problems.problem.details
    assert panel.ui.batchButton.text == "Segment all"


def test_settings_show_folders_and_ask_before_clearing(
    logic: Any, slicer_app: Any, own_home: Path
) -> None:
    from MedDINOv3SlicerLib.install import folders
    from MedDINOv3SlicerLib.panels.settings_panel import SettingsPanel
    from MedDINOv3SlicerLib.preferences import Preferences

    kept, old = own_home / "runs" / "kept", own_home / "runs" / "old"
    for run in (kept, old):
        run.mkdir(parents=True)
        run.joinpath("x").write_bytes(b"0" * 10)
    answers, questions = [False, True], []

    def ask(question: str) -> bool:
        questions.append(question)
        return answers.pop(0)

    fake = SimpleNamespace(
        folders=folders.userFolders,
        sizeOf=folders.sizeOf,
        clear=lambda folder: folders.clear(folder, lambda path: path == kept),
        versions=lambda: {"torch": "2.9.0", "monai": ""},
        update=lambda: None,
    )
    panel = SettingsPanel(fake, Preferences(), ask)
    assert panel.ui.versionsLabel.text == "", "nothing is counted before it is shown"
    panel.widget.show()
    slicer_app.wait_until(lambda: "torch 2.9.0" in panel.ui.versionsLabel.text)
    runs = folders.userFolders()[2]
    panel._clear(runs)
    assert old.is_dir(), "no is respected"
    panel._clear(runs)
    assert kept.is_dir() and not old.exists(), "what is in use stays"
    assert "kept" in panel.problems.problem.what
    assert str(own_home / "runs") in questions[0]


def test_only_whole_paths_become_settings(
    logic: Any, slicer_app: Any, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedDINOv3SlicerLib.panels import settings_panel
    from MedDINOv3SlicerLib.preferences import Preferences

    monkeypatch.setattr(settings_panel, "TYPING", 1)
    fake = SimpleNamespace(folders=lambda: (), versions=dict)
    preferences = Preferences()
    panel = settings_panel.SettingsPanel(fake, preferences, lambda question: True)
    told: list[str] = []
    panel.outdated.connect(lambda: told.append(preferences.home()))
    (tmp_path / "mine").mkdir()
    for typed in ("mi", "min", "mine"):
        panel.ui.homeEdit.currentPath = str(tmp_path / typed)
        slicer_app.wait_until(lambda: not panel._typing.active)
        assert (panel.problems.problem is None) == (typed == "mine"), "what is not in force is said"
    assert told == [str(tmp_path / "mine")]
    panel.ui.defaultDeviceCombo.setCurrentIndex(1)
    assert preferences.device() == "cpu" and len(told) == 1, "a device needs no new process"
    panel.ui.homeEdit.currentPath = ""
    slicer_app.wait_until(lambda: len(told) == 2)
    assert told[1] == ""


def test_settings_are_kept_and_reach_the_processes(
    logic: Any, slicer_app: Any, own_home: Path, tmp_path: Path
) -> None:
    import os

    from MedDINOv3SlicerLib.preferences import Preferences

    preferences = Preferences()
    preferences.setDevice("cpu")
    preferences.setHome(str(tmp_path))
    assert Preferences().device() == "cpu" and Preferences().home() == str(tmp_path)
    assert os.environ["MEDDINOV3_HOME"] == str(tmp_path)
    preferences.setHome("")
    assert os.environ["MEDDINOV3_HOME"] == str(own_home), "what was given before comes back"
