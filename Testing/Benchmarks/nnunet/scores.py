"""The same metric for both sides, and the table."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from meddinov3.reading import read_label_map
from meddinov3_training.dataset import read_dataset
from meddinov3_training.metrics import dice_per_label

from nnunet.cells import Bench, Cell

Scores = dict[str, dict[str, float | None]]


def score(bench: Bench, cell: Cell) -> dict[str, Any]:
    """Dice of each test case and label, its means over cases, and their mean.

    A label that neither prediction nor reference has is left out, as nnU-Net does.
    """
    dataset = read_dataset(bench.raw(cell))
    cases: Scores = {}
    for name, _, reference_file in bench.test(cell.data):
        prediction, grid = read_label_map(bench.predictions(cell) / f"{name}.nii.gz")
        reference, expected = read_label_map(reference_file)
        if not grid.same_as(expected, tolerance=0.01):
            raise SystemExit(f"the prediction of {name} in {cell.key} is on another grid")
        cases[name] = {
            label: None if value is None else round(value, 4)
            for label, value in dice_per_label(prediction, reference, dataset).items()
        }
    means = {label.name: _mean(cases, label.name) for label in dataset.labels}
    known = [value for value in means.values() if value is not None]
    return {
        "mean_dice": round(float(np.mean(known)), 4) if known else None,
        "dice": means,
        "cases": cases,
    }


def _mean(cases: Scores, label: str) -> float | None:
    values = [scores[label] for scores in cases.values() if scores[label] is not None]
    return round(float(np.mean(np.array(values, dtype=float))), 4) if values else None


def device_name(device: str) -> str:
    """The processor or card that was used."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return f"{os.cpu_count()} cores of {name}"


def load_average() -> float | None:
    """Processes that ran on this machine in the last minute: above zero, times are not fair."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown, one table a data set."""
    lines = []
    for data in sorted({result["data"] for result in results.values()}, reverse=True):
        rows = [result for result in results.values() if result["data"] == data]
        labels = list(rows[0]["dice"])
        lines += [f"{data}, Dice on {len(rows[0]['test'])} test cases:", ""]
        head = ["training cases", "budget", "device", "method", *labels, "mean",
                "trained for", "steps", "preparation", "load before"]  # fmt: skip
        lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        rows.sort(key=lambda r: (r["device"], r["seconds"], r["training_cases"], r["side"]))
        lines += [f"| {' | '.join(_row(row, labels))} |" for row in rows]
        lines.append("")
    return "\n".join(lines)


def _row(row: dict[str, Any], labels: list[str]) -> list[str]:
    method = {"ours": "MedDINOv3", "nnunet": "nnU-Net 2D"}[row["side"]]
    if row["variant"]:
        method += f" ({row['variant']})"
    values = [row["dice"][label] for label in labels] + [row["mean_dice"]]
    return [
        str(row["training_cases"]),
        f"{row['seconds'] / 60:g} min",
        row["device_name"],
        method,
        *("-" if value is None else f"{value:.3f}" for value in values),
        f"{row['train_seconds'] / 60:.1f} min",
        str(row["steps"]),
        f"{row['prepare_seconds']:.0f} s",
        "-" if row["load_before"] is None else f"{row['load_before']:.1f}",
    ]
