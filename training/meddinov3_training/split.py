"""Which cases are trained on and which are held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from meddinov3.errors import MedDINOv3Error

from meddinov3_training.dataset import Case

FOLDS = 5
NNUNET_SEED = 12345
LEAVE_ONE_OUT = 9  # up to so many cases each is held out once

Split = tuple[tuple[Case, ...], tuple[Case, ...]]


def fold_count(cases: int) -> int:
    """Folds of a cross-validation: five, or one for each case where there are few."""
    return cases if cases <= LEAVE_ONE_OUT else FOLDS


def fold_split(cases: Sequence[Case], fold: int) -> Split:
    """Training and held-out cases of a fold.

    The same cases as nnU-Net's ``splits_final.json``: scikit-learn's KFold over the sorted ids,
    shuffled from seed 12345. With few cases each fold holds out one.

    Raises:
        MedDINOv3Error: there is no such fold, or one case only.
    """
    count = fold_count(len(cases))
    if len(cases) < 2 or not 0 <= fold < count:
        raise MedDINOv3Error(
            "split",
            f"{len(cases)} case(s) give no fold {fold}.",
            f"Folds are 0 to {count - 1}." if len(cases) > 1 else "Annotate a second case.",
        )
    ordered = sorted(cases, key=lambda case: case.id)
    if count == len(ordered):
        chosen = {fold}
    else:
        order = np.arange(len(ordered))
        np.random.RandomState(NNUNET_SEED).shuffle(order)
        parts = np.array_split(order, count)  # the first ones one larger, as KFold
        chosen = set(parts[fold].tolist())
    return _divided(ordered, chosen)


def random_split(cases: Sequence[Case], held_out: int | None, seed: int) -> Split:
    """Training and held-out cases, drawn by the seed.

    Args:
        cases: all.
        held_out: how many; None for a fifth.
        seed: of the draw.

    Raises:
        MedDINOv3Error: none would be left to train on.
    """
    count = len(cases)
    wanted = count // 5 if held_out is None else held_out
    if not 0 <= wanted < count:
        raise MedDINOv3Error(
            "split", f"{wanted} of {count} cases cannot be held out.", "Hold out fewer."
        )
    order = np.random.default_rng(seed).permutation(count)
    return _divided(cases, set(order[:wanted].tolist()))


def _divided(cases: Sequence[Case], chosen: set[int]) -> Split:
    training = tuple(case for number, case in enumerate(cases) if number not in chosen)
    return training, tuple(cases[number] for number in sorted(chosen))
