"""From a scan in the scene to segments in the scene, through the worker."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import qt
from meddinov3.description import ModelDescription
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.model_store import find_model, read_description
from meddinov3.worker import exchange, messages
from meddinov3.worker.client import Job, Listener
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.jobs.forecast import (
    DeviceFacts,
    Estimate,
    deviceFactsFrom,
    estimateFrom,
)
from MedDINOv3SlicerLib.jobs.orders import FileOrder, SegmentOrder
from MedDINOv3SlicerLib.jobs.scene_access import Node, SceneAccess
from MedDINOv3SlicerLib.jobs.segment_job import FAILED, FINISHED, SegmentJob
from MedDINOv3SlicerLib.jobs.wording import errorOf, problemInSlicer
from MedDINOv3SlicerLib.jobs.worker import Worker
from MedDINOv3SlicerLib.problem import Problem

PATIENCE = 20_000  # ms for the worker to notice that a job was cancelled
SAME = 1e-6  # mm


@dataclass
class _Running:
    """What belongs to a job while it is open."""

    order: SegmentOrder | FileOrder
    asked: Job | None = None
    folders: list[Path] = field(default_factory=list)
    grid: Grid | None = None
    description: ModelDescription | None = None


class Segmenting:
    """Takes orders, one after another, and puts their results into the scene."""

    def __init__(
        self,
        scene: Node,
        worker: Worker,
        access: SceneAccess,
        newExchange: Callable[[], exchange.Exchange] = exchange.Exchange,
    ) -> None:
        """Prepare.

        Args:
            scene: the MRML scene.
            worker: the process.
            access: the scene's functions.
            newExchange: makes the private folder, at the first order.
        """
        self._scene, self._worker, self._access = scene, worker, access
        self._newExchange = newExchange
        self._exchange: exchange.Exchange | None = None
        self._running: dict[SegmentJob, _Running] = {}
        self._estimate: Job | None = None
        self._observers: list[int] = []

    @property
    def busy(self) -> bool:
        """Whether an order is being worked on."""
        return bool(self._running)

    def start(self, order: SegmentOrder | FileOrder) -> SegmentJob:
        """Begin; whatever is wrong comes as the job's ``failed``."""
        job = SegmentJob(order.title, self._abandon)
        self._running[job] = _Running(order)
        self._watchScene()
        qt.QTimer.singleShot(0, lambda: self._begin(job))
        return job

    def segment(self, order: SegmentOrder | FileOrder, timeout: float | None = None) -> Any:
        """Segment and wait, for scripts; Slicer stays alive meanwhile.

        Args:
            order: what.
            timeout: seconds.

        Returns:
            The segmentation node, or the files written for an order of files.

        Raises:
            MedDINOv3Error: it failed, or took longer than `timeout`.
            Cancelled: the scan or the scene went away, or somebody cancelled.
        """
        job = self.start(order)
        loop, timer = qt.QEventLoop(), qt.QTimer()
        for signal in (job.finished, job.failed, job.cancelled):
            signal.connect(lambda *_what: loop.quit())
        late: list[bool] = []

        def giveUp() -> None:
            late.append(True)
            job.cancel()

        timer.setSingleShot(True)
        timer.timeout.connect(giveUp)
        if timeout is not None:
            timer.start(round(timeout * 1000))
        if job.open:
            loop.exec_()
        timer.stop()
        if job.state == FINISHED:
            return job.result
        if job.state == FAILED:
            assert job.problem is not None
            raise errorOf(job.problem)
        if late:
            raise MedDINOv3Error(
                "too-slow",
                _("Segmenting took longer than {seconds:g} seconds.").format(seconds=timeout),
                _("Give more time, a region, or choose another device."),
            )
        raise Cancelled

    def cancelAll(self) -> None:
        """Cancel every order."""
        for job in list(self._running):
            job.cancel()

    def close(self) -> None:
        """Cancel everything and remove the private folder; Slicer quits or the module reloads."""
        self.cancelAll()
        self._unwatchScene()
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None

    def estimate(self, order: SegmentOrder, then: Callable[[Estimate | Problem], None]) -> None:
        """Find out what an order will take.

        A later question, or an order, takes the place of an earlier question, which then is
        never answered.

        Args:
            order: what.
            then: told, perhaps at once.
        """
        self._forgetEstimate()
        try:
            grid, region = self._where(order)
            request = messages.Estimate(
                order.model,
                grid.size,
                grid.spacing,
                grid.origin,
                tuple(float(n) for n in grid.direction.ravel()),
                device=order.device,
                region=region,
                mirror=order.full,
                voxel_bytes=self._access.arrayOf(order.volumes[0]).itemsize,
            )
            listener = Listener(
                done=lambda answer: then(estimateFrom(answer)),
                failed=lambda error: then(problemInSlicer(error, self._worker.logText())),
            )
            self._estimate = self._worker.ask(request, listener)
        except (MedDINOv3Error, ImportError) as error:
            then(problemInSlicer(error))

    def inspect(self, device: str, then: Callable[[DeviceFacts | Problem], None]) -> None:
        """Find out what a device is, by computing something on it."""
        listener = Listener(
            done=lambda answer: then(deviceFactsFrom(answer)),
            failed=lambda error: then(problemInSlicer(error, self._worker.logText())),
        )
        try:
            self._worker.ask(messages.Inspect(device), listener)
        except (MedDINOv3Error, ImportError) as error:
            then(problemInSlicer(error))

    def freeMemory(self, then: Callable[[], None] | None = None) -> None:
        """Let the worker give up its model and its memory, e.g. before training.

        Args:
            then: told when that is done, or there was nothing to give up; after the order that
                is being worked on.
        """
        tell = then or (lambda: None)
        self._forgetEstimate()
        if not self._worker.running:
            tell()
            return
        listener = Listener(
            done=lambda _answer: tell(), failed=lambda _error: tell(), cancelled=lambda: tell()
        )
        try:
            self._worker.ask(messages.FreeMemory(), listener)
        except MedDINOv3Error:
            tell()

    def advice(self, trainingRunning: bool, device: str = "auto") -> str:
        """What Segment will do about memory, in a sentence; "" if there is nothing to say."""
        if not trainingRunning:
            return ""
        if device == "cpu":
            return _("A training is running. Segment uses the processor and leaves the graphics"
                     " card to it; both may be slower.")  # fmt: skip
        return _("A training is running. Segment uses the memory that the training leaves, in"
                 " smaller steps if it is little, and both are slower. To leave the graphics card"
                 " to the training choose CPU as device, or pause the training.")  # fmt: skip

    def _begin(self, job: SegmentJob) -> None:
        running = self._running.get(job)
        if running is None or not job.open:
            return
        self._forgetEstimate()
        try:
            request = self._request(running)
            listener = Listener(
                progress=job.progress,
                done=lambda answer: self._onDone(job, running, answer),
                failed=lambda error: self._onFailed(job, running, error),
                cancelled=lambda: self._onCancelled(job, running),
            )
            running.asked = self._worker.ask(request, listener)
        except Exception as error:  # whatever it is, a person reads a sentence
            self._onFailed(job, running, error)

    def _request(self, running: _Running) -> messages.Segment:
        order = running.order
        running.description = description = read_description(find_model(order.model))
        if isinstance(order, FileOrder):
            files = {name: str(path) for name, path in order.files.items()}
            return messages.Segment(
                order.model, order.device, files=files, series=order.series,
                outputs=tuple(map(str, order.outputs)), labels=order.labels, mirror=order.full,
            )  # fmt: skip
        if len(order.volumes) != len(description.channels):
            raise MedDINOv3Error(
                "wrong-channels",
                _("The model '{model}' takes {count} volume(s): {names}.").format(
                    model=description.name,
                    count=len(description.channels),
                    names=", ".join(channel.name for channel in description.channels),
                ),
                _("Choose a volume for each."),
            )
        running.grid, region = self._where(order)
        if self._exchange is None:
            self._exchange = self._newExchange()
        scan, result = self._exchange.new("scan"), self._exchange.new("result")
        running.folders = [scan, result]
        exchange.write_scan(
            scan,
            [self._access.arrayOf(node) for node in order.volumes],
            running.grid,
            self._access.modalityOf(order.volumes[0]),
        )
        return messages.Segment(
            order.model, order.device, scan=str(scan), result=str(result), region=region,
            labels=order.labels, mirror=order.full,
        )  # fmt: skip

    def _where(self, order: SegmentOrder) -> tuple[Grid, str]:
        grid = self._access.checkChannels(order.volumes)
        region = None
        if order.roi is not None and self._present(order.roi):
            region = self._access.regionOf(order.roi, order.volumes[0])
        return grid, region or ""

    def _onDone(self, job: SegmentJob, running: _Running, answer: dict[str, Any]) -> None:
        try:
            if not job.open:
                return
            job.notes = list(answer["notes"])
            job.report = dict(answer["report"])
            job.log = self._worker.logText()
            order = running.order
            if isinstance(order, FileOrder):
                job.finish(list(order.outputs))
            elif all(map(self._present, order.nodes)):
                node = self._place(order, running, answer["labels"])
                self._running.pop(job, None)
                job.finish(node)
            else:
                job.cancel()
        except Exception as error:  # also a slot's: then the job has ended already
            if not job.open:
                raise
            job.fail(problemInSlicer(error, self._worker.logText()))
        finally:
            self._forget(job, running)

    def _place(self, order: SegmentOrder, running: _Running, values: Sequence[int]) -> Node:
        assert running.grid is not None and running.description is not None
        if not self._access.checkChannels(order.volumes).same_as(running.grid, SAME):
            raise MedDINOv3Error(
                "scan-changed",
                _("'{name}' was moved or changed while it was being segmented.").format(
                    name=order.title
                ),
                _("Segment it again."),
            )
        description = running.description
        labels = [label for label in description.labels if label.value in values]
        node = self._access.placeResult(
            self._scene,
            order.volumes[0],
            exchange.read_label_map(running.folders[1], running.grid),
            labels,
            into=order.into,
            name=order.name,
            proposedBy=description.id,
            weightsSha256=description.weights_sha256,
        )
        if order.show3d:
            node.CreateClosedSurfaceRepresentation()
        return node

    def _onFailed(self, job: SegmentJob, running: _Running, error: BaseException) -> None:
        details = self._worker.logText()
        if running.asked is not None and running.asked.details:
            details = f"{running.asked.details}\n\n{details}"
        self._forget(job, running)
        job.fail(problemInSlicer(error, details))

    def _onCancelled(self, job: SegmentJob, running: _Running) -> None:
        self._forget(job, running)
        job.cancel()

    def _abandon(self, job: SegmentJob) -> None:
        """A job is being cancelled: tell the worker, and end it if it does not listen."""
        running = self._running.pop(job, None)
        if running is None or running.asked is None:
            return
        asked = running.asked
        if asked.state == "open":
            self._worker.cancel(asked)

            def insist() -> None:
                if asked.state != "open":
                    return
                # What waits there must not end with this one; an estimate is no loss, and the
                # panel asks for one after each cancel.
                if self._worker.wanted > self._estimating:
                    qt.QTimer.singleShot(PATIENCE, insist)
                else:
                    self._worker.kill()

            qt.QTimer.singleShot(PATIENCE, insist)

    def _forget(self, job: SegmentJob, running: _Running) -> None:
        self._running.pop(job, None)
        for folder in running.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _forgetEstimate(self) -> None:
        if self._estimate is not None and self._estimating:
            self._worker.cancel(self._estimate)
        self._estimate = None

    @property
    def _estimating(self) -> bool:
        return self._estimate is not None and self._estimate.state == "open"

    def _present(self, node: Node) -> bool:
        return bool(self._scene.IsNodePresent(node))

    def _watchScene(self) -> None:
        if self._observers:
            return
        self._observers = [
            self._scene.AddObserver(self._scene.NodeRemovedEvent, self._onNodeRemoved),
            self._scene.AddObserver(self._scene.StartCloseEvent, self._onClosing),
        ]

    def _unwatchScene(self) -> None:
        for observer in self._observers:
            self._scene.RemoveObserver(observer)
        self._observers = []

    def _onClosing(self, *_what: Any) -> None:
        for job, running in list(self._running.items()):
            if isinstance(running.order, SegmentOrder):  # files have nothing to do with the scene
                job.cancel()

    def _onNodeRemoved(self, *_what: Any) -> None:
        for job, running in list(self._running.items()):
            order = running.order
            if isinstance(order, SegmentOrder) and not all(map(self._present, order.nodes)):
                job.cancel()
