"""Trainings in words for the panel. Knows no qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slicer.i18n import tr as _

WITH_MODEL = ("done", "stopped")
CAN_GO_ON = ("paused", "interrupted", "failed", "ended")


def statusText(status: Any) -> str:
    """How far it is; a failure says that it failed, and why."""
    parts = [status.text]
    if status.running and status.share is not None:
        parts.append(f"{100 * status.share:.0f} %")
    if status.running and status.secondsLeft is not None:
        parts.append(_("{time} left").format(time=timeText(status.secondsLeft)))
    if status.device:
        parts.append(_("on {device}").format(device=status.device))
    if status.cases:
        parts.append(_("{cases} cases learned from, {held} held out").format(
            cases=status.cases, held=status.heldOut
        ))  # fmt: skip
    return ", ".join(parts) + "."


def timeText(seconds: float) -> str:
    """A time in one unit."""
    if seconds < 90:
        return _("{count} s").format(count=round(seconds))
    if seconds < 5400:
        return _("{count} min").format(count=round(seconds / 60))
    return _("{count:.1f} h").format(count=seconds / 3600)


def scoreRows(
    scores: Sequence[Any], base: Mapping[str, float] | None
) -> list[tuple[str, str, str]]:
    """Case, Dice of the base, Dice of the new model; last the means, over cases that both have.

    Args:
        scores: with ``case`` and ``mean``.
        base: by case; None if it has none.
    """
    rows = [(score.case, (base or {}).get(score.case), score.mean) for score in scores]
    if len(rows) > 1:
        # Two means compare only over the same cases.
        both = [row for row in rows if row[1] is not None] or rows
        rows.append((_("mean"), _mean([row[1] for row in both]), _mean([row[2] for row in both])))
    return [(case, _figure(old), _figure(new)) for case, old, new in rows]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
