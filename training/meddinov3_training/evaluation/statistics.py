"""How sure a mean is, and whether one model is better than another.

Cases are resampled, not voxels or labels: a case's labels stand or fall together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEW_CASES = 6
RESAMPLES = 10_000
CONFIDENCE = 0.95
CHUNK = 2_000_000  # drawn counts at a time

Table = NDArray[np.float64]  # (cases, labels); NaN where there is no score


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: None without any score.
        low, high: percentile bootstrap interval, 95 %; None with fewer than two cases.
        cases: that have a score.
    """

    mean: float | None
    low: float | None
    high: float | None
    cases: int


@dataclass(frozen=True)
class Difference:
    """A second model against the first, on the cases that both have a score for.

    Attributes:
        difference: mean of second minus first, with its interval.
        p: Wilcoxon signed-rank test, two-sided; None with fewer than two cases.
        better, worse, equal: cases in which the second is so.
        only_first, only_second: cases that only one of the two has a score for.
    """

    difference: Estimate
    p: float | None
    better: int
    worse: int
    equal: int
    only_first: int
    only_second: int


def estimate_means(
    table: Table, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[list[Estimate], Estimate]:
    """Means of the labels over cases, and the mean of those means (nnU-Net's order).

    Args:
        table: scores (cases, labels), NaN where there is none.
        seed: of the resampling.
        resamples: of the cases, with replacement.

    Returns:
        One estimate a label, and that of the mean over labels.
    """
    known = np.isfinite(table)
    cases = [int(n) for n in known.sum(axis=0)]
    means = _column_means(table)
    drawn = _resampled_means(table, seed, resamples)
    labels = [_estimate(means[n], drawn[:, n], cases[n]) for n in range(table.shape[1])]
    overall = _estimate(_mean(means), _row_means(drawn), int(known.any(axis=1).sum()))
    return labels, overall


def compare(
    first: Table,
    second: Table,
    *,
    lower_is_better: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[list[Difference], Difference]:
    """Compare two models case by case.

    Args:
        first, second: scores (cases, labels) of the same cases and labels.
        lower_is_better: as with distances.
        seed, resamples: of the bootstrap.

    Returns:
        One difference a label, and that of the mean over labels.
    """
    both = np.isfinite(first) & np.isfinite(second)
    change = np.where(both, second - first, np.nan)
    labels, overall = estimate_means(change, seed, resamples)
    return [
        _difference(labels[n], change[:, n], first[:, n], second[:, n], lower_is_better)
        for n in range(change.shape[1])
    ], _difference(
        overall, _row_means(change), _row_means(first), _row_means(second), lower_is_better
    )  # fmt: skip


def few_cases(cases: int) -> str:
    """A sentence if the intervals of so many cases mean little, else ""."""
    if cases >= FEW_CASES:
        return ""
    counted = "1 case" if cases == 1 else f"{cases} cases"
    return (
        f"With {counted} an interval or a test means little: at least {FEW_CASES} cases are "
        "needed before either can tell models apart."
    )


def table_of(values: Sequence[Sequence[float | None]], labels: int) -> Table:
    """Scores as an array (cases, labels), NaN for None."""
    filled = [[np.nan if value is None else value for value in row] for row in values]
    return np.array(filled, dtype=np.float64).reshape(len(filled), labels)


def _resampled_means(table: Table, seed: int, resamples: int) -> Table:
    """Means (resamples, labels) of cases drawn with replacement.

    A draw is a count for each case, so that all labels of a resample see the same cases.
    """
    count = len(table)
    if not count:
        return np.full((resamples, table.shape[1]), np.nan)
    known = np.isfinite(table)
    filled, random = np.where(known, table, 0.0), np.random.default_rng(seed)
    parts, size = [], max(1, CHUNK // count)
    for start in range(0, resamples, size):
        draws = random.multinomial(count, np.full(count, 1 / count), min(size, resamples - start))
        with np.errstate(invalid="ignore"):
            parts.append((draws @ filled) / (draws @ known))
    return np.concatenate(parts)


def _estimate(mean: float, drawn: NDArray[np.float64], cases: int) -> Estimate:
    if not cases:
        return Estimate(None, None, None, 0)
    drawn = drawn[np.isfinite(drawn)]
    if cases < 2:
        return Estimate(float(mean), None, None, cases)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Estimate(float(mean), float(low), float(high), cases)


def _difference(
    estimate: Estimate,
    change: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    lower_is_better: bool,
) -> Difference:
    known = np.isfinite(change)
    values = change[known] * (-1 if lower_is_better else 1)
    equal = np.isclose(values, 0, rtol=0, atol=1e-9)
    return Difference(
        estimate,
        _wilcoxon(np.where(equal, 0.0, values)),
        better=int((~equal & (values > 0)).sum()),
        worse=int((~equal & (values < 0)).sum()),
        equal=int(equal.sum()),
        only_first=int((np.isfinite(first) & ~np.isfinite(second)).sum()),
        only_second=int((np.isfinite(second) & ~np.isfinite(first)).sum()),
    )


def _wilcoxon(values: NDArray[np.float64]) -> float | None:
    from scipy import stats

    if len(values) < 2:
        return None
    if not values.any():
        return 1.0
    return float(stats.wilcoxon(values).pvalue)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _column_means(table: Table) -> NDArray[np.float64]:
    return _row_means(table.T)


def _row_means(table: Table) -> NDArray[np.float64]:
    """Mean of each row over what is known; NaN if nothing is."""
    known = np.isfinite(table)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = np.where(known, table, 0.0).sum(axis=1) / known.sum(axis=1)
    return means
