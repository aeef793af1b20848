"""The Slicer module, opened on stand-ins: what its panel says, and what it leaves alone."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
import unittest
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from bare_python import open_bare
from cmake_lists import ROOT, install, variable
from conftest import describe
from meddinov3 import model_store

HERE = Path(__file__).parent
MODULE = ROOT / "MedDINOv3Slicer" / "MedDINOv3Slicer.py"

# Packages that the engine uses and Slicer 5.12 does not bring.
NOT_IN_SLICER = ("huggingface_hub", "platformdirs", "safetensors", "timm", "torch", "torchvision")


class Opened:
    """MedDINOv3Slicer.py as loaded, and opened as Slicer does."""

    def __init__(self, slicer_app: Any, code: types.ModuleType) -> None:
        self.slicer_app, self.code = slicer_app, code

    def open(self) -> tuple[Any, Any]:
        return self.slicer_app.open_module(self.code, MODULE)


@pytest.fixture
def module(slicer_app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    monkeypatch.syspath_prepend(MODULE.parent)
    spec = importlib.util.spec_from_file_location("MedDINOv3Slicer", MODULE)
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "MedDINOv3Slicer", loaded)
    spec.loader.exec_module(loaded)
    yield Opened(slicer_app, loaded)
    for name in [n for n in sys.modules if n.partition(".")[0] == "MedDINOv3SlicerLib"]:
        del sys.modules[name]


@pytest.fixture
def no_starters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "STARTERS", tmp_path / "no starters")


def in_layout(layout: Any) -> list[Any]:
    """The widgets of a layout, in order."""
    found = [layout.itemAt(n).widget() for n in range(layout.count())]
    return [widget for widget in found if widget is not None]


def add_model(home: Path, name: str, *labels: str) -> None:
    folder = home / "models" / name
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(describe(*labels).to_json(), encoding="utf-8")


def test_slicer_finds_title_category_and_icon(module: Opened) -> None:
    found, _ = module.open()
    assert found.parent.title == "MedDINOv3"
    assert found.parent.categories == ["Segmentation"]
    assert found.parent.contributors == variable(".", "EXTENSION_CONTRIBUTORS")
    assert not found.parent.icon.isNull()
    assert "Not for clinical use" in found.parent.helpText


def test_panel_says_what_the_module_does_and_what_works_today(module: Opened) -> None:
    _, widget = module.open()
    assert in_layout(widget.layout)[0] is widget.panel.widget
    assert in_layout(widget.panel.widget.layout()) == [
        widget.panel.introduction,
        widget.panel.models,
        widget.panel.refreshButton,
        widget.panel.command,
    ]
    introduction = widget.panel.introduction.text
    for said in ("<h2>MedDINOv3</h2>", "Segment", "Correct", "Fine-tune", "on this computer"):
        assert said in introduction
    assert "meddinov3 segment SCAN --output DIR" in widget.panel.command.text


def test_panel_lists_each_model_with_what_it_finds(
    module: Opened, own_home: Path, no_starters: None
) -> None:
    add_model(own_home, "abdomen-ct", *(f"organ {n}" for n in range(1, 9)))
    add_model(own_home, "lesions", "tumour <b>", "cyst")
    _, widget = module.open()
    text = widget.panel.models.text
    assert "<b>abdomen-ct</b>: finds organ 1, organ 2" in text
    assert "organ 6 and 2 more" in text
    assert "tumour &lt;b&gt;, cyst" in text, "names are shown as written, not taken for HTML"
    assert "segment SCAN --model MODEL" in widget.panel.command.text


def test_panel_says_why_a_model_cannot_be_used(
    module: Opened, own_home: Path, no_starters: None
) -> None:
    add_model(own_home, "damaged", "liver")
    (own_home / "models" / "damaged" / "model.json").write_text("{}", encoding="utf-8")
    _, widget = module.open()
    assert "<b>damaged</b>: cannot be used: model.json is damaged" in widget.panel.models.text


def test_panel_says_that_there_are_no_models(module: Opened, no_starters: None) -> None:
    _, widget = module.open()
    assert "None." in widget.panel.models.text


def test_panel_finds_new_models_on_request_and_on_coming_back(
    module: Opened, own_home: Path, no_starters: None
) -> None:
    _, widget = module.open()
    add_model(own_home, "first", "liver")
    assert "first" not in widget.panel.models.text
    widget.parent.show()
    module.slicer_app.click(widget.panel.refreshButton)
    assert "first" in widget.panel.models.text
    add_model(own_home, "second", "liver")
    widget.enter()
    assert "second" in widget.panel.models.text


def test_panel_says_which_package_is_missing(
    module: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "meddinov3.model_store")
    monkeypatch.setitem(sys.modules, "meddinov3.description", None)
    _, widget = module.open()
    assert "Models cannot be listed" in widget.panel.models.text
    assert "no package 'meddinov3.description'" in unescape(widget.panel.models.text)
    assert "meddinov3 segment SCAN --output DIR" in widget.panel.command.text


def test_panel_says_that_the_models_folder_cannot_be_read(
    module: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "models")

    monkeypatch.setattr(model_store, "installed_models", refuse)
    _, widget = module.open()
    assert "Models cannot be listed: [Errno 13] Permission denied" in widget.panel.models.text


def test_resources_are_found_whether_or_not_they_exist(module: Opened) -> None:
    found, widget = module.open()
    assert found.resourcePath("requirements.txt") == str(ROOT / "Resources" / "requirements.txt")
    assert widget.resourcePath("UI/none.ui") == str(MODULE.parent / "Resources/UI/none.ui")


def test_self_test_passes_as_slicer_runs_it(module: Opened, own_home: Path) -> None:
    module.code.MedDINOv3SlicerTest().runTest()
    assert os.environ["MEDDINOV3_HOME"] == str(own_home), "the user's folder is set back"


def test_self_test_passes_as_ctest_runs_it(module: Opened, own_home: Path) -> None:
    suite = unittest.TestLoader().loadTestsFromTestCase(module.code.MedDINOv3SlicerTest)
    result = unittest.TestResult()
    suite.run(result)
    assert suite.countTestCases() == 3
    assert not [*result.failures, *result.errors, *result.skipped]
    assert os.environ["MEDDINOV3_HOME"] == str(own_home)


def test_source_checkout_opens_without_torch(tmp_path: Path, own_home: Path) -> None:
    add_model(own_home, "mine", "liver")
    seen = open_bare(MODULE, tmp_path)
    assert not seen["torch"]
    assert "mine" in seen["models"]
    assert seen["kept"]
    assert seen["added"] == [str(ROOT / "Logic"), str(ROOT / "training")]
    assert seen["engine"] == str(ROOT / "Logic" / "meddinov3" / "__init__.py")
    assert seen["icon"] == str(ROOT / "Resources" / "Icons" / "MedDINOv3Slicer.png")


def test_installed_extension_opens_from_its_own_files(tmp_path: Path, own_home: Path) -> None:
    add_model(own_home, "mine", "liver")
    folder = install(tmp_path / "qt-scripted-modules")
    seen = open_bare(folder / "MedDINOv3Slicer.py", tmp_path)
    assert not seen["torch"]
    assert "mine" in seen["models"]
    assert "hippocampus-mr-tiny" in seen["models"]
    assert seen["added"] == []
    assert seen["engine"] == str(folder / "meddinov3" / "__init__.py")
    assert seen["training"] == str(folder / "meddinov3_training" / "__init__.py")
    assert seen["icon"] == str(folder / "Resources" / "Icons" / "MedDINOv3Slicer.png")


def test_fresh_slicer_lists_the_starter_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDDINOV3_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    seen = open_bare(MODULE, tmp_path, *NOT_IN_SLICER)
    assert "<b>hippocampus-mr-tiny</b>: finds" in seen["models"]
