"""AdamW as MedDINOv3 fine-tunes: two learning rates, linear decay, no decay on norms.

Rates (arXiv 2509.02379 and its code): decoder 3e-4; backbone 3e-5 from MedDINOv3, 1e-4 from
plain DINOv3, 3e-4 from random initialisation.
"""

from __future__ import annotations

import torch
from torch import nn

BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.05
CLIP = 12.0
WITHOUT_DECAY = ("cls_token", "reg_token", "mask_token", "gamma_1", "gamma_2")


def build_optimiser(
    network: nn.Module, decoder_rate: float, backbone_rate: float
) -> torch.optim.AdamW:
    """AdamW over ``backbone.*`` and the rest.

    Norms, biases, tokens and LayerScale are not decayed.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim < 2 or name.endswith(WITHOUT_DECAY)
        groups.setdefault((name.startswith("backbone."), plain), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": backbone_rate if in_backbone else decoder_rate,
                "weight_decay": 0.0 if plain else WEIGHT_DECAY,
            }
            for (in_backbone, plain), parameters in groups.items()
        ],
        betas=BETAS,
    )


def rate_factor(done: float, warmup: float) -> float:
    """Share of the peak rate: linear warm-up, then linear decay to zero.

    Args:
        done: share of the run that is over, 0 to 1.
        warmup: share of the run that warms up.
    """
    if done < warmup:
        return min(1.0, max(done, 1e-3) / warmup)
    return max(0.0, (1 - done) / (1 - warmup))
