"""What a click model is taught with: slabs of neighbouring slices, and how many clicks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from meddinov3.description import ModelDescription, PromptDescription, Sampling
from meddinov3.network.backbone import PATCH
from meddinov3.network.prompt_maps import Stack

MOST_SLICES, FEWEST_SLICES = 16, 4
MOST_TOKENS = 4096  # of a slab


@dataclass(frozen=True)
class Lesson:
    """The shape of the training samples.

    Attributes:
        sampling: of the model; `patch` and `spacing` are set.
        prompts: of the model.
        channels: of the scan.
        slices: of a slab.
        members: for each structure the label-map values that make it up.
        ignore: value that is not annotated, or None.
    """

    sampling: Sampling
    prompts: PromptDescription
    channels: int
    slices: int
    members: tuple[tuple[int, ...], ...]
    ignore: int | None

    @classmethod
    def of(cls, description: ModelDescription, members: tuple[tuple[int, ...], ...]) -> Lesson:
        """The lesson of a click model.

        Args:
            description: of the model.
            members: see :class:`meddinov3_training.dataset.Dataset`.
        """
        assert description.prompts is not None and description.sampling.patch is not None
        rows, columns = (n // PATCH for n in description.sampling.patch)
        slices = min(MOST_SLICES, max(FEWEST_SLICES, MOST_TOKENS // (rows * columns)))
        return cls(
            description.sampling, description.prompts, len(description.channels), slices, members,
            description.ignore_label,
        )  # fmt: skip

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens (rows, columns) of a slice."""
        assert self.sampling.patch is not None
        return (self.sampling.patch[0] // PATCH, self.sampling.patch[1] // PATCH)

    @property
    def fine(self) -> tuple[int, int]:
        """Fine pixels (rows, columns) of a slice."""
        return (self.tokens[0] * self.prompts.cells, self.tokens[1] * self.prompts.cells)

    @property
    def pitch(self) -> tuple[float, float]:
        """Millimetres between fine pixels."""
        assert self.sampling.spacing is not None
        rows, columns = (mm * PATCH / self.prompts.cells for mm in self.sampling.spacing)
        return (rows, columns)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres along (slices, rows, columns) of a slab's fine pixels."""
        return (self.prompts.slice_spacing, *self.pitch)

    @property
    def own_channels(self) -> slice:
        """Which input channels show the slice itself, not its neighbours."""
        offsets = self.sampling.slice_offsets
        here = min(range(len(offsets)), key=lambda n: abs(offsets[n]))
        return slice(here * self.channels, (here + 1) * self.channels)

    def stack(self, device: torch.device) -> Stack:
        """Where a slab's tokens lie."""
        slices = torch.arange(self.slices, device=device) * self.prompts.slice_spacing
        return Stack(slices, self.tokens, self.prompts.cells, self.pitch)
