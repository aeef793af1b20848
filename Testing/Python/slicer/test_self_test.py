"""The self test that a user runs in Slicer: passes, reports, and leaves no trace."""

from __future__ import annotations

import os
import unittest
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ("module_bed",)
LONG = 300.0  # seconds


def run(module: Any, folder: Path) -> Any:
    from MedDINOv3SlicerLib.module_logic import ModuleLogic
    from MedDINOv3SlicerLib.self_test import SelfTest
    from MedDINOv3SlicerLib.workspace import Workspace

    return SelfTest(Workspace, ModuleLogic, folder).run()


def ids(scene: Any) -> list[str]:
    return sorted(scene.GetNthNode(n).GetID() for n in range(scene.GetNumberOfNodes()))


def test_it_does_the_whole_loop_and_leaves_no_trace(
    module: Any, own_home: Path, tmp_path: Path
) -> None:
    from segment_fakes import scan

    page = module.page()
    mine = scan(module.app, "Mine")
    page.segment.choose((mine,))
    page.segment.ui.show3dCheck.checked = True
    # In the application it is always there; on the stand-in it comes when first asked for.
    module.slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(module.app.scene)
    nodes, keys = ids(module.app.scene), module.app.app.settings().allKeys()
    report = run(module, tmp_path / "report")
    assert report.passed and report.complete, report.text
    steps = [line for line in report.lines if ": passed (" in line]
    assert len(steps) == 6
    assert "anterior hippocampus" in steps[1] and "2 steps on" in steps[4]
    assert report.lines[-1] == "All steps passed."
    written = (tmp_path / "report" / "report.txt").read_text(encoding="utf-8")
    assert written == report.text + "\n" and str(tmp_path / "report") in written
    for number in range(1, 7):
        assert (tmp_path / "report" / f"{number}.png").stat().st_size > 1000

    assert os.environ["MEDDINOV3_HOME"] == str(own_home)
    assert [path for path in own_home.rglob("*") if path.is_file()] == []
    assert module.app.app.settings().allKeys() == keys
    assert ids(module.app.scene) == nodes
    parameters = module.code.MedDINOv3SlicerLogic().parts.parameters
    assert parameters.volumes == (mine,) and parameters.show3d


def test_before_the_set_up_it_says_what_was_left_out(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedDINOv3SlicerLib.install.installer import Installer
    from MedDINOv3SlicerLib.install.packages import Missing

    monkeypatch.setattr(Installer, "missing", lambda *_purpose: Missing(True, ("timm",)))
    report = run(module, tmp_path)
    assert report.passed and not report.complete
    assert "2. segment: left out: segmenting is not set up yet" in report.text
    assert module.app.packaging.calls == []


def test_a_failure_is_told_with_its_log(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meddinov3 import model_store

    monkeypatch.setattr(model_store, "STARTERS", tmp_path / "none")
    report = run(module, tmp_path / "report")
    assert not report.passed
    assert "1. open the page: FAILED" in report.text
    assert "the starter model is not there" in report.text
    assert report.lines[-1] == "The self test FAILED."


def test_slicer_finds_it(module: Any) -> None:
    suite = unittest.TestLoader().loadTestsFromTestCase(module.code.MedDINOv3SlicerTest)
    assert suite.countTestCases() == 1
