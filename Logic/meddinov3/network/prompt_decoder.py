"""From cached tokens and prompts to the mask of one structure, whatever it is.

The backbone never sees the prompts. Tokens are squeezed once; each answer then costs a few
convolutions. Prompts come in twice: at the tokens, where blocks carry them to neighbours in the
plane and through slices, and at fine pixels beside the intensities, where they draw the border
(after ProMISe, arXiv 2310.19721, and nnInteractive, arXiv 2503.08373). As in 3DSAM-adapter
(arXiv 2306.13465) a prompt is also the feature under it: each token is told how much it is like
those clicked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meddinov3.description import PromptDescription
from meddinov3.network.prompt_maps import MAPS

HEADS = 4  # parts of a token that are compared by themselves
FINE_WIDTH = 16  # channels at fine pixels
MOST_CELLS = 4  # along a token's edge that tokens are decoded to; prompts and intensities go finer
EPS = 1e-6


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, H, W), so that no region's size matters."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W), normalised."""
        normal: Tensor = self.norm(maps.movedim(1, -1)).movedim(-1, 1)
        return normal


class ThroughSlices(nn.Module):
    """Adds to each slice its two neighbours, channel by channel; nothing before training.

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, width))

    def forward(self, maps: Tensor, neighbours: tuple[Tensor, Tensor]) -> Tensor:
        """(B, C, H, W); `neighbours` are the places in B of the slice before and after each."""
        before, after = self.weight[:, None, :, None, None]
        mixed: Tensor = maps + before * maps[neighbours[0]] + after * maps[neighbours[1]]
        return mixed


class TokenBlock(nn.Module):
    """A residual block of neighbouring tokens: through slices, then 3 x 3 in the plane."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.through = ChannelNorm(width), ThroughSlices(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, maps: Tensor, neighbours: tuple[Tensor, Tensor]) -> Tensor:
        """(B, C, token rows, token columns) to the same."""
        inner = self.conv(self.through(self.norm(maps), neighbours))
        changed: Tensor = self.project(F.gelu(inner))
        return maps + changed


class PromptDecoder(nn.Module):
    """Tokens, intensities and prompts to the logits of one structure.

    Args:
        token_width: channels of the backbone's concatenated levels.
        channels: of the scan.
        prompts: widths and cells.
    """

    def __init__(self, token_width: int, channels: int, prompts: PromptDescription) -> None:
        super().__init__()
        width = prompts.width
        self.cells = prompts.cells
        self._decoded = min(prompts.cells, MOST_CELLS)
        self.squeeze = nn.Linear(token_width, width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.ask = nn.Conv2d(MAPS + 2 * HEADS, width, 1)
        nn.init.zeros_(self.ask.weight)  # the tokens alone count at first
        if self.ask.bias is not None:
            nn.init.zeros_(self.ask.bias)
        self.blocks = nn.ModuleList(TokenBlock(width) for _ in range(prompts.depth))
        self.spread = nn.Linear(width, FINE_WIDTH * self._decoded**2)
        self.first = nn.Conv2d(FINE_WIDTH + channels + MAPS, FINE_WIDTH, 3, padding=1)
        self.through = ThroughSlices(FINE_WIDTH)
        self.second = nn.Conv2d(FINE_WIDTH, FINE_WIDTH, 3, padding=2, dilation=2)
        self.third = nn.Conv2d(FINE_WIDTH, FINE_WIDTH, 3, padding=1)
        self.decide = nn.Conv2d(FINE_WIDTH, 1, 1)

    def embed(self, tokens: Tensor) -> Tensor:
        """Squeeze tokens (..., token_width) to (..., width); independent of any prompt."""
        squeezed: Tensor = self.norm(self.squeeze(tokens))
        return squeezed

    def likeness(self, embedded: Tensor, examples: Sequence[Tensor]) -> Tensor:
        """How much each token is like the clicked ones, part by part.

        Args:
            embedded: (S, rows, columns, width).
            examples: embedded tokens (n, width) under positive and under negative clicks.

        Returns:
            (S, 2 * HEADS, rows, columns) cosines of the most like example; 0 without examples.
        """
        parts = F.normalize(torch.unflatten(embedded, -1, (HEADS, -1)).float(), dim=-1, eps=EPS)
        found = []
        for clicked in examples:
            if not len(clicked):
                found.append(parts.new_zeros(*parts.shape[:-1]))
                continue
            wanted = F.normalize(torch.unflatten(clicked, -1, (HEADS, -1)).float(), dim=-1, eps=EPS)
            found.append(torch.einsum("srchd,nhd->srchn", parts, wanted).amax(dim=-1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2)

    def forward(
        self,
        embedded: Tensor,
        picture: Tensor,
        fine: Tensor,
        coarse: Tensor,
        neighbours: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Decode slices.

        Args:
            embedded: (B, rows, columns, width) from :meth:`embed`.
            picture: (B, channels, cells * rows, cells * columns) normalised intensities.
            fine: (B, MAPS, cells * rows, cells * columns) from :func:`draw_prompts`.
            coarse: (B, MAPS + 2 * HEADS, rows, columns): the same at tokens, and
                :meth:`likeness`.
            neighbours: for each slice the places in B of the one before and after it.

        Returns:
            (B, 1, cells * rows, cells * columns) logits.
        """
        maps = embedded.movedim(-1, 1) + self.ask(coarse)
        for block in self.blocks:
            maps = block(maps, neighbours)
        spread = self.spread(maps.movedim(1, -1)).movedim(-1, 1)
        spread = F.pixel_shuffle(spread, self._decoded)
        if self.cells > self._decoded:
            spread = F.interpolate(spread, picture.shape[-2:], mode="bilinear", align_corners=False)
        inner = self.first(torch.cat([spread, picture, fine], dim=1))
        inner = F.gelu(self.through(inner, neighbours))
        inner = F.gelu(self.second(inner)) + inner
        inner = F.gelu(self.third(inner)) + inner
        logits: Tensor = self.decide(inner)
        return logits


def neighbouring(count: int, step: int, stacks: int = 1) -> tuple[Tensor, Tensor]:
    """Places of the slice before and after each, the last standing in beyond a stack's ends.

    Args:
        count: slices of a stack.
        step: slices to the neighbour that is mixed in.
        stacks: lying one behind the other.
    """
    places = torch.arange(count)
    first = (torch.arange(stacks) * count)[:, None]
    before, after = (places - step).clamp(min=0), (places + step).clamp(max=count - 1)
    return (first + before).flatten(), (first + after).flatten()
