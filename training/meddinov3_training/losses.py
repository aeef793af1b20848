"""Segmentation losses, as nnU-Net 2.x defines them: Dice plus cross-entropy, 1 : 1."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1e-5


def dice_loss(probabilities: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Minus the mean soft Dice, counted over the whole batch (nnU-Net's batch Dice).

    Args:
        probabilities: (B, K, H, W), background left out.
        target: (B, K, H, W), 0 or 1.
        valid: (B, 1, H, W), 0 where nothing is annotated.
    """
    axes = (0, 2, 3)
    intersection = (probabilities * target * valid).sum(axes)
    total = (probabilities * valid).sum(axes) + (target * valid).sum(axes)
    return -((2 * intersection + SMOOTH) / (total + SMOOTH).clip(1e-8)).mean()


def exclusive_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice and cross-entropy for labels that exclude each other.

    Args:
        logits: (B, K, H, W), background first.
        target: (B, H, W) class indices, -1 where nothing is annotated.
    """
    valid = target >= 0
    classes = target.clip(min=0)
    one_hot = F.one_hot(classes, logits.shape[1]).movedim(-1, 1)
    mask = valid[:, None]
    dice = dice_loss(logits.softmax(dim=1)[:, 1:], one_hot[:, 1:], mask)
    entropy = F.cross_entropy(logits, classes, reduction="none")
    return dice + (entropy * valid).sum() / valid.sum().clip(min=1)


def region_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Dice and binary cross-entropy for regions that may overlap.

    Args:
        logits: (B, K, H, W), no background.
        target: (B, K, H, W), 0 or 1.
        valid: (B, H, W), False where nothing is annotated.
    """
    mask = valid[:, None]
    dice = dice_loss(logits.sigmoid(), target, mask)
    entropy = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    return dice + (entropy * mask).sum() / (mask.sum() * logits.shape[1]).clip(min=1)
