"""Training a decoder on tokens that a frozen backbone computed once.

On a CPU a large backbone cannot be trained: a sample costs teraflops. The augmented samples of the
run's beginning are encoded once, kept on disk as half-precision tokens, and drawn again and again
while the decoder learns. Files are written as files, since a full disk kills who writes through a
map, and mapped for the moment of a read only, since Windows removes no file that is mapped.
"""

from __future__ import annotations

import errno
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from meddinov3.atomic import whole_file
from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import autocast
from meddinov3.network.backbone import LEVELS, PATCH, Backbone
from meddinov3.network.segmenter import Segmenter
from meddinov3.progress import ProgressCallback, Steps, StopQuestion
from torch import Tensor, nn
from torch.utils.data import Dataset

from meddinov3_training.array_file import ArrayFile, ArrayWriter

TOKENS, VALUES, INDEX = "tokens.npy", "values.npy", "tokens.json"
TIME_SHARE = 0.4  # of the budget, for encoding
DISK_SHARE = 0.5  # of what is free
FEWEST, MOST = 32, 4096  # samples
WITHOUT_BUDGET = 400
HALF, WORD = np.dtype(np.float16), np.dtype(np.uint16)
NOTED_EVERY = 16  # samples between notes of how far the encoding is


class SampleSource(Protocol):
    """Samples by number, see :class:`meddinov3_training.samples.Samples`."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image (C, rows, columns) and label values (rows, columns)."""


@dataclass(frozen=True)
class Packing:
    """What is kept of a sample.

    Attributes:
        shape: of the numbers that stand for the image.
        values: of the label values.
        compute: an image to those numbers, on the device.
    """

    shape: tuple[int, ...]
    values: tuple[int, ...]
    compute: Callable[[Tensor], Tensor]

    @property
    def bytes(self) -> int:
        """On disk, of one sample."""
        return math.prod(self.shape) * HALF.itemsize + math.prod(self.values) * WORD.itemsize


def slice_packing(backbone: Backbone, patch: tuple[int, int]) -> Packing:
    """Slices as their tokens (N, levels * width), N = patch / 16 x 16."""
    shape = (patch[0] // PATCH * (patch[1] // PATCH), LEVELS * backbone.width)
    return Packing(shape, patch, lambda image: backbone(image[None])[0])


class TokenSegmenter(nn.Module):
    """The decoder alone, from a batch of tokens to logits.

    Args:
        network: whose decoder it shares.
        patch: (rows, columns) of the samples in pixels, multiples of 16.
    """

    def __init__(self, network: Segmenter, patch: tuple[int, int]) -> None:
        super().__init__()
        self.decoder = network.decoder
        self._grid = (patch[0] // PATCH, patch[1] // PATCH)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, levels * width) to logits (B, K, rows, columns)."""
        logits: Tensor = self.decoder(tokens, self._grid)
        return logits


class TokenPool(Dataset[tuple[Tensor, Tensor]]):
    """Encoded samples in an order drawn anew for each pass; any index from 0 on is one.

    Args:
        folder: made by :func:`encode`.
        seed: of the order.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._seed = seed
        self._count = json.loads((folder / INDEX).read_text(encoding="utf-8"))["count"]
        self._paths = folder / TOKENS, folder / VALUES
        self._files = [ArrayFile.of(path) for path in self._paths]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """What was packed, such as tokens (N, W), float32, and label values int64."""
        turn, place = divmod(index, self._count)
        order = np.random.default_rng((self._seed, turn)).permutation(self._count)
        tokens, values = (
            file.read(path, int(order[place]))
            for file, path in zip(self._files, self._paths, strict=True)
        )
        return torch.from_numpy(tokens).float(), torch.from_numpy(values.astype(np.int64))


def pool_size(
    seconds: float | None, sample_seconds: float, size: int, free: int, wanted: int
) -> int:
    """How many samples to encode.

    Args:
        seconds: budget of the run, or None.
        sample_seconds: to encode one.
        size: bytes of one.
        free: bytes on the disk.
        wanted: samples that the run will draw at most, if known by steps.

    Raises:
        MedDINOv3Error: not even the fewest fit on the disk.
    """
    fitting = int(free * DISK_SHARE / size)
    if fitting < FEWEST:
        raise MedDINOv3Error(
            "disk-full",
            f"Tokens of {FEWEST} samples need {FEWEST * size / 2**30:.1f} GiB; "
            f"{free / 2**30:.1f} GiB are free.",
            "Free space, choose another --output, a smaller base or a smaller --largest-patch.",
        )
    timely = WITHOUT_BUDGET if seconds is None else int(seconds * TIME_SHARE / sample_seconds)
    return max(FEWEST, min(timely, fitting, MOST, wanted))


def encode(
    samples: SampleSource,
    packing: Packing,
    folder: Path,
    device: torch.device,
    precision: str,
    *,
    seconds: float | None,
    wanted: int,
    report: ProgressCallback | None = None,
    stop: StopQuestion | None = None,
) -> int:
    """Encode the first samples; what an interrupted run had encoded is kept.

    Args:
        samples: to encode.
        packing: what is kept of them; its backbone on `device`, in evaluation mode.
        folder: for the files.
        device, precision: where and how to compute.
        seconds: budget of the whole run, or None.
        wanted: samples that the run will draw at most.
        report: told after each.
        stop: asked before each.

    Returns:
        The number of samples.

    Raises:
        MedDINOv3Error: the disk is full; what was noted is kept.
        Cancelled: `stop` said so; the same holds.
    """
    index = folder / INDEX
    facts = _known(index)
    shape = packing.shape
    if facts is None or facts["shape"] != list(shape) or not _holds(folder, facts["encoded"]):
        shutil.rmtree(folder, ignore_errors=True)
        with _told(folder):
            folder.mkdir(parents=True)
        begin = time.monotonic()
        for number in range(2):
            _packed(packing, samples[number][0], device, precision)
        each = max((time.monotonic() - begin) / 2, 1e-6)
        free = shutil.disk_usage(folder).free
        count = pool_size(seconds, each, packing.bytes, free, wanted)
        facts = {"count": count, "encoded": 0, "shape": list(shape), "seconds": 0.0}
        _note(index, facts)
    count, encoded, spent = int(facts["count"]), int(facts["encoded"]), float(facts["seconds"])
    steps = Steps("computing tokens", count - encoded, report, stop)
    with (
        _told(folder),
        ArrayWriter(folder / TOKENS, (count, *shape), HALF, encoded) as tokens,
        ArrayWriter(folder / VALUES, (count, *packing.values), WORD, encoded) as values,
    ):
        for number in range(encoded, count):
            steps.check()
            begin = time.monotonic()  # here, so that a pause costs nothing of the budget
            image, labels = samples[number]
            tokens.append(_packed(packing, image, device, precision))
            values.append(labels.numpy())
            spent += time.monotonic() - begin
            if (number + 1) % NOTED_EVERY == 0 or number + 1 == count:
                tokens.to_disk()
                values.to_disk()
                _note(index, {**facts, "encoded": number + 1, "seconds": spent})
            steps.advance()
    return count


def seconds_spent(folder: Path) -> float:
    """Seconds that encoding took, over all sessions."""
    facts = _known(folder / INDEX)
    return 0.0 if facts is None else float(facts["seconds"])


def too_large_for_cpu(backbone: Backbone, patch: Sequence[int]) -> bool:
    """Whether training the whole network on a CPU is hopeless: 6 FLOP a weight and token."""
    weights = sum(p.numel() for p in backbone.parameters())
    return 6 * weights * (patch[0] // PATCH) * (patch[1] // PATCH) > 5e10


def _packed(packing: Packing, image: Tensor, device: torch.device, precision: str) -> np.ndarray:
    with torch.inference_mode(), autocast(device, precision):
        packed: np.ndarray = packing.compute(image.to(device)).half().cpu().numpy()
    return packed


def _known(index: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
        return found if {"count", "encoded", "shape", "seconds"} <= set(found) else None
    except (OSError, ValueError, TypeError):
        return None


def _holds(folder: Path, samples: int) -> bool:
    """Whether the files hold as many samples as were noted."""
    try:
        return samples == 0 or all(
            ArrayFile.of(folder / name).whole >= samples for name in (TOKENS, VALUES)
        )
    except (OSError, ValueError):
        return False


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MedDINOv3Error(
            "disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot-write",
            f"Tokens could not be kept in '{folder}': {error.strerror or error}.",
            "Free space there, then continue with --resume: what is computed is kept.",
        ) from error


def _note(index: Path, facts: dict[str, Any]) -> None:
    with whole_file(index) as partial:
        partial.write_text(json.dumps(facts) + "\n", encoding="utf-8")
