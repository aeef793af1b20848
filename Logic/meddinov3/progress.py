"""How a long job tells how far it is, and how it is told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from meddinov3.errors import Cancelled


@dataclass(frozen=True)
class Progress:
    """One message.

    Attributes:
        phase: what is being done, in words.
        done, total: steps; total 0 if unknown.
        seconds_left: estimate for this phase, None until there is one.
    """

    phase: str
    done: int
    total: int
    seconds_left: float | None = None


ProgressCallback = Callable[[Progress], None]
StopQuestion = Callable[[], bool]


class Stopwatch:
    """Counts the seconds of named phases of a job.

    Attributes:
        seconds: by phase, in the order they first began.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase = ""
        self._since = time.perf_counter()

    def enter(self, phase: str) -> None:
        """End the present phase and begin another; "" only ends."""
        now = time.perf_counter()
        if self._phase:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now


class Steps:
    """Reports steps of one phase and asks between them whether to go on.

    Args:
        phase: in words.
        total: steps.
        report: called after every step.
        stop: asked before every step.
    """

    def __init__(
        self,
        phase: str,
        total: int,
        report: ProgressCallback | None = None,
        stop: StopQuestion | None = None,
    ) -> None:
        self.phase, self.total, self.done = phase, total, 0
        self._report, self._stop = report, stop
        self._start = time.perf_counter()

    def check(self) -> None:
        """Raise Cancelled if the caller asked to stop."""
        if self._stop is not None and self._stop():
            raise Cancelled(f"cancelled during {self.phase}")

    def advance(self, count: int = 1) -> None:
        """Count steps as done and report."""
        self.done += count
        if self._report is not None:
            passed = time.perf_counter() - self._start
            left = passed / self.done * (self.total - self.done) if self.done else None
            self._report(Progress(self.phase, self.done, self.total, left))


def time_in_words(seconds: float) -> str:
    """Seconds in the unit that a person would use: ``40 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"
