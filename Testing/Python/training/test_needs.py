"""Disk and memory are looked at before the cache is made."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from meddinov3.errors import MedDINOv3Error
from meddinov3.memory import machine_memory
from meddinov3_training import needs
from meddinov3_training.finetune import finetune
from safetensors.torch import load_file
from short_runs import alone, narrow_base, quick, told  # noqa: F401
from synthetic_dataset import write_dataset
from torch import nn


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "d", 2)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return narrow_base(tmp_path / "base", "x", "y")


def test_room_for_checkpoints_and_model_is_asked_for(
    tmp_path: Path, dataset: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = sum(v.numel() for v in load_file(base / "model.safetensors").values()) * 4
    checkpoint = 4 * weights
    cache = 2 * 12 * 40 * 32 * 3  # two scans, two bytes of image and one of label
    for free, fits in ((cache + 3 * checkpoint, False), (cache + 4 * checkpoint, True)):
        usage = SimpleNamespace(free=needs.SPARE + free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        run = tmp_path / str(fits)
        if fits:
            finetune(dataset, run, quick(base, validation=0))
            continue
        with pytest.raises(MedDINOv3Error, match="checkpoints") as caught:
            finetune(dataset, run, quick(base, validation=0))
        assert caught.value.code == "disk-full" and not (run / "cache").exists()


def test_a_sample_that_cannot_fit_is_told_before_the_cache(
    tmp_path: Path, dataset: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "available", lambda _: 2**20)
    with pytest.raises(MedDINOv3Error, match="single sample") as caught:
        finetune(dataset, tmp_path / "run", quick(base))
    assert caught.value.code == "out-of-memory" and not (tmp_path / "run/cache").exists()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_batch_that_does_not_fit_is_split_beforehand(
    tmp_path: Path, dataset: Path, base: Path, monkeypatch: pytest.MonkeyPatch, frozen: bool
) -> None:
    settings = quick(base, batch=6, drop_path=0.0, frozen=frozen, decoder_rate=1e-2)
    whole = finetune(dataset, tmp_path / "whole", settings)
    seen: list[int] = []
    real = needs.kept_for_backward

    def measured(*arguments: object) -> int:
        seen.append(real(*arguments))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(needs, "kept_for_backward", measured)
    trained = 4 * sum(
        v.numel() * 4
        for name, v in load_file(base / "model.safetensors").items()
        if not (frozen and name.startswith("backbone."))
    )
    # Room for three samples: as many as one needs by itself, and two more.
    monkeypatch.setattr(
        needs, "available", lambda _: Room(lambda: trained + seen[0] + 2 * (seen[1] - seen[0]))
    )
    parts = finetune(dataset, tmp_path / "parts", settings)
    (note,) = [n for n in told(tmp_path / "parts", "start")[0]["notes"] if "parts" in n]
    assert "in 2 parts" in note
    assert not any("parts" in n for n in told(tmp_path / "whole", "start")[0]["notes"])
    first, second = (load_file(b / "model.safetensors") for b in (whole, parts))
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=2e-3, rtol=2e-2, msg=name)


class Room:
    """A number of bytes that is known once the need was measured."""

    def __init__(self, known: object) -> None:
        self._known = known

    def __lt__(self, other: int) -> bool:
        return self._known() < other  # type: ignore[operator, no-any-return]


def test_what_the_backward_pass_needs_is_counted() -> None:
    """A linear layer keeps its input, ReLU its output, and the weights are there anyway."""
    layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    for samples in (1, 5):
        images = torch.zeros(samples, 4)
        kept = needs.kept_for_backward(layers, lambda images=images: layers(images).sum())
        assert kept == samples * (4 + 8) * 4


def test_a_machine_gives_a_share_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    whole = needs.available(torch.device("cpu"))
    assert 0.5 * machine_memory() < whole < machine_memory()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert needs.available(torch.device("cpu")) == whole // 2


def test_one_sample_that_fits_is_enough(
    tmp_path: Path, dataset: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = needs.kept_for_backward, []

    def measured(*arguments: object) -> int:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError  # over two samples
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(needs, "kept_for_backward", measured)
    run = tmp_path / "run"
    finetune(dataset, run, quick(base, batch=4))
    (start,) = told(run, "start")
    assert any("in 4 parts" in note for note in start["notes"])
