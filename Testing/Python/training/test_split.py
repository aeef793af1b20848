"""Folds and held-out cases."""

from __future__ import annotations

from pathlib import Path

import pytest
from meddinov3.errors import MedDINOv3Error
from meddinov3_training.dataset import Case
from meddinov3_training.split import fold_count, fold_split, random_split


def cases(count: int) -> tuple[Case, ...]:
    return tuple(Case(f"case_{n:03d}", (Path("i"),), Path("l")) for n in reversed(range(count)))


def ids(part: tuple[Case, ...]) -> list[int]:
    return [int(case.id[-3:]) for case in part]


def test_folds_are_those_of_nnunet() -> None:
    """What scikit-learn's KFold(5, shuffle=True, random_state=12345) holds out of 12."""
    expected = [[0, 3, 8], [7, 10, 11], [6, 9], [1, 4], [2, 5]]
    assert [ids(fold_split(cases(12), fold)[1]) for fold in range(5)] == expected


@pytest.mark.parametrize("count", [2, 5, 9, 10, 47])
def test_every_case_is_held_out_once(count: int) -> None:
    held = []
    for fold in range(fold_count(count)):
        training, out = fold_split(cases(count), fold)
        assert sorted(ids(training) + ids(out)) == list(range(count))
        held += ids(out)
    assert sorted(held) == list(range(count))
    assert fold_count(count) == (count if count < 10 else 5)


def test_what_is_no_fold_is_refused() -> None:
    for count, fold in ((1, 0), (12, 5), (12, -1)):
        with pytest.raises(MedDINOv3Error):
            fold_split(cases(count), fold)


def test_a_random_split_repeats_and_depends_on_the_seed() -> None:
    assert len(random_split(cases(20), None, 0)[1]) == 4
    assert random_split(cases(20), 3, 1) == random_split(cases(20), 3, 1)
    assert len({tuple(ids(random_split(cases(20), 3, s)[1])) for s in range(10)}) > 5
    with pytest.raises(MedDINOv3Error):
        random_split(cases(3), 3, 0)
