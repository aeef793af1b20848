"""This project's side: ``meddinov3 finetune`` and ``meddinov3 segment``."""

from __future__ import annotations

import json
import sys
from typing import Any

import meddinov3
import torch

from nnunet.cells import DATA, Bench, Cell, call

NAME = "model"
COMMAND = [sys.executable, "-m", "meddinov3_training"]


def train(bench: Bench, cell: Cell, options: list[str]) -> dict[str, Any]:
    """Fine-tune on the cell's cases."""
    folder = bench.cell_folder(cell)
    output = folder / "run"
    used = [*DATA[cell.data].options, *options]
    command = ["finetune", str(bench.raw(cell)), "--output", str(output), "--name", NAME]
    command += ["--hold-out", "0", "--device", cell.device, "--budget", f"{cell.seconds:g}s"]
    call([*COMMAND, *command, *used], folder / "log.txt")
    lines = (output / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    start = next(event["seconds"] for event in events if event["event"] == "start")
    steps = next(event["steps"] for event in events if event["event"] == "done")
    return {
        "prepare_seconds": round(start, 1),
        "train_seconds": round(events[-1]["seconds"] - start, 1),
        "steps": steps,
        "options": used,
        "versions": {"meddinov3": meddinov3.__version__, "torch": torch.__version__},
    }


def predict(bench: Bench, cell: Cell) -> None:
    """Segment the test cases, averaged over mirrored copies where the model allows it."""
    folder = bench.cell_folder(cell)
    scans = [str(scan) for _, scan, _ in bench.test(cell.data)]
    command = ["segment", *scans, "--output", str(bench.predictions(cell)), "--quiet", "--mirror"]
    command += ["--model", str(folder / "run" / NAME), "--device", cell.device]
    call([*COMMAND, *command], folder / "log.txt")
