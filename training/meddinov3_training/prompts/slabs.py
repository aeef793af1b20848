"""Training samples of click models: some neighbouring slices of a case, augmented as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from meddinov3.description import ModelDescription
from meddinov3.inference.slices import neighbours
from torch import Tensor

from meddinov3_training.augmentation import (
    Augmentation,
    Random,
    cut_image,
    cut_labels,
    sampling_grid,
)
from meddinov3_training.cache import CachedCase
from meddinov3_training.intensity_changes import change_intensities
from meddinov3_training.prompts.lesson import Lesson
from meddinov3_training.samples import Samples

BEYOND = 65535  # stands in label maps where the scan has no slice


class SlabSamples(Samples):
    """Augmented slabs that show a structure; slab n is a function of the seed and n alone.

    Args:
        cases: cached cases.
        description: the model in training.
        lesson: shape of the slabs.
        augmentation: ranges.
        seed: of the run.
    """

    def __init__(
        self,
        cases: Sequence[CachedCase],
        description: ModelDescription,
        lesson: Lesson,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        plain = [dataclasses.replace(case, slice_offsets=(0.0,)) for case in cases]
        super().__init__(plain, description, augmentation, seed)
        self._lesson = lesson

    def _share(self) -> float:
        return 1.0  # there must be something to click on

    def _draw(self, random: Random) -> tuple[Tensor, Tensor]:
        """Slab (S, offsets * channels, rows, columns) and values (S, fine rows, fine columns)."""
        lesson, sampling = self._lesson, self._lesson.sampling
        case, number, value = self._choose(random)
        wanted = self._places(random, case, number)
        bounds = (0, case.count)
        distance = case.record.spacing[0]
        context = [
            neighbours(int(np.floor(place / distance + 0.5)), sampling.slice_offsets, distance,
                       bounds)
            for place in wanted
        ]  # fmt: skip
        unique = sorted({index for row in context for index in row})
        at = {index: place for place, index in enumerate(unique)}
        frame = self._frame(random, case, case.labels(number), value)
        assert sampling.patch is not None and sampling.spacing is not None
        grid = sampling_grid(frame, sampling.patch, sampling.spacing, case.size, case.spacing)
        planes = cut_image(torch.cat([case.image(index) for index in unique])[None], grid)[0]
        planes = change_intensities(planes, self._augmentation, random.choose(2**63), len(unique))
        planes = torch.unflatten(planes, 0, (len(unique), -1))
        images = torch.stack(
            [planes[[at[index] for index in row]].flatten(0, 1) for row in context]
        )
        fine = sampling_grid(frame, lesson.fine, lesson.pitch, case.size, case.spacing)
        values = torch.full((lesson.slices, *lesson.fine), BEYOND, dtype=torch.int64)
        for place, mm in enumerate(wanted):
            index = int(np.floor(mm / distance + 0.5))
            if 0 <= index < case.count:
                values[place] = cut_labels(case.labels(index), fine)
        return images, values

    def _places(self, random: Random, case: CachedCase, number: int) -> list[float]:
        """Where the slices of a slab with slice `number` lie, in mm; in the scan if it fits."""
        step, distance = self._lesson.prompts.slice_spacing, case.record.spacing[0]
        length = (self._lesson.slices - 1) * step
        first = number * distance - random.choose(self._lesson.slices) * step
        last = (case.count - 1) * distance - length
        first = min(max(first, 0.0), last) if last > 0 else last / 2
        return [first + place * step for place in range(self._lesson.slices)]
