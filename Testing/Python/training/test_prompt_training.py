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
from meddinov3.segmentation import load_model
from meddinov3_training.crossvalidation import cross_validate
from meddinov3_training.finetune import finetune
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
