"""MedDINOv3's decoder, computed token by token.

Four 2x2 transposed convolutions of stride 2, each followed by channel LayerNorm and GELU,
then a 1x1 convolution (arXiv 2509.02379, the Primus patch decoder). Stride equals kernel, so
no stage mixes neighbours: every token becomes its own 16 x 16 pixels. The stages are matrix
products over any set of tokens, with one reordering at the end.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meddinov3.network.backbone import PATCH

STAGES = 4
NORM_EPS = 1e-6
SLOPE = 1e-2


class UpsamplingStage(nn.Module):
    """One 2x2 transposed convolution with channel LayerNorm and GELU, on tokens.

    The kernel is held as the matrix (4 * width_out, width_in) that it is applied as, rows in
    the order (row, column, channel): see :func:`pack_kernel`.

    Args:
        width_in: channels in.
        width_out: channels out.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4 * width_out, width_in))
        self.bias = nn.Parameter(torch.zeros(width_out))
        self.norm = nn.LayerNorm(width_out, eps=NORM_EPS)
        # He initialisation of the transposed convolution, whose fan is 4 * width_out (upstream).
        nn.init.normal_(self.weight, std=math.sqrt(2 / (1 + SLOPE**2) / (4 * width_out)))

    def forward(self, tokens: Tensor) -> Tensor:
        """(M, width_in) to (4*M, width_out); each row becomes its 2 x 2 children, row-major."""
        children = F.linear(tokens, self.weight, self.bias.repeat(4))
        children = children.reshape(-1, len(self.bias))
        return F.gelu(self.norm(children))


class TokenDecoder(nn.Module):
    """Multi-scale tokens to logits at the input's resolution.

    Args:
        width: channels of the concatenated tokens, divisible by 16.
        outputs: number of classes or regions K.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        if width % 2**STAGES:
            raise ValueError(f"decoder width must be divisible by {2**STAGES}, got {width}")
        widths = [width >> stage for stage in range(STAGES + 1)]
        self.stages = nn.ModuleList(UpsamplingStage(a, b) for a, b in itertools.pairwise(widths))
        self.classify = nn.Linear(widths[-1], outputs)
        nn.init.kaiming_normal_(self.classify.weight, a=SLOPE)
        nn.init.zeros_(self.classify.bias)

    def forward(self, tokens: Tensor, grid: tuple[int, int], chunk: int | None = None) -> Tensor:
        """Decode all tokens of a batch.

        Args:
            tokens: (B, rows*columns, width).
            grid: (rows, columns) of the token grid.
            chunk: tokens decoded at a time; bounds memory, changes nothing else.

        Returns:
            (B, K, 16*rows, 16*columns) logits.
        """
        batch, (rows, columns) = tokens.shape[0], grid
        flat = tokens.flatten(0, 1)
        if chunk is None or chunk >= len(flat):
            patches = self.patches(flat)
        else:
            patches = torch.cat([self.patches(part) for part in torch.split(flat, chunk)])
        patches = patches.reshape(batch, rows, columns, -1, PATCH, PATCH)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, PATCH * rows, PATCH * columns)

    def patches(self, tokens: Tensor) -> Tensor:
        """Decode single tokens: (M, width) to (M, K, 16, 16)."""
        count = len(tokens)
        for stage in self.stages:
            tokens = stage(tokens)
        # Nested 2 x 2 children, coarse first: bring all row bits before all column bits.
        logits: Tensor = self.classify(tokens).reshape(count, *(2,) * (2 * STAGES), -1)
        row_bits = [1 + 2 * stage for stage in range(STAGES)]
        column_bits = [2 + 2 * stage for stage in range(STAGES)]
        logits = logits.permute(0, 2 * STAGES + 1, *row_bits, *column_bits)
        return logits.reshape(count, -1, PATCH, PATCH)


def pack_kernel(kernel: Tensor) -> Tensor:
    """A transposed convolution's kernel (in, out, 2, 2) as the matrix (4 * out, in)."""
    return kernel.permute(2, 3, 1, 0).flatten(0, 2).contiguous()


def unpack_kernel(matrix: Tensor) -> Tensor:
    """The inverse of :func:`pack_kernel`."""
    return matrix.reshape(2, 2, -1, matrix.shape[1]).permute(3, 2, 0, 1).contiguous()
