"""Points and boxes without a trained model, and the promises that every answer keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click_models import NAME, click_description, click_model, write_click_model
from conftest import TINY, describe, make_bundle
from meddinov3.bundle import read_bundle, read_prompt_bundle
from meddinov3.description import ModelDescription, PromptDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.features.click_model import (
    load_click_model,
    open_click_tokens,
)
from meddinov3.features.encoder import Encoder, load_encoder, wrap_backbone
from meddinov3.features.encoding import open_tokens
from meddinov3.features.grid import FeatureGrid
from meddinov3.features.prompting import PromptSession
from meddinov3.features.prompts import Prompts
from meddinov3.features.tokens import TokenVolume
from meddinov3.grid import Grid
from meddinov3.model_store import find_model, installed_models
from meddinov3.network.backbone import Backbone, BackboneShape
from meddinov3.network.prompt_decoder import neighbouring
from meddinov3.network.prompt_maps import Stack, StackPrompts, draw_prompts
from meddinov3.network.prompt_segmenter import PromptSegmenter
from meddinov3.region import BoxRegion
from meddinov3.segmentation import load_model
from meddinov3.volume import Volume
from scipy.spatial.transform import Rotation

PLAIN = Grid((56, 40, 28), (1.0, 1.0, 1.0), (-20.0, 15.0, 7.0), np.eye(3))
TURNED = Rotation.from_rotvec([0.3, -0.2, 0.4]).as_matrix() @ np.diag([-1.0, 1.0, -1.0])
OBLIQUE = Grid((64, 40, 14), (0.9, 1.1, 2.4), (30.0, -80.0, 12.0), TURNED)
RADIUS = 8.0  # mm


def centres(grid: Grid) -> np.ndarray:
    """LPS places of two balls, apart along i and in the middle otherwise."""
    middle = (np.array(grid.size) - 1) / 2
    shift = np.array([grid.size[0] / 4, 0.0, 0.0])
    return grid.to_patient(np.stack([middle - shift, middle + shift]))


def ball(grid: Grid, centre: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    k, j, i = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    points = grid.to_patient(np.stack([i, j, k], axis=-1).astype(float))
    return np.asarray(np.linalg.norm(points - centre, axis=-1) <= radius)


def two_balls(grid: Grid) -> tuple[Volume, list[np.ndarray]]:
    masks = [ball(grid, centre) for centre in centres(grid)]
    scan = np.random.default_rng(0).normal(100, 8, grid.shape)
    for mask in masks:
        scan[mask] += 60
    return Volume((scan.astype(np.float32),), grid, "MR"), masks


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return wrap_backbone(Backbone(BackboneShape(NAME, 1, TINY), layer_scale=1.0))


def opened(grid: Grid, encoder: Encoder) -> tuple[TokenVolume, list[np.ndarray]]:
    volume, masks = two_balls(grid)
    return open_tokens(volume, encoder, pixels=208), masks


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def value_at(mask: np.ndarray, grid: Grid, point: np.ndarray) -> bool:
    i, j, k = np.floor(grid.to_index(point) + 0.5).astype(int)
    return bool(mask[k, j, i])


@pytest.mark.parametrize("grid", [PLAIN, OBLIQUE])
@pytest.mark.parametrize("asked", [0, 1])
def test_a_point_on_one_of_two_balls_gives_that_ball(
    grid: Grid, asked: int, encoder: Encoder
) -> None:
    tokens, masks = opened(grid, encoder)
    found = PromptSession(tokens).answer(Prompts(positive=centres(grid)[[asked]]))
    assert found.shape == grid.shape
    assert dice(found, masks[asked]) >= 0.8
    assert not (found & masks[1 - asked]).any()


def test_two_points_give_both_balls_and_a_negative_one_takes_one_away(encoder: Encoder) -> None:
    tokens, masks = opened(PLAIN, encoder)
    session, places = PromptSession(tokens), centres(PLAIN)
    both = session.answer(Prompts(positive=places))
    assert dice(both, masks[0] | masks[1]) >= 0.7
    one = session.answer(Prompts(positive=places[:1], negative=places[1:]))
    assert dice(one, masks[0]) >= 0.7 and not value_at(one, PLAIN, places[1])
    assert (one & masks[1]).sum() < 0.1 * masks[1].sum()


def test_a_negative_point_beside_the_centre_removes_its_surroundings(encoder: Encoder) -> None:
    tokens, _ = opened(PLAIN, encoder)
    session, place = PromptSession(tokens), centres(PLAIN)[0]
    aside = place + [0.0, 5.0, 0.0]
    before = session.answer(Prompts(positive=place[None]))
    after = session.answer(Prompts(positive=place[None], negative=aside[None]))
    near = ball(PLAIN, aside, 1.5)
    assert before[near].mean() > 0.9 > 0.5 > after[near].mean()
    assert value_at(after, PLAIN, place)


def test_fewer_prompts_give_again_what_they_gave(encoder: Encoder) -> None:
    tokens, _ = opened(PLAIN, encoder)
    session, places = PromptSession(tokens), centres(PLAIN)
    first = session.answer(Prompts(positive=places[:1]))
    session.answer(Prompts(positive=places, negative=places[:1] + [0.0, 6.0, 0.0]))
    assert np.array_equal(session.answer(Prompts(positive=places[:1])), first)
    assert np.array_equal(PromptSession(tokens).answer(Prompts(positive=places[:1])), first)


def test_nothing_is_found_outside_the_box_and_a_box_alone_finds_what_it_holds(
    encoder: Encoder,
) -> None:
    tokens, masks = opened(OBLIQUE, encoder)
    session, place = PromptSession(tokens), centres(OBLIQUE)[1]
    box = BoxRegion(place, np.full(3, 9.0), Rotation.from_rotvec([0, 0, 0.5]).as_matrix())
    found = session.answer(Prompts(box=box))
    assert dice(found, masks[1]) >= 0.7
    tight = BoxRegion(place, np.full(3, 4.0), np.eye(3))
    found = session.answer(Prompts(positive=place[None], box=tight))
    k, j, i = np.nonzero(found)
    assert len(k) and tight.contains(OBLIQUE.to_patient(np.stack([i, j, k], 1).astype(float))).all()


def random_prompts(grid: Grid, seed: int) -> Prompts:
    random = np.random.default_rng(seed)
    voxels = random.choice(np.prod(grid.shape), 8, replace=False)
    index = np.stack(np.unravel_index(voxels, grid.shape), axis=1)[:, ::-1].astype(float)
    points = grid.to_patient(index + random.uniform(-0.45, 0.45, index.shape))
    return Prompts(points[:3], points[3:])


@pytest.mark.parametrize("grid", [PLAIN, OBLIQUE])
@pytest.mark.parametrize("trained", [False, True])
def test_positive_points_are_inside_and_negative_ones_outside(
    grid: Grid, trained: bool, encoder: Encoder
) -> None:
    volume, _ = two_balls(grid)
    model = click_model() if trained else None
    tokens = open_click_tokens(volume, model) if model else open_tokens(volume, encoder, pixels=160)
    session = PromptSession(tokens, model)
    for seed in range(4):
        prompts = random_prompts(grid, seed)
        found = session.answer(prompts)
        assert all(value_at(found, grid, point) for point in prompts.positive)
        assert not any(value_at(found, grid, point) for point in prompts.negative)


@pytest.mark.parametrize(
    ("prompts", "code"),
    [
        (Prompts(), "no-prompt"),
        (Prompts(negative=centres(PLAIN)), "no-prompt"),
        (Prompts(positive=centres(PLAIN) + 500), "point-outside"),
        (Prompts(positive=np.full((1, 3), np.nan)), "point-outside"),
        (Prompts(centres(PLAIN), centres(PLAIN)), "points-contradict"),
        (Prompts(centres(PLAIN), box=BoxRegion(centres(PLAIN)[0], np.full(3, 4.0), np.eye(3))),
         "point-outside-box"),
        (Prompts(box=BoxRegion(np.full(3, 900.0), np.ones(3), np.eye(3))), "empty-region"),
        (Prompts(centres(PLAIN), previous=np.zeros((2, 2, 2))), "wrong-shape"),
    ],
)  # fmt: skip
def test_prompts_without_sense_are_refused(prompts: Prompts, code: str, encoder: Encoder) -> None:
    tokens, _ = opened(PLAIN, encoder)
    with pytest.raises(MedDINOv3Error) as refused:
        PromptSession(tokens).answer(prompts)
    assert refused.value.code == code and refused.value.remedy


def test_an_answer_does_not_depend_on_how_many_slices_are_decoded_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume, _ = two_balls(PLAIN)
    model = click_model()
    prompts = Prompts(positive=centres(PLAIN)[:1])
    whole = PromptSession(open_click_tokens(volume, model), model).answer(prompts)
    monkeypatch.setattr("meddinov3.features.click_model.FINE_PIXELS", 1)
    parts = PromptSession(open_click_tokens(volume, model), model).answer(prompts)
    assert 0 < whole.sum() < whole.size and np.array_equal(whole, parts)


def test_tokens_of_another_backbone_are_refused(encoder: Encoder) -> None:
    tokens, _ = opened(PLAIN, encoder)
    with pytest.raises(MedDINOv3Error, match="does not understand") as refused:
        PromptSession(tokens, click_model(encoder_seed=1))
    assert refused.value.code == "another-backbone"


def test_a_click_model_is_kept_read_and_listed_apart(own_home: Path) -> None:
    folder = write_click_model(own_home / "models" / "clicks")
    make_bundle(own_home / "models" / "plain", describe("liver"))
    kinds = {model.id: model.takes_clicks for model in installed_models()}
    assert kinds["clicks"] and not kinds["plain"]
    volume, _ = two_balls(PLAIN)
    read, made = load_click_model("clicks", "cpu"), click_model()
    prompts = Prompts(positive=centres(PLAIN)[:1])
    found, expected = (
        PromptSession(open_click_tokens(volume, model), model).answer(prompts)
        for model in (read, made)
    )
    assert np.array_equal(found, expected)
    assert load_encoder("clicks", "cpu").identity == read.encoder.identity
    with pytest.raises(MedDINOv3Error) as refused:
        read_prompt_bundle(own_home / "models" / "plain")
    assert refused.value.code == "no-click-model"
    for read_plainly in (lambda: read_bundle(folder), lambda: load_model("clicks", "cpu")):
        with pytest.raises(MedDINOv3Error, match="is a click model") as refused:
            read_plainly()
        assert refused.value.code == "click-model" and "with points" in refused.value.remedy


def test_segmenting_without_naming_a_model_passes_click_models_over(own_home: Path) -> None:
    write_click_model(own_home / "models" / "clicks")
    assert find_model(None).name == "hippocampus-mr-tiny"


def test_a_description_from_before_click_models_is_read() -> None:
    text = describe("liver").to_json()
    assert '"prompts": null' in text
    old = text.replace(',\n  "prompts": null', "")
    assert "prompts" not in old and ModelDescription.from_json(old).prompts is None
    clicks = click_description()
    assert ModelDescription.from_json(clicks.to_json()).prompts == clicks.prompts


@pytest.mark.parametrize(
    "changes",
    [{"cells": 3}, {"width": 6}, {"near": 0.0}, {"clicks": 0}, {"slice_spacing": float("inf")}],
)
def test_a_click_model_that_contradicts_itself_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(MedDINOv3Error, match="contradicts itself"):
        ModelDescription(**{**vars(click_description()), "prompts": PromptDescription(**changes)})  # type: ignore[arg-type]


def test_a_click_model_has_one_output() -> None:
    with pytest.raises(MedDINOv3Error, match="one output"):
        ModelDescription(**{**vars(describe("a", "b")), "prompts": PromptDescription()})


def test_clicks_are_drawn_in_millimetres_and_neighbouring_slices_see_them() -> None:
    stack = Stack(torch.tensor([0.0, 3.0, 6.0]), (1, 2), 4, (0.5, 2.0))
    click = torch.tensor([[3.0, 0.75, 5.0]])  # the centre of fine pixel (1, 2) in slice 1
    box = torch.zeros(3, 4, 8, dtype=torch.bool)
    box[:, :2] = True
    fine, coarse = draw_prompts(
        stack, StackPrompts(click, torch.zeros(0, 3), box=box), near=4.0, far=8.0
    )
    assert fine.shape == (3, 6, 4, 8) and coarse.shape == (3, 6, 1, 2)
    assert fine[1, 0, 1, 2] == 1 and fine[1, 0, 1, 3] == pytest.approx(1 - 2 / 4)
    assert fine[0, 0, 1, 2] == pytest.approx(1 - 3 / 4)  # a slice away
    assert fine[2, 1, 3, 2] == pytest.approx(1 - np.hypot(3, 1) / 8)
    assert not fine[:, 2:4].any()  # no negative click
    assert fine[0, 4].unique().tolist() == [-1, 1] and not fine[:, 5].any()
    assert coarse[0, 4].tolist() == [[0, 0]]  # half of each token


def test_neighbouring_slices_stay_within_their_stack() -> None:
    before, after = neighbouring(4, 2, stacks=2)
    assert before.tolist() == [0, 0, 0, 1, 4, 4, 4, 5]
    assert after.tolist() == [2, 3, 3, 3, 6, 7, 7, 7]


def test_every_part_of_the_decoder_learns() -> None:
    torch.manual_seed(0)
    network = PromptSegmenter(BackboneShape(NAME, 1, TINY), 1, PromptDescription(16, 2, 8))
    decoder = network.decoder
    embedded = decoder.embed(torch.randn(3, 2, 2, 4 * 32))
    likeness = decoder.likeness(embedded, [embedded[1, :1, 1], embedded[:0, 0, 0]])
    assert likeness.shape == (3, 8, 2, 2) and not likeness[:, 4:].any()
    assert likeness[1, :4, 0, 1].tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    neighbours = neighbouring(3, 1)
    coarse = torch.cat([torch.randn(3, 6, 2, 2), likeness], dim=1)
    logits = decoder(
        embedded, torch.randn(3, 1, 16, 16), torch.randn(3, 6, 16, 16), coarse, neighbours
    )
    assert logits.shape == (3, 1, 16, 16)
    logits.square().sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_lattice_of_a_click_model_has_the_training_s_pixels() -> None:
    volume, _ = two_balls(OBLIQUE)
    where: FeatureGrid = open_click_tokens(volume, click_model()).where
    assert where.token_spacing == pytest.approx((16.0, 16.0), rel=0.05)
