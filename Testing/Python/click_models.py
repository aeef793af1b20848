"""Click models with random weights, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import TINY, describe
from meddinov3.bundle import write_bundle
from meddinov3.description import ModelDescription, PromptDescription
from meddinov3.features.click_model import ClickModel, wrap_click_model
from meddinov3.network.backbone import BackboneShape
from meddinov3.network.prompt_segmenter import PromptSegmenter

NAME = "vit_tiny_patch16_dinov3_qkvb"


def click_model(encoder_seed: int = 0) -> ClickModel:
    """An untrained click model: whatever it says, the promises hold."""
    described = click_description()
    torch.manual_seed(encoder_seed)
    shape = BackboneShape(NAME, 1, TINY, rope_grid=described.sampling.rope_grid)
    assert described.prompts is not None
    network = PromptSegmenter(shape, 1, described.prompts, layer_scale=1.0).eval()
    for parameter in network.decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return wrap_click_model(described, network.requires_grad_(False), torch.device("cpu"), "fp32")


def click_description() -> ModelDescription:
    plain = describe("structure", regions=True)
    return ModelDescription(
        **{**vars(plain), "prompts": PromptDescription(16, 2, 4, 2.0, 3.0, 24.0, 10)}
    )


def write_click_model(folder: Path) -> Path:
    model = click_model()
    network = PromptSegmenter(
        BackboneShape(NAME, 1, TINY, rope_grid=model.description.sampling.rope_grid), 1,
        model.prompts,
    )  # fmt: skip
    network.backbone.load_state_dict(model.encoder.backbone.state_dict())
    network.decoder.load_state_dict(model.decoder.state_dict())
    write_bundle(folder, model.description, network, half=False)
    return folder
