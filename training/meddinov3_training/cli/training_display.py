"""What the terminal shows of a training run: a bar with the time left, or plain lines."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

import click
from meddinov3.progress import time_in_words
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

WORST = 3  # labels named in a line


class _TimeLeft(ProgressColumn):
    """Counts down between two events from what the last one said."""

    def render(self, task: Task) -> Text:
        end = task.fields["end"]
        if end is None:
            return Text()
        return Text(f"{time_in_words(max(0.0, end - time.monotonic()))} left")


class TrainingDisplay:
    """Listens to a run; a context, since a bar has to be taken off the terminal.

    Args:
        console: where to draw; stdout by default. Without a terminal every event is a line.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._live = self._console.is_terminal
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>5.1f} %"),
            TextColumn("{task.fields[facts]}", markup=False),
            _TimeLeft(),
            console=self._console,
            transient=True,
            refresh_per_second=2,
            disable=not self._live,
        )
        self._tasks: dict[str, TaskID] = {}
        self._pseudo = ""

    def __enter__(self) -> TrainingDisplay:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event; one of an unknown kind is passed over."""
        show = getattr(self, f"_on_{event['event']}", None)
        if show is not None:
            show(event)

    def _on_start(self, event: dict[str, Any]) -> None:
        self._say(f"Training on {event['training']} cases, {event['held_out']} held out, "
                  f"on {event['device']} in {event['precision']}")  # fmt: skip
        for note in event["notes"]:
            self._say(f"  {note}")

    def _on_preparing(self, event: dict[str, Any]) -> None:
        if "mib" in event:
            self._say(f"{event['what']}: {event['mib']} MiB in the run's folder")
        elif self._live and event["total"]:
            self._advance(
                event["what"], event["done"], event["total"], event["what"], event.get("left")
            )
            if event["done"] == event["total"]:
                self._finish(event["what"])

    def _on_fold(self, event: dict[str, Any]) -> None:
        self._say(f"Fold {event['fold']}, of {event['of']}")

    def _on_interrupted(self, event: dict[str, Any]) -> None:
        if event["step"] is not None:
            self._say(f"Interrupted at step {event['step']}; nothing is lost: add --resume to "
                      "go on.")  # fmt: skip
            return
        when = f"Interrupted while {event['what']}" if event.get("what") else "Interrupted"
        rest = "nothing is lost: add --resume to go on" if event.get("kept") else "start it again"
        self._say(f"{when}; {rest}.")

    def _on_progress(self, event: dict[str, Any]) -> None:
        if self._live:
            facts = f"fold {event['fold']}, of {event['of']}"
            self._advance("all folds", event["done"], 1.0, facts, event.get("left"))

    def _on_scoring(self, event: dict[str, Any]) -> None:
        if self._live:
            self._finish("train")
            facts = f"case {event['number']} of {event['of']}"
            self._advance("validate", event["done"], 1.0, facts, event.get("left"))

    def _on_step(self, event: dict[str, Any]) -> None:
        loss = float("nan") if event["loss"] is None else event["loss"]
        if not self._live:
            self._say(f"step {event['step']:6d}  loss {loss:8.4f}  {event['done']:6.1%}  "
                      f"{_left(event)} left{self._pseudo}")  # fmt: skip
            return
        facts = f"step {event['step']}  loss {loss:.4f}{self._pseudo}"
        if event.get("data_wait", 0) > 0.3:
            facts += f"  ({event['data_wait']:.0%} waiting for data)"
        self._advance("train", event["done"], 1.0, facts, event.get("left"))

    def _on_pseudo(self, event: dict[str, Any]) -> None:
        mean = event.get("mean")
        self._pseudo = "" if mean is None else f"  pseudo Dice {mean:.3f}"
        if not self._live:
            known = {n: v for n, v in (event.get("dice") or {}).items() if v is not None}
            shown = "-" if mean is None else f"{mean:.3f}"
            self._say(f"step {event['step']:6d}  pseudo Dice {shown} ({_named(known)})")

    def _on_validated(self, event: dict[str, Any]) -> None:
        if self._live:
            self._finish("train")
            facts = f"{event['number']} of {event['of']} held-out cases"
            done = event["number"] / event["of"]
            self._advance("validate", done, 1.0, facts, event.get("left"))
        self._say(f"held-out case {event['number']} of {event['of']}: {_named(event['dice'])}")

    def _on_paused(self, event: dict[str, Any]) -> None:
        self._say("paused")

    def _on_resumed(self, event: dict[str, Any]) -> None:
        step = event.get("step")
        self._say("resumed" if step is None else f"resumed at step {step}")

    def _on_stopped(self, event: dict[str, Any]) -> None:
        self._say(event.get("text") or "stopped; the model of this moment is kept")
        self._on_done(event)

    def _on_warning(self, event: dict[str, Any]) -> None:
        self._say(f"Warning: {event['text']}", "yellow")

    def _on_changed(self, event: dict[str, Any]) -> None:
        self._say(event["text"])

    def _on_done(self, event: dict[str, Any]) -> None:
        self._finish("train")
        self._finish("validate")
        scores = event.get("scores") or {}
        if scores.get("held_out_cases"):
            self._say(f"mean Dice of {scores['held_out_cases']} held-out cases: "
                      f"{scores['mean_dice']}")  # fmt: skip

    def _say(self, text: str, colour: str = "") -> None:
        if self._live:
            self._bar.console.print(escape(text), style=colour or None, highlight=False)
        else:
            click.echo(text)

    def _advance(
        self, name: str, done: float, total: float, facts: str, left: float | None = None
    ) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total, facts="", end=None)
        end = None if left is None else time.monotonic() + left
        self._bar.update(self._tasks[name], completed=done, total=total, facts=facts, end=end)

    def _finish(self, name: str) -> None:
        if name in self._tasks:
            self._bar.remove_task(self._tasks.pop(name))


def _left(event: dict[str, Any]) -> str:
    left = event.get("left")
    return "?" if left is None else time_in_words(left)


def _named(dice: dict[str, float | None]) -> str:
    """All labels, or the lowest of many."""
    shown = {name: "-" if value is None else f"{value:.3f}" for name, value in dice.items()}
    if len(shown) <= 2 * WORST:
        return ", ".join(f"{name} {value}" for name, value in shown.items())
    lowest = sorted((n for n, v in dice.items() if v is not None), key=lambda n: dice[n] or 0.0)
    return f"{len(shown)} labels, lowest " + ", ".join(f"{n} {shown[n]}" for n in lowest[:WORST])
