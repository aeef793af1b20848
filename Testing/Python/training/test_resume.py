"""A run cannot lose work: killed, paused, stopped, damaged, or on a full disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_runs import command, environment, killed_often, straight, weights_of
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import read_description
from meddinov3_training import checkpoint as checkpoint_module
from meddinov3_training import loop as loop_module
from meddinov3_training.checkpoint import read_newest
from meddinov3_training.finetune import finetune, read_settings
from meddinov3_training.run import Run, is_running, send_command
from safetensors.torch import load_file
from short_runs import alone, narrow_base, quick, told  # noqa: F401
from synthetic_dataset import write_dataset


class Interrupt(BaseException):
    """Stands for whatever ends a process."""


def until(step: int) -> Any:
    """A listener that ends the run at the first report of `step` or later."""

    def listener(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] >= step:
            raise Interrupt

    return listener


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "d", 3)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return narrow_base(tmp_path / "base", "x", "y")


def test_ten_kills_at_any_moment_change_nothing(tmp_path: Path, dataset: Path, base: Path) -> None:
    expected = straight(dataset, base, tmp_path / "straight")
    kills, hits = killed_often(dataset, base, tmp_path / "killed", 10, seed=1)
    assert weights_of(tmp_path / "killed") == expected
    assert kills >= 8, "the run must not be over before it was killed"
    assert hits >= 2, "some kills must hit a half-written checkpoint"
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left >= {"model", "config.json", "events.jsonl"}
    assert "checkpoints" not in left and "cache" not in left


@pytest.mark.parametrize("frozen", [False, True])
def test_continued_bit_for_bit_in_one_process(
    tmp_path: Path, dataset: Path, base: Path, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick(base, steps=60, frozen=frozen, drop_path=0.2, checkpoint_seconds=0.0)
    whole = finetune(dataset, tmp_path / "whole", settings)
    with pytest.raises(Interrupt):
        finetune(dataset, tmp_path / "broken", settings, until(20))
    continued = finetune(dataset, tmp_path / "broken", quick(base), resume=True)
    first, second = (load_file(bundle / "model.safetensors") for bundle in (whole, continued))
    assert all((value == second[name]).all() for name, value in first.items())
    record = read_description(continued).training
    assert (record["steps"], record["frozen"]) == (60, frozen)
    assert told(tmp_path / "broken", "resumed")[0]["step"] >= 19


def test_a_damaged_newest_checkpoint_is_passed_over(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    settings = quick(base, steps=60, checkpoint_seconds=0.0)
    whole = finetune(dataset, tmp_path / "whole", settings)
    run = tmp_path / "run"
    with pytest.raises(Interrupt):
        finetune(dataset, run, settings, until(20))
    newest = max((run / "checkpoints").iterdir())
    (newest / "state.safetensors").write_bytes(b"rubbish")
    continued = finetune(dataset, run, settings, resume=True)
    first, second = (load_file(bundle / "model.safetensors") for bundle in (whole, continued))
    assert all((value == second[name]).all() for name, value in first.items())
    assert any("damaged" in event["text"] for event in told(run, "warning"))


def test_a_full_disk_is_told_and_the_run_goes_on_later(
    tmp_path: Path, dataset: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = quick(base, steps=40, checkpoint_seconds=0.0)
    real, calls = checkpoint_module.save_file, []

    def save(tensors: Any, path: Path) -> None:
        calls.append(path)
        if len(calls) == 25:
            raise OSError(28, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint_module, "save_file", save)
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, tmp_path / "run", settings)
    assert caught.value.code == "checkpoint-not-written"
    assert told(tmp_path / "run", "error")[0]["code"] == "checkpoint-not-written"
    bundle = finetune(dataset, tmp_path / "run", settings, resume=True)
    assert read_description(bundle).training["steps"] == 40


def test_stop_leaves_a_model_that_works_and_says_so(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    run = tmp_path / "run"

    def listener(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            send_command(run, "stop")

    bundle = finetune(dataset, run, quick(base, steps=100_000), listener)
    record = read_description(bundle).training
    assert record["stopped_early"] and record["steps"] < 1000
    (event,) = told(run, "stopped")
    assert event["scores"]["held_out_cases"] == 1
    assert told(run, "done") == []


def test_pause_waits_and_changes_nothing(
    tmp_path: Path, dataset: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "PAUSE", 0.01)
    whole = finetune(dataset, tmp_path / "whole", quick(base, steps=60))
    run = tmp_path / "run"
    once: list[int] = []

    def listener(event: dict[str, Any]) -> None:
        if event["event"] == "step" and not once:
            once.append(event["step"])
            send_command(run, "pause")
        if event["event"] == "paused":
            assert (run / "checkpoints" / f"{event['step']:06d}").is_dir()
            threading.Timer(0.3, send_command, (run, "go on")).start()

    bundle = finetune(dataset, run, quick(base, steps=60), listener)
    first, second = (load_file(b / "model.safetensors") for b in (whole, bundle))
    assert all((value == second[name]).all() for name, value in first.items())
    (paused,), (resumed,) = told(run, "paused"), told(run, "resumed")
    assert paused["step"] == resumed["step"] == once[0]
    assert resumed["seconds"] - paused["seconds"] > 0.25


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_keeps_what_was_learnt(tmp_path: Path, dataset: Path, base: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(dataset, base, run, "--steps", "100000", "--checkpoint-every", "1h"),
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not ((run / "events.jsonl").is_file() and told(run, "step")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    assert is_running(run)
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, run, quick(base), resume=True)
    assert caught.value.code == "run-in-use" and str(process.pid) in caught.value.message
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "--resume" in output
    assert not is_running(run)
    (event,) = told(run, "interrupted")
    assert (run / "checkpoints" / f"{event['step']:06d}").is_dir()


def test_a_run_that_has_ended_is_not_trained_again(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    run = tmp_path / "run"
    bundle = finetune(dataset, run, quick(base))
    before = (bundle / "model.safetensors").read_bytes()
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, run, quick(base), resume=True)
    assert caught.value.code == "run-ended"
    assert (bundle / "model.safetensors").read_bytes() == before


def test_a_listener_that_fails_ends_nothing(tmp_path: Path, dataset: Path, base: Path) -> None:
    def broken(event: dict[str, Any]) -> None:
        raise BrokenPipeError

    finetune(dataset, tmp_path / "run", quick(base), broken)
    assert any("listener" in event["text"] for event in told(tmp_path / "run", "warning"))
    assert told(tmp_path / "run", "done")


def test_steps_without_a_number_leave_the_last_checkpoint(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    settings = quick(base, steps=40, checkpoint_seconds=0.0, decoder_rate=1e30, backbone_rate=1e30)
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, tmp_path / "run", settings)
    assert caught.value.code == "diverged"
    found, _ = read_newest(tmp_path / "run")
    assert found is None or found.facts["learner"]["skipped"] == 0


def test_a_budget_that_ends_within_a_few_steps_is_refused_too(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, tmp_path / "run", quick(base, steps=None, seconds=0.01))
    assert caught.value.code == "budget-too-small"


def test_memory_for_a_look_that_is_not_there_ends_nothing(
    tmp_path: Path, dataset: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: Any) -> Any:
        def look() -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

        return look

    monkeypatch.setattr("meddinov3_training.aim.quick_look", no_memory)
    finetune(dataset, tmp_path / "run", quick(base, steps=30))
    assert len([e for e in told(tmp_path / "run", "warning") if "look" in e["text"]]) == 1


def test_what_cannot_be_continued_is_refused(tmp_path: Path, dataset: Path, base: Path) -> None:
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, tmp_path / "nothing", quick(base), resume=True)
    assert caught.value.code == "no-run"
    run = tmp_path / "run"
    with pytest.raises(Interrupt):
        finetune(dataset, run, quick(base, steps=60), until(20))
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, run, quick(base))
    assert caught.value.code == "run-exists" and "--resume" in caught.value.remedy
    other = write_dataset(tmp_path / "other", 2)
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(other, run, quick(base), resume=True)
    assert caught.value.code == "dataset-changed"
    (run / "config.json").write_text("{")
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, run, quick(base), resume=True)
    assert caught.value.code == "bad-run"


def test_settings_come_back_as_they_were(tmp_path: Path) -> None:
    settings = quick(tmp_path, steps=None, seconds=90.5, slice_offsets=(-2.0, 0.0), name="x")
    run = Run(tmp_path / "run", None)
    run.open()
    run.save("config.json", settings)
    run.close()
    assert read_settings(tmp_path / "run") == settings


def test_a_line_that_a_crash_cut_off_spoils_no_other(tmp_path: Path) -> None:
    run = Run(tmp_path, None)
    run.open()
    run.tell("one")
    run.close()
    with open(tmp_path / "events.jsonl", "a") as stream:
        stream.write('{"event": "tw')
    (tmp_path / "config.json").write_text("{}")
    again = Run(tmp_path, None)
    again.open(resume=True)
    again.tell("three")
    again.close()
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[2])["event"] == "three"


def test_a_budget_too_small_says_what_would_do(
    tmp_path: Path, dataset: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "FEWEST_STEPS", 10**6)
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, tmp_path / "run", quick(base, steps=None, seconds=600.0))
    assert caught.value.code == "budget-too-small"
    assert "--budget" in caught.value.remedy
