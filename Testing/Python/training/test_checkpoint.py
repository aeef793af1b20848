"""Checkpoints: whole or not at all, and the last sound one is found."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from meddinov3.errors import MedDINOv3Error
from meddinov3_training import checkpoint as module
from meddinov3_training.checkpoint import read_newest, remove_checkpoints, write_checkpoint

TENSORS = {"a": torch.arange(5.0), "b": torch.tensor(7, dtype=torch.int64)}


def steps(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 12, TENSORS, {"elapsed": 3.25, "learner": {"parts": 2}})
    found, notes = read_newest(tmp_path)
    assert found is not None and notes == []
    assert found.step == 12
    assert found.facts == {"elapsed": 3.25, "learner": {"parts": 2}}
    assert all(torch.equal(found.tensors[k], v) for k, v in TENSORS.items())
    assert found.tensors["b"].dtype == torch.int64


def test_the_newest_two_are_kept_in_order_of_number(tmp_path: Path) -> None:
    for step in (8, 99, 999_999, 1_000_000):
        write_checkpoint(tmp_path, step, TENSORS, {})
    assert steps(tmp_path) == ["1000000", "999999"]
    found, _ = read_newest(tmp_path)
    assert found is not None and found.step == 1_000_000


def test_a_damaged_one_takes_no_place_among_the_two(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        write_checkpoint(tmp_path, step, TENSORS, {})
    (tmp_path / "checkpoints/000030/state.safetensors").write_bytes(b"rubbish")
    write_checkpoint(tmp_path, 25, TENSORS, {})  # continued from 20
    assert steps(tmp_path) == ["000020", "000025"]
    (tmp_path / "checkpoints/000020/state.json").write_text("{")
    write_checkpoint(tmp_path, 40, TENSORS, {})
    assert steps(tmp_path) == ["000025", "000040"]


def test_a_copied_checkpoint_counts(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, TENSORS, {})
    os.utime(tmp_path / "checkpoints/000001/state.safetensors", (1, 1))
    write_checkpoint(tmp_path, 2, TENSORS, {})
    assert steps(tmp_path) == ["000001", "000002"]


@pytest.mark.parametrize("damage", ["cut", "flip", "facts", "missing"])
def test_a_damaged_newest_is_passed_over_and_named(tmp_path: Path, damage: str) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, step, TENSORS, {})
    newest = tmp_path / "checkpoints/000002"
    tensors, facts = newest / "state.safetensors", newest / "state.json"
    content = bytearray(tensors.read_bytes())
    if damage == "cut":
        tensors.write_bytes(content[:-3])
    elif damage == "flip":
        content[-1] ^= 1
        tensors.write_bytes(content)
    elif damage == "facts":
        facts.write_text(facts.read_text()[:20])
    else:
        tensors.unlink()
    found, notes = read_newest(tmp_path)
    assert found is not None and found.step == 1
    assert len(notes) == 1 and "checkpoint 2" in notes[0]


def test_an_unfinished_one_does_not_count_and_none_is_none(tmp_path: Path) -> None:
    assert read_newest(tmp_path) == (None, [])
    (tmp_path / "checkpoints/000007.tmp").mkdir(parents=True)
    assert read_newest(tmp_path) == (None, [])


def test_a_full_disk_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path, 1, TENSORS, {})

    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(MedDINOv3Error) as caught:
        write_checkpoint(tmp_path, 2, TENSORS, {})
    assert caught.value.code == "checkpoint-not-written" and "--resume" in caught.value.remedy
    assert steps(tmp_path) == ["000001"]


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, TENSORS, {"x": 1})
    write_checkpoint(tmp_path, 1, TENSORS, {"x": 2})
    found, _ = read_newest(tmp_path)
    assert found is not None and found.facts == {"x": 2}


def test_nothing_is_pickled(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 1, TENSORS, {})
    assert {p.name for p in folder.iterdir()} == {"state.safetensors", "state.json"}
    json.loads((folder / "state.json").read_text())


def test_removed_when_of_no_more_use(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, TENSORS, {})
    remove_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []
