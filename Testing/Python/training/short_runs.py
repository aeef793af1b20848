"""Fine-tuning runs of a few steps, and what they leave behind."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import describe, make_bundle
from meddinov3_training.run import Event
from meddinov3_training.settings import Settings


@pytest.fixture(autouse=True, scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One thread, since two that wait for each other are slow on a busy machine; no real home."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDDINOV3_HOME", str(tmp_path_factory.mktemp("module_home")))
        yield
    torch.set_num_threads(threads)


def narrow_base(folder: Path, *names: str, width: int = 32, channels: int = 1) -> Path:
    """A bundle with random weights to start from."""
    described = describe(*names, channels=("MR", "T1", "T2")[:channels])
    overrides = {**described.network.overrides, "embed_dim": width}
    network = dataclasses.replace(described.network, overrides=overrides)
    return make_bundle(folder, dataclasses.replace(described, network=network))


def quick(base: Path, **choices: Any) -> Settings:
    """Two steps, enough to see that everything fits."""
    given = {"steps": 2, "batch": 2, "validation": 1, "spacing": (1.0, 1.0), "device": "cpu"}
    return Settings(base=str(base), **{**given, **choices})


def events_of(run: Path) -> list[Event]:
    lines = (run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def told(run: Path, kind: str) -> list[Event]:
    """The events of one kind."""
    return [event for event in events_of(run) if event["event"] == kind]


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
