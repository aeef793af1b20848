"""The worker answers points and boxes on warm features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click_models import write_click_model
from meddinov3.errors import MedDINOv3Error
from meddinov3.features.click_model import load_click_model, open_click_tokens
from meddinov3.features.prompting import PromptSession
from meddinov3.features.prompts import Prompts
from meddinov3.volume import Volume
from meddinov3.worker.exchange import Exchange, read_label_map, write_label_map
from meddinov3.worker.feature_requests import FeatureRequests
from meddinov3.worker.messages import FreeMemory, Prompt, decode_request, encode_request
from test_worker_features import GRID, answers, encode
from workers import LONG, scan_array, tiny, worker

INSIDE, AWAY = (
    tuple(float(mm) for mm in GRID.to_patient(np.array(index)))
    for index in ([30.0, 12.0, 4.0], [10.0, 30.0, 2.0])
)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with Exchange(tmp_path) as made:
        yield made


def test_a_click_model_answers_in_another_process_as_in_this_one(
    tmp_path: Path, exchange: Exchange
) -> None:
    clicks = write_click_model(tmp_path / "clicks")
    model = load_click_model(str(clicks), "cpu")
    volume = Volume((scan_array(GRID),), GRID, "MR")
    session = PromptSession(open_click_tokens(volume, model), model)
    first = session.answer(Prompts(np.array([INSIDE])))
    second = session.answer(Prompts(np.array([INSIDE]), np.array([AWAY]), previous=first))
    with worker(tmp_path) as running:
        made = running.result(replace(encode(clicks, exchange, axis=2), pixels=0), LONG)
        handle, one, two = made["tokens"], exchange.new("one"), exchange.new("two")
        asked = Prompt(handle, str(one), (INSIDE,), model=str(clicks))  # type: ignore[arg-type]
        told = running.result(asked, LONG)
        assert told["voxels"] == first.sum()
        assert np.array_equal(read_label_map(one, GRID) != 0, first)
        asked = Prompt(handle, str(two), (INSIDE,), (AWAY,), previous=str(one), model=str(clicks))  # type: ignore[arg-type]
        running.result(asked, LONG)
        assert np.array_equal(read_label_map(two, GRID) != 0, second)
        running.result(FreeMemory(), LONG)
        with pytest.raises(MedDINOv3Error, match="not in memory"):
            running.result(asked, LONG)


def test_without_a_model_likeness_answers_and_keeps_to_the_box(
    tmp_path: Path, exchange: Exchange
) -> None:
    features = FeatureRequests()
    handle = str(answers(features, encode(tiny(tmp_path), exchange))["tokens"])
    low, high = (np.array(INSIDE) * (-1, -1, 1) + sign * 5.2 for sign in (-1, 1))
    box = ",".join(f"{mm:.2f}" for mm in np.stack([low, high], 1).ravel())
    result = exchange.new("mask")
    answers(features, Prompt(handle, str(result), (INSIDE,), box=box))  # type: ignore[arg-type]
    found = read_label_map(result, GRID)
    assert found[4, 12, 30] == 1
    outside = found.copy()
    outside[2:7, 7:18, 25:36] = 0
    assert not outside.any()
    features.close()


def test_prompts_without_sense_are_refused(tmp_path: Path, exchange: Exchange) -> None:
    features, bundle = FeatureRequests(), tiny(tmp_path)
    handle = str(answers(features, encode(bundle, exchange, whole=False))["tokens"])
    labels = exchange.new("other")
    write_label_map(labels, np.zeros((2, 2, 2), np.uint8))
    result = str(exchange.new("mask"))
    for request, code in (
        (Prompt(handle, result), "no-prompt"),
        (Prompt(handle, result, (INSIDE,), previous=str(labels)), "no-result"),  # type: ignore[arg-type]
        (Prompt(handle, result, (INSIDE,), model=str(bundle)), "no-click-model"),  # type: ignore[arg-type]
        (Prompt("gone", result, (INSIDE,)), "tokens-gone"),  # type: ignore[arg-type]
    ):
        with pytest.raises(MedDINOv3Error) as refused:
            answers(features, request)
        assert refused.value.code == code
    features.close()


def test_a_prompt_survives_the_line() -> None:
    request = Prompt(
        "a", "b", ((1.0, 2.0, 3.0),), ((4.5, 5.0, 6.0), (7.0, 8.0, 9.0)), "0,1,2,3,4,5"
    )
    assert decode_request(encode_request(3, request)) == (3, request)
