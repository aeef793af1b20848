"""Segmentation losses, as nnU-Net 2.x defines them: Dice plus cross-entropy, 1 : 1.

Both terms are quotients of sums over the whole batch. The sums are kept apart from the quotient,
so that a batch which is split over micro-batches or processes has exactly the loss, and the
gradient, of the batch in one piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1e-5


@dataclass(frozen=True)
class LossSums:
    """What a loss is made of.

    Attributes:
        overlap: (K,) probability inside each structure.
        total: (K,) probability plus target.
        entropy: () cross-entropy.
        count: () values it was summed over.
    """

    overlap: Tensor
    total: Tensor
    entropy: Tensor
    count: Tensor

    def pack(self) -> Tensor:
        """All numbers in one vector, for sending."""
        return torch.cat([part.reshape(-1) for part in _parts(self)])

    def unpack(self, vector: Tensor) -> LossSums:
        """The inverse of :meth:`pack` for sums of this shape."""
        lengths = [part.numel() for part in _parts(self)]
        parts = torch.split(vector, lengths)
        return LossSums(parts[0], parts[1], parts[2].reshape(()), parts[3].reshape(()))

    def loss(self) -> Tensor:
        """Minus the mean soft Dice over the structures, plus the mean cross-entropy."""
        dice = (2 * self.overlap + SMOOTH) / (self.total + SMOOTH).clip(1e-8)
        return -dice.mean() + self.entropy / self.count.clip(min=1)


def _parts(sums: LossSums) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The tensors themselves; dataclasses.astuple would copy them."""
    return (sums.overlap, sums.total, sums.entropy, sums.count)


def _overlaps(probabilities: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Overlap and total (K,) of (B, K, H, W) over valid (B, 1, H, W) pixels of the batch."""
    axes = (0, 2, 3)
    overlap = (probabilities * target * valid).sum(axes)
    return overlap, (probabilities * valid).sum(axes) + (target * valid).sum(axes)


def dice_loss(probabilities: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Minus the mean soft Dice, counted over the whole batch (nnU-Net's batch Dice).

    Args:
        probabilities: (B, K, H, W), background left out.
        target: (B, K, H, W), 0 or 1.
        valid: (B, 1, H, W), 0 where nothing is annotated.
    """
    nothing = probabilities.new_zeros(())
    return LossSums(*_overlaps(probabilities, target, valid), nothing, nothing).loss()


def exclusive_sums(logits: Tensor, target: Tensor) -> LossSums:
    """Sums for labels that exclude each other.

    Args:
        logits: (B, K, H, W), background first.
        target: (B, H, W) class indices, -1 where nothing is annotated.
    """
    valid = target >= 0
    classes = target.clip(min=0)
    one_hot = F.one_hot(classes, logits.shape[1]).movedim(-1, 1)
    overlap, total = _overlaps(logits.softmax(dim=1)[:, 1:], one_hot[:, 1:], valid[:, None])
    entropy = F.cross_entropy(logits, classes, reduction="none")
    return LossSums(overlap, total, (entropy * valid).sum(), valid.sum().to(logits.dtype))


def region_sums(logits: Tensor, target: Tensor, valid: Tensor) -> LossSums:
    """Sums for regions that may overlap.

    Args:
        logits: (B, K, H, W), no background.
        target: (B, K, H, W), 0 or 1.
        valid: (B, H, W), False where nothing is annotated.
    """
    mask = valid[:, None]
    overlap, total = _overlaps(logits.sigmoid(), target, mask)
    entropy = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    count = (mask.sum() * logits.shape[1]).to(logits.dtype)
    return LossSums(overlap, total, (entropy * mask).sum(), count)


def exclusive_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice and cross-entropy; see :func:`exclusive_sums`."""
    return exclusive_sums(logits, target).loss()


def region_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Dice and binary cross-entropy; see :func:`region_sums`."""
    return region_sums(logits, target, valid).loss()
