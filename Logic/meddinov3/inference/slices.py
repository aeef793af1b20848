"""Scan to network input, one slice at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from meddinov3.description import Sampling
from meddinov3.errors import MedDINOv3Error
from meddinov3.intensity import IntensityScheme, IntensityTransform, NonzeroBody
from meddinov3.region import IndexBox
from meddinov3.volume import Volume


def neighbours(
    number: int, offsets: Sequence[float], spacing: float, bounds: tuple[int, int]
) -> list[int]:
    """The slices that lie nearest to `number` plus each offset.

    Args:
        number: slice index.
        offsets: mm along the slice axis.
        spacing: mm between slices.
        bounds: (first, end) slice that may be used; beyond it the last one stands in.
    """
    first, end = bounds
    shifted = (int(np.floor(number + offset / spacing + 0.5)) for offset in offsets)
    return [min(max(index, first), end - 1) for index in shifted]


class SliceSource:
    """Normalised slices of one scan as the model sees them.

    Voxels that are no finite numbers are taken as the channel's lowest value.

    Attributes:
        box: part of the scan that slices are cut from.
        notes: what the user should know about the scan.

    Args:
        volume: the scan; its arrays are viewed, never copied.
        schemes: how each channel's intensities are normalised.
        sampling: orientation and offsets.
        box: part of the scan in oriented (slices, rows, columns).
        statistics: part of the scan that intensities are fitted to.

    Raises:
        MedDINOv3Error: most of a channel is no finite number.
    """

    def __init__(
        self,
        volume: Volume,
        schemes: Sequence[IntensityScheme],
        sampling: Sampling,
        box: IndexBox,
        statistics: IndexBox,
    ) -> None:
        orientation = sampling.orientation
        self._views = [orientation.view(channel, volume.grid) for channel in volume.channels]
        self._lowest, self.notes = _find_gaps(self._views)
        counted = [view[statistics] for view in self._views]
        body = NonzeroBody(counted)
        self._transforms: list[IntensityTransform] = [
            scheme.fit(view, body) for scheme, view in zip(schemes, counted, strict=True)
        ]
        self._statistics = statistics
        self._offsets = sampling.slice_offsets
        self._spacing = orientation.spacing(volume.grid)[0]
        self.box = box

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of every slice."""
        return (self.box[1].stop - self.box[1].start, self.box[2].stop - self.box[2].start)

    def batch(
        self,
        numbers: Sequence[int],
        device: torch.device,
        offsets: Sequence[float] | None = None,
    ) -> Tensor:
        """Slices as (B, offsets * channels, rows, columns) float32 on `device`.

        Args:
            numbers: slices counted in the whole oriented scan.
            device: where to normalise.
            offsets: other ones than the sampling's, mm.
        """
        bounds = (self.box[0].start, self.box[0].stop)
        sources = [
            [
                (channel, index)
                for index in neighbours(number, offsets or self._offsets, self._spacing, bounds)
                for channel in range(len(self._views))
            ]
            for number in numbers
        ]
        planes = [[self._plane(channel, index) for channel, index in row] for row in sources]
        batch = torch.from_numpy(np.stack([np.stack(row) for row in planes])).to(device)
        for position in range(batch.shape[1]):
            transform = self._transforms[position % len(self._views)]
            batch[:, position] = transform.apply(batch[:, position])
            if transform.region is not None:
                inside = np.stack([self._inside(*row[position]) for row in sources])
                batch[:, position] *= torch.from_numpy(inside).to(device)
        return batch

    def _plane(self, channel: int, number: int) -> np.ndarray:
        plane = self._views[channel][number, self.box[1], self.box[2]].astype(np.float32)
        lowest = self._lowest[channel]
        return plane if lowest is None else np.where(np.isfinite(plane), plane, lowest)

    def _inside(self, channel: int, number: int) -> np.ndarray:
        """Whether the pixels of a slice belong to the region that statistics came from."""
        region, where = self._transforms[channel].region, self._statistics
        assert region is not None
        whole = np.zeros(self._views[channel].shape[1:], dtype=bool)
        if where[0].start <= number < where[0].stop:
            whole[where[1], where[2]] = region[number - where[0].start]
        return whole[self.box[1], self.box[2]]


def _find_gaps(views: Sequence[np.ndarray]) -> tuple[list[np.float32 | None], list[str]]:
    """For each channel its lowest finite value where it has others, and notes about them."""
    lowest: list[np.float32 | None] = []
    notes = []
    for view in views:
        missing = 0
        if view.dtype.kind == "f":
            missing = view.size - sum(int(np.isfinite(plane).sum()) for plane in view)
        if missing * 2 > view.size:
            raise MedDINOv3Error(
                "no-numbers",
                f"{missing} of the scan's {view.size} voxels are no numbers (NaN or infinite).",
                "Export or convert it again.",
            )
        if not missing:
            lowest.append(None)
            continue
        lows = [float(p[np.isfinite(p)].min()) for p in view if np.isfinite(p).any()]
        lowest.append(np.float32(min(lows)))
        notes.append(
            f"{missing} voxel(s) of the scan are no numbers (NaN or infinite); they were taken "
            f"as its lowest value, {min(lows):g}"
        )
    return lowest, notes
