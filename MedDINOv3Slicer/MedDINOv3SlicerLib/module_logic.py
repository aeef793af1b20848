"""All parts of the module joined, for its panels and for scripts. Starts and installs nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import slicer
from meddinov3.errors import MedDINOv3Error
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.case_logic import CaseLogic
from MedDINOv3SlicerLib.install.installer import Installer
from MedDINOv3SlicerLib.jobs.interpreter import childEnvironment, findPython
from MedDINOv3SlicerLib.jobs.orders import SegmentOrder
from MedDINOv3SlicerLib.jobs.scene_access import sceneAccess
from MedDINOv3SlicerLib.jobs.segment_job import SegmentJob
from MedDINOv3SlicerLib.jobs.segmenting import Segmenting
from MedDINOv3SlicerLib.jobs.trainings import Trainings
from MedDINOv3SlicerLib.jobs.worker import Worker
from MedDINOv3SlicerLib.model_shelf import ModelShelf
from MedDINOv3SlicerLib.preferences import Preferences
from MedDINOv3SlicerLib.recent_libraries import RecentLibraries
from MedDINOv3SlicerLib.resources import resourcePath
from MedDINOv3SlicerLib.scene.parameters import Parameters
from MedDINOv3SlicerLib.segment_logic import CorrectLogic, SegmentLogic

Node = Any


class ModuleLogic:
    """What the module can do.

    Attributes:
        preferences, installer, worker, segmenting, trainings, shelf: the parts.
        segmentation, correction, cases: what the panels ask.
    """

    def __init__(
        self, scene: Node, ask: Callable[[str], bool], recent: RecentLibraries | None = None
    ) -> None:
        """Join the parts.

        Args:
            scene: the MRML scene.
            ask: shows a question and returns whether a person agreed.
            recent: remembers case libraries; in Slicer's settings by default.
        """
        self.scene = scene
        self.preferences = Preferences()
        self.preferences.apply()
        self.installer = Installer(ask, resourcePath, self.preferences.python)
        log = Path(tempfile.gettempdir()) / f"meddinov3-worker-{os.getpid()}.log"
        self.worker = Worker(self._python, childEnvironment, log)
        self.segmenting = Segmenting(scene, self.worker, sceneAccess())
        self.trainings = Trainings(self._python, childEnvironment, self.segmenting.freeMemory)
        self.shelf = ModelShelf()
        self.segmentation = SegmentLogic(scene, self.segmenting, self.installer, self.trainings)
        self.correction = CorrectLogic()
        self.cases = CaseLogic(scene, recent or RecentLibraries(slicer.app.settings()))
        # A worker that runs knows the packages and the folder from before.
        self.installer.changed.connect(self.worker.retire)
        slicer.app.connect("aboutToQuit()", self.close)

    @property
    def parameters(self) -> Parameters:
        """What is chosen, saved with the scene; the device of the settings until one is chosen."""
        return Parameters.of(self.scene, self.preferences.device())

    def segment(
        self,
        volumes: Node | Sequence[Node],
        model: str = "",
        *,
        timeout: float | None = None,
        **choices: Any,
    ) -> Node:
        """Segment a scan and wait; Slicer stays alive meanwhile.

        Args:
            volumes, model, choices: see :meth:`order`.
            timeout: seconds.

        Returns:
            The segmentation node.

        Raises:
            MedDINOv3Error: it failed; message and remedy are sentences for people.
            Cancelled: the scan or the scene was removed meanwhile.
        """
        return self.segmenting.segment(self.order(volumes, model, **choices), timeout)

    def startSegmenting(
        self, volumes: Node | Sequence[Node], model: str = "", **choices: Any
    ) -> SegmentJob:
        """As :meth:`segment` without waiting: connect to the job's signals, or cancel it."""
        return self.segmenting.start(self.order(volumes, model, **choices))

    def order(
        self,
        volumes: Node | Sequence[Node],
        model: str = "",
        *,
        roi: Node | None = None,
        labels: Sequence[str] | None = None,
        into: Node | None = None,
        full: bool = False,
        device: str = "",
        show3d: bool = False,
    ) -> SegmentOrder:
        """Say what is to be segmented.

        Args:
            volumes: a volume node, or one for each channel of the model.
            model: id or folder; may be left out if there is only one.
            roi: segment only inside this markups ROI.
            labels: names of the structures wanted; all by default.
            into: segmentation that gets the segments; a new one by default.
            full: average over mirrored copies: slower, a little better.
            device: ``auto``, ``cpu``, ``cuda``, ``mps``; as in the settings by default.
            show3d: make surfaces.

        Raises:
            MedDINOv3Error: no model is named and there are none, or several.
        """
        nodes = tuple(volumes) if hasattr(volumes, "__iter__") else (volumes,)
        return SegmentOrder(
            nodes, model or self._onlyModel(), device or self.preferences.device(), roi,
            None if labels is None else tuple(labels), full, into, show3d=show3d,
        )  # fmt: skip

    def close(self) -> None:
        """End the worker; a training goes on. The module is reloaded, or Slicer quits."""
        slicer.app.disconnect("aboutToQuit()", self.close)
        self.segmenting.close()
        self.worker.close()

    def _onlyModel(self) -> str:
        usable = [m for m in self.segmentation.models().models if m.description is not None]
        if len(usable) == 1:
            return usable[0].id
        names = ", ".join(model.id for model in usable) or _("none")
        raise MedDINOv3Error(
            "which-model",
            _("No model was named; there are: {names}.").format(names=names),
            _("Name one."),
        )

    def _python(self) -> str:
        return findPython(self.preferences.python())
