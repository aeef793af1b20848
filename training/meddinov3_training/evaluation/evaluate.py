"""Score a folder of predictions against a folder of references."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.progress import ProgressCallback, Steps
from meddinov3.reading import read_label_map

from meddinov3_training.evaluation.matching import Pair
from meddinov3_training.evaluation.scores import CaseScore, Spacing, score_case, value_boxes
from meddinov3_training.evaluation.statistics import (
    RESAMPLES,
    Difference,
    Estimate,
    Table,
    compare,
    estimate_means,
    few_cases,
    table_of,
)

DEFAULT_TOLERANCE = 1.0  # mm, as the script behind the paper's tables
GRID_TOLERANCE = 0.1  # mm, and of a voxel's edge


@dataclass(frozen=True)
class Metric:
    """A score and how it is shown.

    Attributes:
        key: field of :class:`LabelScore`.
        title: for people.
        unit: "" for shares.
        digits: after the point.
        lower_is_better: as with distances.
        compared: whether two models are compared by it.
    """

    key: str
    title: str
    unit: str = ""
    digits: int = 3
    lower_is_better: bool = False
    compared: bool = True


METRICS = (
    Metric("dice", "Dice"),
    Metric("nsd", "NSD"),
    Metric("hd95_mm", "HD95", "mm", 2, lower_is_better=True),
    Metric("volume_error_ml", "Volume error", "ml", 2, compared=False),
    Metric("volume_error_percent", "Volume error", "%", 1, compared=False),
)


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model on a set of cases.

    Attributes:
        name: of the model.
        structures: labels, their values, regions and ignore label.
        tolerances: of NSD by label name, mm.
        cases: scores.
        notes: what a reader has to know.
        seed, resamples: of the bootstrap.
        names_from: where the labels' names are from.
    """

    name: str
    structures: DatasetLabels
    tolerances: dict[str, float]
    cases: tuple[CaseScore, ...]
    notes: tuple[str, ...] = field(default=())
    seed: int = 0
    resamples: int = RESAMPLES
    names_from: str = ""

    @property
    def label_names(self) -> tuple[str, ...]:
        """In the dataset's order."""
        return tuple(label.name for label in self.structures.labels)

    def table(self, metric: Metric) -> Table:
        """Scores (cases, labels); NaN where there is none."""
        names = self.label_names
        rows = [[getattr(c.labels[name], metric.key) for name in names] for c in self.cases]
        return table_of(rows, len(names))

    def means(self, metric: Metric) -> tuple[list[Estimate], Estimate]:
        """Of each label over the cases, and of the labels' means."""
        return estimate_means(self.table(metric), self.seed, self.resamples)

    def outcomes(self, label: str, outcome: str) -> int:
        """How many cases had this outcome for a label."""
        return sum(case.labels[label].outcome == outcome for case in self.cases)

    def against(self, other: Evaluation, metric: Metric) -> tuple[list[Difference], Difference]:
        """This model minus another one that was scored on the same cases."""
        return compare(
            other.table(metric),
            self.table(metric),
            lower_is_better=metric.lower_is_better,
            seed=self.seed,
            resamples=self.resamples,
        )

    @property
    def caution(self) -> str:
        """A sentence if there are too few cases for intervals, else ""."""
        return few_cases(len(self.cases))

    def worst(self, count: int) -> list[CaseScore]:
        """The cases with the lowest mean Dice, lowest first; those without a Dice are left out."""
        scored = [case for case in self.cases if case.mean_dice is not None]
        return sorted(scored, key=lambda case: (case.mean_dice or 0.0, case.case))[:count]


def resolve_tolerances(
    structures: DatasetLabels, default: float, by_label: dict[str, float]
) -> dict[str, float]:
    """A tolerance in mm for every label.

    Raises:
        MedDINOv3Error: a label is not known.
    """
    names = [label.name for label in structures.labels]
    unknown = sorted(set(by_label) - set(names))
    if unknown:
        raise MedDINOv3Error(
            "unknown-label",
            f"There is no label {', '.join(map(repr, unknown))} to give a tolerance to.",
            f"There are: {', '.join(names)}.",
        )
    return {name: by_label.get(name, default) for name in names}


def score_cases(
    pairs: Sequence[Pair],
    structures: DatasetLabels,
    tolerances: dict[str, float],
    jobs: int = 1,
    report: ProgressCallback | None = None,
    phase: str = "score",
) -> tuple[tuple[CaseScore, ...], tuple[str, ...]]:
    """Read and score every pair; one case at a time is in memory (one a process).

    Args:
        pairs: from :func:`meddinov3_training.evaluation.matching.match_cases`.
        structures: what values stand for.
        tolerances: of NSD by label name, mm.
        jobs: processes.
        report: told after every case.
        phase: what it is told.

    Returns:
        The scores, and notes.

    Raises:
        MedDINOv3Error: files that cannot be read, on different grids or with unknown values;
            all such cases in one message.
    """
    steps = Steps(phase, len(pairs), report)
    results = []
    for result in _outcomes(pairs, structures, tolerances, jobs):
        results.append(result)
        steps.advance()
    defects = [result.defect for result in results if result.defect]
    if defects:
        raise MedDINOv3Error(
            "bad-cases",
            f"{len(defects)} of {len(pairs)} cases cannot be scored. {' '.join(defects)}",
            "Correct these files; nothing was written.",
        )
    unknown = sorted({value for result in results for value in result.unknown})
    notes = []
    if unknown:
        notes.append(
            f"Predictions hold values that no label has, counted as background: "
            f"{', '.join(map(str, unknown))}."
        )
    return tuple(r.score for r in results if r.score is not None), tuple(notes)


@dataclass(frozen=True)
class _Outcome:
    """What comes back from a process; errors as text, since they do not survive pickling."""

    score: CaseScore | None = None
    defect: str = ""
    unknown: tuple[int, ...] = ()


def _outcomes(
    pairs: Sequence[Pair], structures: DatasetLabels, tolerances: dict[str, float], jobs: int
) -> Iterator[_Outcome]:
    if jobs <= 1 or len(pairs) < 2:
        yield from map(_score_pair, pairs, repeat(structures), repeat(tolerances))
        return
    context = multiprocessing.get_context("spawn")  # the only one that every system has
    with ProcessPoolExecutor(min(jobs, len(pairs)), mp_context=context) as pool:
        yield from pool.map(_score_pair, pairs, repeat(structures), repeat(tolerances))


def _score_pair(pair: Pair, structures: DatasetLabels, tolerances: dict[str, float]) -> _Outcome:
    try:
        prediction, reference, spacing = read_pair(pair)
        known = {0, structures.ignore, *(v for members in structures.members for v in members)}
        strange = _values(reference, pair.case) - known
        if strange:
            raise MedDINOv3Error(
                "unknown-values",
                f"The reference of case '{pair.case}' holds {sorted(strange)}, which no label has.",
            )
        unknown = set() if prediction is None else _values(prediction, pair.case) - known
        score = score_case(pair.case, prediction, reference, spacing, structures, tolerances)
        return _Outcome(score, unknown=tuple(sorted(unknown)))
    except MedDINOv3Error as error:
        return _Outcome(defect=error.message)


def read_pair(pair: Pair) -> tuple[np.ndarray | None, np.ndarray, Spacing]:
    """Prediction and reference (k, j, i) of a case, and the spacing in mm along (k, j, i).

    Raises:
        MedDINOv3Error: a file cannot be read, or they lie on different grids.
    """
    reference, grid = read_label_map(pair.reference)
    prediction = None
    if pair.prediction is not None:
        prediction, other = read_label_map(pair.prediction)
        if not other.same_as(grid, GRID_TOLERANCE * min(1.0, *grid.spacing)):
            raise MedDINOv3Error(
                "grids-differ",
                f"Case '{pair.case}': the prediction lies on another grid ({_shown(other)}) than "
                f"the reference ({_shown(grid)}).",
            )
    return prediction, reference, (grid.spacing[2], grid.spacing[1], grid.spacing[0])


def _values(label_map: np.ndarray, case: str) -> set[int]:
    boxes = value_boxes(label_map, case)
    return {value for value, box in enumerate(boxes, start=1) if box is not None}


def _shown(grid: Grid) -> str:
    size, spacing, origin = (
        " x ".join(f"{part:.6g}" for part in row) for row in (grid.size, grid.spacing, grid.origin)
    )
    return f"{size} voxels of {spacing} mm from {origin}, {grid.orientation}"
