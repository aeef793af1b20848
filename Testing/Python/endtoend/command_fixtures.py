"""The ``meddinov3`` command in this process, with a tiny model and a real scan."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import describe, make_bundle
from meddinov3_training.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def meddinov3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the `meddinov3` command in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["meddinov3", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, " ".join(printed.err.split()))

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "tiny", describe("lesion", "vessel"))


@pytest.fixture
def scan(data: Path) -> Path:
    return data / "msd_hippocampus_mr" / "images" / "hippocampus_091.nii.gz"
