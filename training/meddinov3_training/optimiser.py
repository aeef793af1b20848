"""AdamW as MedDINOv3 fine-tunes: two learning rates, linear decay, no decay on norms.

Rates (arXiv 2509.02379 and its code): decoder 3e-4; backbone 3e-5 from MedDINOv3, 1e-4 from
plain DINOv3, 3e-4 from random initialisation.
"""

from __future__ import annotations

import re

import torch
from torch import nn

BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.05
CLIP = 12.0
WITHOUT_DECAY = ("cls_token", "reg_token", "mask_token", "gamma_1", "gamma_2")
BLOCK = re.compile(r"backbone\.vit\.blocks\.(\d+)\.")
BACKBONE = "backbone."
EMBEDDING = ("patch_embed.", "cls_token", "reg_token", "mask_token")


def build_optimiser(
    network: nn.Module, decoder_rate: float, backbone_rate: float, layer_decay: float = 1.0
) -> torch.optim.AdamW:
    """AdamW over ``backbone.*`` and the rest; each group keeps its ``peak`` rate.

    Norms, biases, tokens and LayerScale are not decayed.

    Args:
        network: with parameters to train.
        decoder_rate, backbone_rate: peak rates.
        layer_decay: factor for each block further from the output (BEiT's layer-wise decay);
            1 is the paper's single rate.
    """
    depth = 1 + max((_block(name) for name, _ in network.named_parameters()), default=-1)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim < 2 or name.endswith(WITHOUT_DECAY)
        rate = decoder_rate
        if name.startswith(BACKBONE):
            rate = backbone_rate * layer_decay ** _distance(name, depth)
        groups.setdefault((rate, 0.0 if plain else WEIGHT_DECAY), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ],
        betas=BETAS,
    )


def _block(name: str) -> int:
    found = BLOCK.match(name)
    return int(found[1]) if found else -1


def _distance(name: str, depth: int) -> int:
    """Blocks between a backbone's parameter and the decoder."""
    if _block(name) >= 0:
        return depth - 1 - _block(name)
    return depth if any(part in name for part in EMBEDDING) else 0  # the final norm is last


def rate_factor(done: float, warmup: float) -> float:
    """Share of the peak rate: linear warm-up, then linear decay to zero.

    Args:
        done: share of the run that is over, 0 to 1.
        warmup: share of the run that warms up.
    """
    if done < warmup:
        return min(1.0, max(done, 1e-3) / warmup)
    return max(0.0, (1 - done) / (1 - warmup))
