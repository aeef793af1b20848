"""Workers for tests, also such that misbehave."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
from conftest import ROOT, describe, make_bundle
from meddinov3.grid import Grid
from meddinov3.worker.exchange import Exchange, write_scan
from meddinov3.worker.messages import Segment
from meddinov3.worker.process import WorkerProcess, worker_command

LONG = 120.0  # seconds; nothing here takes more than a few, but machines are busy
GRID = Grid((48, 40, 6), (1.0, 1.0, 2.0), (-20.0, 5.0, 7.5), np.diag([-1.0, 1.0, 1.0]))


def tiny(folder: Path) -> Path:
    """A narrow model with two labels."""
    return make_bundle(folder / "tiny", describe("liver", "spleen"))


def scan_array(grid: Grid = GRID) -> np.ndarray:
    return np.random.default_rng(3).integers(-100, 400, grid.shape).astype(np.int16)


def request(bundle: Path, exchange: Exchange, grid: Grid = GRID, **fields: object) -> Segment:
    """A request to segment a scan that was handed over."""
    scan = exchange.new("scan")
    write_scan(scan, [scan_array(grid)], grid, "MR")
    return Segment(
        str(bundle), device="cpu", scan=str(scan), result=str(exchange.new("result")), **fields
    )


def environment() -> dict[str, str]:
    parts = (ROOT / "Logic", ROOT / "training")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, parts))}


def misbehaving(tmp_path: Path, body: str) -> list[str]:
    """A worker in which `body` runs before each segmentation."""
    script = tmp_path / "misbehaving.py"
    script.write_text(
        "import ctypes, os, subprocess, sys, time\n"
        "from meddinov3.worker import __main__ as entry, server\n"
        "real = server.segment\n"
        "def segment(scan, model, **options):\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "\n    return real(scan, model, **options)\n"
        "server.segment = segment\n"
        "os._exit(entry.main())\n"
    )
    return [sys.executable, str(script)]


def worker(tmp_path: Path, body: str | None = None) -> WorkerProcess:
    command = worker_command() if body is None else misbehaving(tmp_path, body)
    return WorkerProcess(tmp_path / "worker.log", command, environment())


def wait_until_ready(process: WorkerProcess) -> None:
    end = time.monotonic() + LONG
    while process.client.ready is None:
        assert time.monotonic() < end and process.client.failure is None
        time.sleep(0.05)


def log_of(tmp_path: Path) -> str:
    return (tmp_path / "worker.log").read_text("utf-8", "replace")
