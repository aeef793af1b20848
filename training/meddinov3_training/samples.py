"""Training samples drawn from cached cases: endless, numbered, and the same in any process."""

from __future__ import annotations

import atexit
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from meddinov3.description import ModelDescription
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from meddinov3_training.augmentation import (
    Augmentation,
    PatchFrame,
    Random,
    cut_image,
    cut_labels,
    draw_frame,
    keep_in_sight,
    sampling_grid,
)
from meddinov3_training.cache import CachedCase
from meddinov3_training.in_threads import one_thread
from meddinov3_training.intensity_changes import change_intensities

FOREGROUND_SHARE = 1 / 3  # nnU-Net's
WAITING = 2  # batches that each worker has ready

Sample = tuple[Tensor, Tensor]


class Samples(Dataset[Sample]):
    """Augmented patches; sample n is a function of the seed and n alone.

    A third of the samples show a structure for certain, rare structures as often as common
    ones; the others come from any case, slice and place.

    Args:
        cases: cached cases.
        description: the model in training.
        augmentation: ranges.
        seed: of the run.
    """

    def __init__(
        self,
        cases: Sequence[CachedCase],
        description: ModelDescription,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self._cases = tuple(cases)
        self._sampling = description.sampling
        self._augmentation = augmentation
        self._seed = seed
        found: dict[int, list[int]] = {}
        for number, case in enumerate(cases):
            for value in case.slices_with:
                found.setdefault(value, []).append(number)
        self._with = sorted(found.items())

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`, any integer from 0.

        Returns:
            Patch (C, rows, columns) float32 and label-map values (rows, columns) int64.
        """
        with one_thread():
            return self._draw(Random(self._seed, index))

    def _draw(self, random: Random) -> Sample:
        sampling = self._sampling
        assert sampling.patch is not None and sampling.spacing is not None
        case, number, value = self._choose(random)
        labels = case.labels(number)
        frame = self._frame(random, case, labels, value)
        grid = sampling_grid(frame, sampling.patch, sampling.spacing, case.size, case.spacing)
        image = cut_image(case.image(number)[None], grid)[0]
        seed, slices_in = random.choose(2**63), len(sampling.slice_offsets)
        image = change_intensities(image, self._augmentation, seed, slices_in)
        return image, cut_labels(labels, grid)

    def _share(self) -> float:
        """Of the samples that show a structure for certain."""
        return FOREGROUND_SHARE

    def _choose(self, random: Random) -> tuple[CachedCase, int, int | None]:
        """A case, a slice of it, and the label value that it shows for certain, if any."""
        if random.chance(self._share()) and self._with:
            value, shown = self._with[random.choose(len(self._with))]
            case = self._cases[shown[random.choose(len(shown))]]
            slices = case.slices_with[value]
            return case, int(slices[random.choose(len(slices))]), value
        case = self._cases[random.choose(len(self._cases))]
        return case, random.choose(case.count), None

    def _frame(
        self, random: Random, case: CachedCase, labels: Tensor, value: int | None
    ) -> PatchFrame:
        """Where the patch lies in a slice with these `labels`; a pixel of `value` is in sight."""
        sampling = self._sampling
        assert sampling.patch is not None and sampling.spacing is not None
        target = None
        if value is not None:
            pixels = (labels == value).nonzero()
            row, column = pixels[random.choose(len(pixels))].tolist()
            target = (float(row), float(column))
        centre = self._centre(random, case, target)
        frame = draw_frame(random, self._augmentation, sampling, centre)
        if target is not None:
            frame = keep_in_sight(frame, target, sampling.patch, sampling.spacing, case.spacing)
        return frame

    def _centre(
        self, random: Random, case: CachedCase, target: tuple[float, float] | None
    ) -> tuple[float, float]:
        """Middle of the patch in slice pixels: around the target, or anywhere it fits."""
        sampling = self._sampling
        assert sampling.patch is not None and sampling.spacing is not None
        centre = []
        for axis in (0, 1):
            length = case.size[axis]
            reach = sampling.patch[axis] * sampling.spacing[axis] / case.spacing[axis]
            jitter = self._augmentation.shift * sampling.spacing[axis] / case.spacing[axis]
            low, high = reach / 2, length - reach / 2
            if reach >= length:
                low = high = length / 2
            place = random.uniform(low, high)
            if target is not None:
                place = target[axis] + random.uniform(-reach / 4, reach / 4)
                place = min(max(place, low), high)
            centre.append(place + random.uniform(-jitter, jitter) - 0.5)
        return (centre[0], centre[1])


@dataclass(frozen=True)
class _Batches:
    """Sample numbers of consecutive batches, endless where `count` is None."""

    batch: int
    first: int
    count: int | None
    stride: int

    def __iter__(self) -> Iterator[list[int]]:
        numbers = itertools.count() if self.count is None else range(self.count)
        for number in numbers:
            begin = self.first + number * self.stride
            yield list(range(begin, begin + self.batch))


def loader(
    samples: Dataset[Sample],
    batch: int,
    first: int,
    count: int | None,
    workers: int,
    stride: int | None = None,
) -> Iterator[Sample]:
    """Batches of consecutive samples, prepared ahead by worker processes.

    Args:
        samples: where from.
        batch: samples in each.
        first: number of the first sample; after `n` batches go on with ``first + n * stride``.
        count: of batches; None for no end.
        workers: processes; 0 prepares each batch when it is asked for. They are started afresh
            (spawn) everywhere, since a fork of a process that uses a GPU or threads may hang;
            on Windows a program's main module must be safe to import.
        stride: from a batch's first sample to the next one's; `batch` unless several processes
            share each batch.

    Yields:
        Patches (batch, C, rows, columns) float32 and label values (batch, rows, columns) int64.
    """
    batches = DataLoader(
        samples,
        batch_sampler=_Batches(batch, first, count, stride or batch),  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=_stack,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=WAITING if workers else None,
        worker_init_fn=_leave_at_once,
        generator=torch.Generator(),  # else it draws from the global one
    )
    for images, labels in batches:
        yield images, labels.long()


def measure_loader(samples: Samples, batch: int, workers: int, seconds: float = 10.0) -> float:
    """Samples per second that the loader gives when nothing waits for anything else.

    Args:
        samples: where from.
        batch: samples in each batch.
        workers: processes.
        seconds: how long to count, after every worker has given what it had ready.
    """
    batches = loader(samples, batch, 0, None, workers)
    for _ in range(1 + WAITING * workers):
        next(batches)
    start, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        next(batches)
        done += batch
    return done / passed


def _leave_at_once(_worker: int) -> None:
    """Let a worker end without Python's tidying up.

    When batches are not wanted any more, a thread may be handing one over; unwound in torch's
    code by an interpreter that ends (before Python 3.14), it takes the process down with an
    abort, which reaches the training process as an error.
    """
    atexit.register(os._exit, 0)


def _stack(samples: Sequence[Sample]) -> Sample:
    """A batch; labels as small as may be, since workers hand it over in shared memory."""
    images, labels = zip(*samples, strict=True)
    together = torch.stack(labels)
    kind = torch.uint8 if int(together.max()) <= 255 else torch.int32
    return torch.stack(images), together.to(kind)
