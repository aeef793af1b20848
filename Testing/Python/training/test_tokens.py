"""A decoder that learns from tokens computed once."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import describe
from meddinov3.bundle import backbone_shape, read_bundle
from meddinov3.errors import MedDINOv3Error
from meddinov3.network.segmenter import Segmenter
from meddinov3_training.array_file import ArrayWriter
from meddinov3_training.finetune import finetune
from meddinov3_training.tokens import (
    FEWEST,
    MOST,
    Packing,
    TokenPool,
    TokenSegmenter,
    encode,
    pool_size,
    slice_packing,
    too_large_for_cpu,
)
from safetensors.torch import load_file
from short_runs import alone, narrow_base, quick, told  # noqa: F401
from synthetic_dataset import write_dataset

CPU = torch.device("cpu")
PATCH = (32, 48)


class Numbered:
    """Samples that can be told apart; counts how often they are drawn."""

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.drawn.append(index)
        random = torch.Generator().manual_seed(index)
        return torch.randn(1, *PATCH, generator=random), torch.full(PATCH, index)


@pytest.fixture
def network() -> Segmenter:
    torch.manual_seed(0)
    description = describe("liver", "spleen")
    return Segmenter(backbone_shape(description), 3, layer_scale=1.0).eval()


def encoded(folder: Path, network: Segmenter, samples: Numbered, wanted: int = 40) -> int:
    return encode(
        samples,
        slice_packing(network.backbone, PATCH),
        folder,
        CPU,
        "fp32",
        seconds=None,
        wanted=wanted,
    )


def test_the_decoder_on_tokens_is_the_network_on_slices(tmp_path: Path, network: Segmenter) -> None:
    count = encoded(tmp_path / "t", network, Numbered())
    assert count == 40
    pool, module = TokenPool(tmp_path / "t", 3), TokenSegmenter(network, PATCH)
    for index in (0, 7, 39, 40, 95):
        tokens, values = pool[index]
        image, _ = Numbered()[int(values[0, 0])]
        with torch.no_grad():
            found, expected = module(tokens[None]), network(image[None])
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0.01)  # half precision between


def test_every_pass_shows_each_sample_once_in_another_order(
    tmp_path: Path, network: Segmenter
) -> None:
    encoded(tmp_path / "t", network, Numbered())
    pool = TokenPool(tmp_path / "t", 3)
    passes = [[int(pool[n * 40 + k][1][0, 0]) for k in range(40)] for n in range(2)]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(40))
    assert passes[0] != passes[1]
    other = TokenPool(tmp_path / "t", 4)
    assert [int(other[k][1][0, 0]) for k in range(40)] != passes[0]


def test_encoding_goes_on_where_it_was_cut_off(tmp_path: Path, network: Segmenter) -> None:
    class Cut(Numbered):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            if index == 37:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path / "t", network, Cut())
    rest = Numbered()
    assert encoded(tmp_path / "t", network, rest) == 40
    assert rest.drawn == list(range(32, 40)), "noted after every 16"
    again = Numbered()
    encoded(tmp_path / "t", network, again)
    assert again.drawn == []
    whole = Numbered()
    encoded(tmp_path / "whole", network, whole)
    for index in (0, 20, 39):
        assert torch.equal(
            TokenPool(tmp_path / "t", 1)[index][0], TokenPool(tmp_path / "whole", 1)[index][0]
        )


def test_a_full_disk_is_an_error_and_what_was_computed_is_kept(
    tmp_path: Path, network: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = ArrayWriter.append, []

    def append(self: ArrayWriter, plane: np.ndarray) -> None:
        written.append(plane)
        if len(written) == 75:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, plane)

    with monkeypatch.context() as patch:
        patch.setattr(ArrayWriter, "append", append)
        with pytest.raises(MedDINOv3Error) as caught:
            encoded(tmp_path / "t", network, Numbered())
    assert caught.value.code == "disk-full"
    assert "No space left" in caught.value.message
    rest = Numbered()
    assert encoded(tmp_path / "t", network, rest) == 40
    assert rest.drawn == list(range(32, 40))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells its maps")
def test_no_token_file_stays_mapped(tmp_path: Path, network: Segmenter) -> None:
    """On Windows the folder could not be removed then; and a map dies where the disk is full."""
    tokens = str(tmp_path / "t")
    mapped: list[bool] = []

    class Watched(Numbered):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            mapped.append(tokens in Path("/proc/self/maps").read_text())
            return super().__getitem__(index)

    encoded(tmp_path / "t", network, Watched())
    pool = TokenPool(tmp_path / "t", 3)
    pool[0]
    assert not any(mapped) and tokens not in Path("/proc/self/maps").read_text()


def test_token_files_cut_short_are_made_anew(tmp_path: Path, network: Segmenter) -> None:
    encoded(tmp_path / "t", network, Numbered())
    with open(tmp_path / "t/tokens.npy", "rb+") as stream:
        stream.truncate(1000)
    again = Numbered()
    encoded(tmp_path / "t", network, again)
    assert len(again.drawn) >= 40


def test_how_many_are_encoded() -> None:
    size, free = 10**6, 10**12
    assert pool_size(600.0, 0.5, size, free, 10**9) == 480  # two fifths of the time
    assert pool_size(600.0, 0.5, size, free, 100) == 100
    assert pool_size(1e9, 0.5, size, free, 10**9) == MOST
    assert pool_size(1.0, 0.5, size, free, 10**9) == FEWEST
    assert pool_size(600.0, 0.5, size, 200 * size, 10**9) == 100
    with pytest.raises(MedDINOv3Error) as caught:
        pool_size(600.0, 0.5, size, 10 * size, 10**9)
    assert caught.value.code == "disk-full"
    # ViT-B at 896 pixels: 3136 tokens of 4 x 768 halves, and the labels.
    kept = Packing((3136, 4 * 768), (896, 896), lambda image: image)
    assert kept.bytes == 3136 * 3072 * 2 + 896 * 896 * 2


def test_what_is_hopeless_on_a_processor() -> None:
    def weights(count: int) -> torch.nn.Module:
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.empty(count, device="meta"))
        return module

    assert too_large_for_cpu(weights(86_000_000), (896, 896))  # type: ignore[arg-type]
    assert too_large_for_cpu(weights(21_000_000), (512, 512))  # type: ignore[arg-type]
    assert not too_large_for_cpu(weights(5_500_000), (224, 256))  # type: ignore[arg-type]


def test_a_frozen_run_leaves_the_backbone_and_learns(tmp_path: Path) -> None:
    dataset, base = write_dataset(tmp_path / "d", 3), narrow_base(tmp_path / "base", "x", "y")
    settings = quick(base, frozen=True, steps=60, batch=4, decoder_rate=5e-3)
    bundle = finetune(dataset, tmp_path / "run", settings)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, bundle))
    for name, value in after.items():
        assert torch.equal(value, before[name]) == name.startswith("backbone."), name
    description, _ = read_bundle(bundle)
    assert description.training["frozen"]
    losses = [event["loss"] for event in told(tmp_path / "run", "step")]
    assert losses[-1] < losses[0] - 0.1
    assert any("frozen" in event["text"] for event in told(tmp_path / "run", "warning"))
    assert not (tmp_path / "run/tokens").exists(), "of no use any more, and large"
    assert np.isfinite(losses).all()
