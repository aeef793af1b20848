"""Folds and the ensemble that they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from meddinov3.bundle import read_bundle
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import read_description
from meddinov3.network.segmenter import Ensemble
from meddinov3.segmentation import load_model, segment
from meddinov3_training import crossvalidation
from meddinov3_training.cli import meddinov3 as command
from meddinov3_training.crossvalidation import cross_validate
from meddinov3_training.finetune import finetune
from meddinov3_training.split import fold_split
from short_runs import alone, narrow_base, quick, told  # noqa: F401
from synthetic_dataset import write_dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Three cases, each held out once."""
    root = tmp_path_factory.mktemp("folds")
    dataset = write_dataset(root / "d", 3)
    base = narrow_base(root / "base", "x", "y")
    settings = quick(base, validation=None, name="organs")
    return dataset, root / "run", cross_validate(dataset, root / "run", settings)


def test_every_case_is_scored_by_the_fold_that_has_not_seen_it(
    made: tuple[Path, Path, Path],
) -> None:
    dataset, run, bundle = made
    from meddinov3_training.dataset import read_dataset

    cases = read_dataset(dataset).cases
    for fold in range(3):
        held_out = [case.id for case in fold_split(cases, fold)[1]]
        assert [e["case"] for e in told(run / f"fold_{fold}", "validated")] == held_out
        assert read_description(run / f"fold_{fold}/organs").training["fold"] == fold
    scores = read_description(bundle).scores
    assert scores["held_out_cases"] == 3
    values = [e["dice"]["ball"] for e in told(run, "validated")]
    assert scores["dice"]["ball"] == pytest.approx(np.mean(values), abs=1e-4)


def test_the_ensemble_averages_logits(made: tuple[Path, Path, Path]) -> None:
    dataset, run, bundle = made
    description, network = read_bundle(bundle)
    assert isinstance(network, Ensemble) and description.network.members == 3
    members = [read_bundle(run / f"fold_{fold}/organs")[1] for fold in range(3)]
    slices = torch.randn(2, 1, 40, 32)
    expected = torch.stack([member(slices) for member in members]).mean(dim=0)
    torch.testing.assert_close(network(slices), expected)
    assert not torch.allclose(network(slices), members[0](slices))
    result = segment(dataset / "imagesTr/case_0_0000.nrrd", load_model(str(bundle), device="cpu"))
    assert result.label_map.shape == (12, 40, 32)


def test_an_ensemble_is_a_base(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    dataset, _, bundle = made
    again = finetune(dataset, tmp_path / "run", quick(bundle, validation=0))
    assert read_description(again).network.members == 1


def test_folds_share_the_plan(made: tuple[Path, Path, Path]) -> None:
    _, run, _ = made
    plans = {(run / f"fold_{fold}/plan.json").read_text() for fold in range(3)}
    assert len(plans) == 1


def test_what_was_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    settings = quick(base, validation=None, name="m")
    calls: list[int | None] = []

    def once_fails(*arguments: object, **options: object) -> Path:
        calls.append(arguments[2].fold)  # type: ignore[attr-defined]
        if len(calls) == 2:
            raise KeyboardInterrupt
        return finetune(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(crossvalidation, "finetune", once_fails)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(dataset, tmp_path / "run", settings)
    cross_validate(dataset, tmp_path / "run", settings, resume=True)
    assert calls == [0, 1, 1, 2]


def test_the_command_trains_all_folds_and_knows_them_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    words = ["finetune", str(dataset), "--output", str(tmp_path / "run")]
    given = ["--base", str(base), "--steps", "1", "--batch", "2", "--spacing", "1,1"]
    command.main([*words, *given, "--device", "cpu", "--cross-validate"], standalone_mode=False)
    (bundle,) = [p.parent for p in (tmp_path / "run").glob("*/model.json")]
    assert read_description(bundle).network.members == 2
    command.main([*words, "--resume"], standalone_mode=False)
    assert read_description(bundle).network.members == 2
    assert "Fold 1, of 2" in capsys.readouterr().out


def test_another_dataset_is_refused_on_resume(made: tuple[Path, Path, Path]) -> None:
    _, run, _ = made
    other = write_dataset(run.parent / "other", 4)
    with pytest.raises(MedDINOv3Error) as caught:
        cross_validate(other, run, quick(run, validation=None, name="organs"), resume=True)
    assert caught.value.code == "dataset-changed"


def test_one_case_is_refused(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 1), narrow_base(tmp_path / "base", "x", "y")
    with pytest.raises(MedDINOv3Error):
        cross_validate(dataset, tmp_path / "run", quick(base, validation=None))
