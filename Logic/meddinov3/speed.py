"""How long a model takes, and how much memory: found by computing a few slices."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from meddinov3.grid import Grid
from meddinov3.inference.predictor import predict
from meddinov3.memory import peak_memory
from meddinov3.progress import StopQuestion
from meddinov3.segmentation import Model
from meddinov3.volume import Volume

TRIED = {"cpu": 2, "mps": 8, "cuda": 16}  # slices


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        seconds: a slice.
        memory: most that this process has held, in bytes.
        gpu_memory: most that torch has held on the card meanwhile, in bytes; 0 elsewhere.
    """

    seconds: float
    memory: int
    gpu_memory: int


def measure(
    model: Model,
    size: tuple[int, int],
    spacing: tuple[float, float],
    slices: int,
    *,
    mirror: bool = False,
    stop: StopQuestion | None = None,
) -> Speed:
    """Segment a few empty slices after one to warm up.

    Args:
        model: loaded.
        size: (rows, columns) in pixels.
        spacing: (rows, columns) in mm.
        slices: no more than these are tried.
        mirror: as for segmenting.
        stop: asked between batches.

    Raises:
        MedDINOv3Error: memory does not suffice for one slice.
        Cancelled: `stop` said so.
    """
    tried = min(slices, TRIED[model.device.type])
    on_card = model.device.type == "cuda"
    if on_card:
        torch.cuda.reset_peak_memory_stats(model.device)
    seconds = []
    for count in (1, tried):
        volume = blank_scan(model, size, spacing, count)
        start = time.perf_counter()
        predict(
            volume, model.description, model.network, model.device, precision=model.precision,
            mirror=mirror, stop=stop,
        )  # fmt: skip
        seconds.append(time.perf_counter() - start)
    held = torch.cuda.max_memory_reserved(model.device) if on_card else 0
    return Speed(seconds[-1] / tried, peak_memory(), held)


def blank_scan(
    model: Model, size: tuple[int, int], spacing: tuple[float, float], slices: int
) -> Volume:
    """An empty scan whose slices lie as the model wants them."""
    description = model.description
    letters = description.sampling.orientation.letters
    along = dict(
        zip(letters, zip((slices, *size), (spacing[0], *spacing), strict=True), strict=True)
    )
    pairs = (("L", "R", "i"), ("P", "A", "j"), ("S", "I", "k"))
    counts, steps = zip(
        *(next(along[letter] for letter in pair if letter in along) for pair in pairs), strict=True
    )
    grid = Grid(counts, steps, (0.0, 0.0, 0.0), np.eye(3))
    return Volume((np.zeros(grid.shape, np.int16),) * len(description.channels), grid)
