"""The Slicer module: four thin classes. What people see is in MedDINOv3SlicerLib."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

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

from MedDINOv3SlicerLib.model_list import ModelList, readModels
from MedDINOv3SlicerLib.overview_panel import OverviewPanel
from MedDINOv3SlicerLib.resources import moduleIcon, resourcePath


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

    def resourcePath(self, filename: str) -> str:
        return resourcePath(filename)


class MedDINOv3SlicerWidget(ScriptedLoadableModuleWidget):
    """Mounts the panel and tells it when people come back to the module."""

    panel: OverviewPanel | None = None  # the base class may call setup before __init__ returns

    def resourcePath(self, filename: str) -> str:
        return resourcePath(filename)

    def setup(self) -> None:
        super().setup()
        self.panel = OverviewPanel(MedDINOv3SlicerLogic().models)
        self.layout.addWidget(self.panel.widget)
        self.layout.addStretch(1)

    def enter(self) -> None:
        if self.panel is not None:
            self.panel.refresh()

    def cleanup(self) -> None:
        self.panel = None


class MedDINOv3SlicerLogic(ScriptedLoadableModuleLogic):
    """What the module can do without a panel; scripts may call it."""

    def models(self) -> ModelList:
        """Read which models are on this computer. Needs no torch and installs nothing."""
        return readModels()


class MedDINOv3SlicerTest(ScriptedLoadableModuleTest):
    """Run by Slicer's Reload and Test, by ctest, and on stand-ins by pytest.

    Touches neither the scene nor the user's models: it works in a folder of its own.
    """

    def setUp(self) -> None:
        home = tempfile.TemporaryDirectory(prefix="meddinov3-test-")
        self.addCleanup(home.cleanup)
        self.addCleanup(_setHome, os.environ.get("MEDDINOV3_HOME"))
        _setHome(home.name)
        damaged = Path(home.name, "models", "damaged-model")
        damaged.mkdir(parents=True)
        damaged.joinpath("model.json").write_text("{}", encoding="utf-8")

    def runTest(self) -> None:
        # Slicer calls this method by itself, without setUp and cleanups around it.
        for test in (self.test_listsModels, self.test_opensWithoutTorch, self.test_findsResources):
            self.setUp()
            try:
                test()
            finally:
                self.doCleanups()

    def test_listsModels(self) -> None:
        found = MedDINOv3SlicerLogic().models()
        assert not found.problem, found.problem
        ids = [model.id for model in found.models]
        assert "damaged-model" in ids
        assert "hippocampus-mr-tiny" in ids, "the starter model was not installed"
        shown = OverviewPanel(MedDINOv3SlicerLogic().models).models.text
        for model in ids:
            assert model in shown, f"{model} is not shown"

    def test_opensWithoutTorch(self) -> None:
        # Another extension may have imported torch before: only what this adds counts.
        before = "torch" in sys.modules
        OverviewPanel(MedDINOv3SlicerLogic().models).refresh()
        assert ("torch" in sys.modules) == before

    def test_findsResources(self) -> None:
        for name in ("Icons/MedDINOv3Slicer.png", "requirements.txt"):
            assert Path(resourcePath(name)).is_file(), name


def _setHome(folder: str | None) -> None:
    os.environ.pop("MEDDINOV3_HOME", None)
    if folder is not None:
        os.environ["MEDDINOV3_HOME"] = folder
