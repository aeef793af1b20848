"""What to do when memory runs out: smaller batches, then fewer tokens at a time.

Every step down stays on the same device and gives the same result; it is noted, so that the
user learns of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import free_cached_memory, is_out_of_memory

Result = TypeVar("Result")
SMALLEST_CHUNK = 64
PROBES = (0.75, 0.5, 0.375, 0.25, 0.125)


@dataclass
class MemoryLadder:
    """How much is computed at a time.

    Attributes:
        device: where.
        batch: slices at a time.
        chunk: tokens decoded at a time, None for all.
        notes: what was reduced, in words.
    """

    device: torch.device
    batch: int
    chunk: int | None = None
    notes: list[str] = field(default_factory=list)

    def attempt(self, work: Callable[[], Result], tokens: int) -> Result | None:
        """Run `work`; None means that memory ran out and a smaller way was chosen.

        Args:
            work: reads :attr:`batch` and :attr:`chunk` itself.
            tokens: of one slice.

        Raises:
            MemoryError: nothing smaller is left.
        """
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler: the traceback held the tensors that filled the memory.
        free_cached_memory(self.device)
        self._step_down(tokens)
        return None

    def _step_down(self, tokens: int) -> None:
        if self.batch > 1:
            self.batch //= 2
            self.notes.append(f"memory ran out: {self.batch} slice(s) at a time instead")
        elif (self.chunk or tokens) > SMALLEST_CHUNK:
            self.chunk = max(SMALLEST_CHUNK, min(self.chunk or tokens, tokens) // 4)
            self.notes.append(f"memory ran out: decoding {self.chunk} tokens at a time instead")
        else:
            raise MemoryError


def too_large(
    size: tuple[int, int],
    spacing: tuple[float, float],
    device: torch.device,
    run: Callable[[tuple[int, int]], object],
) -> MedDINOv3Error:
    """The error for a slice that does not fit, naming the size that does (found by trying).

    Args:
        size: (rows, columns) in the network's pixels.
        spacing: (rows, columns) in mm of those pixels.
        device: in words for the message.
        run: computes one slice of a given size.
    """
    fitting = None
    for share in PROBES:
        smaller = (max(16, int(size[0] * share)), max(16, int(size[1] * share)))
        try:
            run(smaller)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            fitting = smaller
        free_cached_memory(device)
        if fitting:
            break
    shape = f"{size[0]} x {size[1]} pixels"
    if fitting is None:
        remedy = "Close other programs that use this memory, or choose another device."
    else:
        rows, columns = (round(n * mm) for n, mm in zip(fitting, spacing, strict=True))
        remedy = (
            f"{fitting[0]} x {fitting[1]} pixels fit: give a region of at most "
            f"{rows} x {columns} mm in the slice plane, a smaller model, or another device."
        )
    return MedDINOv3Error(
        "out-of-memory", f"One slice of {shape} does not fit into memory of {device}.", remedy
    )
