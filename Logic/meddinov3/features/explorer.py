"""Looking at features: principal components as colours, and likeness to a point.

Both show the last level's tokens, as the DINO papers do (arXiv 2304.07193, 2508.10104).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from meddinov3.errors import MedDINOv3Error
from meddinov3.features.tokens import TokenVolume
from meddinov3.grid import FloatArray
from meddinov3.network.backbone import LEVELS
from meddinov3.progress import ProgressCallback, Steps, StopQuestion

SLICES_FITTED = 24
PERCENTILES = (0.02, 0.98)


class Explorer:
    """Answers questions on one scan's tokens.

    Args:
        tokens: of the scan.
    """

    def __init__(self, tokens: TokenVolume) -> None:
        self._tokens = tokens
        self._axes: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def similarity(
        self,
        point: FloatArray,
        numbers: Sequence[int] | None = None,
        report: ProgressCallback | None = None,
        stop: StopQuestion | None = None,
    ) -> np.ndarray:
        """Cosine of each voxel's token to the token nearest to a point, both less the mean token.

        Args:
            point: LPS, mm.
            numbers: oriented slices wanted; all of the box by default.

        Returns:
            (B, rows, columns) of the box in whole per cent, int8; 100 at the centre of the
            point's own token.

        Raises:
            MedDINOv3Error: the point lies outside what is encoded.
        """
        where = self._tokens.where
        if not where.holds(point):
            raise MedDINOv3Error(
                "point-outside",
                "The point lies outside the part of the scan whose features are known.",
                "Move it into the scan, or into the region.",
            )
        number, *nearest = where.token_at(point)
        number = min(max(number, where.numbers.start), where.numbers.stop - 1)
        row, column = (
            min(max(round(value), 0), count - 1)
            for value, count in zip(nearest, where.tokens, strict=True)
        )
        mean = self._last(self._tokens.mean())
        wanted = self._last(self._tokens.slices([number])[0, row, column]) - mean
        wanted = wanted / wanted.norm().clamp(min=1e-6)
        asked = where.numbers if numbers is None else numbers
        found = np.empty((len(asked), *where.plane), dtype=np.int8)
        steps = Steps("comparing", len(asked), report, stop)
        for place, one in enumerate(asked):
            steps.check()
            tokens = self._last(self._tokens.slices([one])[0]) - mean
            cosine = tokens @ wanted / tokens.norm(dim=-1).clamp(min=1e-6)
            percent = where.to_slice(cosine[None, None])[0, 0].mul(100).round()
            found[place] = percent.clamp(-100, 100).to(torch.int8).cpu().numpy()
            steps.advance()
        return found

    def colours(
        self,
        numbers: Sequence[int] | None = None,
        report: ProgressCallback | None = None,
        stop: StopQuestion | None = None,
    ) -> np.ndarray:
        """The first three principal components of the tokens as red, green and blue.

        The components are those of slices spread through the box, so that colours mean the same
        everywhere in the scan.

        Args:
            numbers: oriented slices wanted; all of the box by default.

        Returns:
            (B, rows, columns, 3) uint8.
        """
        where = self._tokens.where
        mean, axes, low, high = self._components()
        asked = where.numbers if numbers is None else numbers
        found = np.empty((len(asked), *where.plane, 3), dtype=np.uint8)
        steps = Steps("colouring", len(asked), report, stop)
        for place, one in enumerate(asked):
            steps.check()
            tokens = self._last(self._tokens.slices([one])[0])
            values = ((tokens - mean) @ axes - low) / (high - low)
            maps = where.to_slice(values.permute(2, 0, 1)[None])[0]
            shades = maps.clamp(0, 1).mul(255).round().to(torch.uint8)
            found[place] = shades.permute(1, 2, 0).cpu().numpy()
            steps.advance()
        return found

    def _components(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean (D,), axes (D, 3), and the values shown as 0 and as 255 (3,)."""
        if self._axes is None:
            numbers = self._tokens.where.numbers
            chosen = numbers[:: max(1, len(numbers) // SLICES_FITTED)]
            parts = [self._last(self._tokens.slices([n])[0]).flatten(0, 1) for n in chosen]
            samples = torch.cat(parts)
            mean = samples.mean(dim=0)
            centred = samples - mean
            _, vectors = torch.linalg.eigh(centred.T @ centred)
            axes = vectors[:, -3:].flip(1)
            # The sign of an eigenvector is arbitrary: the same scan shall keep its colours.
            axes = axes * torch.where(axes.sum(dim=0) < 0, -1.0, 1.0)
            ends = torch.tensor(PERCENTILES, device=samples.device)
            shown = centred[:: max(1, len(centred) // 100_000)] @ axes
            low, high = torch.quantile(shown, ends, dim=0)
            self._axes = (mean, axes, low, torch.maximum(high, low + 1e-6))
        return self._axes

    def _last(self, tokens: Tensor) -> Tensor:
        """The deepest level of tokens (..., W)."""
        return tokens[..., -tokens.shape[-1] // LEVELS :]
