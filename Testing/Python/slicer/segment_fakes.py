"""What the panels talk to, without processes: fakes that remember what they were asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cmake_lists import ROOT
from meddinov3.progress import Progress


@contextmanager
def module_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MedDINOv3SlicerLib on the booted stand-in; forgotten afterwards, others use another."""
    import sys

    def forget() -> None:
        for name in [n for n in sys.modules if n.partition(".")[0] == "MedDINOv3SlicerLib"]:
            del sys.modules[name]

    forget()
    monkeypatch.syspath_prepend(ROOT / "MedDINOv3Slicer")
    yield
    forget()


class FakeJob:
    """A segmentation that goes on when the test says so."""

    def __init__(self, log: str = "") -> None:
        from MedDINOv3SlicerLib.signal import Signal

        self.progressed, self.finished = Signal(), Signal()
        self.failed, self.cancelled = Signal(), Signal()
        self.log, self.notes = log, []
        self.was_cancelled = False

    def cancel(self) -> None:
        self.was_cancelled = True
        self.cancelled.emit()


class FakeBatch:
    """A batch that goes on when the test says so."""

    def __init__(self) -> None:
        from MedDINOv3SlicerLib.signal import Signal

        self.progressed, self.finished = Signal(), Signal()
        self.started = False

    def start(self) -> None:
        self.started = True

    def cancel(self) -> None:
        self.finished.emit(SimpleNamespace(done=[], failures=[], skipped=[1, 2]))

    def tell(self, number: int, total: int, title: str) -> None:
        step = Progress("segmenting", 5, 10, 130.0)
        share = (number - 0.5) / total
        self.progressed.emit(
            SimpleNamespace(number=number, total=total, title=title, share=share, step=step)
        )


class FakeLogic:
    """Models, set-up, estimates, jobs and batches."""

    def __init__(self, *models: Any) -> None:
        from MedDINOv3SlicerLib.install.packages import Missing
        from MedDINOv3SlicerLib.model_list import ModelList

        self.list = ModelList(models)
        self.lacks: Any = Missing()
        self.refuses: Any = None  # what ensure answers
        self.wrong: Any = None  # what problemWith answers
        self.advised = ""  # what a running training means
        self.ensured = 0
        self.inspected: list[tuple[str, Any]] = []
        self.estimated: list[tuple[Any, Any]] = []
        self.started: list[tuple[Any, FakeJob]] = []
        self.batches: list[tuple[Any, ...]] = []

    def models(self) -> Any:
        return self.list

    def missing(self) -> Any:
        return self.lacks

    def ensure(self) -> Any:
        self.ensured += 1
        return self.refuses

    def problemWith(self, volumes: Any) -> Any:
        return self.wrong

    def inspect(self, device: str, then: Any) -> None:
        self.inspected.append((device, then))

    def estimate(self, order: Any, then: Any) -> None:
        self.estimated.append((order, then))

    def advice(self, device: str) -> str:
        return self.advised

    def start(self, order: Any) -> FakeJob:
        self.started.append((order, FakeJob("read 12 slices")))
        return self.started[-1][1]

    def batchOfScans(self, order: Any, volumes: Any) -> FakeBatch:
        return self._batch("scans", order, volumes)

    def batchOfFolder(self, order: Any, folder: Path, output: Path | None) -> FakeBatch:
        return self._batch("folder", order, folder, output)

    def batchOfSequence(self, order: Any, browser: Any) -> FakeBatch:
        return self._batch("sequence", order, browser)

    def _batch(self, *what: Any) -> FakeBatch:
        self.batches.append((*what, FakeBatch()))
        return self.batches[-1][-1]


class FakeReview:
    """Review marks, changes and exports."""

    def __init__(self) -> None:
        self.reviewed: set[str] = set()
        self.changes: Any = {}
        self.model = "abdomen-ct"
        self.exported: list[tuple[Any, ...]] = []
        self.fails: Exception | None = None

    def isReviewed(self, segmentation: Any, identity: str) -> bool:
        return identity in self.reviewed

    def setReviewed(self, segmentation: Any, identity: str, reviewed: bool) -> None:
        (self.reviewed.add if reviewed else self.reviewed.discard)(identity)
        segmentation.GetSegmentation().GetSegment(identity).Modified()

    def changesById(self, segmentation: Any, volume: Any) -> Any:
        if self.fails:
            raise self.fails
        return self.changes

    def proposedBy(self, segmentation: Any) -> tuple[str, str]:
        return self.model, "0" * 64 if self.model else ""

    def exportSegments(self, segmentation: Any, volume: Any, folder: Path, kind: str) -> Any:
        if self.fails:
            raise self.fails
        self.exported.append((segmentation, volume, folder, kind))
        return [folder / "liver"]


def order_of(**choices: Any) -> Any:
    """An order that shows what was chosen."""
    return SimpleNamespace(**choices)


def parameters_of(**other: Any) -> Any:
    """Choices as a scene keeps them."""
    start = {
        **{"volumes": (), "roi": None, "segmentation": None, "model": "", "labels": None},
        **{"quality": "standard", "device": "auto", "show3d": False},
    }
    return SimpleNamespace(**(start | other))


def scan(booted: Any, name: str = "CT") -> Any:
    """A small volume in the scene."""
    import slicer

    node = booted.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, np.zeros((4, 5, 6), np.int16))
    return node


def segmentation(booted: Any, volume: Any, *names: str) -> Any:
    """A segmentation of empty segments that refers to a scan."""
    node = booted.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Result")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name in names:
        node.GetSegmentation().AddEmptySegment(name, name)
    return node
