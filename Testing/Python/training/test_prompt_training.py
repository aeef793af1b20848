"""Click models: what they are taught with, and a run from a dataset to a model that answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA
from meddinov3.errors import MedDINOv3Error
from meddinov3.features.click_model import load_click_model, open_click_tokens
from meddinov3.features.prompting import PromptSession
from meddinov3.features.prompts import Prompts
from meddinov3.reading import read_volume
from meddinov3_training.crossvalidation import cross_validate
from meddinov3_training.finetune import finetune
from meddinov3_training.prompts.clicks import Click, deepest, next_clicks
from meddinov3_training.prompts.practice import drawn_box
from short_runs import alone, narrow_base, quick, told  # noqa: F401

HIPPOCAMPUS = DATA / "msd_hippocampus_mr_training"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return narrow_base(tmp_path_factory.mktemp("base") / "base", "a", "b", width=48)


@pytest.fixture(scope="module")
def hippocampi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the repository's cases, listed as the Decathlon does."""
    folder = tmp_path_factory.mktemp("hippocampi")
    images = sorted((HIPPOCAMPUS / "images").glob("*.nii.gz"))[:3]
    cases = [
        {"image": str(image), "label": str(HIPPOCAMPUS / "labels" / image.name)} for image in images
    ]
    content = {
        "name": "Hippocampi",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "anterior", "2": "posterior"},
        "training": cases,
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("frozen", [True, False])
def test_a_run_ends_in_a_click_model_that_answers(
    tmp_path: Path, hippocampi: Path, base: Path, frozen: bool
) -> None:
    settings = quick(base, prompts=True, frozen=frozen, steps=3, batch=2, spacing=(0.5, 0.5))
    bundle = finetune(hippocampi, tmp_path / "run", settings)
    model = load_click_model(str(bundle), "cpu")
    assert model.description.training["clicks"] == model.prompts.clicks == 10
    assert model.description.training["frozen"] is frozen
    done = told(tmp_path / "run", "done")[0]
    assert set(done["scores"]["dice"]) == {"1 click", "3 clicks", "5 clicks", "10 clicks"}
    scan = next((HIPPOCAMPUS / "images").glob("*.nii.gz"))
    volume = read_volume(scan)
    session = PromptSession(open_click_tokens(volume, model), model)
    centre = volume.grid.to_patient(np.array(volume.grid.size) // 2.0)
    mask = session.answer(Prompts(positive=centre[None]))
    k, j, i = (n // 2 for n in volume.grid.shape)
    assert mask.shape == volume.grid.shape and mask[k, j, i]


def test_the_next_click_lies_deepest_in_the_largest_wrong_part() -> None:
    wanted = np.zeros((9, 20, 20), dtype=bool)
    wanted[2:7, 3:12, 3:12] = True
    assert next_clicks(np.zeros_like(wanted), wanted, (1, 1, 1)) == [Click((4, 7, 7), True)]
    found = wanted.copy()
    found[1:8, 14:19, 1:8] = True  # too much, in a part of its own
    found[2, 3, 3] = False
    first, second = next_clicks(found, wanted, (1, 1, 1), 2)
    assert first == Click((4, 16, 4), False) and second == Click((2, 3, 3), True)
    assert next_clicks(wanted, wanted, (1, 1, 1)) == []


def test_depth_is_told_in_millimetres() -> None:
    wide = np.ones((9, 9, 9), dtype=bool)
    wide[:, :, 6:] = False
    wide[4, :, :] = True  # one slice reaches further: thick, if slices are far apart
    assert deepest(wide, (1.0, 1.0, 1.0))[2] in (2, 3)
    assert deepest(wide, (50.0, 1.0, 1.0)) == (4, 4, 4)
    thin = np.ones((5, 3, 9), dtype=bool)
    assert deepest(thin, (0.1, 5.0, 5.0))[0] == 2


def test_unannotated_places_are_not_clicked() -> None:
    wanted = np.ones((4, 4, 4), dtype=bool)
    valid = np.zeros_like(wanted)
    valid[:, :, 3] = True
    (click,) = next_clicks(np.zeros_like(wanted), wanted, (1, 1, 1), valid=valid)
    assert click.index[2] == 3


def test_a_drawn_box_is_about_the_structure() -> None:
    wanted = np.zeros((20, 40, 40), dtype=bool)
    wanted[5:15, 10:30, 10:30] = True
    for seed in range(20):
        box = drawn_box(wanted, np.random.default_rng(seed))
        assert (box & wanted).sum() > 0.8 * wanted.sum() and box.sum() < 4 * wanted.sum()


def test_click_models_are_not_cross_validated(tmp_path: Path, hippocampi: Path, base: Path) -> None:
    with pytest.raises(MedDINOv3Error, match="ensemble"):
        cross_validate(hippocampi, tmp_path / "run", quick(base, prompts=True))


def test_a_run_is_continued_as_if_it_had_not_been_interrupted(
    tmp_path: Path, hippocampi: Path, base: Path
) -> None:
    settings = quick(base, prompts=True, frozen=True, steps=4, spacing=(0.5, 0.5), validation=0)
    whole = finetune(hippocampi, tmp_path / "whole", settings)

    def interrupt(event: dict[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meddinov3_training.loop.REPORT_EVERY", 2)
        with pytest.raises(KeyboardInterrupt):
            finetune(hippocampi, tmp_path / "cut", settings, interrupt)
    again = finetune(hippocampi, tmp_path / "cut", settings, resume=True)
    first, second = (load_click_model(str(bundle), "cpu").decoder for bundle in (whole, again))
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_click_model_is_a_base_for_both_kinds(
    tmp_path: Path, hippocampi: Path, base: Path
) -> None:
    small = {"steps": 1, "spacing": (1.0, 1.0), "validation": 0, "frozen": True}
    clicks = finetune(hippocampi, tmp_path / "one", quick(base, prompts=True, **small))
    more = finetune(hippocampi, tmp_path / "two", quick(clicks, prompts=True, **small))
    assert not [n for n in told(tmp_path / "two", "start")[0]["notes"] if "anew" in n]
    assert load_click_model(str(more), "cpu").encoder.identity
    finetune(hippocampi, tmp_path / "three", quick(clicks, **small))
    notes = told(tmp_path / "three", "start")[0]["notes"]
    assert any("of another kind" in note for note in notes)
