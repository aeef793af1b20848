"""Cases in memory, and batches of augmented patches drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from meddinov3.description import ModelDescription
from meddinov3.inference.slices import SliceSource
from meddinov3.region import index_box
from meddinov3.volume import Volume
from torch import Tensor

from meddinov3_training.augmentation import (
    Augmentation,
    Random,
    change_intensities,
    cut_image,
    cut_labels,
    draw_frame,
    sampling_grid,
)

FOREGROUND_SHARE = 1 / 3
CPU = torch.device("cpu")


@dataclass(frozen=True)
class PreparedCase:
    """A case as the model sees it.

    Attributes:
        source: normalised slices, the code that inference uses.
        labels: (slices, rows, columns) label-map values.
        spacing: (rows, columns) in mm.
        slices_with: for each value the slices that show it.
    """

    source: SliceSource
    labels: np.ndarray
    spacing: tuple[float, float]
    slices_with: dict[int, np.ndarray]


def prepare(volume: Volume, label_map: np.ndarray, description: ModelDescription) -> PreparedCase:
    """Orient and normalise a case; label values that are no annotation are kept as they are."""
    orientation = description.sampling.orientation
    whole = index_box(None, volume.grid, orientation)
    view = orientation.view(label_map, volume.grid)
    values = [int(v) for v in np.unique(view) if v > 0 and v != description.ignore_label]
    shown = {v: np.flatnonzero((view == v).any(axis=(1, 2))) for v in values}
    return PreparedCase(
        SliceSource(volume, description, whole, whole),
        np.ascontiguousarray(view),
        orientation.spacing(volume.grid)[1:],
        shown,
    )


class PatchSampler:
    """Draws batches; a third of the samples show a structure for certain, rare ones as often.

    Args:
        cases: prepared cases.
        description: the model in training.
        augmentation: ranges.
        seed: batches repeat for the same seed.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        description: ModelDescription,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self._cases = cases
        self._sampling = description.sampling
        self._augmentation = augmentation
        self._random = Random(seed)
        self._with: dict[int, list[int]] = {}
        for number, case in enumerate(cases):
            for value in case.slices_with:
                self._with.setdefault(value, []).append(number)

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Patches (count, C, H, W) float32 and label values (count, H, W) int64."""
        images, labels = zip(*(self._sample() for _ in range(count)), strict=True)
        return torch.stack(images), torch.stack(labels)

    def _sample(self) -> tuple[Tensor, Tensor]:
        random, sampling = self._random, self._sampling
        assert sampling.patch is not None and sampling.spacing is not None
        value = None
        if self._with and random.chance(FOREGROUND_SHARE):
            value = sorted(self._with)[random.choose(len(self._with))]
            case = self._cases[self._with[value][random.choose(len(self._with[value]))]]
            slices = case.slices_with[value]
            number = int(slices[random.choose(len(slices))])
        else:
            case = self._cases[random.choose(len(self._cases))]
            number = random.choose(len(case.labels))
        labels = torch.from_numpy(case.labels[number].astype(np.int64))
        centre = self._centre(case, labels, value)
        frame = draw_frame(random, self._augmentation, sampling, centre)
        grid = sampling_grid(
            frame, sampling.patch, sampling.spacing, case.source.size, case.spacing
        )
        image = cut_image(case.source.batch([number], CPU), grid)[0]
        image = change_intensities(image, random, self._augmentation)
        return image, cut_labels(labels, grid)

    def _centre(self, case: PreparedCase, labels: Tensor, value: int | None) -> tuple[float, float]:
        """Middle of the patch in slice pixels: over the structure, or anywhere it fits."""
        random, sampling = self._random, self._sampling
        assert sampling.patch is not None and sampling.spacing is not None
        target = None
        if value is not None:
            pixels = (labels == value).nonzero()
            target = pixels[random.choose(len(pixels))].tolist()
        centre = []
        for axis in (0, 1):
            length = case.source.size[axis]
            reach = sampling.patch[axis] * sampling.spacing[axis] / case.spacing[axis]
            jitter = self._augmentation.shift * sampling.spacing[axis] / case.spacing[axis]
            low, high = sorted((reach / 2, length - reach / 2))
            if reach >= length:
                low = high = length / 2
            place = random.uniform(low, high)
            spread = reach / 4
            if target is not None:
                place = target[axis] + random.uniform(-spread, spread)
                place = min(max(place, low), high)
            place += random.uniform(-jitter, jitter)
            if target is not None:  # also when turned and enlarged the structure stays in sight
                place = min(max(place, target[axis] - spread), target[axis] + spread)
            centre.append(place - 0.5)
        return (centre[0], centre[1])
