"""What is decayed, how fast each part learns, and that everything learns at all."""

from __future__ import annotations

import pytest
import torch
from conftest import TINY
from meddinov3.network.backbone import BackboneShape
from meddinov3.network.segmenter import Segmenter
from meddinov3_training.losses import exclusive_loss
from meddinov3_training.optimiser import build_optimiser, rate_factor
from torch import nn


def narrow_segmenter(drop_path: float = 0.0) -> Segmenter:
    torch.manual_seed(0)
    shape = BackboneShape("vit_tiny_patch16_dinov3_qkvb", 2, dict(TINY), rope_grid=(2, 3))
    return Segmenter(shape, 3, drop_path, layer_scale=1.0)


def settings_of(
    network: nn.Module, optimiser: torch.optim.Optimizer
) -> dict[str, tuple[float, float]]:
    """(rate, decay) by parameter name; fails if one occurs twice."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    return found


def test_every_parameter_is_optimised_once() -> None:
    network = narrow_segmenter()
    found = settings_of(network, build_optimiser(network, 1e-3, 1e-4))
    assert set(found) == {name for name, _ in network.named_parameters()}


def test_frozen_parameters_are_left_out() -> None:
    network = narrow_segmenter()
    network.backbone.requires_grad_(False)
    found = settings_of(network, build_optimiser(network, 1e-3, 1e-4))
    assert set(found) == {f"decoder.{name}" for name, _ in network.decoder.named_parameters()}


def test_backbone_and_decoder_have_their_own_rates() -> None:
    network = narrow_segmenter()
    for name, (rate, _) in settings_of(network, build_optimiser(network, 1e-3, 1e-4)).items():
        assert rate == (1e-4 if name.startswith("backbone.") else 1e-3), name


def test_only_matrices_and_kernels_are_decayed() -> None:
    network = narrow_segmenter()
    found = settings_of(network, build_optimiser(network, 1e-3, 1e-4))
    decayed = {name for name, (_, decay) in found.items() if decay}
    assert {found[name][1] for name in decayed} == {0.05}  # Primus
    matrices = ("attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight")
    assert decayed == {
        "backbone.vit.patch_embed.proj.weight",
        *(f"backbone.vit.blocks.{n}.{name}" for n in range(4) for name in matrices),
        *(f"decoder.stages.{n}.weight" for n in range(4)),
        "decoder.classify.weight",
    }
    left = set(found) - decayed
    kinds = (
        "cls_token",
        "reg_token",
        "gamma_1",
        "gamma_2",
        "norm1.weight",
        "q_bias",
        "norm.weight",
    )
    for kind in kinds:
        assert any(name.endswith(kind) for name in left), f"this network has no {kind} to look at"


def test_it_is_adamw_with_the_betas_of_primus() -> None:
    optimiser = build_optimiser(narrow_segmenter(), 1e-3, 1e-4)
    assert isinstance(optimiser, torch.optim.AdamW)
    assert {group["betas"] for group in optimiser.param_groups} == {(0.9, 0.98)}


def test_a_step_reaches_every_parameter() -> None:
    network = narrow_segmenter().train()
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimiser = build_optimiser(network, 1e-3, 1e-4)
    exclusive_loss(network(torch.randn(2, 2, 32, 48)), torch.randint(0, 3, (2, 32, 48))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"no gradient for {name}"
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, f"only zeros for {name}"
    optimiser.step()
    unmoved = [n for n, value in network.named_parameters() if torch.equal(value, before[n])]
    assert unmoved == []


def test_training_with_stochastic_depth_gives_finite_gradients() -> None:
    network = narrow_segmenter(drop_path=0.5).train()
    exclusive_loss(network(torch.randn(4, 2, 32, 48)), torch.randint(0, 3, (4, 32, 48))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(
    ("done", "factor"),
    [(0.05, 0.25), (0.1, 0.5), (0.2, 1.0), (0.4, 0.75), (0.6, 0.5), (0.8, 0.25), (1.0, 0.0)],
)
def test_rate_rises_and_falls_linearly(done: float, factor: float) -> None:
    assert rate_factor(done, 0.2) == pytest.approx(factor, abs=1e-12)


def test_rate_without_warm_up_starts_at_the_peak() -> None:
    assert rate_factor(0.0, 0.0) == 1
    assert rate_factor(0.25, 0.0) == 0.75


@pytest.mark.parametrize("warmup", [0.0, 1e-4, 0.02, 0.05, 0.5])
def test_rate_stays_between_zero_and_the_peak(warmup: float) -> None:
    factors = [rate_factor(n / 1000, warmup) for n in range(1100)]
    assert factors[0] > 0, "the first step must not be lost"
    assert min(factors) >= 0
    assert max(factors) <= 1 + 1e-12
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert set(factors[1000:]) == {0.0}, "a run that goes on too long must not learn backwards"
