"""Starting a run: nothing to configure, nothing in the way, nothing in the dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from meddinov3.errors import MedDINOv3Error
from meddinov3_training import decisions
from meddinov3_training import loop as loop_module
from meddinov3_training.cli import meddinov3 as command
from meddinov3_training.crossvalidation import cross_validate
from meddinov3_training.finetune import finetune, read_settings
from short_runs import alone, contents, narrow_base, quick, told  # noqa: F401
from synthetic_dataset import write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "d", 3)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return narrow_base(tmp_path / "base", "x", "y")


def test_without_a_budget_the_device_gives_one(
    tmp_path: Path,
    dataset: Path,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(decisions, "CPU_BUDGET", 0.6)
    monkeypatch.setattr(loop_module, "FEWEST_STEPS", 0)
    run = tmp_path / "run"
    words = ["finetune", str(dataset), "--base", str(base), "--output", str(run)]
    small = ["--device", "cpu", "--spacing", "1,1", "--batch", "2"]
    command.main([*words, *small], standalone_mode=False)
    assert read_settings(run).seconds == 0.6
    (note,) = [n for n in told(run, "start")[0]["notes"] if "budget" in n]
    assert "0.01 minutes, the default on a CPU" in note and "--budget" in note
    assert note in capsys.readouterr().out


def test_the_budget_suits_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = quick(Path("base"), steps=None)
    assert decisions.with_budget(asked).seconds == 1800
    monkeypatch.setattr(decisions, "choose_device", lambda _: decisions.torch.device("cuda"))
    assert decisions.with_budget(asked).seconds == 3600
    given = quick(Path("base"), steps=7)
    assert decisions.with_budget(given) == given and decisions.budget_note(given, given) == []


@pytest.mark.parametrize("way", [finetune, cross_validate])
def test_a_failed_start_is_no_obstacle(tmp_path: Path, dataset: Path, base: Path, way: Any) -> None:
    run = tmp_path / "run"
    several = {"validation": None} if way is cross_validate else {}
    with pytest.raises(MedDINOv3Error) as caught:
        way(dataset, run, quick(base, steps=None, seconds=0.01, name="m", **several))
    assert caught.value.code == "budget-too-small"
    assert way(dataset, run, quick(base, name="m", **several)).is_dir()
    assert told(run, "error") == []


def test_what_a_failed_start_left_is_kept_apart_from_other_files(
    tmp_path: Path, dataset: Path, base: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(MedDINOv3Error):
        finetune(dataset, run, quick(base, steps=None, seconds=0.01))
    (run / "thesis.txt").write_text("precious")
    before = contents(run)
    with pytest.raises(MedDINOv3Error) as caught:
        finetune(dataset, run, quick(base))
    assert caught.value.code == "run-exists" and contents(run) == before


@pytest.mark.parametrize("place", ["d", "d/runs/first", "d/../d/imagesTr/run", "."])
@pytest.mark.parametrize("way", [finetune, cross_validate])
def test_a_run_and_its_dataset_lie_apart(
    tmp_path: Path, dataset: Path, base: Path, place: str, way: Any
) -> None:
    before = contents(tmp_path)
    with pytest.raises(MedDINOv3Error) as caught:
        way(dataset, tmp_path / place, quick(base))
    assert caught.value.code == "output-and-dataset"
    assert contents(tmp_path) == before
