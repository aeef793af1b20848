"""One segmentation on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meddinov3.progress import Progress

from MedDINOv3SlicerLib.problem import Problem
from MedDINOv3SlicerLib.signal import Signal

OPEN, FINISHED, FAILED, CANCELLED = "open", "finished", "failed", "cancelled"


class SegmentJob:
    """Tells how far it is; exactly one of finished, failed and cancelled comes, once.

    None of them comes before :meth:`Segmenting.start` has returned.

    Attributes:
        progressed: emitted with :class:`meddinov3.progress.Progress`.
        finished: emitted with the segmentation node, or the files for an order of files.
        failed: emitted with a :class:`Problem`.
        cancelled: emitted without anything; also when the scan or the scene went away.
        state: ``open``, ``finished``, ``failed`` or ``cancelled``.
        title: of the scan.
        result: what ``finished`` was emitted with.
        problem: what ``failed`` was emitted with.
        notes: what the user should know about the result.
        report: of the engine: versions, device, seconds by phase, volumes.
        log: to copy for people who help; filled when the job has ended.
    """

    def __init__(self, title: str, abandon: Callable[[SegmentJob], None]) -> None:
        self.progressed, self.finished = Signal(), Signal()
        self.failed, self.cancelled = Signal(), Signal()
        self.state, self.title, self.log = OPEN, title, ""
        self.result: Any = None
        self.problem: Problem | None = None
        self.notes: list[str] = []
        self.report: dict[str, Any] = {}
        self._abandon = abandon

    @property
    def open(self) -> bool:
        """Whether the end is still to come."""
        return self.state == OPEN

    def cancel(self) -> None:
        """End it, at any stage; nothing is placed or left half-written. No effect at the end."""
        if self.open:
            self._abandon(self)
            self.state = CANCELLED
            self.cancelled.emit()

    def progress(self, progress: Progress) -> None:
        """Pass on how far it is."""
        if self.open:
            self.progressed.emit(progress)

    def finish(self, result: Any) -> None:
        """It is done."""
        if self.open:
            self.state, self.result = FINISHED, result
            self.finished.emit(result)

    def fail(self, problem: Problem) -> None:
        """It came to nothing."""
        if self.open:
            self.state, self.problem = FAILED, problem
            self.log = self.log or problem.details
            self.failed.emit(problem)
