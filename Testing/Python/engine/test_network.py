"""The network against upstream's numbers and against its own convolutional form."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from meddinov3.checkpoints.pth import read_pth
from meddinov3.checkpoints.upstream import backbone_weights, decoder_weights, shape_of, unwrap
from meddinov3.errors import MedDINOv3Error
from meddinov3.network.backbone import Backbone, BackboneShape, level_indices
from meddinov3.network.decoder import TokenDecoder, unpack_kernel
from meddinov3.network.rope import AxialRope
from meddinov3.network.segmenter import Segmenter
from torch import Tensor

RESULTS = "meddinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d"
NARROW = BackboneShape(
    "vit_tiny_patch16_dinov3_qkvb", overrides={"embed_dim": 32, "depth": 4, "num_heads": 2}
)


@pytest.fixture
def reference(data: Path) -> Path:
    return data / "reference_checkpoints"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("chunk", [None, 7])
def test_upstream_weights_give_upstreams_numbers(
    reference: Path, precision: str, chunk: int | None
) -> None:
    expected = np.load(reference / "expected.npz")
    tensors = unwrap(read_pth(reference / "model.pth"))
    results = read_pth(reference / RESULTS / "fold_0" / "checkpoint_final.pth")
    shape = dataclasses.replace(shape_of(tensors), rope_precision=precision)
    network = Segmenter(shape, outputs=3).eval()
    network.backbone.load_state_dict(backbone_weights(tensors))
    network.decoder.load_state_dict(decoder_weights(results["network_weights"]))
    slices = torch.from_numpy(expected["x"])
    with torch.inference_mode():
        features = network.backbone(slices).transpose(1, 2).reshape(2, -1, 4, 6)
        logits = network(slices, chunk)
    np.testing.assert_allclose(features, expected[f"features_rope_{precision}"], atol=1e-4)
    np.testing.assert_allclose(logits, expected[f"logits_rope_{precision}"], atol=1e-4)


def test_the_two_precisions_differ_so_that_the_test_above_tells_them_apart(reference: Path) -> None:
    expected = np.load(reference / "expected.npz")
    assert np.abs(expected["logits_rope_bf16"] - expected["logits_rope_fp32"]).max() > 2e-4


def test_shape_is_read_from_the_tensors(reference: Path) -> None:
    shape = shape_of(unwrap(read_pth(reference / "model.pth")))
    assert shape.name == "vit_base_patch16_dinov3"
    assert shape.overrides == {"embed_dim": 32, "depth": 12, "num_heads": 2, "num_reg_tokens": 4}
    assert shape.norm_eps == 1e-6


def test_one_channel_equals_that_channel_repeated_three_times(reference: Path) -> None:
    tensors = unwrap(read_pth(reference / "model.pth"))
    slices = torch.from_numpy(np.load(reference / "expected.npz")["x"])
    outputs = []
    for channels in (1, 3):
        backbone = Backbone(shape_of(tensors, channels)).eval()
        weights = backbone_weights(tensors, channels)
        if channels == 3:
            weights["vit.patch_embed.proj.weight"] = tensors["patch_embed.proj.weight"]
        backbone.load_state_dict(weights)
        with torch.inference_mode():
            outputs.append(backbone(slices.repeat(1, channels, 1, 1)))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)


def test_equal_channels_equal_one_channel(reference: Path) -> None:
    tensors = unwrap(read_pth(reference / "model.pth"))
    slices = torch.from_numpy(np.load(reference / "expected.npz")["x"])
    outputs = []
    for channels in (1, 2, 5):
        backbone = Backbone(shape_of(tensors, channels)).eval()
        backbone.load_state_dict(backbone_weights(tensors, channels))
        with torch.inference_mode():
            outputs.append(backbone(slices.repeat(1, channels, 1, 1)))
    for other in outputs[1:]:
        torch.testing.assert_close(outputs[0], other, atol=5e-5, rtol=0)


def convolutions(decoder: TokenDecoder, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """The decoder as upstream writes it: transposed convolutions on the token map."""
    image = tokens.transpose(1, 2).unflatten(2, grid)
    for stage in decoder.stages:
        image = F.conv_transpose2d(image, unpack_kernel(stage.weight), stage.bias, stride=2)
        image = F.gelu(stage.norm(image.movedim(1, -1)).movedim(-1, 1))
    return F.conv2d(image, decoder.classify.weight[:, :, None, None], decoder.classify.bias)


@pytest.mark.parametrize(("grid", "outputs", "chunk"), [((3, 5), 3, None), ((4, 2), 17, 3)])
def test_token_decoder_equals_transposed_convolutions(
    grid: tuple[int, int], outputs: int, chunk: int | None
) -> None:
    torch.manual_seed(1)
    decoder = TokenDecoder(128, outputs)
    for stage in decoder.stages:
        torch.nn.init.normal_(stage.bias)
        torch.nn.init.normal_(stage.norm.weight, 1.0, 0.2)
        torch.nn.init.normal_(stage.norm.bias)
    tokens = torch.randn(2, grid[0] * grid[1], 128)
    with torch.inference_mode():
        ours = decoder(tokens, grid, chunk)
        theirs = convolutions(decoder, tokens, grid)
    assert ours.shape == (2, outputs, 16 * grid[0], 16 * grid[1])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("depth", "levels"),
    [(12, [2, 5, 8, 11]), (24, [5, 11, 17, 23]), (32, [7, 15, 23, 31]), (40, [9, 19, 29, 39])],
)
def test_levels_end_the_four_quarters(depth: int, levels: list[int]) -> None:
    assert level_indices(depth) == levels


def test_levels_are_normalised_outputs_of_those_blocks() -> None:
    backbone = Backbone(NARROW, layer_scale=1.0).eval()
    slices = torch.randn(1, 1, 32, 48)
    outputs = []
    for block in backbone.vit.blocks:
        block.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    with torch.inference_mode():
        tokens = backbone(slices)
        by_hand = torch.cat([backbone.vit.norm(out)[:, 5:] for out in outputs], dim=-1)
    torch.testing.assert_close(tokens, by_hand)


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (1, 100), (64, 80)])
def test_any_height_and_width(size: tuple[int, int]) -> None:
    network = Segmenter(NARROW, outputs=4).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, *size)).shape == (1, 4, *size)


@pytest.mark.parametrize("name", timm.list_models("vit_*patch16_dinov3*"))
def test_every_size_can_be_built(name: str) -> None:
    with torch.device("meta"):
        backbone = Backbone(BackboneShape(name))
    assert len(backbone.levels) == 4
    assert backbone.vit.patch_embed.proj.weight.shape[1] == 1


def test_base_model_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = Segmenter(BackboneShape("vit_base_patch16_dinov3", in_channels=3), outputs=16)
    parameters = sum(p.numel() for p in network.parameters())
    assert parameters == 110_721_232 - 768  # upstream counts the mask token, which is not ours


def test_unknown_backbone_is_an_error_with_a_remedy() -> None:
    with pytest.raises(MedDINOv3Error, match="vit_small_patch16_dinov3"):
        Backbone(BackboneShape("resnet50"))


def test_rope_equals_timms_own() -> None:
    theirs = timm.create_model("vit_tiny_patch16_dinov3_qkvb", pretrained=False).rope
    torch.testing.assert_close(
        AxialRope(64).get_embed((5, 9)), theirs.get_embed((5, 9)), atol=1e-6, rtol=0
    )


def test_millimetre_positions_do_not_depend_on_the_slices_size() -> None:
    """Attention sees position differences only: rotate the table's angles to compare."""
    rope = AxialRope(64, reference_grid=(6, 4))
    period = rope.periods[0].item()
    for size in ((6, 4), (12, 30)):
        sines, cosines = rope.get_embed(size).chunk(2, dim=-1)
        angle = torch.atan2(sines[:, 0], cosines[:, 0]).reshape(size)  # rows, fastest frequency
        step = torch.remainder(angle[1, 0] - angle[0, 0], 2 * torch.pi)
        expected = (2 * np.pi * (2 / 6) / period) % (2 * np.pi)
        assert step.item() == pytest.approx(expected, abs=1e-5)


def test_millimetre_positions_equal_dinov3s_on_the_training_patch() -> None:
    ours = AxialRope(32, reference_grid=(6, 4)).get_embed((6, 4))
    torch.testing.assert_close(ours, AxialRope(32).get_embed((6, 4)), atol=1e-5, rtol=0)


def test_drop_path_is_constant_and_off_in_evaluation() -> None:
    backbone = Backbone(NARROW, drop_path=0.2, layer_scale=1.0)
    rates = {
        module.drop_prob
        for name, module in backbone.named_modules()
        if name.endswith(("drop_path1", "drop_path2")) and hasattr(module, "drop_prob")
    }
    assert rates == {0.2}
    slices = torch.randn(4, 1, 32, 32)
    assert not torch.equal(backbone.train()(slices), backbone(slices))
    assert torch.equal(backbone.eval()(slices), backbone(slices))
