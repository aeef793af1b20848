"""How far a cross-validation is, put together from what its folds tell."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from meddinov3.atomic import whole_file
from meddinov3.errors import MedDINOv3Error

from meddinov3_training.curves import EVERY, PICTURE, Curves, draw_folds, read_events
from meddinov3_training.run import EVENTS, Event, Run

TRAINING = 0.95  # of a fold's progress; the rest is scoring


def fold_folder(output: Path, fold: int) -> Path:
    """Where a fold's run lies in that of the cross-validation."""
    return output / f"fold_{fold}"


def events_in(folder: Path) -> list[Event]:
    """What the run in a folder told so far."""
    with contextlib.suppress(OSError):
        return read_events(folder / EVENTS)
    return []


def fold_curves(output: Path) -> dict[int, Curves]:
    """Curves of the folds that have begun."""
    found = [int(p.name[5:]) for p in output.glob("fold_*") if p.name[5:].isdecimal()]
    return {fold: Curves.of(events_in(fold_folder(output, fold))) for fold in sorted(found)}


class FoldProgress:
    """Listens to the folds and tells the whole: ``progress`` events, and ``curve.png``.

    Args:
        run: of the cross-validation.
        listener: told the folds' events as well.
        count: of folds.
    """

    def __init__(self, run: Run, listener: Callable[[Event], None] | None, count: int) -> None:
        self._run, self._listener, self._count = run, listener, count
        self._fold, self._what = 0, ""
        self._seconds: list[float] = []  # that folds took
        self._curves: dict[int, Curves] = {}
        self._drawn = 0.0

    def begin(self, fold: int) -> None:
        """A fold begins, or goes on."""
        self._fold, self._what = fold, ""
        self._curves = fold_curves(self._run.folder)
        self._curves.setdefault(fold, Curves())
        self._run.tell("fold", fold=fold, of=self._count, what=f"training fold {fold}",
                       done=round(fold / self._count, 4),
                       left=self._left(None, 0.0))  # fmt: skip

    def end(self) -> None:
        """The fold is finished."""
        self._seconds.append(self._curves[self._fold].total_seconds)
        self.draw()

    def __call__(self, event: Event) -> None:
        """Take in what the fold tells."""
        if self._listener is not None:
            try:
                self._listener(event)
            except Exception:  # the fold's run would give up this listener for that one's fault
                self._listener = None
        changed = self._curves[self._fold].add(event)
        if changed and time.monotonic() - self._drawn > EVERY:
            self.draw()
        kind = event["event"]
        if kind == "step":
            self._tell("training", TRAINING * event["done"], event["left"], event["done"])
        elif kind == "scoring":
            self._tell("scoring", TRAINING + (1 - TRAINING) * event["done"], event["left"], 1.0)
        elif kind == "preparing" and event["what"] != self._what:
            self._what = event["what"]
            self._tell("preparing", 0.0, None, 0.0)

    def draw(self) -> None:
        """Bring ``curve.png`` up to date; one that cannot be written stops nothing."""
        self._drawn = time.monotonic()
        path = self._run.folder / PICTURE
        shown = {fold: curves for fold, curves in self._curves.items() if curves.loss}
        if shown:
            with contextlib.suppress(MedDINOv3Error, OSError), whole_file(path) as temporary:
                temporary.write_bytes(draw_folds(shown))

    def _tell(self, phase: str, part: float, left: float | None, trained: float) -> None:
        done = (self._fold + part) / self._count
        self._run.tell("progress", fold=self._fold, of=self._count, phase=phase,
                       done=round(done, 4), left=self._left(left, trained))  # fmt: skip

    def _left(self, fold_left: float | None, trained: float) -> int | None:
        """Seconds for this fold and those to come; None while nothing is known."""
        if self._seconds:
            each = sum(self._seconds) / len(self._seconds)
        elif fold_left is not None and 0 < trained < 1:
            each = fold_left / (1 - trained)
        else:
            each = self._curves[self._fold].total_seconds if trained >= 1 else 0.0
        if not each:
            return None
        rest = each if fold_left is None else fold_left
        return round(rest + (self._count - self._fold - 1) * each)
