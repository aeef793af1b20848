"""The jobs of the module on Slicer's stand-in: real processes, a made-up scene access."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid

LIBRARY = "MedDINOv3SlicerLib"
NAMES = (
    "batch", "folder_orders", "forecast", "interpreter", "orders", "process", "segmenting",
    "training", "training_command", "training_log", "training_state", "trainings",
    "wording", "worker",
)  # fmt: skip
LONG = 120.0  # seconds; nothing here takes more than a few, but machines are busy
SPACING, ORIGIN = (1.0, 1.5, 2.0), (-20.0, 5.0, 7.5)


@pytest.fixture(scope="module")
def jobs() -> Iterator[SimpleNamespace]:
    """The modules of ``jobs`` by name, and ``app``, the stand-in."""
    if find_spec("PySide6") is None:  # imported here, it would miss the options of pyside.py
        pytest.skip("needs PySide6")
    from slicer_app import boot

    app = boot()
    _unload()  # other tests load the library on other stand-ins
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "MedDINOv3Slicer")
        found = {n: importlib.import_module(f"{LIBRARY}.jobs.{n}") for n in NAMES}
        yield SimpleNamespace(app=app, **found)
    _unload()


def _unload() -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == LIBRARY]:
        del sys.modules[name]


def environment() -> dict[str, str]:
    """Of processes."""
    packages = os.pathsep.join(str(ROOT / folder) for folder in ("Logic", "training"))
    return {**os.environ, "PYTHONPATH": packages, "OMP_NUM_THREADS": "1"}


def add_volume(app: Any, array: np.ndarray, name: str = "Scan") -> Any:
    """A volume node with these voxels (k, j, i)."""
    node = app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetSpacing(SPACING)
    node.SetOrigin(ORIGIN)
    app.slicer.util.updateVolumeFromArray(node, array)
    return node


class MadeUpAccess:
    """Stands for the scene's functions; keeps what was placed."""

    def __init__(self, app: Any) -> None:
        self._app, self.placed = app, []
        self.broken: Exception | None = None

    def checkChannels(self, nodes: Any) -> Grid:
        if not nodes or nodes[0].GetImageData() is None:
            raise MedDINOv3Error("no-scan", "It holds no image.", "Load it again.")
        return Grid(nodes[0].GetImageData().GetDimensions(), nodes[0].GetSpacing(),
                    nodes[0].GetOrigin(), np.eye(3))  # fmt: skip

    def arrayOf(self, node: Any) -> np.ndarray:
        return self._app.slicer.util.arrayFromVolume(node)

    def modalityOf(self, _node: Any) -> str:
        return "MR"

    def regionOf(self, roi: Any, _node: Any) -> str | None:
        return roi.GetDescription()

    def placeResult(
        self, scene: Any, _volume: Any, labelMap: Any, labels: Any, **options: Any
    ) -> Any:
        if self.broken is not None:
            raise self.broken
        node = options["into"] or scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        self.placed.append((node, labelMap, labels, options))
        return node


class Heard:
    """What a job told."""

    def __init__(self, job: Any) -> None:
        self.progress: list[Any] = []
        self.ends: list[Any] = []
        job.progressed.connect(self.progress.append)
        job.finished.connect(lambda result: self.ends.append(("finished", result)))
        job.failed.connect(lambda problem: self.ends.append(("failed", problem)))
        job.cancelled.connect(lambda: self.ends.append(("cancelled", None)))


def misbehaving_python(folder: Path, body: str) -> str:
    """A program that runs `body` whatever it is asked to run."""
    script = folder / "misbehaving.py"
    script.write_text(body, encoding="utf-8")
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    program.chmod(0o755)
    return str(program)
