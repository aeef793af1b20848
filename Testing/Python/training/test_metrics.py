"""Dice of label maps, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from meddinov3.labels import Label
from meddinov3_training.dataset import Case, Dataset
from meddinov3_training.metrics import dice, dice_per_label


def dataset(members: dict[str, tuple[int, ...]], ignore: int | None = None) -> Dataset:
    labels = tuple(Label(n, v, (1, 2, 3)) for v, n in enumerate(members, start=1))
    regions = any(len(values) > 1 for values in members.values())
    case = Case("a", (Path("a_0000.nrrd"),), Path("a.nrrd"))
    return Dataset(
        "test", ("MR",), labels, tuple(members.values()), regions, ignore, (case,)
    )  # fmt: skip


def test_dice_by_hand() -> None:
    prediction = np.array([[[True, True, False], [True, False, False]]])
    reference = np.array([[[True, False, False], [True, True, True]]])
    assert dice(prediction, reference) == pytest.approx(2 * 2 / (3 + 4))


def test_dice_at_its_ends() -> None:
    something, other = np.array([[[True, False]]]), np.array([[[False, True]]])
    nothing = np.zeros((1, 1, 2), dtype=bool)
    assert dice(something, something) == 1
    assert dice(something, other) == 0
    assert dice(nothing, something) == 0
    assert dice(something, nothing) == 0
    assert dice(nothing, nothing) is None  # nnU-Net: not counted, neither 0 nor 1


def test_dice_does_not_overflow_small_integer_types() -> None:
    many = np.ones((8, 200, 200), dtype=bool)
    assert dice(many, many) == 1


def test_labels_exclude_each_other() -> None:
    prediction = np.array([[[0, 1, 1, 2, 2, 2]]], dtype=np.uint8)
    reference = np.array([[[0, 1, 2, 2, 2, 0]]], dtype=np.int64)
    scores = dice_per_label(prediction, reference, dataset({"a": (1,), "b": (2,), "c": (3,)}))
    assert scores == {"a": pytest.approx(2 / 3), "b": pytest.approx(4 / 6), "c": None}


def test_a_region_is_all_of_its_members() -> None:
    prediction = np.array([[[0, 1, 1, 2, 2, 1]]])
    reference = np.array([[[0, 1, 2, 2, 1, 0]]])
    scores = dice_per_label(prediction, reference, dataset({"whole": (1, 2), "core": (2,)}))
    # whole: 5 voxels against 4, 4 shared; core: 2 against 2, 1 shared.
    assert scores == {"whole": pytest.approx(8 / 9), "core": pytest.approx(2 / 4)}


def test_voxels_without_annotation_are_not_scored() -> None:
    prediction = np.array([[[1, 1, 0, 1, 1]]])
    reference = np.array([[[1, 0, 1, 9, 9]]])
    scores = dice_per_label(prediction, reference, dataset({"a": (1,)}, ignore=9))
    assert scores == {"a": pytest.approx(2 / 4)}
    assert dice_per_label(prediction, np.full_like(reference, 9), dataset({"a": (1,)}, 9)) == {
        "a": None
    }
