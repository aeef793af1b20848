"""Rotary position embedding of DINOv3 with a choice of coordinates and precision.

DINOv3 maps every token grid to [-1, 1] per axis. A slice larger than the training patch
then squeezes its positions together. With a *reference grid* the coordinate is a physical
distance instead: 1 lies at the edge of the training patch, whatever the slice's size, so
that a crop and the whole slice give the same relative positions.

Formulae: DINOv3 (arXiv 2508.10104): periods 100^(2i / (d/2)), angles 2*pi*coordinate/period,
axes stacked as (rows, columns), halves rotated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

BASE = 100.0
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class AxialRope(nn.Module):
    """Sine and cosine tables for a grid of patch tokens; takes the place of timm's ``rope``.

    Args:
        head_dim: channels of one attention head, divisible by 4.
        reference_grid: (rows, columns) in tokens that span [-1, 1]; None normalises every
            grid by its own size, as DINOv3 does.
        precision: ``"fp32"``, or ``"bf16"`` to repeat upstream MedDINOv3, which computes
            coordinates, periods, angles and the rotation itself in bfloat16.
    """

    periods: Tensor

    def __init__(
        self,
        head_dim: int,
        reference_grid: tuple[float, float] | None = None,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        if head_dim % 4:
            raise ValueError(f"head_dim must be divisible by 4, got {head_dim}")
        if precision not in PRECISIONS:
            raise ValueError(f"RoPE precision is one of {sorted(PRECISIONS)}, got {precision!r}")
        self.reference_grid = reference_grid
        self.precision = precision
        work = PRECISIONS[precision]
        exponent = 2 * torch.arange(head_dim // 4, dtype=work) / (head_dim // 2)
        self.register_buffer("periods", BASE**exponent, persistent=False)

    def get_embed(self, shape: tuple[int, int]) -> Tensor:
        """Return the table (rows*columns, 2*head_dim) in the chosen precision.

        Sines come first, then cosines.

        Args:
            shape: (rows, columns) of the token grid; rows vary slowest in the result.
        """
        work, device = PRECISIONS[self.precision], self.periods.device
        axes = []
        for axis, count in enumerate(shape):
            centre = torch.arange(0.5, count, dtype=work, device=device)
            if self.reference_grid is None:
                axes.append(2.0 * (centre / count) - 1.0)
            else:
                # Attention sees differences only, so the origin may be the grid's middle.
                axes.append((centre - count / 2) * (2.0 / self.reference_grid[axis]))
        coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)
        angles = 2 * math.pi * coordinates[:, :, None] / self.periods.to(work)
        angles = angles.flatten(1).tile(2)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class RotateIn(nn.Module):
    """Casts queries or keys to the RoPE's precision before the rotation (timm casts back)."""

    def __init__(self, precision: str) -> None:
        super().__init__()
        self.dtype = PRECISIONS[precision]

    def forward(self, heads: Tensor) -> Tensor:
        """(B, heads, N, head_dim) in any type to the same in the RoPE's type."""
        return heads.to(self.dtype)
