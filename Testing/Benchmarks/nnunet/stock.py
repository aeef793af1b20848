"""nnU-Net's side: 2D, from the package index, in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import venv
from pathlib import Path
from typing import Any

from nnunet.cells import Bench, Cell, call

VERSION = "2.8.1"
TRAINERS = Path(__file__).resolve().parent / "trainers"
CONSTRAINTS = Path(__file__).resolve().parents[3] / "constraints.txt"
# The console scripts' functions: the same on every system, for any interpreter.
ENTRIES = {
    "plan": "experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry",
    "train": "run.run_training:run_training_entry",
    "predict": "inference.predict_from_raw_data:predict_entry_point",
}
ITERATIONS = 250  # of a stock epoch
EPOCHS = 100  # wanted for the polynomial schedule, as long as an epoch then lasts
EPOCH_SECONDS = 15.0  # (plots and checkpoints cost about one), though never fewer than
FEWEST_EPOCHS = 20
PROBE_EPOCHS, PROBE_ITERATIONS = 2, 10


def environment_python(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def prepare(folder: Path) -> None:
    """Make the environment: nnU-Net with this project's torch."""
    python = environment_python(folder)
    if not python.exists():
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    # Of our constraints only torch: nnU-Net wants a timm below ours.
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(line for line in lines if line.startswith("torch")) + "\n")
    install = ["-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir", "--quiet"]
    wanted = ["-c", str(constraints), f"nnunetv2=={VERSION}", "torch", "torchvision"]
    subprocess.run([str(python), *install, *wanted], check=True)
    print(f"ready: {versions(python)}")


def versions(python: Path) -> dict[str, str]:
    """What the environment holds."""
    code = (
        "import json, torch, importlib.metadata as m, nnunetv2;"
        "print(json.dumps({'nnunetv2': m.version('nnunetv2'), 'torch': torch.__version__}))"
    )
    done = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.environ.get("NNUNET_PYTHONPATH", "")},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{done.stderr}\n{python} has no nnU-Net; run `prepare` first")
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


class Stock:
    """nnU-Net's commands for one cell.

    Args:
        bench: folders.
        cell: what to train.
        python: an interpreter that has nnU-Net.
    """

    def __init__(self, bench: Bench, cell: Cell, python: Path) -> None:
        self.bench, self.cell, self.python = bench, cell, python
        self.folder = bench.cell_folder(cell)
        self.raw = bench.raw(cell)

    def train(self) -> dict[str, Any]:
        """Plan, preprocess, time a few iterations, train."""
        found = versions(self.python)
        begin = time.monotonic()
        self._prepare()
        prepared = time.monotonic() - begin
        iterations, epochs = self._lengths()
        told = self._train("results", self.cell.seconds, epochs, iterations)
        return {
            "prepare_seconds": round(prepared, 1),
            "train_seconds": round(told["train_seconds"], 1),
            "steps": told["epochs"] * told["iterations"],
            "epochs": told["epochs"],
            "iterations_per_epoch": told["iterations"],
            "patch": told["patch"],
            "batch": told["batch"],
            "spacing": told["spacing"],
            "compiled": self._environment("results")["nnUNet_compile"],
            "versions": found,
        }

    def _environment(self, results: str, **more: object) -> dict[str, str]:
        """For the child only."""
        cpu = self.cell.device == "cpu"
        environment = {
            **os.environ,
            "PYTHONPATH": os.environ.get("NNUNET_PYTHONPATH", ""),  # not this project's
            "nnUNet_raw": str(self.raw.parent),
            "nnUNet_preprocessed": str(self.bench.work / "preprocessed"),
            "nnUNet_results": str(self.folder / results),
            "nnUNet_extTrainer": str(TRAINERS),
            **{f"BENCHMARK_{name.upper()}": str(value) for name, value in more.items()},
        }
        environment.setdefault("nnUNet_def_n_proc", "2")
        environment.setdefault(
            "nnUNet_n_proc_DA", "1" if cpu else str(min(12, os.cpu_count() or 1))
        )
        environment.setdefault("nnUNet_compile", "f" if cpu else "t")  # as stock
        return environment

    def _call(self, entry: str, *arguments: object, environment: dict[str, str]) -> None:
        module, function = ENTRIES[entry].split(":")
        code = f"from nnunetv2.{module} import {function}; {function}()"
        command = [str(self.python), "-c", code, *map(str, arguments)]
        call(command, self.folder / "log.txt", environment)

    def _prepare(self) -> None:
        # Repeated for every cell, so that its time can be told.
        shutil.rmtree(self.bench.work / "preprocessed" / self.raw.name, ignore_errors=True)
        self._call(
            "plan", "-d", self.cell.nnunet_id, "-c", "2d", "-np", 2, "-npfp", 2,
            environment=self._environment("results"),
        )  # fmt: skip

    def _train(self, results: str, seconds: float, epochs: int, iterations: int) -> dict[str, Any]:
        report = self.folder / f"{results}.json"
        environment = self._environment(
            results, seconds=seconds, epochs=epochs, iterations=iterations, report=report
        )
        self._call(
            "train", self.cell.nnunet_id, "2d", "all", "-tr", "BudgetTrainer",
            "-device", self.cell.device, environment=environment,
        )  # fmt: skip
        told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return told

    def _lengths(self) -> tuple[int, int]:
        """Iterations of an epoch, and epochs, from the pace of a short run."""
        told = self._train("probe", 0, PROBE_EPOCHS, PROBE_ITERATIONS)["last_epoch"]
        iteration = (told["train"] + told["validation"]) / PROBE_ITERATIONS
        overhead = told["last_epoch"] - told["train"] - told["validation"]
        seconds = self.cell.seconds
        wanted = max(min(EPOCH_SECONDS, seconds / FEWEST_EPOCHS), seconds / EPOCHS)
        iterations = max(5, min(ITERATIONS, round((wanted - overhead) / iteration)))
        epochs = max(1, round(seconds / (overhead + iterations * iteration)))
        print(
            f"nnU-Net: {iteration:.3f} s an iteration, {epochs} epochs of {iterations}", flush=True
        )
        shutil.rmtree(self.folder / "probe", ignore_errors=True)
        return iterations, epochs

    def predict(self) -> None:
        """With mirroring and overlapping windows, from the last weights."""
        inputs, output = self.folder / "imagesTs", self.bench.predictions(self.cell)
        inputs.mkdir(parents=True, exist_ok=True)
        for name, scan, _ in self.bench.test(self.cell.data):
            shutil.copyfile(scan, inputs / f"{name}_0000.nii.gz")
        self._call(
            "predict", "-i", inputs, "-o", output, "-d", self.cell.nnunet_id, "-c", "2d",
            "-f", "all", "-tr", "BudgetTrainer", "-chk", "checkpoint_final.pth",
            "-device", self.cell.device, "-npp", 1, "-nps", 1,
            environment=self._environment("results"),
        )  # fmt: skip
        shutil.rmtree(inputs)


def default_python(work: Path) -> Path:
    """The interpreter that `prepare` makes."""
    return environment_python(work / "nnunet-env")
