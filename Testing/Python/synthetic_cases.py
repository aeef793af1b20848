"""nnU-Net folders with chosen names, small enough to be copied often."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

SHAPE = (6, 12, 10)  # (k, j, i)
LABELS: dict[str, Any] = {"background": 0, "liver": 1, "tumour": 2}


def nnunet_folder(
    folder: Path,
    names: Sequence[str],
    *,
    channels: Sequence[str] = ("CT",),
    labels: dict[str, Any] | None = None,
    values: Sequence[int] = (1, 2),
    ending: str = ".nii.gz",
    **entries: Any,
) -> Path:
    """Write cases in nnU-Net's raw layout; `values` are drawn in every label map."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for seed, name in enumerate(names):
        random = np.random.default_rng(seed)
        for n in range(len(channels)):
            write(folder / "imagesTr" / f"{name}_{n:04d}{ending}",
                  random.integers(-1000, 1000, SHAPE).astype(np.int16))  # fmt: skip
        label_map = np.zeros(SHAPE, np.uint8)
        for n, value in enumerate(values):
            label_map[1:5, 2 + seed : 9, 2 * n : 2 * n + 2] = value  # no two alike
        write(folder / "labelsTr" / f"{name}{ending}", label_map)
    content = {
        "channel_names": {str(n): name for n, name in enumerate(channels)},
        "labels": labels or LABELS,
        "numTraining": len(names),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(content | entries), encoding="utf-8")
    return folder


def write(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 3.0)) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[: image.GetDimension()])
    sitk.WriteImage(image, str(path))
