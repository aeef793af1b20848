"""The whole loop inside Slicer, with a report that a user can send in.

It works in a folder of its own and takes its nodes out of the scene again: the user's models,
libraries and settings stay as they are.
"""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import qt
import slicer

from MedDINOv3SlicerLib.install.packages import LISTS, TRAINING, readLists, versions
from MedDINOv3SlicerLib.recent_libraries import RecentLibraries
from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.sample_data import FILE
from MedDINOv3SlicerLib.scene.parameters import TAG, Parameters

if TYPE_CHECKING:
    from MedDINOv3SlicerLib.module_logic import ModuleLogic
    from MedDINOv3SlicerLib.workspace import Workspace

HOME = "MEDDINOV3_HOME"
STARTER = "hippocampus-mr-tiny"
PAGE = (420, 1200)  # pixels
STEPS = (  # and the section that the picture shows
    ("open the page", "models"), ("segment", "segment"), ("correct", "correct"),
    ("add cases", "cases"), ("fine-tune", "finetune"), ("segment again", "segment"),
)  # fmt: skip
PATIENCE = 600.0  # seconds for a training of a few steps on a slow processor
SHORT = {"steps": 2, "batch": 2, "hold-out": 1}


class Skipped(Exception):
    """A step that this Slicer cannot do, in words."""


@dataclass
class Report:
    """What came out.

    Attributes:
        folder: holds ``report.txt`` and pictures; named in the text.
        lines: of the text.
        passed: whether no step failed; steps left out are not failures.
        complete: whether no step was left out.
    """

    folder: Path
    lines: list[str] = field(default_factory=list)
    passed: bool = True
    complete: bool = True

    @property
    def text(self) -> str:
        """The whole report."""
        return "\n".join([*self.lines, f"Report and pictures: {self.folder}"])

    def fail(self, what: str, details: str) -> None:
        """Note a failure."""
        self.passed = False
        self.lines.append(f"{what}: FAILED\n{details.strip()}")

    def end(self) -> None:
        """Say how it went and put ``report.txt`` beside the pictures."""
        whole = "All steps passed." if self.complete else "No step failed; some were left out."
        self.lines.append(whole if self.passed else "The self test FAILED.")
        (self.folder / "report.txt").write_text(self.text + "\n", encoding="utf-8")


class SelfTest:
    """Segment, correct, add, fine-tune, segment again; in a folder of its own.

    Args:
        makeWorkspace, makeLogic: the classes to test.
        folder: for the report; a temporary one by default.
    """

    def __init__(
        self,
        makeWorkspace: Callable[[ModuleLogic], Workspace],
        makeLogic: Callable[..., ModuleLogic],
        folder: Path | None = None,
    ) -> None:
        self._makeWorkspace, self._makeLogic = makeWorkspace, makeLogic
        when = f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
        self._folder = folder or Path(tempfile.gettempdir()) / f"MedDINOv3-report-{when}"
        self._scan: Any = None
        self._segmentation: Any = None
        self._kept = ""
        self._torch = "torch" in sys.modules  # by others; ours computes in other processes

    def run(self) -> Report:
        """Do all steps that can be done; the first that fails ends the run."""
        self._folder.mkdir(parents=True, exist_ok=True)
        report = Report(self._folder)
        report.lines.extend(_system())
        home, before = tempfile.mkdtemp(prefix="meddinov3-selftest-"), os.environ.get(HOME)
        nodes, choices = _nodes(), _choices()
        settings = qt.QSettings(str(Path(home, "settings.ini")), qt.QSettings.IniFormat)
        try:
            logic = self._makeLogic(
                slicer.mrmlScene,
                lambda question: False,  # installs nothing
                RecentLibraries(settings),
            )
            os.environ[HOME] = home  # after the logic, which has applied the user's own folder
            try:
                self._steps(logic, report)
            finally:
                logic.close()
        except Exception:
            report.fail("the self test itself", traceback.format_exc())
        finally:
            if before is None:
                os.environ.pop(HOME, None)
            else:
                os.environ[HOME] = before
            for node in _nodes() - nodes:
                if slicer.mrmlScene.IsNodePresent(node):  # others may have gone with it
                    slicer.mrmlScene.RemoveNode(node)
            if choices is not None:
                Parameters.of(slicer.mrmlScene).node.Copy(choices)
            settings.sync()  # what is not written yet would make the folder anew
            shutil.rmtree(home, ignore_errors=True)
            report.end()
        return report

    def _steps(self, logic: ModuleLogic, report: Report) -> None:
        page = self._makeWorkspace(logic)
        page.widget.resize(*PAGE)
        page.widget.show()
        page.enter()
        try:
            for number, step in enumerate(
                (self._opens, self._segments, self._corrects, self._adds, self._tunes,
                 self._segmentsAgain), start=1,
            ):  # fmt: skip
                if not self._do(step, number, logic, page, report):
                    break
        finally:
            page.exit()
            page.cleanup()
            page.widget.hide()

    def _do(
        self,
        step: Callable[[ModuleLogic, Workspace], str],
        number: int,
        logic: ModuleLogic,
        page: Workspace,
        report: Report,
    ) -> bool:
        (name, section), start = STEPS[number - 1], time.monotonic()
        for other in ("segment", "correct", "cases", "finetune", "models"):
            page.sections[other].collapsed = other != section
        try:
            said = step(logic, page)
        except Skipped as reason:
            report.lines.append(f"{number}. {name}: left out: {reason}")
            report.complete = False
            return False
        except Exception:
            log = logic.worker.logText()
            report.fail(f"{number}. {name}", f"{traceback.format_exc()}\nLog:\n{log}")
            return False
        finally:
            self._picture(page, f"{number}.png")
        took = time.monotonic() - start
        report.lines.append(f"{number}. {name}: passed ({took:.1f} s): {said}")
        return True

    def _opens(self, logic: ModuleLogic, page: Workspace) -> str:
        assert self._torch or "torch" not in sys.modules, "opening the page imported torch"
        ids = [model.id for model in logic.segmentation.models().models]
        assert STARTER in ids, f"the starter model is not there: {ids}"
        return "models: " + ", ".join(ids)

    def _segments(self, logic: ModuleLogic, page: Workspace) -> str:
        missing = logic.installer.missing()
        if missing:
            raise Skipped("segmenting is not set up yet; press Set up, then test again")
        self._scan = slicer.util.loadVolume(resourcePath(FILE))
        page.segment.choose((self._scan,))
        self._segmentation = logic.segment(self._scan, STARTER, timeout=PATIENCE)
        page.correct.edit(self._segmentation, self._scan)
        names = self._names()
        assert names == ["anterior hippocampus", "posterior hippocampus"], names
        counts = [int((self._array(i) > 0).sum()) for i in range(2)]
        assert all(200 < count < 5000 for count in counts), counts
        found = ", ".join(f"{name} {n} voxels" for name, n in zip(names, counts, strict=True))
        return f"{found}; on {logic.worker.device}"

    def _corrects(self, logic: ModuleLogic, page: Workspace) -> str:
        voxels = self._array(0).copy()
        slices = np.flatnonzero(voxels.any(axis=(1, 2)))
        voxels[slices[len(slices) // 2] :] = 0
        identity = self._segmentation.GetSegmentation().GetNthSegmentID(0)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            voxels, self._segmentation, identity, self._scan
        )
        change = logic.correction.changesById(self._segmentation, self._scan)[identity]
        assert change.removed > 0 and change.dice < 1, change
        return f"{change.removed} voxels taken away, Dice with the proposal {change.dice:.3f}"

    def _adds(self, logic: ModuleLogic, page: Workspace) -> str:
        page.correct.edit(self._segmentation, self._scan)
        folder = logic.cases.librariesFolder() / "self-test"
        labels = logic.cases.sceneFacts().labels
        library = logic.cases.createLibrary(folder, "Self test", ["MR"], labels)
        added = [logic.cases.addCase(library, {}, False)]
        for number in (1, 2):  # anterior stays anterior
            added.append(self._addMirrored(logic, page, library, number))
        page.correct.edit(self._segmentation, self._scan)
        page.segment.choose((self._scan,))
        library.refresh()
        page.cases.enter()
        assert len(library.cases) == len(added) == 3
        return ", ".join(added)

    def _addMirrored(self, logic: ModuleLogic, page: Workspace, library: Any, number: int) -> str:
        """Another case: a copy of scan and segments, mirrored along one axis."""
        axis = {1: 2, 2: 0}[number]  # left to right, upside down
        voxels = np.flip(slicer.util.arrayFromVolume(self._scan), axis).copy()
        scan = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"Mirrored {number}")
        scan.CopyOrientation(self._scan)
        slicer.util.updateVolumeFromArray(scan, voxels)
        drawn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"Drawn {number}")
        drawn.CreateDefaultDisplayNodes()
        drawn.SetReferenceImageGeometryParameterFromVolumeNode(scan)
        for place, name in enumerate(self._names()):
            identity = drawn.GetSegmentation().AddEmptySegment(name, name)
            mirrored = np.flip(self._array(place), axis).copy()
            slicer.util.updateSegmentBinaryLabelmapFromArray(mirrored, drawn, identity, scan)
        page.segment.choose((scan,))
        page.correct.edit(drawn, scan)
        return logic.cases.addCase(library, {}, False)

    def _tunes(self, logic: ModuleLogic, page: Workspace) -> str:
        if logic.installer.missing(TRAINING):
            raise Skipped("fine-tuning is not set up yet; press Start under 4., then test again")
        library = logic.cases.recentLibraries()[0]
        training = page.training.start(library, STARTER, "self test", 5, "auto", SHORT)
        page.finetune.run.find(training)
        end = time.monotonic() + PATIENCE
        try:
            while training.status().running and time.monotonic() < end:
                slicer.app.processEvents()
                time.sleep(0.05)
            status = training.status()
            assert status.model, f"{status.state}: {status.problem}"
        finally:
            training.end()
        self._kept = page.training.keep(training, "self-test").name
        assert status.caseScores, "no held-out case was scored"
        return f"{status.step} steps on {status.device}, {len(status.caseScores)} case(s) scored"

    def _segmentsAgain(self, logic: ModuleLogic, page: Workspace) -> str:
        node = logic.segment(self._scan, self._kept, timeout=PATIENCE)
        assert node.GetSegmentation().GetNumberOfSegments() >= 1
        return f"with '{self._kept}'"

    def _names(self) -> list[str]:
        found = self._segmentation.GetSegmentation()
        count = found.GetNumberOfSegments()
        return [found.GetNthSegment(number).GetName() for number in range(count)]

    def _array(self, number: int) -> Any:
        identity = self._segmentation.GetSegmentation().GetNthSegmentID(number)
        return slicer.util.arrayFromSegmentBinaryLabelmap(self._segmentation, identity, self._scan)

    def _picture(self, page: Workspace, name: str) -> None:
        """The whole window, as a person would send it; only the page where there is no window."""
        slicer.app.processEvents()
        window = slicer.util.mainWindow()
        page.widget.grab().save(str(self._folder / name))
        if window is not None:
            window.grab().save(str(self._folder / f"window-{name}"))


def _nodes() -> set[Any]:
    """Without the tree of the scene, which Slicer makes once and needs always."""
    scene = slicer.mrmlScene
    found = (scene.GetNthNode(number) for number in range(scene.GetNumberOfNodes()))
    return {node for node in found if not node.IsA("vtkMRMLSubjectHierarchyNode")}


def _choices() -> Any:
    """A copy of what is chosen in the module, None if it was never opened in this scene."""
    node = slicer.mrmlScene.GetSingletonNode(TAG, "vtkMRMLScriptedModuleNode")
    if node is None:
        return None
    copy = slicer.vtkMRMLScriptedModuleNode()
    copy.Copy(node)
    return copy


def _system() -> list[str]:
    version = getattr(slicer.app, "applicationVersion", "") or "of unknown version"
    revision = getattr(slicer.app, "revision", "")
    lists = readLists(resourcePath(name) for name in LISTS[TRAINING])
    packages = (f"{name} {found or 'absent'}" for name, found in versions(lists).items())
    return [
        f"MedDINOv3 self test, {datetime.datetime.now():%Y-%m-%d %H:%M}",
        f"Slicer {version} {revision}".strip(),
        f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores",
        "Slicer's packages: " + ", ".join(packages),
    ]
