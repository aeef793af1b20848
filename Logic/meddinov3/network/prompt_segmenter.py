"""A click model: a backbone that reads slices, and a decoder that is told what is meant."""

from __future__ import annotations

from torch import nn

from meddinov3.description import PromptDescription
from meddinov3.network.backbone import LEVELS, Backbone, BackboneShape
from meddinov3.network.prompt_decoder import PromptDecoder


class PromptSegmenter(nn.Module):
    """Backbone and promptable decoder in one, as they are stored.

    Args:
        shape: the backbone's architecture.
        channels: of the scan (of one slice).
        prompts: the decoder's.
        drop_path, layer_scale: see :class:`Backbone`; of use to training only.
    """

    def __init__(
        self,
        shape: BackboneShape,
        channels: int,
        prompts: PromptDescription,
        drop_path: float = 0.0,
        layer_scale: float = 1e-5,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(shape, drop_path, layer_scale)
        self.decoder = PromptDecoder(LEVELS * self.backbone.width, channels, prompts)
