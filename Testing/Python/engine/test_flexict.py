"""FlexiCT's 2D path, against a small network written down from its description.

Its patches are 8 pixels in the file and resampled at run time; ours are converted once to 16.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from meddinov3.backbone_file import read_backbone, shape_of_file
from meddinov3.checkpoints.flexict import resample_kernel
from meddinov3.checkpoints.importing import import_file
from meddinov3.errors import MedDINOv3Error
from meddinov3.network.backbone import Backbone
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm

WIDTH, DEPTH, HEADS, HEAD, PREFIX = 144, 8, 2, 72, 5  # a head has 72 channels, as FlexiCT's
TAPS = (1, 3, 5, 7)  # ends of the quarters, as 3, 7, 11, 15 of 16


def state(seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a checkpoint, with FlexiCT's names."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 0.1) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    tensors = {
        "cls_token": draw(1, 1, WIDTH),
        "storage_tokens": draw(1, PREFIX - 1, WIDTH),
        "mask_token": draw(1, WIDTH),
        "patch_embed_2D.proj.weight": draw(WIDTH, 1, 8, 8),
        "patch_embed_2D.proj.bias": draw(WIDTH),
        "patch_embed_3D.proj.weight": draw(WIDTH, 1, 8, 8, 8),
        "patch_embed_3D.proj.bias": draw(WIDTH),
        "rope_embed_2D.periods": 100.0 ** (torch.arange(HEAD // 4) / (HEAD // 4)),
        "rope_embed_3D.periods": 100.0 ** (torch.arange(HEAD // 6) / (HEAD // 6)),
        "norm.weight": 1 + draw(WIDTH),
        "norm.bias": draw(WIDTH),
    }
    for n in range(DEPTH):
        for part, shape in {
            "attn.qkv.weight": (3 * WIDTH, WIDTH), "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,), "mlp.fc1.weight": (4 * WIDTH, WIDTH),
            "mlp.fc1.bias": (4 * WIDTH,), "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            "mlp.fc2.bias": (WIDTH,), "norm1.weight": (WIDTH,), "norm1.bias": (WIDTH,),
            "norm2.weight": (WIDTH,), "norm2.bias": (WIDTH,), "ls1.gamma": (WIDTH,),
            "ls2.gamma": (WIDTH,),
        }.items():  # fmt: skip
            tensors[f"blocks.{n}.{part}"] = draw(*shape, scale=0.3 if len(shape) == 1 else 0.1)
    return tensors


def checkpoint(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    heads = {"dino_head.mlp.weight": torch.zeros(2, 2), "ibot_head.mlp.weight": torch.zeros(2, 2)}
    return {"teacher": {f"backbone.{key}": value for key, value in tensors.items()} | heads}


def cubic(distance: float) -> float:
    """Keys' kernel with a = -1/2, that of interpolation with antialiasing."""
    x = abs(distance)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def growth(old: int, new: int) -> np.ndarray:
    """(new, old) weights that interpolate along one axis; cut and normalised at the borders."""
    rows = np.array(
        [[cubic((n + 0.5) * old / new - 0.5 - o) for o in range(old)] for n in range(new)]
    )
    return rows / rows.sum(axis=1, keepdims=True)


def reference_kernel(kernel: np.ndarray, size: int) -> np.ndarray:
    """The shortest kernel with the same answers to interpolated patches, by least squares."""
    axis = growth(kernel.shape[-1], size)
    both = np.kron(axis, axis)  # (size * size, rows * columns)
    flat = kernel.reshape(len(kernel), -1)
    return np.linalg.lstsq(both.T, flat.T, rcond=None)[0].T.reshape(len(kernel), 1, size, size)


def reference_features(tensors: dict[str, Tensor], slices: Tensor) -> Tensor:
    """The four levels at patch size 16, (B, 4 * WIDTH, rows, columns)."""
    kernel = reference_kernel(tensors["patch_embed_2D.proj.weight"].double().numpy(), 16)
    x = conv2d(slices, torch.from_numpy(kernel).float(), tensors["patch_embed_2D.proj.bias"], 16)
    batch, _, rows, columns = x.shape
    centres = [(torch.arange(n) + 0.5) / n * 2 - 1 for n in (rows, columns)]
    grid = torch.stack(torch.meshgrid(*centres, indexing="ij"), -1).reshape(-1, 2, 1)
    angles = (2 * math.pi * grid / tensors["rope_embed_2D.periods"]).flatten(1).tile(2)
    sin, cos = angles.sin(), angles.cos()

    def rotate(heads: Tensor) -> Tensor:
        first, patches = heads[:, :, :PREFIX], heads[:, :, PREFIX:]
        one, two = patches.chunk(2, -1)
        turned = patches * cos + torch.cat([-two, one], -1) * sin
        return torch.cat([first, turned], 2)

    def normed(x: Tensor, name: str) -> Tensor:
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return layer_norm(x, (WIDTH,), weight, bias, 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ tensors[f"{name}.weight"].T + tensors.get(f"{name}.bias", torch.zeros(1))

    tokens = [tensors["cls_token"], tensors["storage_tokens"]]
    x = torch.cat([*(t.expand(batch, -1, -1) for t in tokens), x.flatten(2).transpose(1, 2)], 1)
    levels = []
    for n in range(DEPTH):
        block = f"blocks.{n}"
        qkv = linear(normed(x, f"{block}.norm1"), f"{block}.attn.qkv")
        q, k, v = qkv.unflatten(-1, (3, HEADS, HEAD)).permute(2, 0, 3, 1, 4)
        weights = (rotate(q) @ rotate(k).transpose(-1, -2) / math.sqrt(HEAD)).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{block}.attn.proj") * tensors[f"{block}.ls1.gamma"]
        hidden = gelu(linear(normed(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + linear(hidden, f"{block}.mlp.fc2") * tensors[f"{block}.ls2.gamma"]
        if n in TAPS:
            levels.append(normed(x, "norm")[:, PREFIX:].transpose(1, 2))
    return torch.cat(levels, 1).unflatten(2, (rows, columns))


def features(folder: Path, slices: Tensor) -> Tensor:
    read = read_backbone(folder)
    network = Backbone(shape_of_file(read.description)).eval()
    network.load_state_dict(dict(read.weights))
    with torch.inference_mode():
        return network(slices).transpose(1, 2).unflatten(2, (3, 5))


def test_kernel_is_the_least_squares_one() -> None:
    kernel = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = reference_kernel(kernel.double().numpy(), 16)
    np.testing.assert_allclose(resample_kernel(kernel, 16).numpy(), expected, atol=1e-5)


def test_kernel_answers_to_a_grown_patch_as_the_stored_one_to_the_patch() -> None:
    generator = torch.Generator().manual_seed(2)
    kernel = torch.randn(6, 1, 8, 8, generator=generator)
    patch = torch.randn(4, 1, 8, 8, generator=generator)
    grown = interpolate(patch, (16, 16), mode="bicubic", antialias=True)
    torch.testing.assert_close(
        conv2d(grown, resample_kernel(kernel, 16)), conv2d(patch, kernel), atol=1e-4, rtol=1e-4
    )


def test_features_are_those_of_the_description(tmp_path: Path) -> None:
    torch.save(checkpoint(state()), tmp_path / "ct_2d_teacher.pth")
    made = import_file(tmp_path / "ct_2d_teacher.pth", "flexict-2d")
    slices = torch.randn(2, 1, 48, 80, generator=torch.Generator().manual_seed(3))
    expected = reference_features(state(), slices)
    torch.testing.assert_close(features(made.folder, slices), expected, atol=1e-4, rtol=1e-4)


def test_what_is_recorded_and_said(tmp_path: Path) -> None:
    torch.save(checkpoint(state()), tmp_path / "ct_2d_teacher.pth")
    made = import_file(tmp_path / "ct_2d_teacher.pth", "flexict-2d")
    read = read_backbone(made.folder)
    described = read.description
    assert (described.origin, described.modality, described.licence) == (
        "flexict", "CT", "CC BY-NC-ND 4.0")  # fmt: skip
    assert described.overrides["num_heads"] == HEADS
    assert described.in_channels == 1
    assert read.mask_token is not None
    assert any("CC BY-NC-ND 4.0" in note for note in made.notes)
    assert any("forbids commercial use" in note for note in made.notes)


def test_safetensors_without_a_wrapping(tmp_path: Path) -> None:
    torch.save(checkpoint(state()), tmp_path / "wrapped.pth")
    save_file(state(), tmp_path / "bare.safetensors")
    wrapped = read_backbone(import_file(tmp_path / "wrapped.pth", "wrapped").folder)
    bare = read_backbone(import_file(tmp_path / "bare.safetensors", "bare").folder)
    assert all(torch.equal(wrapped.weights[key], value) for key, value in bare.weights.items())


def test_a_kernel_of_another_size_is_refused(tmp_path: Path) -> None:
    tensors = state() | {"patch_embed_2D.proj.weight": torch.zeros(WIDTH, 1, 16, 16)}
    torch.save(checkpoint(tensors), tmp_path / "odd.pth")
    with pytest.raises(MedDINOv3Error, match="FlexiCT") as caught:
        import_file(tmp_path / "odd.pth", "odd")
    assert caught.value.code == "not-a-backbone"
