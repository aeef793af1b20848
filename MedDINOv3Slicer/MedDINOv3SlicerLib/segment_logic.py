"""Segmenting: joins scene, worker and installation for the panels and for scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import slicer
from meddinov3.errors import MedDINOv3Error
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.install.installer import Installer
from MedDINOv3SlicerLib.jobs.batch import Batch
from MedDINOv3SlicerLib.jobs.folder_orders import folderOrders
from MedDINOv3SlicerLib.jobs.forecast import DeviceFacts, Estimate
from MedDINOv3SlicerLib.jobs.orders import SegmentOrder
from MedDINOv3SlicerLib.jobs.segment_job import SegmentJob
from MedDINOv3SlicerLib.jobs.segmenting import Segmenting
from MedDINOv3SlicerLib.jobs.trainings import Trainings
from MedDINOv3SlicerLib.jobs.wording import problemInSlicer
from MedDINOv3SlicerLib.model_list import ModelList, readModels
from MedDINOv3SlicerLib.problem import Problem, problemOf
from MedDINOv3SlicerLib.scene import export, proposal, review
from MedDINOv3SlicerLib.scene.segmentation_reading import labelMapOn
from MedDINOv3SlicerLib.scene.sequences import Frame, ResultSequence, framesOf
from MedDINOv3SlicerLib.scene.volumes import checkChannels

Node = Any


class SegmentLogic:
    """What the segment, batch and setup panels ask for."""

    def __init__(
        self, scene: Node, segmenting: Segmenting, installer: Installer, trainings: Trainings
    ) -> None:
        self._scene, self._segmenting, self._installer = scene, segmenting, installer
        self._trainings = trainings

    def models(self) -> ModelList:
        return readModels()

    def missing(self) -> Any:
        return self._installer.missing()

    def ensure(self) -> Problem | None:
        return self._installer.ensure()

    def inspect(self, device: str, then: Callable[[DeviceFacts | Problem], None]) -> None:
        self._segmenting.inspect(device, then)

    def problemWith(self, volumes: tuple[Node, ...]) -> Problem | None:
        try:
            checkChannels(volumes)
        except MedDINOv3Error as error:
            return problemOf(error)
        return None

    def estimate(self, order: SegmentOrder, then: Callable[[Estimate | Problem], None]) -> None:
        self._segmenting.estimate(order, then)

    def advice(self, device: str) -> str:
        try:
            running = self._trainings.running() is not None
        except OSError:  # the folder cannot be read; the fine-tuning panel says so
            running = False
        return self._segmenting.advice(running, device)

    def start(self, order: SegmentOrder) -> SegmentJob:
        return self._segmenting.start(order)

    def batchOfScans(self, order: SegmentOrder, volumes: tuple[Node, ...]) -> Batch:
        orders = [replace(order, volumes=(node,), roi=None, into=None) for node in volumes]
        return Batch(self._segmenting, orders)

    def batchOfFolder(self, order: SegmentOrder, folder: Path, output: Path | None) -> Batch:
        from meddinov3.model_store import find_model, read_description

        channels = [c.name for c in read_description(find_model(order.model)).channels]
        orders, present = folderOrders(
            folder, output, order.model, channels,
            device=order.device, labels=order.labels, full=order.full,
        )  # fmt: skip
        if not orders:
            raise MedDINOv3Error(
                "all-done",
                _("All {count} scans in '{name}' have results already.").format(
                    count=len(present), name=folder.name
                ),
                _("Remove the results to segment again, or choose another folder for them."),
            )
        return Batch(self._segmenting, orders)

    def batchOfSequence(self, order: SegmentOrder, browser: Node) -> Batch:
        played = browser.GetMasterSequenceNode()
        volume = browser.GetProxyNode(played) if played is not None else None
        if volume is None:
            raise MedDINOv3Error(
                "no-scan",
                _("'{name}' plays no scan.").format(name=browser.GetName()),
                _("Choose a sequence of CT or MR volumes."),
            )
        frames = framesOf(played)
        player = _FramePlayer(self._scene, self._segmenting, browser, volume, frames)
        single = replace(order, volumes=(volume,), into=None, show3d=False)
        return Batch(player, [single] * len(frames))


class _FramePlayer:
    """Plays one frame after another and collects what is found in each."""

    def __init__(
        self,
        scene: Node,
        segmenting: Segmenting,
        browser: Node,
        volume: Node,
        frames: Sequence[Frame],
    ) -> None:
        self._scene, self._segmenting = scene, segmenting
        self._browser, self._volume = browser, volume
        self._frames, self._next = list(frames), 0
        self._results = ResultSequence(scene, browser, volume)

    def start(self, order: Any) -> SegmentJob:
        """Show the next frame and segment it."""
        number, self._next = self._next, self._next + 1
        self._browser.SetSelectedItemNumber(number)
        slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(self._browser)
        found = self._segmenting.start(order)
        # Of its own: a frame is done when its result lies in the sequence.
        job = SegmentJob(found.title, lambda _job: giveUp())

        def giveUp() -> None:
            found.cancelled.disconnect(job.cancel)  # else the end is told twice
            found.cancel()

        found.progressed.connect(job.progress)
        found.finished.connect(lambda node: self._collect(self._frames[number], node, found, job))
        found.failed.connect(job.fail)
        found.cancelled.connect(job.cancel)
        return job

    def _collect(self, frame: Frame, node: Node, found: SegmentJob, job: SegmentJob) -> None:
        job.notes, job.report, job.log = found.notes, found.report, found.log
        try:
            labelMap, labels, _notes = labelMapOn(node, self._volume)
            self._results.put(frame, labelMap, labels)
        except Exception as error:  # whatever it is, the list of failures names the frame
            job.fail(problemInSlicer(error, found.log))
        else:
            job.finish(self._results.segmentationNode)
        finally:
            self._scene.RemoveNode(node)
            proposal.forgetUnused(self._scene)


class CorrectLogic:
    """What the correct panel asks for."""

    def isReviewed(self, segmentation: Node, segmentId: str) -> bool:
        return review.isReviewed(segmentation, segmentId)

    def setReviewed(self, segmentation: Node, segmentId: str, reviewed: bool) -> None:
        review.setReviewed(segmentation, segmentId, reviewed)

    def changesById(self, segmentation: Node, volume: Node) -> Mapping[str, Any]:
        return proposal.changesById(segmentation, volume)

    def proposedBy(self, segmentation: Node) -> tuple[str, str]:
        return proposal.proposedBy(segmentation)

    def exportSegments(
        self, segmentation: Node, volume: Node, folder: Path, kind: str
    ) -> Sequence[Path]:
        return export.exportSegments(segmentation, volume, folder, kind)
