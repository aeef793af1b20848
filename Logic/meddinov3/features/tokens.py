"""The tokens of one scan: encoded when first asked for, kept on the device or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from meddinov3.errors import MedDINOv3Error
from meddinov3.features.encoder import Encoder
from meddinov3.features.grid import FeatureGrid
from meddinov3.features.storage import TokenStorage
from meddinov3.inference import plane
from meddinov3.inference.device import autocast, free_cached_memory, is_out_of_memory
from meddinov3.inference.slices import SliceSource
from meddinov3.network.backbone import PATCH
from meddinov3.progress import ProgressCallback, Steps, StopQuestion

TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 16384, "mps": 4096}
MEAN_SLICES = 32


class TokenVolume:
    """Tokens of a scan, slice by slice, in float16.

    Attributes:
        where: the lattice they lie on.
        encoder: what computed them.
        storage: keeps what is computed.
        notes: what the user should know about the scan.

    Args:
        source: normalised slices of `where.box`.
        where, encoder, storage: see above.
    """

    def __init__(
        self, source: SliceSource, where: FeatureGrid, encoder: Encoder, storage: TokenStorage
    ) -> None:
        self.where, self.encoder = where, encoder
        self.notes = list(source.notes)
        self._source, self.storage = source, storage
        self._mean: Tensor | None = None

    @property
    def folder(self) -> Path | None:
        """Where the tokens lie on disk; None if they are in memory."""
        return self.storage.folder

    def ready(self, number: int) -> bool:
        """Whether a slice is encoded."""
        return self.storage.has(number - self.where.box[0].start)

    def encode(
        self,
        numbers: Sequence[int] | None = None,
        report: ProgressCallback | None = None,
        stop: StopQuestion | None = None,
    ) -> None:
        """Make sure that slices are encoded; what is done stays done.

        Args:
            numbers: counted in the whole oriented scan; all of the box if None.
            report, stop: progress and the question whether to stop.

        Raises:
            MedDINOv3Error: one slice does not fit into the device's memory.
            Cancelled: `stop` said so.
        """
        asked = self.where.numbers if numbers is None else numbers
        missing = sorted({number for number in asked if not self.ready(number)})
        steps = Steps("computing features", len(missing), report, stop)
        tokens = self.where.tokens[0] * self.where.tokens[1]
        device = self.encoder.device
        together = max(1, TOKENS_AT_ONCE[device.type] // tokens)
        while missing:
            steps.check()
            now = missing[:together]
            try:
                computed = self._computed(now)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                computed = None
            if computed is None:  # outside the handler, whose traceback held the tensors
                free_cached_memory(device)
                if together == 1:
                    raise _too_large(self.where, device)
                together //= 2
                continue
            for number, slice_tokens in zip(now, computed, strict=True):
                self.storage.put(number - self.where.box[0].start, slice_tokens)
            missing = missing[len(now) :]
            steps.advance(len(now))

    def slices(self, numbers: Sequence[int]) -> Tensor:
        """Tokens (B, token rows, token columns, W) float32 on the device; encoded if need be.

        Args:
            numbers: counted in the whole oriented scan, inside the box.
        """
        self.encode(numbers)
        first = self.where.box[0].start
        device = self.encoder.device
        kept = [self.storage.get(number - first).to(device).float() for number in numbers]
        return torch.stack(kept)

    def pictures(self, numbers: Sequence[int]) -> Tensor:
        """The normalised slices without neighbours, (B, channels, rows, columns) of the box.

        Args:
            numbers: counted in the whole oriented scan, inside the box.
        """
        return self._source.batch(numbers, self.encoder.device, offsets=(0.0,))

    def mean(self) -> Tensor:
        """Mean token (W,) over slices spread through the box, which similarity is told against."""
        if self._mean is None:
            numbers = self.where.numbers
            step = max(1, len(numbers) // MEAN_SLICES)
            total = torch.zeros(self.encoder.token_width, device=self.encoder.device)
            chosen = numbers[::step]
            for number in chosen:
                total += self.slices([number]).mean(dim=(0, 1, 2))
            self._mean = total / len(chosen)
        return self._mean

    def close(self) -> None:
        """Give up memory and files."""
        self.storage.close()

    def _computed(self, numbers: Sequence[int]) -> Tensor:
        """(B, token rows, token columns, W) float16 on the device."""
        rows, columns = self.where.tokens
        slices = plane.to_network(self._source.batch(numbers, self.encoder.device), self.where.size)
        beyond = (0, columns * PATCH - slices.shape[-1], 0, rows * PATCH - slices.shape[-2])
        slices = torch.nn.functional.pad(slices, beyond)
        with torch.inference_mode(), autocast(self.encoder.device, self.encoder.precision):
            tokens = self.encoder.backbone(slices)
        # Outliers of a few channels may leave float16's range.
        half: Tensor = tokens.float().clamp(-6e4, 6e4).half()
        return half.reshape(len(numbers), rows, columns, -1)


def _too_large(where: FeatureGrid, device: torch.device) -> MedDINOv3Error:
    return MedDINOv3Error(
        "out-of-memory",
        f"One slice of {where.size[0]} x {where.size[1]} pixels does not fit into memory of "
        f"{device}.",
        "Draw a smaller region, choose a smaller backbone, or another device.",
    )
