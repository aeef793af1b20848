"""Annotated scans made up by the tests: a bright ball and a dark box in noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

SHAPE = (12, 40, 32)  # (k, j, i)
SPACING = (1.0, 1.0, 2.0)  # (i, j, k) mm
LABELS: dict[str, Any] = {"background": 0, "ball": 1, "box": 2}


def draw_case(seed: int, channels: int = 1) -> tuple[list[np.ndarray], np.ndarray]:
    """Channels float32 and a label map uint8 (k, j, i); 1 is the ball, 2 the box."""
    random = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    centre = (random.uniform(5, 7), random.uniform(9, 15), random.uniform(9, 23))
    k, j, i = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    distance = ((k - centre[0]) * 2) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2
    labels[distance <= random.uniform(5.5, 6.5) ** 2] = 1
    row, column = int(random.integers(23, 30)), int(random.integers(2, 18))
    labels[3:10, row : row + 8, column : column + 12] = 2
    images = []
    for number in range(channels):
        scan = random.normal(100, 15, SHAPE).astype(np.float32)
        scan[labels == 1] += 120
        scan[labels == 2] -= 70 + 10 * number
        images.append(scan)
    return images, labels


def save(path: Path, array: np.ndarray, spacing: tuple[float, ...] = SPACING) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-20.0, 5.0, 30.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, path)


def write_json(folder: Path, content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_dataset(
    folder: Path,
    cases: int = 6,
    *,
    channels: tuple[str, ...] = ("MR",),
    ending: str = ".nrrd",
    labels: dict[str, Any] | None = None,
    **entries: Any,
) -> Path:
    """Write nnU-Net's raw layout; `entries` go into dataset.json."""
    for number in range(cases):
        images, label_map = draw_case(number, len(channels))
        for channel, scan in enumerate(images):
            save(folder / "imagesTr" / f"case_{number}_{channel:04d}{ending}", scan)
        save(folder / "labelsTr" / f"case_{number}{ending}", label_map)
    return write_json(
        folder,
        {
            "name": "Balls",
            "channel_names": {str(n): name for n, name in enumerate(channels)},
            "labels": labels or LABELS,
            "numTraining": cases,
            "file_ending": ending,
            **entries,
        },
    )
