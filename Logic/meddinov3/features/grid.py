"""Where the tokens of a scan lie, and the ways between tokens, slices and millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from meddinov3.grid import FloatArray, Grid, SliceOrientation
from meddinov3.network.backbone import PATCH
from meddinov3.region import IndexBox

ANISOTROPIC = 1.5  # a scan beyond this ratio of spacings is encoded in its finest plane
MOST_FOLD = 8.0  # finer pixels than this share of the scan's own show nothing new


@dataclass(frozen=True, eq=False)
class FeatureGrid:
    """The lattice of a scan's tokens.

    Attributes:
        grid: the scan's.
        orientation: how the backbone sees the scan: (slices, rows, columns).
        box: the part of the oriented scan that is encoded.
        size: network pixels (rows, columns) that the box's slices are resampled to.
    """

    grid: Grid
    orientation: SliceOrientation
    box: IndexBox
    size: tuple[int, int]

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens (rows, columns) of a slice; the last may reach beyond the box."""
        return (-(-self.size[0] // PATCH), -(-self.size[1] // PATCH))

    @property
    def numbers(self) -> range:
        """The encoded slices, counted in the whole oriented scan."""
        return range(self.box[0].start, self.box[0].stop)

    @property
    def plane(self) -> tuple[int, int]:
        """Voxels (rows, columns) of the box's slices."""
        rows, columns = self.box[1], self.box[2]
        return (rows.stop - rows.start, columns.stop - columns.start)

    @property
    def slice_spacing(self) -> float:
        """Millimetres from slice to slice."""
        return self.orientation.spacing(self.grid)[0]

    @property
    def token_spacing(self) -> tuple[float, float]:
        """Millimetres from token to token along (rows, columns)."""
        spacing = self.orientation.spacing(self.grid)[1:]
        rows, columns = (
            voxels * mm * PATCH / pixels
            for voxels, mm, pixels in zip(self.plane, spacing, self.size, strict=True)
        )
        return (rows, columns)

    @property
    def slice_axis(self) -> tuple[int, bool]:
        """The axis of a (k, j, i) array that slices are counted along, and whether backwards."""
        axes, flips = self.orientation.array_axes(self.grid)
        return axes[0], flips[0]

    def number_of(self, index: int) -> int:
        """The oriented slice number of an index along the array axis, or the reverse."""
        axis, flipped = self.slice_axis
        return self.grid.shape[axis] - 1 - index if flipped else index

    def oriented(self, point: FloatArray) -> FloatArray:
        """Continuous oriented indices (..., 3) of LPS points (..., 3) in mm."""
        axes, flips = self.orientation.array_axes(self.grid)
        index = self.grid.to_index(np.asarray(point, dtype=np.float64))[..., ::-1][..., list(axes)]
        counts = np.array([self.grid.shape[axis] - 1 for axis in axes])
        return np.where(np.array(flips), counts - index, index)

    def token_at(self, point: FloatArray) -> tuple[int, float, float]:
        """Where an LPS point (3,) in mm lies among the tokens.

        Returns:
            The nearest slice's number, and the token row and column, 0.0 at the centre of the
            first token. Nothing is clipped: a point outside gives numbers outside.
        """
        number, row, column = self.oriented(point)
        place = [
            (value - part.start + 0.5) / count * pixels / PATCH - 0.5
            for value, part, count, pixels in zip(
                (row, column), self.box[1:], self.plane, self.size, strict=True
            )
        ]
        return int(np.floor(number + 0.5)), float(place[0]), float(place[1])

    def holds(self, point: FloatArray) -> bool:
        """Whether an LPS point (3,) in mm lies in the encoded box, voxel edges included."""
        place = self.oriented(point)
        return all(
            part.start - 0.5 <= value <= part.stop - 0.5
            for part, value in zip(self.box, place, strict=True)
        )

    def to_slice(self, maps: Tensor) -> Tensor:
        """Interpolate token maps linearly to the voxels of the box's slices.

        Args:
            maps: (B, C, token rows, token columns), floating point.

        Returns:
            (B, C, rows, columns) of the box.
        """
        rows, columns = (self._weights(axis, maps.device, maps.dtype) for axis in (0, 1))
        return rows @ maps @ columns.T

    def to_tokens(self, values: Tensor) -> Tensor:
        """Average voxel values over each token's area.

        Args:
            values: (B, C, rows, columns) of the box.

        Returns:
            (B, C, token rows, token columns); a token's part beyond the box counts for nothing.
        """
        rows, columns = (self._shares(axis).to(values) for axis in (0, 1))
        return rows @ values @ columns.T

    def _weights(self, axis: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Interpolation (voxels, tokens) along rows (0) or columns (1)."""
        count, pixels = self.plane[axis], self.size[axis]
        place = (torch.arange(count, dtype=torch.float64) + 0.5) / count * pixels / PATCH - 0.5
        return _linear(place, self.tokens[axis]).to(device, dtype)

    def _shares(self, axis: int) -> Tensor:
        """Share (tokens, voxels) of a token's length that each voxel takes."""
        count, pixels = self.plane[axis], self.size[axis]
        edges = torch.arange(count + 1, dtype=torch.float64) / count * pixels / PATCH
        token = torch.arange(self.tokens[axis], dtype=torch.float64)[:, None]
        low = torch.maximum(edges[None, :-1], token)
        high = torch.minimum(edges[None, 1:], token + 1)
        part = (high - low).clamp(min=0)
        return part / part.sum(dim=1, keepdim=True)


def _linear(place: Tensor, count: int) -> Tensor:
    """Weights (n, count) that interpolate linearly at places (n,), constant beyond the ends."""
    place = place.double().clamp(0, count - 1)
    distance = (place[:, None] - torch.arange(count, dtype=torch.float64)[None]).abs()
    return (1 - distance).clamp(min=0)


def feature_orientation(grid: Grid, preferred: SliceOrientation | None) -> SliceOrientation:
    """The plane to encode a scan in: its finest if spacings differ much, else the preferred.

    Args:
        grid: the scan's.
        preferred: the backbone's own, or None for axial.
    """
    axial = preferred or SliceOrientation()
    if max(grid.spacing) / min(grid.spacing) <= ANISOTROPIC:
        return axial
    return orientation_along(grid, int(np.argmax(grid.spacing)))


def orientation_along(grid: Grid, index_axis: int) -> SliceOrientation:
    """The orientation whose slices are stacked along an index axis (0 i, 1 j, 2 k)."""
    code = SliceOrientation().code
    for letter in code:
        candidate = SliceOrientation(code, letter)
        if 2 - candidate.array_axes(grid)[0][0] == index_axis:
            return candidate
    raise AssertionError("an index axis follows one patient axis")


def network_pixels(
    plane: tuple[int, int], spacing: tuple[float, float], pixels: int
) -> tuple[int, int]:
    """Network pixels (rows, columns) for slices, equally large in both directions.

    Args:
        plane: voxels (rows, columns).
        spacing: of them, mm.
        pixels: along the longer side; fewer where that would be finer than an eighth of a voxel.
    """
    extent = (plane[0] * spacing[0], plane[1] * spacing[1])
    step = max(max(extent) / pixels, min(spacing) / MOST_FOLD)
    rows, columns = (max(PATCH, round(mm / step)) for mm in extent)
    return (rows, columns)
