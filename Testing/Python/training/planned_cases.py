"""Plans of cases made up by the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from cached_cases import dataset_of, fingerprint_of, straight
from meddinov3.volume import Volume
from meddinov3_training.dataset import Dataset
from meddinov3_training.plan import Plan, make_plan


def volume(array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> Volume:
    """A scan in LPS order; `spacing` (i, j, k)."""
    return Volume((array,), straight(array.shape, spacing))


def planned(
    dataset: Dataset, volumes: list[Volume], labels: list[np.ndarray], **choices: Any
) -> Plan:
    return make_plan(dataset, fingerprint_of(dataset, volumes, labels), **choices)


def discs(*sides: int, slices: int = 4, size: tuple[int, int] = (96, 96)) -> np.ndarray:
    """Label n is a square of `sides`[n - 1] pixels in slice n, and smaller in slice 0."""
    labels = np.zeros((slices, *size), dtype=np.uint8)
    for value, side in enumerate(sides, start=1):
        labels[value, :side, :side] = value
        labels[0, value * 3, : max(1, side // 2)] = value
    return labels


def plan_for(
    labels: list[np.ndarray],
    voxel: tuple[float, float, float] = (1.0, 1.0, 3.0),
    **choices: object,
) -> Plan:
    names = [f"label {v}" for v in range(1, int(max(m.max() for m in labels)) + 1)]
    volumes = [volume(m.astype(np.float32), voxel) for m in labels]
    return planned(dataset_of(*names), volumes, labels, **choices)  # type: ignore[arg-type]
