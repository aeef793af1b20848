"""Folds and the ensemble that they become."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from meddinov3.bundle import read_bundle
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.model_store import read_description
from meddinov3.network.segmenter import Ensemble
from meddinov3.segmentation import load_model, segment
from meddinov3_training import crossvalidation
from meddinov3_training import loop as loop_module
from meddinov3_training.cli import meddinov3 as command
from meddinov3_training.crossvalidation import cross_validate
from meddinov3_training.curves import draw_folds
from meddinov3_training.evaluation.evaluate import METRICS
from meddinov3_training.evaluation.results import read_scores
from meddinov3_training.finetune import finetune
from meddinov3_training.fold_progress import fold_curves
from meddinov3_training.run import Event, send_command
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


# The whole is told, commanded and scored in its own folder.


def test_scores_and_report_are_over_all_held_out_cases(made: tuple[Path, Path, Path]) -> None:
    _, run, _ = made
    whole = read_scores(run / "scores.json")
    assert [case.case for case in whole.cases] == ["case_0", "case_1", "case_2"]
    for fold in range(3):
        (own,) = read_scores(run / f"fold_{fold}/scores.json").cases
        assert own in whole.cases
    _, overall = whole.means(METRICS[0])
    assert overall.cases == 3 and overall.low <= overall.mean <= overall.high
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "3 of 3 folds" in page and "3 held-out cases" in page
    assert f"{overall.mean:.3f}" in page
    assert all(f"case_{number}" in page for number in range(3))


def test_progress_of_the_whole_is_told_and_drawn(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    heard: list[Event] = []
    settings = quick(base, validation=None, name="m", steps=40)
    cross_validate(dataset, tmp_path / "run", settings, heard.append)
    progress = told(tmp_path / "run", "progress")
    shares = [event["done"] for event in progress]
    assert shares == sorted(shares) and shares[0] == 0.0 and 0.9 < shares[-1] <= 1.0
    assert {(e["fold"], e["of"]) for e in progress} == {(0, 2), (1, 2)}
    assert {"preparing", "training", "scoring"} == {event["phase"] for event in progress}
    assert all(e["left"] is not None for e in progress if e["phase"] == "training")
    assert all(e["left"] is not None for e in progress if e["fold"] == 1), "one fold was timed"
    assert {"progress", "step", "validated"} <= {event["event"] for event in heard}
    assert (tmp_path / "run/curve.png").read_bytes().startswith(b"\x89PNG")
    assert "Training of the folds" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    drawn = draw_folds(fold_curves(tmp_path / "run"), "svg").decode()
    assert "fold 0" in drawn and "fold 1" in drawn


def stopping(run: Path, fold: int) -> Callable[[Event], None]:
    """A listener that stops the whole at a step of a fold."""
    seen: list[int] = []

    def listener(event: Event) -> None:
        if event["event"] == "fold":
            seen.append(event["fold"])
        if event["event"] == "step" and seen[-1] == fold:
            send_command(run, "stop")

    return listener


def test_stop_leaves_an_ensemble_of_the_finished_folds(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    run, settings = tmp_path / "run", quick(base, validation=None, name="m", steps=24)
    bundle = cross_validate(dataset, run, settings, stopping(run, 2))
    description, network = read_bundle(bundle)
    assert isinstance(network, Ensemble) and description.network.members == 2
    assert description.training["stopped_early"] and description.scores["held_out_cases"] == 2
    (event,) = told(run, "stopped")
    assert (event["model"], event["folds"], event["of"]) == ("m", 2, 3)
    assert "2 of 3 folds" in event["text"] and not told(run, "done")
    assert len(read_scores(run / "scores.json").cases) == 2
    assert told(run / "fold_2", "stopped") and not told(run / "fold_2", "validated")
    again = cross_validate(dataset, run, settings, resume=True)
    assert read_description(again).network.members == 3
    assert len(read_scores(run / "scores.json").cases) == 3
    assert not read_description(again).training["stopped_early"]


def test_one_finished_fold_is_a_model_too(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    run = tmp_path / "run"
    settings = quick(base, validation=None, name="m", steps=24)
    bundle = cross_validate(dataset, run, settings, stopping(run, 1))
    assert read_description(bundle).network.members == 1
    result = segment(dataset / "imagesTr/case_0_0000.nrrd", load_model(str(bundle), device="cpu"))
    assert result.label_map.shape == (12, 40, 32)


def test_stop_in_the_first_fold_says_what_there_is(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    run = tmp_path / "run"
    settings = quick(base, validation=None, name="m", steps=10**5)
    with pytest.raises(Cancelled):
        cross_validate(dataset, run, settings, stopping(run, 0))
    (event,) = told(run, "stopped")
    assert event["model"] is None and "fold_0/m" in event["text"]
    assert (run / "fold_0/m/model.json").is_file() and not (run / "m").exists()


def test_pause_of_the_whole_pauses_the_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "PAUSE", 0.01)
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")
    run = tmp_path / "run"
    once: list[int] = []

    def listener(event: Event) -> None:
        if event["event"] == "step" and not once:
            once.append(event["step"])
            send_command(run, "pause")
        if event["event"] == "paused":
            threading.Timer(0.2, send_command, (run, "go on")).start()

    settings = quick(base, validation=None, name="m", steps=40)
    assert cross_validate(dataset, run, settings, listener).is_dir()
    assert len(told(run / "fold_0", "paused")) == len(told(run / "fold_0", "resumed")) == 1


def test_too_small_a_budget_is_told_as_that_of_all_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "FEWEST_STEPS", 10**6)
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    settings = quick(base, validation=None, name="m", steps=None, seconds=1800.0)
    with pytest.raises(MedDINOv3Error) as caught:
        cross_validate(dataset, tmp_path / "run", settings)
    assert "30.0 min are" in caught.value.message
    assert "each of 3 folds" in caught.value.message
    (event,) = told(tmp_path / "run", "error")
    assert event["code"] == "budget-too-small"


def test_ctrl_c_is_told_for_the_whole(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 2), narrow_base(tmp_path / "base", "x", "y")

    def listener(event: Event) -> None:
        if event["event"] == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cross_validate(
            dataset,
            tmp_path / "run",
            quick(base, validation=None, name="m", steps=24),
            listener,
        )
    (event,) = told(tmp_path / "run", "interrupted")
    assert event["what"] == "training fold 0" and event["kept"]


def test_another_dataset_is_refused_on_resume(made: tuple[Path, Path, Path]) -> None:
    _, run, _ = made
    other = write_dataset(run.parent / "other", 4)
    with pytest.raises(MedDINOv3Error) as caught:
        cross_validate(other, run, quick(run, validation=None, name="organs"), resume=True)
    assert caught.value.code == "dataset-changed"


def test_a_case_that_changes_between_folds_ends_it(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    another = write_dataset(tmp_path / "another", 4)

    def correct(event: Event) -> None:
        if event["event"] == "fold" and event["fold"] == 1:
            shutil.copy(another / "labelsTr/case_3.nrrd", dataset / "labelsTr/case_0.nrrd")

    with pytest.raises(MedDINOv3Error, match="changed since") as caught:
        cross_validate(dataset, tmp_path / "run", quick(base, validation=None, name="m"), correct)
    assert caught.value.code == "dataset-changed"
    assert (tmp_path / "run/fold_0/m/model.json").is_file()


def test_one_case_is_refused(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 1), narrow_base(tmp_path / "base", "x", "y")
    with pytest.raises(MedDINOv3Error):
        cross_validate(dataset, tmp_path / "run", quick(base, validation=None))
