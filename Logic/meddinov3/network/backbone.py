"""DINOv3 vision transformers from timm, made to return MedDINOv3's four token levels."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import timm
import torch
from timm.layers import LayerNorm
from torch import Tensor, nn

from meddinov3.errors import MedDINOv3Error
from meddinov3.network.rope import AxialRope, RotateIn

PATCH = 16
LEVELS = 4
OVERRIDABLE = {"embed_dim", "depth", "num_heads", "num_reg_tokens"}  # no paths, no downloads


@dataclass(frozen=True)
class BackboneShape:
    """What must be known to build a backbone before its weights are loaded.

    Attributes:
        name: timm architecture, e.g. ``vit_base_patch16_dinov3`` (tiny to 7B).
        in_channels: input channels C.
        overrides: timm arguments that differ from the architecture's own
            (``embed_dim``, ``depth``, ``num_heads``, ``num_reg_tokens``).
        norm_eps: LayerNorm epsilon; 1e-6 for upstream MedDINOv3, 1e-5 for timm's DINOv3.
        rope_precision: ``fp32`` or ``bf16`` (upstream as shipped).
        rope_grid: tokens (rows, columns) spanning [-1, 1], or None for DINOv3's own rule.
    """

    name: str = "vit_base_patch16_dinov3"
    in_channels: int = 1
    overrides: dict[str, int] = field(default_factory=dict)
    norm_eps: float = 1e-6
    rope_precision: str = "fp32"
    rope_grid: tuple[float, float] | None = None


def level_indices(depth: int) -> list[int]:
    """Blocks whose outputs feed the decoder: the ends of the four quarters (0-based)."""
    if depth < LEVELS:
        raise ValueError(f"a backbone needs at least {LEVELS} blocks, got {depth}")
    return [depth * quarter // LEVELS - 1 for quarter in range(1, LEVELS + 1)]


class Backbone(nn.Module):
    """A DINOv3 ViT that maps slices to multi-scale patch tokens.

    Args:
        shape: architecture and numerical conventions.
        drop_path: stochastic depth, the same rate in every block (upstream uses 0.2).
        layer_scale: initial LayerScale; DINOv3's 1e-5 keeps a fresh network near identity.
    """

    def __init__(
        self, shape: BackboneShape, drop_path: float = 0.0, layer_scale: float = 1e-5
    ) -> None:
        super().__init__()
        if shape.name not in timm.list_models("vit_*patch16_dinov3*"):
            raise MedDINOv3Error(
                "unknown-backbone",
                f"'{shape.name}' is no DINOv3 backbone that timm {timm.__version__} knows.",
                "Use a name such as vit_small_patch16_dinov3 or vit_base_patch16_dinov3.",
            )
        foreign = set(shape.overrides) - OVERRIDABLE
        if foreign or not all(type(n) is int and n > 0 for n in shape.overrides.values()):
            raise MedDINOv3Error(
                "bad-description",
                f"A backbone cannot be built with {shape.overrides}.",
                f"Positive whole numbers for {', '.join(sorted(OVERRIDABLE))} are possible.",
            )
        arguments: dict[str, Any] = dict(shape.overrides)
        self.vit = timm.create_model(
            shape.name,
            pretrained=False,
            num_classes=0,
            in_chans=shape.in_channels,
            norm_layer=partial(LayerNorm, eps=shape.norm_eps),
            drop_path_rate=drop_path,
            init_values=layer_scale,
            **arguments,
        )
        self.shape = shape
        for block in self.vit.blocks:  # timm ramps the rate; upstream keeps it constant
            for name in ("drop_path1", "drop_path2"):
                if hasattr(getattr(block, name), "drop_prob"):
                    getattr(block, name).drop_prob = drop_path
            if shape.rope_precision != "fp32":
                block.attn.q_norm = RotateIn(shape.rope_precision)
                block.attn.k_norm = RotateIn(shape.rope_precision)
        head_dim = self.vit.embed_dim // self.vit.blocks[0].attn.num_heads
        self.vit.rope = AxialRope(head_dim, shape.rope_grid, shape.rope_precision)
        self.levels = level_indices(len(self.vit.blocks))

    @property
    def width(self) -> int:
        """Channels of one level."""
        return int(self.vit.embed_dim)

    def forward(self, slices: Tensor) -> Tensor:
        """Encode slices.

        Args:
            slices: (B, C, H, W), H and W divisible by 16, intensities normalised.

        Returns:
            (B, N, 4*width) tokens, N = H/16 * W/16 with rows slowest; the four levels after
            the shared final norm, shallow first; class and register tokens left out.
        """
        levels = self.vit.forward_intermediates(
            slices, indices=self.levels, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return torch.cat(levels, dim=-1)


def merge_input_channels(kernel: Tensor, channels: int) -> Tensor:
    """Turn an RGB patch kernel into one for C grey channels.

    The RGB sum over C makes one channel equal to that channel repeated three times, and C
    equal channels equal to one.

    Args:
        kernel: (D, 3, 16, 16).
        channels: C.
    """
    return kernel.sum(dim=1, keepdim=True).div(channels).repeat(1, channels, 1, 1)
