"""What is compared: data, how many training cases, budget, device, and whose training."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from meddinov3.atomic import whole_file, whole_folder

SEED = 0  # of the order in which training cases are taken


@dataclass(frozen=True)
class Data:
    """A data set of ../shared/data: where it lies, and how this project trains on it.

    Attributes:
        folder: below the data folder.
        number: nnU-Net's dataset id for 0 training cases; the cases are added.
        options: of ``meddinov3 finetune``.
    """

    folder: str
    number: int
    options: tuple[str, ...]


SMALL_NETWORK = (
    "--base", "scratch:vit_tiny_patch16_dinov3_qkvb", "--batch", "8", "--precision", "bf16",
    "--decoder-rate", "8e-4", "--backbone-rate", "8e-4",
)  # fmt: skip
DATA = {
    # Larger pixels than the plan's own: twice as many steps fit into a budget, see the README.
    "hippocampus": Data(
        "msd_hippocampus_mr", 300,
        (*SMALL_NETWORK, "--spacing", "0.4,0.4", "--drop-path", "0", "--context=-2,-1,0,1,2"),
    ),
    # A quarter of the scans' 4 mm: the cord is 10 mm across.
    "headneck": Data(
        "openkbp_headneck_ct", 400, (*SMALL_NETWORK, "--spacing", "1,1", "--context=-3,0,3"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One training of the table.

    Attributes:
        data: a name in DATA.
        cases: training cases.
        seconds: wall time of training.
        device: ``cpu`` or ``cuda``.
        side: ``ours`` or ``nnunet``.
        variant: other options than the usual ones, by a name; "" for the usual ones.
    """

    data: str
    cases: int
    seconds: float
    device: str
    side: str
    variant: str = ""

    @property
    def key(self) -> str:
        """Its name in the results."""
        parts = [self.data, str(self.cases), f"{self.seconds:g}s", self.device, self.side]
        return "-".join(parts + ([self.variant] if self.variant else []))

    @property
    def nnunet_id(self) -> int:
        """The dataset id that nnU-Net knows the training cases by."""
        return DATA[self.data].number + self.cases


class Bench:
    """The folder of the comparison, and the data it reads.

    Args:
        work: everything is written here.
        data: the shared data folder; never written to.
    """

    def __init__(self, work: Path, data: Path) -> None:
        self.work, self.data = work.resolve(), data.resolve()
        self.results_file = self.work / "results.json"

    def listed(self, name: str, which: str) -> list[dict[str, str]]:
        """The ``training`` or ``test`` entries of a data set's dataset.json."""
        path = self.data / DATA[name].folder / "dataset.json"
        entries: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))[which]
        return sorted(entries, key=lambda entry: entry["image"])

    def training(self, cell: Cell) -> list[dict[str, str]]:
        """The first cases of one fixed permutation: 5 are among the 10, 10 among all."""
        entries = self.listed(cell.data, "training")
        order = np.random.default_rng(SEED).permutation(len(entries))
        return [entries[n] for n in order[: cell.cases]]

    def test(self, name: str) -> list[tuple[str, Path, Path]]:
        """Id, scan and label map of the test cases."""
        folder = self.data / DATA[name].folder
        return [
            (case_id(entry), folder / entry["image"], folder / entry["label"])
            for entry in self.listed(name, "test")
        ]

    def cell_folder(self, cell: Cell) -> Path:
        """Where a cell's runs, logs and predictions lie."""
        return self.work / "cells" / cell.key

    def predictions(self, cell: Cell) -> Path:
        """Label maps of the test cases, ID.nii.gz."""
        return self.cell_folder(cell) / "predictions"

    def raw(self, cell: Cell) -> Path:
        """The training cases in nnU-Net's raw layout, the same for both sides."""
        target = self.work / "raw" / f"Dataset{cell.nnunet_id}_{cell.data}"
        if target.exists():
            return target
        source = self.data / DATA[cell.data].folder
        content = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
        with whole_folder(target) as folder:
            for name in ("imagesTr", "labelsTr"):
                (folder / name).mkdir()
            for entry in self.training(cell):
                name = case_id(entry)
                shutil.copyfile(source / entry["image"], folder / f"imagesTr/{name}_0000.nii.gz")
                shutil.copyfile(source / entry["label"], folder / f"labelsTr/{name}.nii.gz")
            described = {
                "name": content["name"],
                "channel_names": content["modality"],
                "labels": {name: int(value) for value, name in content["labels"].items()},
                "numTraining": cell.cases,
                "file_ending": ".nii.gz",
                "licence": content["licence"],
            }
            (folder / "dataset.json").write_text(json.dumps(described, indent=2), encoding="utf-8")
        return target

    def results(self) -> dict[str, dict[str, Any]]:
        """The finished cells."""
        if not self.results_file.exists():
            return {}
        found: dict[str, dict[str, Any]] = json.loads(self.results_file.read_text("utf-8"))
        return found

    def keep(self, key: str, result: dict[str, Any]) -> None:
        """Add or replace a finished cell."""
        write_json(self.results_file, {**self.results(), key: result})


def write_json(target: Path, content: object) -> None:
    """Write a file whole or not at all."""
    with whole_file(target) as path:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")


def case_id(entry: dict[str, str]) -> str:
    """A case's id, from its entry in dataset.json."""
    return Path(entry["label"]).name.removesuffix(".nii.gz")


def call(command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
    """Run a command, its output into a file; its last lines are shown if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as stream:
        stream.write(f"$ {' '.join(command)}\n")
        stream.flush()
        done = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, check=False
        )
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
        raise SystemExit("\n".join([*lines, f"failed ({done.returncode}); the log is {log}"]))
