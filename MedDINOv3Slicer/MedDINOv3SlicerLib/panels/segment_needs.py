"""What the segment panel asks of the rest of the module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from MedDINOv3SlicerLib.model_list import ModelList
from MedDINOv3SlicerLib.problem import Problem
from MedDINOv3SlicerLib.signal import Signal


class Job(Protocol):
    """A segmentation on its way; see jobs.segment_job."""

    progressed: Signal
    finished: Signal
    failed: Signal
    cancelled: Signal
    log: str
    notes: list[str]

    def cancel(self) -> None:
        """End it; nothing is placed."""


class Estimate(Protocol):
    """What a segmentation will take, in words."""

    @property
    def text(self) -> str: ...

    @property
    def warning(self) -> str: ...


class SegmentLogic(Protocol):
    """What the panel needs done."""

    def models(self) -> ModelList:
        """The models on this computer."""

    def missing(self) -> object:
        """Something true if segmenting is not set up yet."""

    def ensure(self) -> Problem | None:
        """Ask and install what is missing; None when all is there."""

    def problemWith(self, volumes: tuple[Any, ...]) -> Problem | None:
        """Why these scans cannot be segmented together."""

    def estimate(self, order: Any, then: Callable[[Estimate | Problem], None]) -> None:
        """Measure what an order will take; `then` is called later, unless asked anew."""

    def advice(self, device: str) -> str:
        """What a training that runs means for Segment; "" if none runs."""

    def start(self, order: Any) -> Job:
        """Begin; signals come after this has returned."""


class SegmentParameters(Protocol):
    """Choices that are saved with the scene; see scene.parameters."""

    volumes: Any
    roi: Any
    segmentation: Any
    model: str
    labels: tuple[str, ...] | None
    quality: str
    device: str
    show3d: bool
