"""Pause, stop, Ctrl-C and progress while nothing is trained: before and after the steps."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from meddinov3.errors import Cancelled
from meddinov3.model_store import read_description
from meddinov3_training import watcher
from meddinov3_training.finetune import finetune
from meddinov3_training.interrupts import interrupts_held
from meddinov3_training.run import Run, send_command
from short_runs import alone, narrow_base, quick, told  # noqa: F401
from synthetic_dataset import write_dataset

PHASES = ("checking cases", "looking at cases", "caching slices", "computing tokens")


@pytest.fixture(autouse=True)
def hears_ctrl_c() -> Iterator[None]:
    """A shell that starts the tests in the background makes them deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "d", 5)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return narrow_base(tmp_path / "base", "x", "y")


class At:
    """A listener that does something once, at the first progress of a phase."""

    def __init__(self, phase: str, act: Any) -> None:
        self.phase, self.act, self.done = phase, act, False

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("what") == self.phase and event.get("done") is not None and not self.done:
            self.done = True
            self.act()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_every_phase_tells_progress_and_time_left(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    finetune(dataset, tmp_path / "run", quick(base, frozen=True, validation=2))
    events = told(tmp_path / "run", "preparing")
    for phase in (*PHASES, "looking at held-out cases"):
        steps = [e for e in events if e["what"] == phase and "done" in e]
        assert steps[-1]["done"] == steps[-1]["total"] > 0, phase
        assert all(step["left"] is not None for step in steps), phase
    scoring = told(tmp_path / "run", "scoring")
    assert [(e["number"], e["of"]) for e in scoring[:1]] == [(1, 2)]
    assert scoring[-1]["left"] is not None
    assert [e["left"] for e in told(tmp_path / "run", "validated")][-1] == 0


@pytest.mark.parametrize("phase", PHASES)
def test_stop_before_the_first_step_ends_the_run_and_says_so(
    tmp_path: Path, dataset: Path, base: Path, phase: str
) -> None:
    run = tmp_path / "run"
    settings = quick(base, frozen=True)
    with pytest.raises(Cancelled):
        finetune(dataset, run, settings, At(phase, lambda: send_command(run, "stop")))
    (event,) = told(run, "stopped")
    assert (event["model"], event["what"]) == (None, phase)
    assert "no model" in event["text"]
    assert told(run, "start") == [] or phase == "computing tokens"
    assert not list(run.rglob("model.json")) and not list(run.rglob("*.partial*"))
    again = (run / "config.json").is_file()
    assert ("--resume" in event["text"]) == again == (phase in PHASES[2:])
    assert finetune(dataset, run, settings, resume=again).is_dir()


@pytest.mark.parametrize("phase", PHASES)
def test_pause_waits_before_the_first_step_too(
    tmp_path: Path, dataset: Path, base: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "PAUSE", 0.01)
    run = tmp_path / "run"
    pause = At(phase, lambda: send_command(run, "pause"))

    def listener(event: dict[str, Any]) -> None:
        pause(event)
        if event["event"] == "paused":
            threading.Timer(0.3, send_command, (run, "go on")).start()

    assert finetune(dataset, run, quick(base, frozen=True), listener).is_dir()
    (paused,), (resumed,) = told(run, "paused"), told(run, "resumed")
    assert paused["what"] == resumed["what"] == phase
    assert resumed["seconds"] - paused["seconds"] > 0.25
    between = [
        e for e in told(run, "preparing") if paused["seconds"] < e["seconds"] < resumed["seconds"]
    ]
    assert between == []


@pytest.mark.parametrize("phase", PHASES)
def test_ctrl_c_before_the_first_step_is_told(
    tmp_path: Path, dataset: Path, base: Path, phase: str
) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        finetune(dataset, run, quick(base, frozen=True), At(phase, interrupt))
    (event,) = told(run, "interrupted")
    assert (event["step"], event["what"]) == (None, phase)
    assert event["kept"] == (run / "config.json").is_file()
    assert finetune(dataset, run, quick(base, frozen=True), resume=event["kept"]).is_dir()


def test_stop_while_scoring_keeps_the_model_without_scores(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    run = tmp_path / "run"

    def listener(event: dict[str, Any]) -> None:
        if event["event"] == "validated":
            send_command(run, "stop")

    bundle = finetune(dataset, run, quick(base, validation=3), listener)
    assert read_description(bundle).scores == {}
    assert not read_description(bundle).training["stopped_early"]
    (event,) = told(run, "stopped")
    assert event["model"] == bundle.name and "no scores" in event["text"]
    assert len(told(run, "validated")) == 1 and told(run, "done") == []
    assert not (run / "scores.json").exists()


def test_ctrl_c_while_scoring_is_told_and_scored_later(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    run = tmp_path / "run"

    def listener(event: dict[str, Any]) -> None:
        if event["event"] == "validated":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(dataset, run, quick(base, validation=2), listener)
    (event,) = told(run, "interrupted")
    assert event["kept"] and event["what"] == "scoring held-out cases"
    bundle = finetune(dataset, run, quick(base), resume=True)
    assert read_description(bundle).scores["held_out_cases"] == 2


def test_ctrl_c_within_a_step_leaves_a_sound_checkpoint(
    tmp_path: Path, dataset: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes between the optimiser's step and the average's."""
    from meddinov3_training.average import MovingAverage
    from safetensors.torch import load_file

    settings = quick(base, steps=6)
    whole = finetune(dataset, tmp_path / "whole", settings)
    real = MovingAverage.update

    def update(self: MovingAverage, step: int) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(MovingAverage, "update", update)
        with pytest.raises(KeyboardInterrupt):
            finetune(dataset, tmp_path / "run", settings)
    assert told(tmp_path / "run", "interrupted")[0]["step"] == 3
    bundle = finetune(dataset, tmp_path / "run", settings, resume=True)
    first, second = (load_file(b / "model.safetensors") for b in (whole, bundle))
    assert all((value == second[name]).all() for name, value in first.items())


def test_interrupts_wait_for_the_end_of_the_block_only_in_the_main_thread() -> None:
    done = []

    def block() -> None:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            done.append("block")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done == ["block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def elsewhere() -> None:
        with interrupts_held():
            done.append("thread")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == ["block", "thread"]


@pytest.mark.skipif(sys.platform == "win32", reason="the same there; once is enough")
def test_an_ignored_ctrl_c_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_fold_obeys_the_stronger_of_two_commands(tmp_path: Path) -> None:
    outer = Run(tmp_path, None)
    fold = Run(tmp_path / "fold_0", None, outer=outer)
    (tmp_path / "fold_0").mkdir()
    assert fold.command() == "go on"
    send_command(tmp_path, "pause")
    assert fold.command() == "pause"
    send_command(tmp_path / "fold_0", "stop")
    assert fold.command() == "stop"
    fold.forget_command()
    assert fold.command() == "pause"
