"""The whole loop inside Slicer, with a report that a user can send in. Touches no user's files."""

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

import qt
import slicer

from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.sample_data import FILE

if TYPE_CHECKING:
    from MedDINOv3SlicerLib.module_logic import ModuleLogic
    from MedDINOv3SlicerLib.workspace import Workspace

HOME = "MEDDINOV3_HOME"
STARTER = "hippocampus-mr-tiny"
PATIENCE = 600.0  # seconds for a training of a few steps on a slow processor
SHORT = {"steps": 4, "batch": 2, "hold-out": 1}


class Skipped(Exception):
    """A step that this Slicer cannot do, in words."""


@dataclass
class Report:
    """What came out.

    Attributes:
        folder: holds ``report.txt`` and pictures; named in the text.
        lines: of the text.
        passed: whether no step failed; steps left out are not failures.
    """

    folder: Path
    lines: list[str] = field(default_factory=list)
    passed: bool = True

    @property
    def text(self) -> str:
        """The whole report."""
        return "\n".join([*self.lines, f"Report and pictures: {self.folder}"])

    def write(self) -> None:
        """Put ``report.txt`` beside the pictures."""
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
        makeLogic: Callable[[Any, Callable[[str], bool]], ModuleLogic],
        folder: Path | None = None,
    ) -> None:
        self._makeWorkspace, self._makeLogic = makeWorkspace, makeLogic
        when = f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
        self._folder = folder or Path(tempfile.gettempdir()) / f"MedDINOv3-report-{when}"
        self._scan: Any = None
        self._segmentation: Any = None
        self._kept = ""

    def run(self) -> Report:
        """Do all steps that can be done; the first that fails ends the run."""
        self._folder.mkdir(parents=True, exist_ok=True)
        report = Report(self._folder)
        report.lines += _versions()
        home, before = tempfile.mkdtemp(prefix="meddinov3-selftest-"), os.environ.get(HOME)
        os.environ[HOME] = home
        logic = self._makeLogic(slicer.mrmlScene, lambda question: False)  # installs nothing
        os.environ[HOME] = home  # the logic applied the user's own folder
        page = self._makeWorkspace(logic)
        page.widget.show()
        try:
            for number, step in enumerate(
                (self._opens, self._segments, self._corrects, self._adds, self._tunes,
                 self._segmentsAgain), start=1,
            ):  # fmt: skip
                if not self._do(step, number, logic, page, report):
                    break
        finally:
            page.cleanup()
            page.widget.hide()
            logic.close()
            if before is None:
                os.environ.pop(HOME, None)
            else:
                os.environ[HOME] = before
            shutil.rmtree(home, ignore_errors=True)
            report.write()
        return report

    def _do(
        self,
        step: Callable[[ModuleLogic, Workspace], str],
        number: int,
        logic: ModuleLogic,
        page: Workspace,
        report: Report,
    ) -> bool:
        name, start = step.__name__.strip("_"), time.monotonic()
        try:
            said = f"passed: {step(logic, page)}"
        except Skipped as reason:
            report.lines.append(f"{name}: left out: {reason}")
            return False
        except Exception:
            report.passed = False
            report.lines.append(f"{name}: FAILED\n{traceback.format_exc()}")
            report.lines.append(logic.worker.logText())
            return False
        finally:
            self._picture(page, f"{number}-{name}.png")
        report.lines.append(f"{name}: {said} ({time.monotonic() - start:.1f} s)")
        return True

    def _opens(self, logic: ModuleLogic, page: Workspace) -> str:
        assert "torch" not in sys.modules or "PyTorchUtils" in sys.modules, "torch was imported"
        ids = [model.id for model in logic.segmentation.models().models]
        assert STARTER in ids, f"the starter model is not there: {ids}"
        return f"{len(ids)} model(s)"

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
        return f"{dict(zip(names, counts, strict=True))} voxels"

    def _corrects(self, logic: ModuleLogic, page: Workspace) -> str:
        voxels = self._array(0).copy()
        voxels[voxels.shape[0] // 2 :] = 0
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
        for turn in (1, 2):  # scans of the same size with other voxels
            voxels = slicer.util.arrayFromVolume(self._scan)
            voxels[:] = voxels[:, ::-1] if turn == 1 else voxels[:, :, ::-1]
            added.append(logic.cases.addCase(library, {}, False))
        library.refresh()
        assert len(library.cases) == len(added) == 3
        return ", ".join(added)

    def _tunes(self, logic: ModuleLogic, page: Workspace) -> str:
        from MedDINOv3SlicerLib.install.packages import TRAINING

        if logic.installer.missing(TRAINING):
            raise Skipped("fine-tuning is not set up yet; press Start under 4., then test again")
        library = logic.cases.recentLibraries()[0]
        training = page.training.start(library, STARTER, "self test", 5, "auto", SHORT)
        end = time.monotonic() + PATIENCE
        while training.status().running and time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.05)
        status = training.status()
        assert status.model, f"{status.state}: {status.problem}"
        self._kept = page.training.keep(training, "self-test").name
        return f"{status.step} steps on {status.device}"

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
        slicer.app.processEvents()
        window = slicer.util.mainWindow() if hasattr(slicer.util, "mainWindow") else None
        (window or page.widget).grab().save(str(self._folder / name))


def _versions() -> list[str]:
    version = getattr(slicer.app, "applicationVersion", "unknown")
    return [
        f"MedDINOv3 self test, {datetime.datetime.now():%Y-%m-%d %H:%M}",
        f"Slicer {version}, Qt {qt.QT_VERSION_STR if hasattr(qt, 'QT_VERSION_STR') else '?'}",
        f"Python {platform.python_version()}, {platform.platform()}",
    ]
