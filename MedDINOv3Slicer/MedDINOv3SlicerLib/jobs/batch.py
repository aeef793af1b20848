"""Several orders, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import qt
from meddinov3.progress import Progress

from MedDINOv3SlicerLib.jobs.orders import FileOrder, SegmentOrder
from MedDINOv3SlicerLib.jobs.segment_job import SegmentJob
from MedDINOv3SlicerLib.problem import Problem
from MedDINOv3SlicerLib.signal import Signal

Order = SegmentOrder | FileOrder
# What would stop every other order as well.
HOPELESS = (
    "not-set-up", "no-python", "worker-not-started", "wrong-version", "no-model", "no-device",
    "disk-full", "no-temporary-folder",
)  # fmt: skip


class Starter(Protocol):
    """What a batch needs of :class:`Segmenting`."""

    def start(self, order: Order) -> SegmentJob:
        """Begin an order."""


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is.

    Attributes:
        number: of the scan that is worked on, from 1.
        total: scans.
        title: of the scan.
        share: of the batch that is done, 0 to 1.
        step: what happens to the scan, None between two.
    """

    number: int
    total: int
    title: str
    share: float
    step: Progress | None = None


@dataclass
class BatchOutcome:
    """How a batch ended.

    Attributes:
        done: orders with the segmentation nodes or files they led to.
        failures: orders and why they failed.
        skipped: orders that were not begun, or were cancelled.
    """

    done: list[tuple[Order, Any]] = field(default_factory=list)
    failures: list[tuple[Order, Problem]] = field(default_factory=list)
    skipped: list[Order] = field(default_factory=list)


class Batch:
    """Works on orders; one that fails keeps nobody else from being done.

    Attributes:
        progressed: emitted with :class:`BatchProgress`.
        itemFinished: emitted with the order and its result.
        itemFailed: emitted with the order and its :class:`Problem`.
        finished: emitted once with the :class:`BatchOutcome`, also after :meth:`cancel`.
        outcome: so far.
        running: whether there is more to come.
    """

    def __init__(self, segmenting: Starter, orders: Sequence[Order]) -> None:
        """Prepare; nothing runs before :meth:`start`."""
        self._segmenting, self._orders = segmenting, list(orders)
        self._next = 0
        self._job: SegmentJob | None = None
        self._cancelled = False
        self.progressed, self.finished = Signal(), Signal()
        self.itemFinished, self.itemFailed = Signal(), Signal()
        self.outcome = BatchOutcome()
        self.running = False

    def start(self) -> None:
        """Begin; nothing is emitted before this has returned."""
        self.running = True
        qt.QTimer.singleShot(0, lambda: self._step())

    def cancel(self) -> None:
        """Cancel the scan at hand and all that are waiting; what is done stays."""
        self._cancelled = True
        if self._job is not None:
            self._job.cancel()
        elif self.running:
            self._end()

    def _step(self) -> None:
        if not self.running:
            return
        if self._cancelled or self._next >= len(self._orders):
            self._end()
            return
        order = self._orders[self._next]
        self._next += 1
        self._job = job = self._segmenting.start(order)
        job.progressed.connect(lambda progress: self._tell(order, progress))
        job.finished.connect(lambda result: self._onFinished(order, result))
        job.failed.connect(lambda problem: self._onFailed(order, problem))
        job.cancelled.connect(lambda: self._onCancelled(order))
        self._tell(order, None)

    def _tell(self, order: Order, progress: Progress | None) -> None:
        inside = progress.done / progress.total if progress and progress.total else 0.0
        share = (self._next - 1 + min(inside, 1.0)) / len(self._orders)
        self.progressed.emit(
            BatchProgress(self._next, len(self._orders), order.title, share, progress)
        )

    def _onFinished(self, order: Order, result: Any) -> None:
        self.outcome.done.append((order, result))
        self._goOn()
        self.itemFinished.emit(order, result)

    def _onFailed(self, order: Order, problem: Problem) -> None:
        self.outcome.failures.append((order, problem))
        self._cancelled = self._cancelled or problem.code in HOPELESS
        self._goOn()
        self.itemFailed.emit(order, problem)

    def _onCancelled(self, order: Order) -> None:
        """By :meth:`cancel`, or since its scan was removed: then the others go on."""
        self.outcome.skipped.append(order)
        self._goOn()

    def _goOn(self) -> None:
        self._job = None
        qt.QTimer.singleShot(0, lambda: self._step())

    def _end(self) -> None:
        self.running = False
        self.outcome.skipped += self._orders[self._next :]
        self._next = len(self._orders)
        self.finished.emit(self.outcome)
