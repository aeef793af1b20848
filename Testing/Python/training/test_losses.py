"""Losses against arithmetic done by hand and against plain loops in double precision."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import torch
from meddinov3_training.losses import dice_loss, exclusive_loss, region_loss
from torch import Tensor

SMOOTH = 1e-5


def row(*pixels: tuple[float, ...]) -> Tensor:
    """A batch of one image, one row high: a tuple of channel values for each pixel."""
    return torch.tensor(pixels, dtype=torch.float64).T[None, :, None, :]


def logit(p: float) -> float:
    return log(p / (1 - p))


def two_samples() -> tuple[Tensor, Tensor, Tensor]:
    """(2, 2, 1, 2) probabilities and targets of structures A and B; all voxels annotated."""
    probabilities = torch.cat([row((0.8, 0.1), (0.4, 0.5)), row((0.2, 0.6), (0.0, 0.9))])
    target = torch.cat([row((1, 0), (0, 1)), row((0, 1), (0, 1))])
    return probabilities, target, torch.ones(2, 1, 1, 2, dtype=torch.bool)


def test_dice_is_counted_over_the_batch() -> None:
    loss = dice_loss(*two_samples())
    # A: overlap 0.8; sums 0.8 + 0.4 + 0.2 + 0.0 and 1.  B: overlap 0.5 + 0.6 + 0.9; 2.1 and 3.
    a = (2 * 0.8 + SMOOTH) / (1.4 + 1 + SMOOTH)
    b = (2 * 2.0 + SMOOTH) / (2.1 + 3 + SMOOTH)
    assert loss.item() == pytest.approx(-(a + b) / 2, abs=1e-12)


def test_dice_is_not_the_mean_over_samples() -> None:
    probabilities, target, valid = two_samples()
    single = [
        dice_loss(p[None], t[None], v[None]).item()
        for p, t, v in zip(probabilities, target, valid, strict=True)
    ]
    # A alone: 1.6 / 2.2 in the first sample and nothing in the second, 0.36; together 0.67.
    assert single[0] == pytest.approx(-(1.6 / 2.2 + 1.0 / 1.6) / 2, abs=1e-4)
    assert single[1] == pytest.approx(-(0.0 / 0.2 + 3.0 / 3.5) / 2, abs=1e-4)
    assert dice_loss(probabilities, target, valid).item() < sum(single) / 2 - 0.05


def test_dice_leaves_out_voxels_without_annotation() -> None:
    probabilities, target, valid = two_samples()
    valid[0, 0, 0, 1] = False  # leaves A 0.8 | 0.2, 0.0 and B 0.1 | 0.6, 0.9
    a = (2 * 0.8 + SMOOTH) / (1.0 + 1 + SMOOTH)
    b = (2 * 1.5 + SMOOTH) / (1.6 + 2 + SMOOTH)
    assert dice_loss(probabilities, target, valid).item() == pytest.approx(-(a + b) / 2, abs=1e-12)


def test_dice_of_a_structure_that_is_absent_and_not_predicted_is_one() -> None:
    nothing = torch.zeros(1, 1, 2, 2)
    assert dice_loss(nothing, nothing, torch.ones(1, 1, 2, 2, dtype=torch.bool)).item() == -1


def test_exclusive_loss_by_hand() -> None:
    # Logits are logarithms of probabilities that sum to one; the third pixel is not annotated.
    logits = row((log(0.5), log(0.25), log(0.25)), (log(0.2), log(0.7), log(0.1)), (9.0, -3.0, 5.0))
    target = torch.tensor([[[1, 0, -1]]])
    first = (2 * 0.25 + SMOOTH) / (0.25 + 0.7 + 1 + SMOOTH)
    second = (0 + SMOOTH) / (0.25 + 0.1 + 0 + SMOOTH)
    entropy = (log(4) + log(5)) / 2  # -ln 0.25 and -ln 0.2
    loss = exclusive_loss(logits, target)
    assert loss.item() == pytest.approx(-(first + second) / 2 + entropy, abs=1e-12)


def test_region_loss_by_hand() -> None:
    logits = row((logit(0.75), logit(0.5)), (logit(0.2), logit(0.9)), (7.0, -7.0))
    target = row((1, 0), (0, 1), (0, 1))
    valid = torch.tensor([[[True, True, False]]])
    first = (2 * 0.75 + SMOOTH) / (0.75 + 0.2 + 1 + SMOOTH)
    second = (2 * 0.9 + SMOOTH) / (0.5 + 0.9 + 1 + SMOOTH)
    entropy = -(log(0.75) + log(1 - 0.5) + log(1 - 0.2) + log(0.9)) / 4
    loss = region_loss(logits, target, valid)
    assert loss.item() == pytest.approx(-(first + second) / 2 + entropy, abs=1e-7)


def test_regions_may_overlap() -> None:
    logits = row((40.0, 40.0), (40.0, -40.0), (-40.0, -40.0))
    target = row((1, 1), (1, 0), (0, 0)).bool()  # the second lies within the first
    loss = region_loss(logits, target, torch.ones(1, 1, 3, dtype=torch.bool))
    assert loss.item() == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_exclusive_loss_equals_loops_over_pixels(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(3, 4, 5, 6))
    target = random.integers(-1, 4, (3, 5, 6))
    overlap, total = np.zeros(4), np.zeros(4)
    entropy, pixels = 0.0, 0
    for b, y, x in np.ndindex(target.shape):
        if target[b, y, x] < 0:
            continue
        weights = [exp(v) for v in logits[b, :, y, x]]
        shares = [w / sum(weights) for w in weights]
        for k in range(4):
            hit = float(target[b, y, x] == k)
            overlap[k] += hit * shares[k]
            total[k] += hit + shares[k]
        entropy -= log(shares[target[b, y, x]])
        pixels += 1
    dice = np.mean([(2 * overlap[k] + SMOOTH) / (total[k] + SMOOTH) for k in (1, 2, 3)])
    loss = exclusive_loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert loss.item() == pytest.approx(-dice + entropy / pixels, abs=1e-10)


def test_exclusive_loss_of_a_perfect_prediction_is_minus_one() -> None:
    target = torch.tensor([[[0, 1, 2], [2, 1, 0]]])
    sure = 60.0 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    assert exclusive_loss(sure, target).item() == pytest.approx(-1, abs=1e-5)
    wrong = sure.roll(1, dims=1)  # sure of another class: Dice 0, cross-entropy the margin
    assert exclusive_loss(wrong, target).item() == pytest.approx(60, abs=1e-3)


def test_better_predictions_cost_less() -> None:
    target = torch.tensor([[[0, 1], [1, 0]]])
    direction = torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float()
    costs = [exclusive_loss(direction * sure, target).item() for sure in (-2, 0, 1, 3, 8)]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == 5


def test_voxels_without_annotation_do_not_matter_to_labels() -> None:
    torch.manual_seed(0)
    target = torch.tensor([[[0, 1, -1, 2], [-1, 1, 0, 2]]])
    logits = torch.randn(1, 3, 2, 4, requires_grad=True)
    loss = exclusive_loss(logits, target)
    loss.backward()
    ignored = (target < 0)[:, None].expand_as(logits)
    assert logits.grad is not None
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).all()
    other = torch.where(ignored, 100 * torch.randn_like(logits), logits.detach())
    assert exclusive_loss(other, target).item() == loss.item()


def test_voxels_without_annotation_do_not_matter_to_regions() -> None:
    torch.manual_seed(0)
    valid = torch.tensor([[[True, False, True], [True, True, False]]])
    ignored = ~valid[:, None].expand(1, 2, 2, 3)
    target = torch.rand(1, 2, 2, 3) > 0.5
    logits = torch.randn(1, 2, 2, 3, requires_grad=True)
    loss = region_loss(logits, target, valid)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).all()
    other = torch.where(ignored, 100 * torch.randn_like(logits), logits.detach())
    assert region_loss(other, target ^ ignored, valid).item() == loss.item()


def test_a_batch_without_any_annotation_teaches_nothing() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    nothing = torch.zeros(1, 4, 4, dtype=torch.bool)
    exclusive_loss(logits, torch.full((1, 4, 4), -1)).backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()
    region_loss(logits, torch.ones(1, 3, 4, 4), nothing).backward()
    assert (logits.grad == 0).all()
