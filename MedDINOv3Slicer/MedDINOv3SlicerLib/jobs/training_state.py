"""How far a training is, put together from its events."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from meddinov3.errors import MedDINOv3Error
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.jobs.wording import problemInSlicer
from MedDINOv3SlicerLib.problem import Problem

WAITING, STARTING, PREPARING = "waiting", "starting", "preparing"
TRAINING, PAUSED, SCORING = "training", "paused", "scoring"
DONE, STOPPED, INTERRUPTED = "done", "stopped", "interrupted"
FAILED, ENDED = "failed", "ended"
RUNNING = (WAITING, STARTING, PREPARING, TRAINING, PAUSED, SCORING)
CAN_GO_ON = (INTERRUPTED, FAILED, ENDED)


@dataclass(frozen=True)
class CurvePoint:
    """A point of the learning curve.

    Attributes:
        step: optimiser steps done.
        loss: mean since the point before, None if this point has none.
        dice: mean Dice of held-out slices, None if this point has none.
    """

    step: int
    loss: float | None = None
    dice: float | None = None


@dataclass(frozen=True)
class CaseScore:
    """How well the model finds the structures of a case that it has not seen.

    Attributes:
        case: id.
        dice: by structure; None where neither the case nor the model has it.
    """

    case: str
    dice: dict[str, float | None]

    @property
    def mean(self) -> float | None:
        """Over the structures that count."""
        known = [value for value in self.dice.values() if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class TrainingStatus:
    """How far a training is.

    Attributes:
        state: ``waiting`` (for the worker's memory), ``starting``, ``preparing``, ``training``,
            ``paused``, ``scoring``; then ``done``, ``stopped`` (with a model), ``interrupted``,
            ``failed`` or ``ended`` (by the user, without a model).
        text: the same in words.
        share: that is done of what it is about, 0 to 1, None if that is not known.
        secondsLeft: of what it is about, None if that is not known.
        step: optimiser steps done.
        loss: the last.
        device: it computes on, "" if that is not known yet.
        cases, heldOut: trained on, and scored.
        warnings: what the user should know.
        scores: ``mean_dice``, ``dice`` by structure, ``held_out_cases``; {} before the end.
        caseScores: of each held-out case.
        model: id of the model, "" before the end.
        problem: why it failed.
    """

    state: str
    text: str = ""
    share: float | None = None
    secondsLeft: float | None = None
    step: int = 0
    loss: float | None = None
    device: str = ""
    cases: int = 0
    heldOut: int = 0
    warnings: tuple[str, ...] = ()
    scores: dict[str, Any] = field(default_factory=dict)
    caseScores: tuple[CaseScore, ...] = ()
    model: str = ""
    problem: Problem | None = None

    @property
    def running(self) -> bool:
        """Whether more is to come without anybody doing anything."""
        return self.state in RUNNING


def stateText(state: str) -> str:
    """A state in a word or two."""
    return {
        WAITING: _("Waiting for memory"),
        STARTING: _("Starting"),
        PREPARING: _("Preparing the cases"),
        TRAINING: _("Training"),
        PAUSED: _("Paused"),
        SCORING: _("Scoring held-out cases"),
        DONE: _("Completed"),
        STOPPED: _("Stopped; the model of that moment is kept"),
        INTERRUPTED: _("Interrupted; it can go on"),
        FAILED: _("Failed"),
        ENDED: _("Ended without a model"),
    }[state]


class EventReading:
    """Takes events in, and knows what they say at any time.

    Attributes:
        state: that the events tell of: ``starting`` before any; whether a process is still at
            work they cannot tell.
        problem: of an ``error`` event.
        points: of the curve, by step.
    """

    def __init__(self) -> None:
        self.state = STARTING
        self.problem: Problem | None = None
        self.points: dict[int, CurvePoint] = {}
        self._facts: dict[str, Any] = {}
        self._scores: dict[str, CaseScore] = {}
        self._warnings: list[str] = []

    def begin(self) -> None:
        """Another process begins; the curve and the scores stay."""
        self._enter(STARTING)

    def take(self, event: dict[str, Any]) -> bool:
        """Take an event in; whether the curve changed. One that is garbled is passed over."""
        read = getattr(self, f"_on_{event['event']}", None)
        if read is None:
            return False
        try:
            return bool(read(event))
        except (KeyError, TypeError, ValueError):
            return False

    def status(self, state: str, problem: Problem | None = None) -> TrainingStatus:
        """All that is known, for a state that was found out."""
        return TrainingStatus(
            state,
            stateText(state),
            problem=problem,
            warnings=tuple(dict.fromkeys(self._warnings)),
            caseScores=tuple(self._scores.values()),
            **self._facts,
        )

    def curve(self) -> list[CurvePoint]:
        """The points in the order of their steps."""
        return [self.points[step] for step in sorted(self.points)]

    def _on_preparing(self, event: dict[str, Any]) -> None:
        self._enter(PREPARING)
        total = event.get("total")
        if total:
            self._facts |= {"share": event["done"] / total, "secondsLeft": event.get("left")}

    def _on_start(self, event: dict[str, Any]) -> None:
        self._enter(PREPARING)
        self._facts |= {
            "device": str(event["device"]),
            "cases": int(event["training"]),
            "heldOut": int(event["held_out"]),
            "share": None,
            "secondsLeft": None,
        }
        self._warnings += map(str, event.get("notes", ()))

    def _on_step(self, event: dict[str, Any]) -> bool:
        self._enter(TRAINING)
        step, loss = int(event["step"]), _number(event.get("loss"))
        self._facts |= {
            "step": step,
            "loss": loss,
            "share": _number(event.get("done")),
            "secondsLeft": _number(event.get("left")),
        }
        return self._put(step, loss=loss)

    def _on_pseudo(self, event: dict[str, Any]) -> bool:
        return self._put(int(event["step"]), dice=_number(event.get("mean")))

    def _on_validated(self, event: dict[str, Any]) -> None:
        self._enter(SCORING)
        dice = {str(name): _number(value) for name, value in event["dice"].items()}
        self._scores[str(event["case"])] = CaseScore(str(event["case"]), dice)
        share = event["number"] / event["of"]
        self._facts |= {"share": share, "secondsLeft": None}

    def _on_paused(self, event: dict[str, Any]) -> None:
        self._enter(PAUSED)
        self._facts["step"] = int(event["step"])

    def _on_resumed(self, event: dict[str, Any]) -> bool:
        self._enter(TRAINING)
        step = self._facts["step"] = int(event["step"])
        ahead = [other for other in self.points if other > step]
        for other in ahead:  # steps that were lost with the process
            del self.points[other]
        return bool(ahead)

    def _on_warning(self, event: dict[str, Any]) -> None:
        self._warnings.append(str(event["text"]))

    def _on_interrupted(self, event: dict[str, Any]) -> None:
        self._enter(INTERRUPTED)

    def _on_error(self, event: dict[str, Any]) -> None:
        self._enter(FAILED)
        error = MedDINOv3Error(event["code"], event["message"], event["remedy"])
        self.problem = problemInSlicer(error)

    def _on_stopped(self, event: dict[str, Any]) -> None:
        self._on_done(event)
        self._enter(STOPPED)

    def _on_done(self, event: dict[str, Any]) -> None:
        self._enter(DONE)
        self._facts |= {
            "model": str(event["model"]),
            "scores": dict(event.get("scores") or {}),
            "step": int(event["steps"]),
            "share": 1.0,
            "secondsLeft": None,
        }

    def _enter(self, state: str) -> None:
        self.state, self.problem = state, None

    def _put(self, step: int, **values: float | None) -> bool:
        known = {name: value for name, value in values.items() if value is not None}
        if not known:
            return False
        before = self.points.get(step, CurvePoint(step))
        both = {"loss": before.loss, "dice": before.dice} | known
        self.points[step] = CurvePoint(step, both["loss"], both["dice"])
        return True


def _number(value: Any) -> float | None:
    known = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if known else None
