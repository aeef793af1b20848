"""The way of a person through the module: segment, correct, add, fine-tune, keep, segment better.

By the panel's own buttons, with the real worker and real training, on real scans. Set
``MEDDINOV3_PICTURES`` to a folder to keep what was seen on the way.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "MedDINOv3Slicer" / "MedDINOv3Slicer.py"
DATA = ROOT / "Testing" / "Data"
BASE = "three-cases"
STEPS = ("--spacing", "0.5,0.5", "--batch", "8", "--precision", "bf16", "--drop-path", "0")
RATES = ("--decoder-rate", "1e-3", "--backbone-rate", "1e-3")
LEARN_STEPS, MORE_STEPS = 240, 200
BETTER = 0.02  # of Dice, at least
PATIENCE = 900.0


def cases() -> list[tuple[Path, Path]]:
    """Scan and label map of 14 cases, the last three unlike all others never trained on."""
    found = []
    for name in ("msd_hippocampus_mr_training", "msd_hippocampus_mr"):
        for image in sorted((DATA / name / "images").glob("*.nii.gz")):
            found.append((image, DATA / name / "labels" / image.name))
    assert len(found) == 14
    return found


def raw_dataset(folder: Path, chosen: list[tuple[Path, Path]]) -> Path:
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for image, label in chosen:
        name = image.name.split(".")[0]
        shutil.copy(image, folder / "imagesTr" / f"{name}_0000.nii.gz")
        shutil.copy(label, folder / "labelsTr" / label.name)
    content = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": len(chosen), "file_ending": ".nii.gz", "name": "three",
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with one model, trained on three cases only."""
    monkeypatch.setenv("MEDDINOV3_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run = tmp_path / "base-run"
    command = [
        sys.executable, str(ROOT / "training" / "meddinov3_training" / "__main__.py"), "finetune",
        str(raw_dataset(tmp_path / "three", cases()[:3])), "--output", str(run), "--name", BASE,
        "--base", "scratch:vit_tiny_patch16_dinov3_qkvb", "--context=-1,0,1", "--hold-out", "0",
        "--steps", str(LEARN_STEPS), "--device", "cpu", *STEPS, *RATES,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    shutil.copytree(run / BASE, models / BASE)
    return tmp_path / "home"


@pytest.fixture
def page(slicer_app: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """The module as Slicer opens it: the booted application and the page."""
    monkeypatch.syspath_prepend(MODULE.parent)
    spec = importlib.util.spec_from_file_location("MedDINOv3Slicer", MODULE)
    code = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "MedDINOv3Slicer", code)
    spec.loader.exec_module(code)
    _found, widget = slicer_app.open_module(code, MODULE)
    widget.workspace.widget.setFixedWidth(420)
    widget.workspace.widget.window().show()
    yield slicer_app, widget.workspace
    widget.exit()
    widget.cleanup()
    assert slicer_app.taken_complaints() == []
    for name in [n for n in sys.modules if n.partition(".")[0] == "MedDINOv3SlicerLib"]:
        del sys.modules[name]


def wait(app: Any, what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it took too long"
        app.slicer.app.processEvents()
        time.sleep(0.01)


def select(combo: Any, text: str) -> None:
    """Choose an entry by a part of its text."""
    texts = [combo.itemText(row) for row in range(combo.count)]
    combo.setCurrentIndex(next(n for n, found in enumerate(texts) if text in found))


def label_array(slicer: Any, segmentation: Any, volume: Any) -> np.ndarray:
    """(k, j, i) 1 where anterior, 2 where posterior."""
    found, result = segmentation.GetSegmentation(), None
    for number in range(found.GetNumberOfSegments()):
        identity = found.GetNthSegmentID(number)
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, identity, volume)
        result = np.zeros(mask.shape, np.uint8) if result is None else result
        result[mask > 0] = 1 if found.GetNthSegment(number).GetName() == "anterior" else 2
    return result


def reference(label: Path) -> np.ndarray:
    from meddinov3.reading import read_label_map

    return read_label_map(label)[0]


def mean_dice(found: np.ndarray, truth: np.ndarray) -> float:
    pairs = [(found == value, truth == value) for value in (1, 2)]
    return float(np.mean([2 * (a & b).sum() / max((a.sum() + b.sum()), 1) for a, b in pairs]))


class Person:
    """Uses the page's buttons."""

    def __init__(self, app: Any, page: Any) -> None:
        self.app, self.page, self.slicer = app, page, app.slicer
        self.folder = os.environ.get("MEDDINOV3_PICTURES", "")

    def open(self, name: str) -> None:
        for other, section in self.page.sections.items():
            if other != "batch":
                section.collapsed = other != name
        self.app.slicer.app.processEvents()  # a widget is clicked where it lies

    def picture(self, name: str) -> None:
        if self.folder:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
            self.app.screenshot(self.page.widget, Path(self.folder) / f"{name}.png")

    def slices(self, name: str) -> None:
        if self.folder:
            from scene_views import renderSlice

            renderSlice(self.app.scene, "Coronal", Path(self.folder) / f"{name}.png", (420, 420))

    def segment(self, image: Path, model: str) -> tuple[Any, Any]:
        """Load a scan and press Segment."""
        self.open("segment")
        volume = self.slicer.util.loadVolume(str(image))
        panel, done = self.page.segment, []
        panel.choose((volume,))
        select(panel.ui.modelCombo, model)
        panel.ui.resultCombo.setCurrentNode(None)
        failed = len(panel.problems.widget.children())
        panel.segmented.connect(lambda node, scan: done.append(node))
        assert panel.ui.segmentButton.enabled, panel.ui.segmentButton.toolTip
        self.app.click(panel.ui.segmentButton)
        assert panel.ui.segmentButton.text == "Cancel"
        wait(self.app, lambda: bool(done) or panel.problems.widget.isVisible())
        assert done, failed
        return volume, done[0]

    def correct(self, volume: Any, segmentation: Any, truth: np.ndarray) -> None:
        """Paint what a careful person would paint."""
        editor = self.page.correct
        assert editor.segmentation is segmentation and editor.scan is volume
        found = segmentation.GetSegmentation()
        for number in range(found.GetNumberOfSegments()):
            value = 1 if found.GetNthSegment(number).GetName() == "anterior" else 2
            self.slicer.util.updateSegmentBinaryLabelmapFromArray(
                (truth == value).astype(np.uint8), segmentation, found.GetNthSegmentID(number),
                volume,
            )  # fmt: skip

    def add(self) -> None:
        """Press "Add to training cases"."""
        self.open("cases")
        panel = self.page.cases
        before = panel.ui.caseList.count
        assert panel.ui.addButton.enabled, panel.ui.addButton.toolTip
        self.app.click(panel.ui.addButton)
        assert panel.ui.caseList.count == before + 1


@pytest.mark.timeout(2 * PATIENCE)
def test_corrected_cases_make_a_better_model(page: tuple[Any, Any], home: Path) -> None:
    app, workspace = page
    person, all_cases = Person(app, workspace), cases()
    further = all_cases[9:]

    before = []
    for image, label in further:
        volume, found = person.segment(image, "three")
        before.append(mean_dice(label_array(app.slicer, found, volume), reference(label)))
        app.scene.Clear(0)
        app.slicer.app.processEvents()

    for number, (image, label) in enumerate(all_cases[3:9]):
        volume, found = person.segment(image, "three")
        if number == 0:
            person.picture("segment")
            person.slices("proposal")
        truth = reference(label)
        person.correct(volume, found, truth)
        assert (label_array(app.slicer, found, volume) == truth).all()
        person.open("correct")
        if number == 0:
            app.click(workspace.correct.ui.refreshButton)
            person.picture("correct")
            person.slices("corrected")
            person.open("cases")
            app.click(workspace.cases.ui.newButton)
            app.slicer.app.processEvents()
            workspace.cases.ui.newName.setText("Hippocampus")
            workspace.cases.ui.newChannels.setText("MR")
            workspace.cases.ui.newFolder.setText(str(home / "libraries" / "hippocampus"))
            app.click(workspace.cases.ui.createButton)
        person.add()
        app.scene.Clear(0)
        app.slicer.app.processEvents()
    person.picture("cases")
    library = workspace.cases.library
    assert len(library.cases) == 6
    assert all(case.provenance.model == BASE for case in library.cases)
    assert all(change.dice < 1 for change in library.cases[0].provenance.changed.values())

    person.open("finetune")
    panel = workspace.finetune
    ui = panel.ui
    select(ui.baseCombo, "three (model)")
    ui.nameEdit.setText("Six more")
    ui.stepsSpin.value = MORE_STEPS
    ui.batchSpin.value = 8
    ui.decoderRateEdit.setText("1e-3")
    ui.backboneRateEdit.setText("1e-3")
    select(ui.deviceCombo, "processor (CPU)")
    assert ui.startButton.enabled, ui.startButton.toolTip
    app.click(ui.startButton)
    (training,) = workspace.training.trainings()
    seen: list[tuple[int, int]] = []

    def over() -> bool:
        points = training.curve()
        if not seen or seen[-1][0] != len(points):
            seen.append((len(points), max((point.step for point in points), default=0)))
            if len(points) == 6:
                person.picture("training")
        return not training.status().running

    wait(app, over)
    status = training.status()
    assert status.state == "done", (status.problem, training.log())
    assert len(seen) > 3 and seen[-1][1] >= MORE_STEPS - 20, "the curve grew while it was watched"
    wait(app, lambda: ui.keepButton.enabled)
    person.picture("trained")
    ui.keepEdit.setText("six-more")
    app.click(ui.keepButton)
    assert (home / "models" / "six-more" / "model.json").is_file()
    person.open("models")
    person.picture("models")

    after = []
    for image, label in further:
        volume, found = person.segment(image, "Six more")
        after.append(mean_dice(label_array(app.slicer, found, volume), reference(label)))
        person.slices(f"better_{len(after)}")
        app.scene.Clear(0)
        app.slicer.app.processEvents()
    print(f"mean Dice of five further cases: {np.mean(before):.3f} before, {np.mean(after):.3f}")
    assert np.mean(after) >= np.mean(before) + BETTER, (before, after)
