"""The training loop: steps until the budget ends, checkpoints, commands, events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import is_out_of_memory
from torch import Tensor

from meddinov3_training.checkpoint import read_newest, write_checkpoint
from meddinov3_training.distributed import Group
from meddinov3_training.interrupts import interrupts_held
from meddinov3_training.learner import Learner
from meddinov3_training.optimiser import rate_factor
from meddinov3_training.run import Run

REPORT_EVERY, REPORT_SECONDS = 20, 15.0  # steps, or seconds
PSEUDO_SHARE = 0.05  # of the run between looks at held-out slices
FEWEST_STEPS = 200  # a schedule shorter than this teaches little
LOOKED_AT = (4, 12)  # steps: after the first few, over which speed is measured
PAUSE = 0.5  # seconds between looks at the command while pausing

Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
Scores = dict[str, float | None]


@dataclass(frozen=True)
class Schedule:
    """When the run ends, and the rate on the way.

    Attributes:
        steps: number of steps; or
        seconds: of training.
        warmup: share of the run.
        folds: runs that share the budget which the user gave.
    """

    steps: int | None
    seconds: float | None
    warmup: float
    folds: int = 1

    def done(self, step: int, elapsed: float) -> float:
        """Share of the run that is over after `step` steps and `elapsed` seconds."""
        return step / self.steps if self.steps else elapsed / (self.seconds or 1.0)


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    Attributes:
        step: steps that were done.
        seconds: of training, over all sessions.
        stopped: whether somebody stopped it before its end.
    """

    step: int
    seconds: float
    stopped: bool


class Loop:
    """Runs a learner over batches and keeps the run's folder up to date."""

    def __init__(
        self,
        learner: Learner,
        batches: Batches,
        schedule: Schedule,
        run: Run,
        *,
        group: Group,
        batch: int,
        checkpoint_seconds: float,
        look: Callable[[], Scores] | None = None,
        spent: float = 0.0,
    ) -> None:
        """Prepare.

        Args:
            learner: what is trained.
            batches: this process's shares of the batches from a step (0-based) on.
            schedule: when it ends.
            run: where it is told.
            group: other processes.
            batch: samples a step over all processes.
            checkpoint_seconds: between checkpoints.
            look: Dice of held-out slices with the averaged weights, or None.
            spent: seconds of the budget that are gone already.
        """
        self._learner, self._batches, self._schedule, self._run = learner, batches, schedule, run
        self._group, self._batch, self._interval = group, batch, checkpoint_seconds
        self._look = look
        self.step, self._before, self._begin = 0, spent, time.monotonic()
        self._taken_up = False
        self._stored = -1

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, pauses left out."""
        return self._before + time.monotonic() - self._begin

    def resume(self) -> None:
        """Continue from the newest checkpoint that is whole; from the start if there is none."""
        found, notes = read_newest(self._run.folder)
        for note in notes:
            self._run.tell("warning", text=note)
        if found is not None:
            self._learner.restore(found.tensors, found.facts["learner"])
            self.step, self._before = found.step, found.facts["elapsed"]
            self._stored, self._taken_up = found.step, True
        self._run.tell("resumed", step=self.step)

    def train(self) -> Outcome:
        """Train until the schedule ends or a command stops it.

        Raises:
            MedDINOv3Error: the budget is too small, the loss lost its number, memory or disk ran
                out. The last checkpoint stays.
            KeyboardInterrupt: a checkpoint was written first.
        """
        self._begin = time.monotonic()
        try:
            stopped = self._steps()
        except KeyboardInterrupt:
            with interrupts_held():
                self.store()
                self._run.tell("interrupted", step=self.step)
            raise
        self.store()
        if stopped:
            self._run.forget_command()
        return Outcome(self.step, self.elapsed, stopped)

    def store(self) -> None:
        """Write a checkpoint, unless this step has one."""
        if self._learner.skipped:  # the last sound checkpoint stays the last
            return
        if self._stored != self.step and self._group.first:
            tensors, facts = self._learner.state()
            write_checkpoint(
                self._run.folder, self.step, tensors, {"learner": facts, "elapsed": self.elapsed}
            )
        self._stored = self.step

    def _steps(self) -> bool:
        losses: list[float] = []
        waited, told_at, told_step = 0.0, self.elapsed, self.step
        stored_at, looked = self.elapsed, self._schedule.done(self.step, self.elapsed)
        first, speed_from = self.step, 0.0
        batches = self._batches(self.step)
        while True:
            done, stop, pause = self._group.agree(
                self._schedule.done(self.step, self.elapsed), *self._commands()
            )
            if done >= 1 and self.step - first < LOOKED_AT[1] and self._schedule.seconds:
                self._check_budget(
                    max(self.elapsed - self._before, 1e-6) / max(1, self.step - first)
                )
            if done >= 1 or stop:
                return done < 1
            if pause:
                self._wait_while_paused()
                continue
            begin = time.monotonic()
            images, values = next(batches)
            waited += time.monotonic() - begin
            rate = rate_factor(done, self._schedule.warmup)
            with interrupts_held():  # weights, their average and the step's number go together
                losses.append(self._learner.learn(images, values, self.step + 1, rate))
                self.step += 1
            self._tell_notes()
            if self.step - first == LOOKED_AT[0]:
                speed_from = self.elapsed
            if self.step - first == LOOKED_AT[1]:
                self._check_budget((self.elapsed - speed_from) / (LOOKED_AT[1] - LOOKED_AT[0]))
            since = self.elapsed - told_at
            if self.step % REPORT_EVERY == 0 or since > REPORT_SECONDS:
                self._report(losses, since, waited, self.step - told_step)
                losses, waited, told_at, told_step = [], 0.0, self.elapsed, self.step
            if self._look is not None and done - looked >= PSEUDO_SHARE:
                looked = done
                self._tell_scores()
            if self.elapsed - stored_at > self._interval:
                self.store()
                stored_at = self.elapsed

    def _commands(self) -> tuple[float, float]:
        command = self._run.command() if self._group.first else "go on"
        return float(command == "stop"), float(command == "pause")

    def _wait_while_paused(self) -> None:
        self.store()
        self._run.tell("paused", step=self.step)
        kept = self.elapsed
        while self._group.agree(self._commands()[1])[0]:
            time.sleep(PAUSE)
        self._before, self._begin = kept, time.monotonic()
        self._run.tell("resumed", step=self.step)

    def _check_budget(self, step_seconds: float) -> None:
        step_seconds = self._group.agree(step_seconds)[0]  # by one clock: all refuse, or none
        seconds, folds = self._schedule.seconds, self._schedule.folds
        if self._taken_up:  # steps were done before
            return
        if seconds is None or seconds / step_seconds >= FEWEST_STEPS:
            return
        needed = math.ceil(folds * FEWEST_STEPS * step_seconds / 60)
        each = f" for each of {folds} folds" if folds > 1 else ""
        raise MedDINOv3Error(
            "budget-too-small",
            f"A step takes {step_seconds:.1f} s here, so {folds * seconds / 60:.1f} min are "
            f"{seconds / step_seconds:.0f} steps{each}; fewer than {FEWEST_STEPS} teach little.",
            f"Give --budget {needed}m or more, or a smaller --batch, --largest-patch or base.",
        )

    def _report(self, losses: list[float], seconds: float, waited: float, steps: int) -> None:
        done = self._schedule.done(self.step, self.elapsed)
        known = [loss for loss in losses if math.isfinite(loss)]
        left = self.elapsed / max(done, 1e-9) * max(0.0, 1 - done)
        self._run.tell(
            "step",
            step=self.step,
            loss=round(sum(known) / len(known), 5) if known else None,
            done=round(min(done, 1.0), 4),
            left=round(left),
            rate=self._learner.optimiser.param_groups[0]["lr"],
            samples_per_second=round(steps * self._batch / max(seconds, 1e-9), 2),
            data_wait=round(waited / max(seconds, 1e-9), 3),
        )

    def _tell_scores(self) -> None:
        if not self._group.first or self._look is None:
            return
        try:
            with self._learner.average.in_place():
                scores = self._look()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._look = None
            self._run.tell("warning", text="memory does not suffice to look at held-out slices")
            return
        known = [value for value in scores.values() if value is not None]
        mean = round(sum(known) / len(known), 4) if known else None
        self._run.tell("pseudo", step=self.step, dice=scores, mean=mean)

    def _tell_notes(self) -> None:
        while self._learner.notes:
            self._run.tell("warning", text=self._learner.notes.pop(0))
