"""Backbone and decoder joined: normalised slices in, logits out."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from meddinov3.network.backbone import LEVELS, PATCH, Backbone, BackboneShape
from meddinov3.network.decoder import TokenDecoder


class Segmenter(nn.Module):
    """The MedDINOv3 segmentation network for slices of any height and width.

    Args:
        shape: the backbone's architecture.
        outputs: classes (with background) or regions K.
        drop_path, layer_scale: see :class:`Backbone`; of use to training only.
    """

    def __init__(
        self,
        shape: BackboneShape,
        outputs: int,
        drop_path: float = 0.0,
        layer_scale: float = 1e-5,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(shape, drop_path, layer_scale)
        self.decoder = TokenDecoder(LEVELS * self.backbone.width, outputs)

    def forward(self, slices: Tensor, chunk: int | None = None) -> Tensor:
        """(B, C, H, W) to logits (B, K, H, W).

        H and W need not be multiples of 16: the slices are padded with zeros (the mean
        intensity after normalisation) below and to the right, and the logits cut back.

        Args:
            chunk: tokens decoded at a time, see :class:`TokenDecoder`.
        """
        height, width = slices.shape[-2:]
        slices = F.pad(slices, (0, -width % PATCH, 0, -height % PATCH))
        grid = (slices.shape[-2] // PATCH, slices.shape[-1] // PATCH)
        logits: Tensor = self.decoder(self.backbone(slices), grid, chunk)
        return logits[..., :height, :width]


class Ensemble(nn.Module):
    """Networks of one architecture, such as the folds of a cross-validation: their mean logits.

    Args:
        members: with the same outputs.
    """

    def __init__(self, members: Iterable[Segmenter]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, slices: Tensor, chunk: int | None = None) -> Tensor:
        """(B, C, H, W) to logits (B, K, H, W), as nnU-Net averages folds."""
        first, *others = self.members
        total: Tensor = first(slices, chunk)
        for member in others:
            total = total + member(slices, chunk)
        return total / len(self.members)


SegmentationNetwork = Segmenter | Ensemble


def first_member(network: SegmentationNetwork) -> Segmenter:
    """The network itself, or the first of an ensemble."""
    if isinstance(network, Segmenter):
        return network
    member = network.members[0]
    assert isinstance(member, Segmenter)
    return member
