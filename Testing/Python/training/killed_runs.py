"""Runs that are killed and taken up again, until they are done."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from conftest import ROOT
from meddinov3.bundle import sha256

# A checkpoint after every step, so that many kills fall into the writing of one.
OPTIONS = (
    "--steps", "60", "--batch", "2", "--hold-out", "1", "--spacing", "1,1", "--device", "cpu",
    "--name", "model", "--checkpoint-every", "0s",
)  # fmt: skip
START = (
    "import sys; sys.path[:0] = {paths!r}; import torch; torch.set_num_threads(1); "
    # A shell that starts the tests in the background makes its children deaf to Ctrl-C.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from meddinov3_training.cli import main; main()"
)


def command(dataset: Path, base: Path, run: Path, *more: str) -> list[str]:
    code = START.format(paths=[str(ROOT / "Logic"), str(ROOT / "training")])
    begun = [] if "--resume" in more else ["--base", str(base), *OPTIONS]
    return [sys.executable, "-c", code, "finetune", str(dataset), "--output", str(run), *begun,
            *more]  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def weights_of(run: Path) -> str:
    return sha256(run / "model/model.safetensors")


def straight(dataset: Path, base: Path, run: Path) -> str:
    """Hash of the weights of a run that nobody disturbs."""
    subprocess.run(command(dataset, base, run), check=True, env=environment(), capture_output=True)
    return weights_of(run)


def writing(run: Path) -> bool:
    """Whether a checkpoint is half-written at this moment."""
    return any((run / "checkpoints").glob("*.tmp/*")) if (run / "checkpoints").is_dir() else False


def kill(dataset: Path, base: Path, run: Path, when: Callable[[float], bool], number: int) -> bool:
    """Start or continue the run and kill it; False if it was done before.

    Args:
        dataset, base, run: as for the command.
        when: asked again and again with the seconds since the first step; True kills.
        number: of kills before.
    """
    more = ("--resume",) if (run / "config.json").is_file() else ()
    log = run.with_suffix(f".{number}.log")
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            command(dataset, base, run, *more), env=environment(), stdout=stream, stderr=stream
        )
        before = len(_lines(run))
        begun = 0.0
        while process.poll() is None:
            if not begun and any('"start"' in line for line in _lines(run)[before:]):
                begun = time.monotonic()
            if begun and when(time.monotonic() - begun):
                process.kill()
                break
            time.sleep(0.002)
        code = process.wait()
    if code == 0:
        return False
    if process.returncode > 0:
        raise AssertionError(log.read_text())
    return True


def killed_often(dataset: Path, base: Path, run: Path, times: int, seed: int) -> tuple[int, int]:
    """Kill `times` times, every other time while a checkpoint is being written.

    Returns:
        Kills, and those that hit a half-written checkpoint.
    """
    draw, kills, hits = random.Random(seed), 0, 0
    for number in range(times):
        moment = draw.uniform(0, 0.6)
        hit = False

        def when(seconds: float, number: int = number, moment: float = moment) -> bool:
            nonlocal hit
            if number % 2 == 0 and seconds < 10:
                hit = seconds > moment / 3 and writing(run)
                return hit
            return seconds > moment

        if not kill(dataset, base, run, when, number):
            break
        kills, hits = kills + 1, hits + hit
    while kill(dataset, base, run, lambda _: False, 1000):
        pass
    return kills, hits


def _lines(run: Path) -> list[str]:
    try:
        return (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
