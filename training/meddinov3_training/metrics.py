"""Overlap of a prediction with a reference."""

from __future__ import annotations

import numpy as np

from meddinov3_training.dataset import Dataset


def dice(prediction: np.ndarray, reference: np.ndarray) -> float | None:
    """Dice of two boolean arrays; None where both are empty (nnU-Net's rule)."""
    total = int(prediction.sum()) + int(reference.sum())
    return 2 * int((prediction & reference).sum()) / total if total else None


def dice_per_label(
    prediction: np.ndarray, reference: np.ndarray, dataset: Dataset
) -> dict[str, float | None]:
    """Dice of each label of a dataset; voxels without annotation are left out.

    Args:
        prediction, reference: label maps of one shape. In a region-based dataset both hold
            the values of its label maps: a region is all of its members.
    """
    valid = reference != dataset.ignore if dataset.ignore is not None else np.True_
    return {
        label.name: dice(np.isin(prediction, members) & valid, np.isin(reference, members) & valid)
        for label, members in zip(dataset.labels, dataset.members, strict=True)
    }
