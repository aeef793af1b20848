"""What a run leaves for people: events, curve, TensorBoard files, the lines of a terminal."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from meddinov3_training.cli.training_display import TrainingDisplay
from meddinov3_training.curves import Curve, Curves, draw, read_events
from meddinov3_training.tensorboard import TensorBoard
from PIL import Image
from rich.console import Console


def step(number: int, loss: float, seconds: float, **more: Any) -> dict[str, Any]:
    return {"event": "step", "seconds": seconds, "step": number, "loss": loss, "done": number / 100,
            "left": 600 - seconds, "rate": 1e-4, **more}  # fmt: skip


def pseudo(number: int, seconds: float, **dice: float | None) -> dict[str, Any]:
    known = [value for value in dice.values() if value is not None]
    mean = sum(known) / len(known) if known else None
    return {"event": "pseudo", "seconds": seconds, "step": number, "dice": dice, "mean": mean}


RUN = [
    {"event": "start", "seconds": 0.1, "device": "cpu", "precision": "fp32", "training": 4,
     "held_out": 2, "notes": ["few tokens"], "labels": ["ball", "box"]},
    *(step(n, 1.5 / n, n) for n in range(10, 60, 10)),
    pseudo(50, 51, ball=0.7, box=0.5),
]  # fmt: skip


def write(folder: Path, events: list[dict[str, Any]], tail: str = "") -> None:
    text = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "events.jsonl").write_text(text + tail, encoding="utf-8")


def test_lines_that_a_crash_cut_off_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, RUN, '{"event": "step", "sec')
    assert read_events(tmp_path / "events.jsonl") == RUN
    path = tmp_path / "events.jsonl"
    path.write_bytes(path.read_bytes() + b'\n\xff\xfe\x00\n[1]\n{"no": "event"}\n\n{"event": "x"}')
    assert read_events(path) == [*RUN, {"event": "x"}]


def test_the_curves_of_a_run() -> None:
    curves = Curves.of(RUN)
    assert list(curves.loss) == [10, 20, 30, 40, 50]
    assert curves.dice == {50: pytest.approx(0.6)}
    assert curves.labels == {"ball": {50: 0.7}, "box": {50: 0.5}}
    assert curves.seconds[30] == 30


def test_after_a_resume_the_later_counts() -> None:
    # The first process got to step 50 in 51 s; the second goes on from a checkpoint at step 20.
    resumed = [{"event": "resumed", "seconds": 0.5}, step(30, 9.0, 8), step(40, 8.0, 18)]
    curves = Curves.of([*RUN, *resumed])
    assert curves.loss == {10: 0.15, 20: 0.075, 30: 9.0, 40: 8.0}
    assert curves.seconds[40] == pytest.approx(51 + 18)
    assert curves.seconds[20] == 20


def test_values_that_are_no_numbers_are_passed_over() -> None:
    events = [step(1, float("nan"), 1), {"event": "step"}, {"event": "pseudo", "step": 2,
              "dice": None, "mean": None}, pseudo(3, 3, ball=None)]  # fmt: skip
    curves = Curves.of(events)
    assert (curves.loss, curves.dice) == ({}, {})
    assert draw(curves)  # nothing to draw is no reason to stop


def test_the_running_mean_lies_in_the_middle_and_is_not_pulled_to_zero() -> None:
    constant = Curves.of([step(n, 0.4, n) for n in range(300)]).smoothed_loss()[2]
    assert constant == pytest.approx(0.4)
    rising = Curves.of([step(n, n / 300, n) for n in range(300)]).smoothed_loss()
    assert rising[2][150] == pytest.approx(rising[1][150]), "it does not lag behind"
    noisy = Curves.of([step(n, 1.0 + (-1) ** n, n) for n in range(300)]).smoothed_loss()
    assert noisy[2][20:-20] == pytest.approx(1.0, abs=1e-3)
    few = Curves.of(RUN).smoothed_loss()
    assert few[2][0] <= few[1][0] and len(few[2]) == 5


def test_the_picture_is_drawn_at_once_then_seldom_and_at_the_end(tmp_path: Path) -> None:
    now = [0.0]
    curve, path = Curve(tmp_path, every=15, clock=lambda: now[0]), tmp_path / "curve.png"
    drawn = []
    for number in range(1, 40):
        now[0] = float(number)
        event = step(number, 1 / number, number)
        before = path.read_bytes() if path.exists() else b""
        curve(event)
        if path.read_bytes() != before:
            drawn.append(number)
    assert drawn == [1, 16, 31]
    before = path.read_bytes()
    curve({"event": "warning", "seconds": 39.5, "text": "nothing new to draw"})
    assert path.read_bytes() == before
    curve({"event": "done", "seconds": 40, "steps": 39})
    assert path.read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]


def test_the_picture_has_two_panels_when_there_is_pseudo_dice(tmp_path: Path) -> None:
    alone = Image.open(io.BytesIO(draw(Curves.of(RUN[:-1]))))
    both = Image.open(io.BytesIO(draw(Curves.of(RUN))))
    assert both.height > 1.4 * alone.height
    assert draw(Curves.of(RUN), "svg").startswith(b"<?xml")


def test_a_resumed_run_shows_what_was_before(tmp_path: Path) -> None:
    write(tmp_path, [*RUN, step(60, 0.02, 61)])
    Curve(tmp_path)(step(60, 0.02, 61))
    both = (tmp_path / "curve.png").read_bytes()
    assert both == draw(Curves.of([*RUN, step(60, 0.02, 61)]))
    assert both != draw(Curves.of([step(60, 0.02, 61)]))


def test_a_long_run_is_drawn_quickly() -> None:
    curves = Curves.of([step(n, 1.0, n) for n in range(100_000)])
    draw(curves)  # the first one loads fonts
    start = time.process_time()
    draw(curves)
    assert time.process_time() - start < 2.5  # about 0.6 s when nothing else runs


def test_a_picture_that_cannot_be_written_does_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / "curve.png").mkdir()
    (tmp_path / "curve.png" / "full").touch()
    Curve(tmp_path)(RUN[1])
    assert (tmp_path / "curve.png").is_dir()


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    assert board.note == ""
    scores = {"held_out_cases": 2, "mean_dice": 0.8, "dice": {"ball": 0.8, "box": None}}
    for event in [*RUN, {"event": "paused"}, step(30, 9.0, 8, samples_per_second=12.5),
                  {"event": "done", "steps": 100, "scores": scores}]:  # fmt: skip
        board(event)
    read = loading.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    losses = [(scalar.step, scalar.value) for scalar in read.Scalars("training/loss")]
    assert [number for number, _ in losses] == [10, 20, 30]  # 30 to 50 went when 30 came again
    assert losses[-1][1] == 9.0
    assert set(read.Tags()["scalars"]) == {
        "training/loss",
        "training/learning_rate",
        "speed/samples_per_second",
        "pseudo_dice/mean",
        "pseudo_dice/ball",
        "pseudo_dice/box",
        "held_out_dice/mean",
        "held_out_dice/ball",
    }


def test_without_tensorboard_a_note_and_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    board = TensorBoard(tmp_path)
    assert "not installed" in board.note
    for event in RUN:
        board(event)
    board.close()
    assert not list(tmp_path.iterdir())


def test_plain_lines_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    validated = {"event": "validated", "case": "a", "dice": {"ball": 0.81234, "box": None},
                 "number": 1, "of": 2}  # fmt: skip
    done = {"event": "done", "scores": {"held_out_cases": 2, "mean_dice": 0.8, "dice": {}}}
    with TrainingDisplay(Console(file=io.StringIO())) as display:
        for event in [*RUN, {"event": "warning", "text": "slow disk"}, validated, done,
                      {"event": "of a later version"}]:  # fmt: skip
            display(event)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Training on 4 cases, 2 held out, on cpu in fp32"
    assert lines[1] == "  few tokens"
    assert lines[2] == "step     10  loss   0.1500   10.0%  10 min left"
    assert "pseudo Dice 0.600 (ball 0.700, box 0.500)" in lines[7]
    assert lines[8] == "Warning: slow disk"
    assert lines[9] == "held-out case 1 of 2: ball 0.812, box -"
    assert lines[10] == "mean Dice of 2 held-out cases: 0.8"


def test_a_bar_with_the_time_left_on_a_terminal() -> None:
    told = io.StringIO()
    console = Console(file=told, force_terminal=True, width=110, legacy_windows=False)
    with TrainingDisplay(console) as display:
        display(RUN[0])
        display(step(25, 0.4567, 100, data_wait=0.6))
        display(pseudo(25, 101, ball=0.5))
        display(step(26, 0.4, 102))
        display._bar.refresh()
    shown = told.getvalue()
    assert "Training on 4 cases" in shown
    assert "26.0 %" in shown
    assert "pseudo Dice 0.500 8 min left" in shown
    assert "Training on [" not in shown


def test_many_labels_are_told_by_the_lowest(capsys: pytest.CaptureFixture[str]) -> None:
    dice = {f"organ {n}": n / 10 for n in range(1, 10)}
    with TrainingDisplay(Console(file=io.StringIO())) as display:
        display({"event": "validated", "case": "a", "dice": dice, "number": 1, "of": 1})
    told = capsys.readouterr().out
    assert "9 labels, lowest organ 1 0.100, organ 2 0.200, organ 3 0.300" in told
