"""In-plane geometry: slices to the network's pixels and logits back to the scan's.

Pixel edges, not centres, coincide at the slice's border. Slices are interpolated by cubic
convolution (nnU-Net resamples data with order 3), logits linearly (order 1) and averaged
over the pixel where the scan is coarser than the network's grid.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def network_size(
    size: Size, spacing: tuple[float, float], target: tuple[float, float] | None
) -> Size:
    """Pixels (rows, columns) of a slice of `size` and `spacing` (mm) at the `target` spacing."""
    if target is None:
        return size
    rows, columns = (
        max(1, round(count * here / there))
        for count, here, there in zip(size, spacing, target, strict=True)
    )
    return (rows, columns)


def to_network(slices: Tensor, size: Size) -> Tensor:
    """Resample slices (B, C, h, w) to `size`; untouched where it fits already."""
    if tuple(slices.shape[-2:]) == size:
        return slices
    return F.interpolate(slices, size, mode="bicubic", align_corners=False)


def to_scan(logits: Tensor, size: Size) -> Tensor:
    """Resample logits (B, K, H, W) to the scan's `size`, in float32."""
    logits = logits.float()
    if tuple(logits.shape[-2:]) == size:
        return logits
    # torch has no antialiased kernel on Apple GPUs.
    antialias = logits.device.type != "mps"
    return F.interpolate(logits, size, mode="bilinear", align_corners=False, antialias=antialias)
