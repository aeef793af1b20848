"""The Slicer module, opened on stand-ins: what its page shows, keeps, and leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bare_python import open_bare
from cmake_lists import ROOT, install, variable
from conftest import describe, make_bundle
from module_bed import MODULE

pytest_plugins = ("module_bed",)
STARTER = "hippocampus-mr-tiny"
PATIENCE = 180.0  # seconds; the worker imports torch first
# What the engine and the training use and Slicer 5.12 does not bring; the modules' names.
NOT_IN_SLICER = (
    *("huggingface_hub", "platformdirs", "filelock", "safetensors", "timm", "torch"),
    *("torchvision", "batchgeneratorsv2"),
)


def add_model(home: Path, name: str, *labels: str) -> Path:
    folder = home / "models" / name
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(describe(*labels).to_json(), encoding="utf-8")
    return folder


def texts(combo: Any) -> list[str]:
    return [combo.itemText(row) for row in range(combo.count)]


@pytest.fixture
def not_set_up(module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """As in a fresh Slicer; starts no process."""
    from MedDINOv3SlicerLib.install.installer import Installer
    from MedDINOv3SlicerLib.install.packages import Missing

    monkeypatch.setattr(Installer, "missing", lambda *_purpose: Missing(False, ("timm",)))
    return module


@pytest.fixture
def sample(module: Any) -> Any:
    """The scan that comes with the module."""
    file = ROOT / "Resources" / "SampleData" / "hippocampus_091.nii.gz"
    return module.slicer.util.loadVolume(str(file))


def test_slicer_finds_title_category_and_icon(not_set_up: Any) -> None:
    found, widget = not_set_up.open()
    assert found.parent.title == "MedDINOv3"
    assert found.parent.categories == ["Segmentation"]
    assert found.parent.contributors == variable(".", "EXTENSION_CONTRIBUTORS")
    assert not found.parent.icon.isNull()
    assert "Not for clinical use" in found.parent.helpText
    assert found.resourcePath("requirements.txt") == str(ROOT / "Resources" / "requirements.txt")
    assert widget.resourcePath("UI/none.ui") == str(MODULE.parent / "Resources/UI/none.ui")


def test_sections_come_in_the_order_of_the_work(not_set_up: Any) -> None:
    _, widget = not_set_up.open()
    page = widget.workspace
    assert widget.layout.itemAt(0).widget() is page.widget
    layout = page.widget.layout()
    shown = [layout.itemAt(n).widget() for n in range(layout.count())]
    assert shown[0] is page.setup.widget
    titles = [section.text for section in shown[1:-1]]
    assert titles == ["1. Segment", "2. Correct", "3. Training cases", "4. Fine-tune", "Models"]
    assert [section.collapsed for section in shown[1:-1]] == [False, True, True, True, True]
    assert "stays on this computer" in shown[-1].text
    assert page.sections["batch"].text == "Several scans"
    assert page.sections["segment"].isAncestorOf(page.sections["batch"])


def test_opening_before_the_set_up_installs_and_starts_nothing(not_set_up: Any) -> None:
    _, widget = not_set_up.open()
    page, parts = widget.workspace, widget.logic.parts
    not_set_up.app.app.processEvents()
    assert "Not set up yet" in page.setup.ui.statusLabel.text
    assert not parts.worker.running and parts.worker.state == "off"
    assert not_set_up.app.packaging.calls == []
    not_set_up.app.click(page.setup.ui.setUpButton)
    assert not_set_up.app.packaging.calls == [], "in a test nobody agrees"
    assert page.setup.problems.problem.code == "declined"


@pytest.mark.parametrize("testing", [True, False])
def test_nobody_agrees_in_an_automatic_test(
    module: Any, monkeypatch: pytest.MonkeyPatch, testing: bool
) -> None:
    from MedDINOv3SlicerLib.panels.asking import askInSlicer

    asked: list[str] = []
    monkeypatch.setattr(
        module.slicer.util, "confirmOkCancelDisplay", lambda text: not asked.append(text)
    )
    monkeypatch.setattr(type(module.app.app), "testingEnabled", lambda app: testing)
    assert askInSlicer("Install?") is not testing
    assert asked == ([] if testing else ["Install?"])


def test_models_are_listed_and_a_damaged_one_gives_its_reason(
    not_set_up: Any, own_home: Path
) -> None:
    add_model(own_home, "mine", "tumour <b>", "cyst")
    (add_model(own_home, "damaged", "liver") / "model.json").write_text("{}", encoding="utf-8")
    page = not_set_up.page()
    combo = page.segment.ui.modelCombo
    assert len(texts(combo)) == 3 and texts(combo)[0] == "damaged"
    assert [page.models.ui.modelTable.item(row, 0).text() for row in range(3)] == [
        *("damaged", "mine", STARTER),
    ]
    assert "cannot be used: model.json is damaged" in page.segment.ui.modelLabel.text
    assert "model.json is damaged" in page.segment.ui.segmentButton.toolTip
    combo.setCurrentIndex(1)
    assert "tumour &lt;b&gt;, cyst" in page.segment.ui.modelLabel.text, "no HTML of the model's"


def test_models_that_come_and_go_are_seen_by_all_sections(
    not_set_up: Any, own_home: Path, tmp_path: Path
) -> None:
    _, widget = not_set_up.open()
    page, shelf = widget.workspace, widget.logic.parts.shelf
    shelf.importFrom(make_bundle(tmp_path / "elsewhere", describe("liver")))
    assert (own_home / "models" / "elsewhere").is_dir()
    assert page.models.ui.modelTable.rowCount == page.segment.ui.modelCombo.count == 2
    assert any("Tiny" in text for text in texts(page.finetune.ui.baseCombo))
    shelf.remove("elsewhere")
    assert page.models.ui.modelTable.rowCount == page.segment.ui.modelCombo.count == 1
    assert not any("Tiny" in text for text in texts(page.finetune.ui.baseCombo))


def test_running_training_is_named_under_segment(
    not_set_up: Any, sample: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, widget = not_set_up.open()
    page, parts = widget.workspace, widget.logic.parts
    monkeypatch.setattr(parts.installer, "missing", lambda *_purpose: ())
    monkeypatch.setattr(parts.trainings, "running", lambda: SimpleNamespace())
    page.segment.choose((sample,))
    label = page.segment.ui.expectedLabel
    page.finetune.trainingChanged.emit()
    not_set_up.app.wait_until(lambda: "A training is running" in label.text)
    assert not parts.worker.running, "nothing is measured meanwhile"


def test_closing_the_scene_leaves_a_page_that_works(not_set_up: Any, sample: Any) -> None:
    from segment_fakes import scan, segmentation

    page = not_set_up.page()
    page.segment.choose((sample,))
    page.correct.edit(segmentation(not_set_up.app, sample, "liver"), sample)
    assert page.segment.ui.segmentButton.enabled
    not_set_up.app.scene.Clear(0)
    assert not page.segment.ui.segmentButton.enabled and page.correct.segmentation is None
    page.segment.choose((scan(not_set_up.app),))
    assert page.segment.ui.segmentButton.enabled, page.segment.ui.segmentButton.toolTip


def test_reloading_leaves_no_observer_and_one_settings_page(not_set_up: Any, sample: Any) -> None:
    from segment_fakes import segmentation

    _, widget = not_set_up.open()
    old, page = widget.workspace, widget.settings
    drawn = segmentation(not_set_up.app, sample, "liver")
    old.correct.edit(drawn, sample)
    new = not_set_up.reload(widget)
    heard: list[str] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return lambda *_what: heard.append(name)

    old._panels, old.correct.table = (Spy(),), Spy()
    drawn.GetSegmentation().AddEmptySegment("new", "new")
    new.logic.parts.shelf.changed.emit()
    page.panel.changed.emit()
    not_set_up.app.scene.Clear(0)
    assert heard == []
    assert new.settings is page, "a page cannot be taken out of the settings again"
    assert list(not_set_up.app.app.settingsDialog().panels) == ["MedDINOv3"]
    assert new.workspace is not old and new.workspace.segment.model is not None


def test_worker_ends_when_the_module_is_reloaded(module: Any) -> None:
    _, widget = module.open()
    first = widget.logic.parts.worker
    module.app.wait_until(lambda: first.state == "ready", PATIENCE)
    assert "Ready. Computes on" in widget.workspace.setup.ui.statusLabel.text
    again = module.reload(widget)
    assert not first.running
    assert again.logic.parts.worker is not first and not again.logic.parts.worker.running
    again.enter()
    module.app.wait_until(lambda: again.logic.parts.worker.state == "ready", PATIENCE)


def test_choices_come_back_with_a_saved_scene(
    not_set_up: Any, sample: Any, tmp_path: Path, own_home: Path
) -> None:
    from segment_fakes import segmentation

    add_model(own_home, "abdomen", "liver", "spleen")
    page = not_set_up.page()
    ui = page.segment.ui
    page.segment.choose((sample,))
    ui.modelCombo.setCurrentIndex(texts(ui.modelCombo).index("Tiny"))
    page.segment.labels.choose(("spleen",))
    ui.qualityCombo.setCurrentIndex(1)
    ui.deviceCombo.setCurrentIndex(1)
    ui.show3dCheck.checked = True
    name, drawn = sample.GetName(), segmentation(not_set_up.app, sample, "liver")
    page.correct.edit(drawn, sample)
    file = str(tmp_path / "work.mrb")
    assert not_set_up.slicer.util.saveScene(file)
    not_set_up.app.scene.Clear(0)
    assert not ui.show3dCheck.checked and ui.qualityCombo.currentIndex == 0
    ui.modelCombo.setCurrentIndex(1 - texts(ui.modelCombo).index("Tiny"))
    not_set_up.slicer.util.loadScene(file)
    not_set_up.app.wait_until(lambda: page.correct.segmentation is not None)
    assert [node.GetName() for node in page.segment.channels.volumes()] == [name]
    assert ui.modelCombo.currentText == "Tiny"
    assert page.segment.labels.chosen() == ("spleen",)
    assert (ui.qualityCombo.currentIndex, ui.deviceCombo.currentIndex) == (1, 1)
    assert ui.show3dCheck.checked
    assert page.correct.segmentation.GetName() == "Result"
    assert page.correct.scan.GetName() == name


def test_device_of_the_settings_is_what_a_new_scene_uses(not_set_up: Any) -> None:
    _, widget = not_set_up.open()
    page = widget.workspace
    default, chosen = widget.settings.panel.ui.defaultDeviceCombo, page.segment.ui.deviceCombo
    training, saved = page.finetune.ui.deviceCombo, widget.logic.parts.parameters.node
    default.setCurrentIndex(1)
    assert chosen.currentIndex == 1, "in this scene nobody has chosen"
    assert widget.logic.parts.parameters.device == page.segment.order().device == "cpu"
    assert training.currentData == "cpu"
    page.segment.ui.show3dCheck.checked = True
    assert not saved.GetParameter("device"), "the default is not saved as if chosen"
    chosen.setCurrentIndex(2)
    training.setCurrentIndex(training.findData("mps"))
    default.setCurrentIndex(0)
    assert chosen.currentIndex == 2 and saved.GetParameter("device") == "cuda"
    assert training.currentData == "mps", "what somebody chose stays"
    not_set_up.app.scene.Clear(0)
    assert chosen.currentIndex == 0
    assert widget.logic.parts.parameters.device == "auto"


def test_scripts_segment_without_the_page(module: Any, sample: Any) -> None:
    slicer = module.slicer
    logic = module.code.MedDINOv3SlicerLogic()
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    bounds = [0.0] * 6
    sample.GetRASBounds(bounds)
    low, high = bounds[2:4]
    roi.SetCenter((bounds[0] + bounds[1]) / 2, low + (high - low) / 4, sum(bounds[4:]) / 2)
    roi.SetSize(bounds[1] - bounds[0], (high - low) / 2, bounds[5] - bounds[4])
    inside = logic.segment(sample, model=STARTER, roi=roi, device="cpu", timeout=PATIENCE)
    first = logic.parts.worker._process
    assert first is not None

    job, ended = logic.startSegmenting(sample, device="cpu"), []
    job.finished.connect(ended.append)
    job.failed.connect(ended.append)
    assert not ended, "it does not wait"
    module.app.wait_until(lambda: ended, PATIENCE)
    (whole,) = ended
    assert whole is not inside and job.state == "finished"
    assert module.code.MedDINOv3SlicerLogic().parts.worker._process is first, "one warm worker"

    def voxels(node: Any) -> Any:
        found = node.GetSegmentation()
        ids = [found.GetNthSegmentID(n) for n in range(found.GetNumberOfSegments())]
        read = slicer.util.arrayFromSegmentBinaryLabelmap
        return sum((read(node, identity, sample) > 0).astype(int) for identity in ids)

    rows = [int(row) for row in voxels(inside).any(axis=(0, 2)).nonzero()[0]]
    middle = sample.GetImageData().GetDimensions()[1] / 2
    assert voxels(inside).any() and voxels(inside).sum() < voxels(whole).sum()
    assert max(rows) <= middle or min(rows) >= middle - 1, "nothing outside the region"


def test_script_that_names_no_model_is_told_which_there_are(
    not_set_up: Any, sample: Any, own_home: Path
) -> None:
    from meddinov3.errors import MedDINOv3Error

    add_model(own_home, "mine", "liver")
    with pytest.raises(MedDINOv3Error, match=f"mine, {STARTER}"):
        not_set_up.code.MedDINOv3SlicerLogic().segment(sample)


def test_base_scores_are_read_once(module: Any, tmp_path: Path) -> None:
    from MedDINOv3SlicerLib.training_logic import TrainingLogic

    def line(case: str, dice: float) -> str:
        event = {"event": "base_validated", "case": case, "dice": {"liver": dice, "cyst": None}}
        return json.dumps(event) + "\n"

    events, training = tmp_path / "events.jsonl", SimpleNamespace(run=tmp_path)
    logic = TrainingLogic(SimpleNamespace())
    assert logic.baseScores(training) == "The base was not scored."
    events.write_text(line("case_1", 0.5))
    assert logic.baseScores(training) == {"case_1": 0.5}
    with events.open("r+") as stream:
        stream.write("x" * len(line("case_1", 0.5)))  # what was read is not read again
        stream.write("\n" + line("case_2", 0.75))
    assert logic.baseScores(training) == {"case_1": 0.5, "case_2": 0.75}


def test_sample_scan_is_offered(not_set_up: Any) -> None:
    not_set_up.open()
    (sample, *_more) = not_set_up.slicer.modules.sampleDataSources["MedDINOv3"]
    assert sample.sampleName == "HippocampusMR" and sample.uris.startswith("file://")


def test_source_checkout_opens_without_torch(tmp_path: Path, own_home: Path) -> None:
    add_model(own_home, "mine", "liver")
    seen = open_bare(MODULE, tmp_path, *NOT_IN_SLICER)
    assert not seen["torch"] and not seen["process"] and seen["calls"] == 0
    assert seen["models"] == ["mine", STARTER]
    assert "Not set up yet: PyTorch" in seen["status"] and seen["setUp"]
    assert seen["kept"]
    assert seen["added"] == [str(ROOT / "Logic"), str(ROOT / "training")]
    assert seen["engine"] == str(ROOT / "Logic" / "meddinov3" / "__init__.py")
    assert seen["icon"] == str(ROOT / "Resources" / "Icons" / "MedDINOv3Slicer.png")


def test_installed_extension_opens_from_its_own_files(tmp_path: Path, own_home: Path) -> None:
    folder = install(tmp_path / "qt-scripted-modules")
    seen = open_bare(folder / "MedDINOv3Slicer.py", tmp_path)
    assert not seen["torch"], "computing is for other processes"
    assert STARTER in seen["models"] and not seen["setUp"]
    assert seen["added"] == []
    assert seen["engine"] == str(folder / "meddinov3" / "__init__.py")
    assert seen["training"] == str(folder / "meddinov3_training" / "__init__.py")
    assert seen["icon"] == str(folder / "Resources" / "Icons" / "MedDINOv3Slicer.png")


def test_fresh_slicer_without_a_users_folder_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDDINOV3_HOME")
    for variable_ in ("HOME", "LOCALAPPDATA", "XDG_DATA_HOME"):
        monkeypatch.setenv(variable_, str(tmp_path))
    seen = open_bare(MODULE, tmp_path, *NOT_IN_SLICER)
    assert seen["models"] == [STARTER]
