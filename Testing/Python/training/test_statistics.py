"""Intervals and comparisons against distributions and tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from meddinov3_training.evaluation.statistics import (
    Table,
    compare,
    estimate_means,
    few_cases,
    table_of,
)

NAN = float("nan")


def column(*values: float) -> Table:
    return np.array(values, dtype=float)[:, None]


def test_an_interval_is_as_wide_as_theory_says() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    (estimate,), overall = estimate_means(values[:, None])
    assert estimate.mean == pytest.approx(values.mean())
    half = 1.96 * values.std() / np.sqrt(400)
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.02)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.02)
    assert (overall.mean, overall.low) == pytest.approx((estimate.mean, estimate.low))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random, hits = np.random.default_rng(2), 0
    for _ in range(200):
        (estimate,), _ = estimate_means(random.uniform(0, 1, (40, 1)), resamples=500)
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low <= 0.5 <= estimate.high
    assert 180 <= hits <= 199  # 95 % of 200, give or take what chance allows


def test_two_equal_halves_by_hand() -> None:
    # Of two cases with 0 and 1 a resample has mean 0, 0.5 or 1 with 1/4, 1/2 and 1/4.
    (estimate,), _ = estimate_means(column(0, 1))
    assert (estimate.mean, estimate.low, estimate.high, estimate.cases) == (0.5, 0, 1, 2)


def test_means_skip_what_has_no_score_and_labels_weigh_the_same() -> None:
    table = np.array([[0.2, NAN], [0.4, 0.9], [0.6, NAN]])
    (first, second), overall = estimate_means(table)
    assert (first.mean, first.cases) == (pytest.approx(0.4), 3)
    assert (second.mean, second.low, second.cases) == (0.9, None, 1)
    assert overall.mean == pytest.approx((0.4 + 0.9) / 2)
    assert overall.cases == 3
    assert overall.low is not None and overall.low <= overall.mean <= (overall.high or 0)


def test_no_scores_no_mean() -> None:
    (label,), overall = estimate_means(column(NAN, NAN))
    assert (label.mean, label.low, label.cases) == (None, None, 0)
    assert overall.mean is None
    (nothing,), _ = estimate_means(np.empty((0, 1)))
    assert nothing.mean is None


def test_the_same_seed_gives_the_same_interval() -> None:
    table = np.random.default_rng(0).uniform(size=(12, 3))
    assert estimate_means(table, seed=4) == estimate_means(table, seed=4)
    assert estimate_means(table, seed=4) != estimate_means(table, seed=5)


def test_many_cases_are_resampled_in_parts() -> None:
    table = np.random.default_rng(0).uniform(size=(30_000, 1))
    (estimate,), _ = estimate_means(table, resamples=200)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.high - estimate.low == pytest.approx(3.92 * 0.2887 / np.sqrt(30_000), rel=0.25)


def test_a_model_against_itself_differs_by_nothing() -> None:
    table = np.random.default_rng(0).uniform(size=(20, 2))
    for found in (*compare(table, table)[0], compare(table, table)[1]):
        assert found.difference.mean == found.difference.low == found.difference.high == 0
        assert (found.p, found.better, found.worse, found.equal) == (1.0, 0, 0, 20)


def test_better_worse_and_the_test_by_hand() -> None:
    # Six cases, all better by different amounts: 2 of 64 signs are as extreme, p = 0.03125.
    first = column(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    second = column(0.51, 0.52, 0.53, 0.54, 0.55, 0.56)
    (found,), overall = compare(first, second)
    assert found.difference.mean == pytest.approx(0.035)
    assert found.difference.low is not None and found.difference.low > 0
    assert found.p == pytest.approx(2 / 64)
    assert (found.better, found.worse, found.equal) == (6, 0, 0)
    assert overall == found
    (distance,), _ = compare(first, second, lower_is_better=True)
    assert (distance.better, distance.worse) == (0, 6)
    assert distance.difference.mean == pytest.approx(0.035)


def test_cases_that_only_one_model_has_a_score_for_are_counted_apart() -> None:
    first, second = column(0.5, NAN, 0.7, NAN), column(0.6, 0.2, NAN, NAN)
    (found,), _ = compare(first, second)
    assert found.difference.cases == 1
    assert found.difference.mean == pytest.approx(0.1)
    assert (found.only_first, found.only_second, found.p) == (1, 1, None)


def test_few_cases_are_told_plainly() -> None:
    assert "1 case an interval" in few_cases(1)
    assert "5 cases" in few_cases(5)
    assert few_cases(6) == ""


def test_none_becomes_a_gap() -> None:
    table = table_of([[1.0, None], [None, 0.5]], 2)
    assert np.isnan(table).tolist() == [[False, True], [True, False]]
    assert table_of([], 3).shape == (0, 3)
