"""The token decoder against the transposed convolutions it replaces.

    python Testing/Benchmarks/decoder.py [--device cuda]

Prints seconds a slice in fp32 and the largest difference for ViT-S and ViT-B widths.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from meddinov3.inference.predictor import TOKENS_DECODED
from meddinov3.network.decoder import TokenDecoder, unpack_kernel
from torch import Tensor

REPEATS = 5


def convolutions(
    decoder: TokenDecoder, kernels: list[Tensor], tokens: Tensor, grid: tuple[int, int]
) -> Tensor:
    """The decoder as transposed convolutions with channel LayerNorm."""
    image = tokens.transpose(1, 2).unflatten(2, grid)
    for stage, kernel in zip(decoder.stages, kernels, strict=True):
        image = F.conv_transpose2d(image, kernel, stage.bias, stride=2)
        image = F.gelu(stage.norm(image.movedim(1, -1)).movedim(-1, 1))
    return F.conv2d(image, decoder.classify.weight[:, :, None, None], decoder.classify.bias)


def seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    """Median time of one call after a warm-up."""
    times = []
    for _ in range(REPEATS + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[REPEATS // 2]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pixels", type=int, default=320)
    parser.add_argument("--classes", type=int, default=16)
    arguments = parser.parse_args()
    device, side = torch.device(arguments.device), arguments.pixels // 16
    print("| width | tokens | token decoder, s | convolutions, s | ratio | largest difference |")
    print("|---|---|---|---|---|---|")
    for width in (384, 768):
        torch.manual_seed(0)
        decoder = TokenDecoder(4 * width, arguments.classes).to(device).eval()
        tokens = torch.randn(1, side * side, 4 * width, device=device)
        kernels = [unpack_kernel(stage.weight) for stage in decoder.stages]
        grid, chunk = (side, side), TOKENS_DECODED.get(device.type)

        def ours(d: TokenDecoder = decoder, t: Tensor = tokens) -> Tensor:
            return d(t, grid, chunk)  # noqa: B023

        def theirs(
            d: TokenDecoder = decoder, k: list[Tensor] = kernels, t: Tensor = tokens
        ) -> Tensor:
            return convolutions(d, k, t, grid)  # noqa: B023

        with torch.inference_mode():
            fast, slow = seconds(ours, device), seconds(theirs, device)
            difference = (ours() - theirs()).abs().max()
        print(
            f"| {width} | {side * side} | {fast:.3f} | {slow:.3f} "
            f"| {slow / fast:.2f} | {difference:.1e} |"
        )


if __name__ == "__main__":
    main()
