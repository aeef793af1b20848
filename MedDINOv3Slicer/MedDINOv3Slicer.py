"""The Slicer module: four thin classes. What people see is in MedDINOv3SlicerLib."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

# Installed, the packages lie beside this file, which Slicer has on sys.path. In a source
# checkout they lie in sibling folders, added last so that they hide nothing of Slicer's.
sys.path.extend(
    str(folder)
    for folder, package in (
        (Path(__file__).resolve().parents[1] / "Logic", "meddinov3"),
        (Path(__file__).resolve().parents[1] / "training", "meddinov3_training"),
    )
    if (folder / package).is_dir() and str(folder) not in sys.path
)

from MedDINOv3SlicerLib.module_logic import ModuleLogic
from MedDINOv3SlicerLib.panels.asking import askInSlicer
from MedDINOv3SlicerLib.resources import moduleIcon, resourcePath
from MedDINOv3SlicerLib.sample_data import registerSampleData
from MedDINOv3SlicerLib.self_test import SelfTest
from MedDINOv3SlicerLib.settings_page import settingsPage
from MedDINOv3SlicerLib.workspace import Workspace


class MedDINOv3Slicer(ScriptedLoadableModule):
    """What Slicer shows about the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "MedDINOv3"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["MedDINOv3 for Slicer team"]
        parent.helpText = _(
            "Segment CT and MR scans with MedDINOv3, correct the result by hand and fine-tune on"
            " the corrected cases, all on this computer. Not for clinical use."
        )
        parent.acknowledgementText = _("The backbone is MedDINOv3 ({reference}).").format(
            reference='<a href="https://arxiv.org/abs/2509.02379">arXiv 2509.02379</a>'
        )
        parent.icon = moduleIcon()
        slicer.app.connect("startupCompleted()", registerSampleData)

    def resourcePath(self, filename: str) -> str:
        return resourcePath(filename)


class MedDINOv3SlicerWidget(ScriptedLoadableModuleWidget):
    """Mounts the page and tells it when people come and go."""

    workspace: Workspace | None = None  # the base class may call setup before __init__ returns

    def resourcePath(self, filename: str) -> str:
        return resourcePath(filename)

    def setup(self) -> None:
        super().setup()
        self.logic = MedDINOv3SlicerLogic()
        self.workspace = Workspace(self.logic.parts)
        self.settings = settingsPage(self.logic.parts, askInSlicer, self.workspace.settingsChanged)
        self.layout.addWidget(self.workspace.widget)
        self.layout.addStretch(1)
        if getattr(self.parent, "isEntered", False):  # reloaded: Slicer does not enter anew
            self.enter()

    def enter(self) -> None:
        if self.workspace is not None:
            self.workspace.enter()

    def exit(self) -> None:
        if self.workspace is not None:
            self.workspace.exit()

    def cleanup(self) -> None:
        if self.workspace is not None:
            self.settings.leave()
            self.workspace.cleanup()
            self.logic.close()
        self.workspace = None


class MedDINOv3SlicerLogic(ScriptedLoadableModuleLogic):
    """What the module can do without its page; scripts may call it.

    >>> logic = MedDINOv3SlicerLogic()
    >>> segmentation = logic.segment(slicer.util.getNode("CT"), model="hippocampus-mr-tiny")

    All objects share one warm worker. ``parts`` holds the rest: trainings, models, cases.
    """

    _shared: ModuleLogic | None = None

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        kind = MedDINOv3SlicerLogic
        if kind._shared is None:
            kind._shared = ModuleLogic(slicer.mrmlScene, askInSlicer)
        self.parts = kind._shared
        self.segment = self.parts.segment
        self.startSegmenting = self.parts.startSegmenting

    def close(self) -> None:
        """End the worker; a training goes on."""
        self.parts.close()
        MedDINOv3SlicerLogic._shared = None


class MedDINOv3SlicerTest(ScriptedLoadableModuleTest):
    """Run by Slicer's Reload and Test and by ctest; writes a report that can be sent in."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_fullLoop()

    def test_fullLoop(self) -> None:
        report = SelfTest(Workspace, ModuleLogic).run()
        print(report.text)
        assert report.passed, report.text
