"""What a case's voxels are: checked, counted by structure, hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid


def values_sha256(array: np.ndarray) -> str:
    """Hexadecimal SHA-256 of an array's shape and values, whatever type they are stored in.

    Values are compared as float32: a scan saved as 16-bit integers and once more as floats is
    the same scan.

    Args:
        array: (k, j, i) numbers.
    """
    digest = hashlib.sha256(repr(array.shape).encode())
    for plane in array:
        # Adding zero turns -0.0 into 0.0.
        digest.update((np.ascontiguousarray(plane, dtype="<f4") + np.float32(0)).tobytes())
    return digest.hexdigest()


def value_counts(label_map: np.ndarray) -> dict[int, int]:
    """How many voxels (k, j, i) have each value that occurs."""
    counts: dict[int, int] = {}
    for plane in label_map:
        for value, count in zip(*np.unique(plane, return_counts=True), strict=True):
            counts[int(value)] = counts.get(int(value), 0) + int(count)
    return counts


def voxels_by_name(counts: dict[int, int], labels: DatasetLabels) -> dict[str, int]:
    """Voxels of each structure, from :func:`value_counts`; regions are the sum of members."""
    return {
        label.name: sum(counts.get(value, 0) for value in members)
        for label, members in zip(labels.labels, labels.members, strict=True)
    }


def bytes_needed(channels: Sequence[np.ndarray], label_map: np.ndarray) -> int:
    """What a case takes at most; files are compressed, noise hardly at all."""
    return sum(channel.nbytes for channel in channels) + 2 * label_map.size


def check_arrays(channels: Sequence[np.ndarray], grid: Grid, label_map: np.ndarray) -> None:
    """Refuse arrays that cannot be a case.

    Args:
        channels, label_map: (k, j, i).
        grid: of all of them.

    Raises:
        MedDINOv3Error: another shape than the grid's, values that are no numbers, or that no
            label map has.
    """
    for what, array in [*(("scan", c) for c in channels), ("label map", label_map)]:
        if array.shape != grid.shape:
            raise MedDINOv3Error(
                "other-grid",
                f"The {what} has {' x '.join(map(str, array.shape[::-1]))} voxels, the grid "
                f"{' x '.join(map(str, grid.size))}.",
                "Bring both onto the scan's grid first.",
            )
        if array.dtype.kind not in ("iuf" if what == "scan" else "iu"):
            raise MedDINOv3Error(
                "not-a-scan" if what == "scan" else "not-labels",
                f"The {what} holds {array.dtype} values.",
                "Give a scalar scan." if what == "scan" else "Give whole numbers, not a scan.",
            )
    bad = sum(int(np.count_nonzero(~np.isfinite(plane))) for c in channels for plane in c)
    if bad:
        raise MedDINOv3Error(
            "not-finite",
            f"{bad} voxel(s) of the scan are no numbers (NaN or infinite).",
            "Fill these voxels with the value of air, or export the scan again.",
        )
    low, high = int(label_map.min(initial=0)), int(label_map.max(initial=0))
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise MedDINOv3Error(
            "not-labels",
            f"The label map's values reach from {low} to {high}.",
            "Give a label map, not a scan; values lie between 0 and 65535.",
        )
