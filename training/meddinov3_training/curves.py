"""What a training run went through, read from ``events.jsonl`` and drawn as curves."""

from __future__ import annotations

import contextlib
import io
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from meddinov3.atomic import whole_file
from meddinov3.errors import MedDINOv3Error
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EVENTS, PICTURE = "events.jsonl", "curve.png"
EVERY = 15.0  # seconds between two drawings
POINTS = 2000  # of a line; more cannot be seen
MOST_LABELS = 8  # lines of their own
INK, LINE, BLUE = "#1c2530", "#c9d1da", "#0072b2"
COLOURS = ("#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#7f7f7f", "#b2abd2")

Event = dict[str, Any]
FloatArray = NDArray[np.float64]


def read_events(path: Path) -> list[Event]:
    """The events of a run; lines that a crash cut off are skipped.

    Raises:
        OSError: the file cannot be read.
    """
    events = []
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and isinstance(event.get("event"), str):
                    events.append(event)
    return events


@dataclass
class Curves:
    """Loss and pseudo Dice by step; of a step that was repeated after a resume the later counts.

    Attributes:
        loss: by step.
        seconds: of the run, by step; from the beginning, pauses left out.
        dice: mean pseudo Dice by step.
        labels: pseudo Dice by label and step.
    """

    loss: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    dice: dict[int, float] = field(default_factory=dict)
    labels: dict[str, dict[int, float]] = field(default_factory=dict)
    _before: float = 0.0  # seconds of the processes before this one
    _last: float = 0.0

    @staticmethod
    def of(events: Iterable[Event]) -> Curves:
        """Curves of a run's events."""
        curves = Curves()
        for event in events:
            curves.add(event)
        return curves

    def add(self, event: Event) -> bool:
        """Take an event in; whether it changed a curve."""
        kind, step = event.get("event"), event.get("step")
        now = _number(event.get("seconds"))
        if now is not None:
            if now < self._last:  # a new process counts from zero
                self._before += self._last
            self._last = now
        if kind not in ("step", "pseudo") or not isinstance(step, int):
            return False
        if now is not None:
            self.seconds[step] = self._before + now
        if kind == "step":
            return _put(self.loss, step, event.get("loss"))
        by_label = event.get("dice")
        for label, value in (by_label if isinstance(by_label, dict) else {}).items():
            _put(self.labels.setdefault(str(label), {}), step, value)
        return _put(self.dice, step, event.get("mean"))

    @property
    def total_seconds(self) -> float:
        """Of all processes that worked on the run."""
        return self._before + self._last

    def smoothed_loss(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Steps, loss, and its mean under a Gaussian of about a fiftieth of the run."""
        steps, loss = _line(self.loss)
        width = max(1e-3, len(loss) / 50)
        # Divided by the weights inside: no pull towards zero at the ends.
        kept = gaussian_filter1d(np.ones_like(loss), width, mode="constant")
        return steps, loss, gaussian_filter1d(loss, width, mode="constant") / kept


def draw(curves: Curves, form: str = "png") -> bytes:
    """Loss and pseudo Dice against the step, the time on top.

    Args:
        curves: what to draw.
        form: ``png`` or ``svg``.
    """
    from matplotlib.figure import Figure

    both = bool(curves.dice)
    figure = Figure(figsize=(9.4, 5.6 if both else 3.4), layout="constrained", facecolor="white")
    axes = figure.subplots(2 if both else 1, 1, sharex=True, squeeze=False)[:, 0]
    steps, loss, smooth = curves.smoothed_loss()
    shown = slice(None, None, max(1, len(steps) // POINTS))
    axes[0].plot(steps[shown], loss[shown], color=BLUE, alpha=0.3, lw=0.9)
    axes[0].plot(steps[shown], smooth[shown], color=BLUE, lw=2.2)
    axes[0].set_ylabel("loss")
    if len(smooth):
        axes[0].annotate(f"{smooth[-1]:.3f}", (steps[-1], smooth[-1]), xytext=(6, 0), color=BLUE,
                         textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    if both:
        _draw_dice(axes[1], curves)
    axes[-1].set_xlabel("step")
    axes[-1].margins(x=0.06)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    for axis in axes:
        _style(axis)
    _time_axis(figure, axes[0], curves)
    return _written(figure, form)


def draw_folds(folds: dict[int, Curves], form: str = "png") -> bytes:
    """Loss and pseudo Dice of the folds of a cross-validation against the step.

    Args:
        folds: by number, each with a loss.
        form: ``png`` or ``svg``.
    """
    from matplotlib.figure import Figure

    both = any(curves.dice for curves in folds.values())
    figure = Figure(figsize=(9.4, 5.6 if both else 3.4), layout="constrained", facecolor="white")
    axes = figure.subplots(2 if both else 1, 1, sharex=True, squeeze=False)[:, 0]
    for fold, curves in folds.items():
        colour = (BLUE, *COLOURS)[fold % (len(COLOURS) + 1)]
        steps, _, smooth = curves.smoothed_loss()
        shown = slice(None, None, max(1, len(steps) // POINTS))
        axes[0].plot(steps[shown], smooth[shown], color=colour, lw=1.6, label=f"fold {fold}")
        if curves.dice:
            steps, dice = _line(curves.dice)
            axes[1].plot(steps, dice, color=colour, lw=1.6, marker="o", ms=3)
    axes[0].set_ylabel("loss, running mean")
    axes[0].legend(loc="upper right", ncols=min(5, len(folds)), frameon=False, fontsize=9)
    if both:
        axes[1].set_ylabel("pseudo Dice of held-out slices")
        axes[1].set_ylim(0.0, 1.0)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    for axis in axes:
        _style(axis)
    return _written(figure, form)


class Curve:
    """Listens to a run and keeps ``curve.png`` in its folder up to date.

    A picture that cannot be written never stops a training.

    Args:
        folder: of the run; earlier events in it are read, so that a resumed run's curve is whole.
        every: seconds between two drawings, at least; the last event draws in any case.
        clock: tells seconds.
    """

    def __init__(
        self, folder: Path, every: float = EVERY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self._every, self._clock = folder / PICTURE, every, clock
        self._curves: Curves | None = None
        self._drawn: float | None = None
        self._changed = False

    def __call__(self, event: Event) -> None:
        """Take an event in, and draw if it is time."""
        if self._curves is None:
            self._curves = Curves.of(self._earlier())
        self._changed |= self._curves.add(event)
        last = event.get("event") in ("done", "stopped", "paused", "error")
        now = self._clock()
        due = self._drawn is None or now - self._drawn >= self._every
        if self._changed and (due or last):
            self._drawn, self._changed = now, False
            with contextlib.suppress(MedDINOv3Error, OSError), whole_file(self.path) as temporary:
                temporary.write_bytes(draw(self._curves))

    def _earlier(self) -> list[Event]:
        try:
            return read_events(self.path.with_name(EVENTS))
        except OSError:
            return []


def _draw_dice(axis: Any, curves: Curves) -> None:
    names = list(curves.labels)
    if 1 < len(names) <= MOST_LABELS:
        for name, colour in zip(names, COLOURS, strict=False):
            steps, dice = _line(curves.labels[name])
            axis.plot(steps, dice, color=colour, lw=1.2, marker="o", ms=2.5, label=name)
    steps, dice = _line(curves.dice)
    axis.plot(steps, dice, color=INK, lw=2.2, marker="o", ms=4, label="mean")
    axis.annotate(f"{dice[-1]:.3f}", (steps[-1], dice[-1]), xytext=(6, 0), color=INK,
                  textcoords="offset points", va="center", fontsize=9)  # fmt: skip
    axis.set_ylabel("pseudo Dice of held-out slices")
    axis.set_ylim(max(0.0, min(0.0, *dice)), 1.0)
    handles = axis.get_legend_handles_labels()[0]
    if len(handles) > 1:
        axis.legend(handles=handles, loc="lower right", ncols=min(3, len(handles)),
                    frameon=False, fontsize=9)  # fmt: skip


def _time_axis(figure: Figure, axis: Any, curves: Curves) -> None:
    """The run's time above the upper panel, at a few steps."""
    steps, seconds = _line(curves.seconds)
    if len(steps) < 2 or steps[0] == steps[-1]:
        return
    longest = float(seconds.max())
    size, unit = (3600.0, "h") if longest > 7200 else (60.0, "min") if longest > 120 else (1.0, "s")
    from matplotlib.ticker import MaxNLocator

    times = [t for t in MaxNLocator(6).tick_values(0, longest / size) if t * size <= longest]
    top = axis.secondary_xaxis("top")
    top.set_xticks(np.interp([t * size for t in times], [0, *seconds], [0, *steps]),
                   [f"{t:g} {unit}" for t in times])  # fmt: skip
    top.tick_params(colors="#4a5562", labelsize=8.5, length=3)
    top.spines["top"].set_color(LINE)


def _written(figure: Figure, form: str) -> bytes:
    target = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else None
    figure.savefig(target, format=form, dpi=110, metadata=metadata)
    return target.getvalue()


def _style(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(LINE)
    axis.tick_params(colors="#4a5562", labelsize=9, length=3)
    axis.grid(color="#eef1f5", lw=0.8)
    axis.set_axisbelow(True)


def _number(value: Any) -> float | None:
    known = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if known else None


def _put(line: dict[int, float], step: int, value: Any) -> bool:
    """Set a point; a later value of a step replaces the earlier, and what lay ahead of it."""
    number = _number(value)
    if number is None:
        return False
    if step in line or (line and step < next(reversed(line))):
        for ahead in [other for other in line if other >= step]:
            del line[ahead]  # the run went back and is on its way again
    line[step] = number
    return True


def _line(points: dict[int, float]) -> tuple[FloatArray, FloatArray]:
    steps = sorted(points)
    return np.array(steps, np.float64), np.array([points[n] for n in steps], np.float64)
