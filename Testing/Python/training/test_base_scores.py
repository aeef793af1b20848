"""A training scores its base on the same held-out cases, so that the two stand side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from meddinov3.bundle import read_bundle, update_description
from meddinov3_training import base_scores
from meddinov3_training.finetune import finetune
from short_runs import alone, narrow_base, quick, told  # noqa: F401
from synthetic_dataset import write_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "d", 3)


@pytest.fixture
def first(tmp_path: Path, dataset: Path) -> Path:
    """A model trained on the dataset; its own base knew the same structures."""
    base = narrow_base(tmp_path / "base", "x", "y")
    return finetune(dataset, tmp_path / "first", quick(base, precision="fp32"))


def test_base_that_segments_is_scored_on_each_held_out_case(
    tmp_path: Path, dataset: Path, first: Path
) -> None:
    run = tmp_path / "second"
    finetune(dataset, run, quick(first, precision="fp32"))
    ours, base_told = told(run, "validated"), told(run, "base_validated")
    assert [event["case"] for event in ours] == [event["case"] for event in base_told] != []
    (done,) = told(run, "done")
    # The base is the first run's model, trained and scored with the same seed and split.
    (before,) = told(tmp_path / "first", "done")
    assert done["base_scores"]["dice"] == before["scores"]["dice"]
    assert "The base" in (run / "report.html").read_text(encoding="utf-8")


def test_structures_are_matched_by_name_and_unknown_ones_have_no_score(
    tmp_path: Path, dataset: Path, first: Path
) -> None:
    description, _network = read_bundle(first)
    known, *others = description.labels
    renamed = [replace(label, name=f"other {n}") for n, label in enumerate(others)]
    update_description(first, replace(description, labels=(known, *renamed)))
    run = tmp_path / "second"
    finetune(dataset, run, quick(first, precision="fp32"))
    (done,) = told(run, "done")
    dice = done["base_scores"]["dice"]
    assert dice[known.name] is not None
    assert [dice[label.name] for label in others] == [None] * len(others)


def test_base_without_structures_is_not_scored_and_the_reason_is_told(
    tmp_path: Path, dataset: Path
) -> None:
    run = tmp_path / "run"
    finetune(dataset, run, quick("scratch:vit_tiny_patch16_dinov3_qkvb"))
    (done,) = told(run, "done")
    assert done["base_scores"] == {"why": "the base is no segmentation model"}
    assert told(run, "base_validated") == []


def test_pixels_stay_as_the_base_has_them_if_it_knows_the_structures(
    tmp_path: Path, dataset: Path, first: Path
) -> None:
    before, _network = read_bundle(first)
    again = finetune(dataset, tmp_path / "again", quick(first, spacing=None))
    assert read_bundle(again)[0].sampling.spacing == before.sampling.spacing == (1.0, 1.0)
    stranger = narrow_base(tmp_path / "stranger", "x", "y")
    other = finetune(dataset, tmp_path / "other", quick(stranger, spacing=None))
    assert read_bundle(other)[0].sampling.spacing != (1.0, 1.0)


def test_a_base_that_cannot_be_scored_fails_nothing(
    tmp_path: Path, dataset: Path, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no memory is left")

    monkeypatch.setattr(base_scores, "predict", fail)
    run = tmp_path / "second"
    bundle = finetune(dataset, run, quick(first))
    (done,) = told(run, "done")
    assert done["scores"]["dice"] and done["base_scores"] == {"why": "scoring the base failed"}
    assert "no memory is left" in told(run, "warning")[-1]["text"]
    assert (bundle / "model.json").is_file() and (run / "report.html").is_file()
