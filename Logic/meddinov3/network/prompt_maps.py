"""Points, a box and an earlier mask as channels of pictures, in millimetres in three dimensions.

A click is drawn as two cones around it, one as narrow as a few pixels and one that says where the
work goes on, so that neighbouring slices see it too: dense maps lose least of what was asked
(nnInteractive, arXiv 2503.08373; RITM, arXiv 2102.06583).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAPS = 6  # two cones each for positive and negative clicks, box, earlier mask
FAR_AWAY = 1e6  # mm


@dataclass(frozen=True, eq=False)
class Stack:
    """Where the tokens and fine pixels of some slices lie; the first token's corner is (0, 0) mm.

    Attributes:
        slices: (S,) positions along the slice axis, mm.
        tokens: (rows, columns) of every slice.
        cells: fine pixels along the edge of a token.
        pitch: of the fine pixels along (rows, columns), mm.
    """

    slices: Tensor
    tokens: tuple[int, int]
    cells: int
    pitch: tuple[float, float]

    @property
    def fine(self) -> tuple[int, int]:
        """Fine pixels (rows, columns) of every slice."""
        return (self.tokens[0] * self.cells, self.tokens[1] * self.cells)

    def axes(self, cells: int) -> tuple[Tensor, Tensor, Tensor]:
        """Positions in mm along (slices, rows, columns) of centres, `cells` to a token's edge."""
        rows, columns = (
            (torch.arange(count * cells, device=self.slices.device) + 0.5)
            * (pitch * self.cells / cells)
            for count, pitch in zip(self.tokens, self.pitch, strict=True)
        )
        return self.slices, rows, columns


@dataclass(frozen=True, eq=False)
class StackPrompts:
    """What is asked, in the frame of a :class:`Stack`.

    Attributes:
        positive, negative: clicks (n, 3) in mm along (slices, rows, columns).
        box: (S, rows, columns) of fine pixels, True inside; None if there is none.
        previous: the same of the mask so far, as probabilities.
    """

    positive: Tensor
    negative: Tensor
    box: Tensor | None = None
    previous: Tensor | None = None


def draw_prompts(
    stack: Stack, prompts: StackPrompts, near: float, far: float
) -> tuple[Tensor, Tensor]:
    """Channels for the decoder.

    Args:
        stack: where to draw.
        prompts: what.
        near, far: radii of the two cones, mm.

    Returns:
        (S, 6, rows, columns) at fine pixels and (S, 6, token rows, token columns): cones of
        positive and of negative clicks from 1 at the click to 0 at the radius; the box and the
        earlier mask 1 inside and -1 outside, 0 where there is none.
    """
    drawn = []
    for cells in (stack.cells, 1):
        axes = stack.axes(cells)
        cones = []
        for clicks in (prompts.positive, prompts.negative):
            distance = distance_to(axes, clicks)
            cones += [(1 - distance / radius).clamp(min=0) for radius in (near, far)]
        drawn.append(torch.stack(cones, dim=1))
    fine, coarse = drawn
    for mask in (prompts.box, prompts.previous):
        plane = fine.new_zeros(len(fine), 1, *stack.fine) if mask is None else _signed(mask, fine)
        fine = torch.cat([fine, plane], dim=1)
        coarse = torch.cat([coarse, F.avg_pool2d(plane, stack.cells)], dim=1)
    return fine, coarse


def distance_to(axes: tuple[Tensor, Tensor, Tensor], clicks: Tensor) -> Tensor:
    """Distance in mm of each place (S, rows, columns) to the nearest click; huge without any.

    Args:
        axes: positions along (slices, rows, columns), mm.
        clicks: (n, 3), mm.
    """
    slices, rows, columns = axes
    nearest = torch.full((len(slices), len(rows), len(columns)), FAR_AWAY**2, device=slices.device)
    for click in clicks.to(slices):
        squares = [(axis - place) ** 2 for axis, place in zip(axes, click, strict=True)]
        here = squares[0][:, None, None] + squares[1][:, None] + squares[2]
        nearest = torch.minimum(nearest, here)
    return nearest.sqrt()


def _signed(mask: Tensor, like: Tensor) -> Tensor:
    return mask.to(like)[:, None] * 2 - 1
