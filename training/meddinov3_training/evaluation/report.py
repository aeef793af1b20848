"""The report of an evaluation: one HTML file that explains itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meddinov3 import __version__

from meddinov3_training.evaluation import page, plots
from meddinov3_training.evaluation.evaluate import METRICS, Evaluation, Metric
from meddinov3_training.evaluation.pictures import PREDICTION, REFERENCE
from meddinov3_training.evaluation.results import DEFINITIONS
from meddinov3_training.evaluation.scores import FALSE_ALARM, MISSED, CaseScore, LabelScore
from meddinov3_training.evaluation.statistics import Difference, Estimate

DICE, NSD, HD95, VOLUME, PERCENT = METRICS
MOST_COLUMNS = 8  # labels in the table of cases
MOST_ROWS = 5000  # of the table of all scores
MOST_NAMED = 4  # labels below a picture
NONE = "\N{EN DASH}"


@dataclass(frozen=True)
class WorstCase:
    """A picture of a case, from :func:`case_picture`."""

    score: CaseScore
    png: bytes


def write_report(
    path: Path,
    evaluation: Evaluation,
    against: Evaluation | None = None,
    worst: Sequence[WorstCase] = (),
    title: str = "",
    command: str = "",
) -> None:
    """Write the report.

    Args:
        path: of the HTML file.
        evaluation: scores of the model.
        against: scores of another model on the same cases.
        worst: pictures, worst case first.
        title: heading; the model's name by default.
        command: what was called, without folders' places.

    Raises:
        MedDINOv3Error: the file cannot be written.
    """
    cases = _count(len(evaluation.cases), "case")
    page.write_page(
        path,
        title or f"Evaluation of {evaluation.name}",
        f"{evaluation.name}: {cases}, {_count(len(evaluation.label_names), 'label')}",
        headline(evaluation),
        *(page.warning(note) for note in (evaluation.caution, *evaluation.notes)),
        summary(evaluation),
        "" if against is None else comparison(evaluation, against),
        distributions(evaluation, against),
        volumes(evaluation),
        worst_cases(worst),
        all_cases(evaluation),
        definitions(evaluation, command),
    )


def headline(evaluation: Evaluation) -> str:
    """The means over all labels, and how often a structure was missed or invented."""
    missed = sum(evaluation.outcomes(name, MISSED) for name in evaluation.label_names)
    invented = sum(evaluation.outcomes(name, FALSE_ALARM) for name in evaluation.label_names)
    told = []
    for metric in (DICE, NSD, HD95):
        _, overall = evaluation.means(metric)
        name = f"Mean {metric.title}" + (f" at {_tolerance(evaluation)}" if metric is NSD else "")
        told.append((name, figure(metric, overall.mean, unit=True), interval(metric, overall)))
    told.append(
        ("Missed / false alarms", f"{missed} / {invented}",
         f"of {len(evaluation.cases) * len(evaluation.label_names)} structures")
    )  # fmt: skip
    return page.tiles(told)


def summary(evaluation: Evaluation) -> str:
    """Means of each label with their intervals."""
    means = [(metric, *evaluation.means(metric)) for metric in METRICS]
    rows = []
    for number, name in enumerate(evaluation.label_names):
        cells = [_estimate(metric, labels[number]) for metric, labels, _ in means]
        outcomes = [
            page.cell(str(n), n)
            for n in (evaluation.outcomes(name, MISSED), evaluation.outcomes(name, FALSE_ALARM))
        ]
        scored = means[0][1][number].cases
        rows.append([page.words(name), page.cell(str(scored), scored), *cells, *outcomes])
    total = [_estimate(metric, overall) for metric, _, overall in means]
    rows.append([page.words("Mean of the labels"), page.cell(""), *total, page.cell(""),
                 page.cell("")])  # fmt: skip
    heads = ["Label", "Cases", *map(_head, METRICS), "Missed", "False alarms"]
    return page.section(
        "Scores by label",
        f"Mean over the cases, and below it the 95 % interval. NSD tolerates "
        f"{_tolerance(evaluation)}.",
        page.table(heads, rows, total=True),
    )


def comparison(evaluation: Evaluation, against: Evaluation) -> str:
    """The model minus another one, case by case."""
    parts = []
    names = [*evaluation.label_names, "Mean of the labels"]
    for metric in (m for m in METRICS if m.compared):
        labels, overall = evaluation.against(against, metric)
        differences = [*labels, overall]
        rows = [_difference(metric, n, d) for n, d in zip(names, differences, strict=True)]
        heads = ["Label", f"{_head(metric)} difference", "p", "Cases", "Better", "Worse", "Equal"]
        parts.append(page.table(heads, rows, total=True))
        if metric is DICE:
            drawn = plots.difference_plot(metric, names, differences)
            parts.append(page.picture(drawn, "svg+xml", "Differences of Dice by label"))
        parts.append("<br>")
    return page.section(
        f"{evaluation.name} against {against.name}",
        f"Each difference is {evaluation.name} minus {against.name} on the cases that both have "
        "a score for, with its 95 % interval. An interval that leaves out 0 speaks for a real "
        "difference; with many labels some do by chance.",
        page.warning(evaluation.caution),
        *parts,
    )


def distributions(evaluation: Evaluation, against: Evaluation | None = None) -> str:
    """Every case's scores by label."""
    shown = [evaluation] if against is None else [evaluation, against]
    parts = []
    for metric in (DICE, NSD, HD95):
        content = plots.distribution_plot(metric, *shown)
        parts.append(page.picture(content, "svg+xml", f"{metric.title} of every case by label"))
    return page.section(
        "Every case",
        "A point is a case. The box holds the middle half, its line is the median; the diamond is "
        "the mean, the dark bar its 95 % interval.",
        *parts,
    )


def volumes(evaluation: Evaluation) -> str:
    """Agreement of volumes."""
    left_out = len(evaluation.label_names) - plots.MOST_LABELS
    more = f" The first {plots.MOST_LABELS} labels are shown." if left_out > 0 else ""
    return page.section(
        "Volumes",
        "Error of the volume against the volume (Bland and Altman). The line is the mean error, "
        f"the dashed lines hold 95 % of the cases if errors are normal.{more}",
        page.picture(plots.volume_plot(evaluation), "svg+xml", "Error of volume by label"),
    )


def worst_cases(worst: Sequence[WorstCase]) -> str:
    """Pictures of the worst cases; "" without any."""
    if not worst:
        return ""
    key = (
        f'<p class="soft"><span class="key" style="border-color:{REFERENCE};margin-left:0"></span>'
        f'reference<span class="key dashed" style="border-color:{PREDICTION}"></span>prediction</p>'
    )
    figures = []
    for case in worst:
        dice = ", ".join(
            f"{name} {figure(DICE, score.dice)}" + _remark(score.outcome)
            for name, score in _worst_labels(case.score)
        )
        if len(case.score.labels) > MOST_NAMED:
            dice += "; the others are higher"
        gone = "" if case.score.predicted else " (no prediction)"
        figures.append(
            page.picture(case.png, "png", f"Slices of {case.score.case}",
                         f"{case.score.case}{gone}: Dice {dice}")
        )  # fmt: skip
    return page.section(
        "Worst cases",
        "The cases with the lowest mean Dice; of each orientation the slice with the most voxels "
        "that differ.",
        key,
        f'<div class="cases">{"".join(figures)}</div>',
    )


def all_cases(evaluation: Evaluation) -> str:
    """A row for each case, and behind a click one for each case and label."""
    names = evaluation.label_names
    shown = names if len(names) <= MOST_COLUMNS else ()
    heads = ["Case", "Mean Dice", "Mean NSD", "Largest HD95 (mm)", *(f"Dice {n}" for n in shown)]
    if not shown:
        heads.append("Lowest Dice")
    rows, detailed = [], []
    for case in evaluation.cases:
        scores = list(case.labels.values())
        distances = [s.hd95_mm for s in scores if s.hd95_mm is not None]
        row = [
            page.words(case.case + ("" if case.predicted else " (no prediction)")),
            _score(DICE, case.mean_dice, bar=True),
            _score(NSD, _mean([s.nsd for s in scores]), bar=True),
            _score(HD95, max(distances, default=None)),
            *(_score(DICE, case.labels[name].dice, bar=True) for name in shown),
        ]
        if not shown:
            worst = _worst_labels(case, 1)
            row.append(page.words(", ".join(f"{n} {figure(DICE, s.dice)}" for n, s in worst)))
        rows.append(row)
        detailed += [
            [page.words(case.case), page.words(name),
             *(_score(metric, getattr(score, metric.key)) for metric in METRICS),
             page.cell(f"{score.reference_ml:.2f}", score.reference_ml),
             page.cell(f"{score.predicted_ml:.2f}", score.predicted_ml),
             page.words(score.outcome)]
            for name, score in case.labels.items()
        ]  # fmt: skip
    heads_of_all = ["Case", "Label", *map(_head, METRICS), "Reference (ml)", "Predicted (ml)",
                    "Outcome"]  # fmt: skip
    more = (
        f"<details><summary>All scores of every label ({len(detailed)} rows)</summary>"
        f"{page.table(heads_of_all, detailed, sorts=True)}</details>"
        if len(detailed) <= MOST_ROWS
        else ""
    )
    return page.section(
        "All cases",
        "Click a heading to sort." + ("" if more else " The scores of each label are in the CSV."),
        page.table(heads, rows, sorts=True),
        more,
    )


def definitions(evaluation: Evaluation, command: str = "") -> str:
    """What the figures mean, and how to get them again."""
    told = list(DEFINITIONS.items())
    by_label = {
        f"{mm:g} mm": [n for n, t in evaluation.tolerances.items() if t == mm]
        for mm in sorted(set(evaluation.tolerances.values()))
    }
    told.append(("NSD tolerance", "; ".join(f"{mm} ({', '.join(n)})" if len(by_label) > 1 else mm
                                            for mm, n in by_label.items())))  # fmt: skip
    if evaluation.structures.ignore is not None:
        told.append(("Ignored", f"voxels of value {evaluation.structures.ignore} in the reference; "
                     "the surface along them is the same for both."))  # fmt: skip
    if evaluation.structures.regions:
        told.append(("Regions", "; ".join(
            f"{label.name} = {' + '.join(map(str, members))}" for label, members in
            zip(evaluation.structures.labels, evaluation.structures.members, strict=True)
        )))  # fmt: skip
    if evaluation.names_from:
        told.append(("Names of the labels", f"from {evaluation.names_from}"))
    if command:
        told.append(("Command", command))
    told.append(("Resampling", f"{evaluation.resamples} draws, seed {evaluation.seed}"))
    told.append(("Made by", f"MedDINOv3 for 3D Slicer {__version__}"))
    return page.section("What the figures mean", "", page.facts(told))


def figure(metric: Metric, value: float | None, unit: bool = False) -> str:
    """A score as text; errors with their sign."""
    if value is None:
        return NONE
    text = _signed(metric, value) if metric in (VOLUME, PERCENT) else f"{value:.{metric.digits}f}"
    return f"{text} {metric.unit}" if unit and metric.unit else text


def interval(metric: Metric, estimate: Estimate) -> str:
    """The 95 % interval as text."""
    if estimate.low is None or estimate.high is None:
        return "no interval" if estimate.cases else "no score"
    return f"{figure(metric, estimate.low)} to {figure(metric, estimate.high)}"


def _signed(metric: Metric, value: float) -> str:
    text = f"{value:+.{metric.digits}f}"
    if not text.strip("+-0."):
        return text[1:]  # nothing has no sign
    return text.replace("-", "\N{MINUS SIGN}")


def _estimate(metric: Metric, estimate: Estimate) -> str:
    small = interval(metric, estimate) if estimate.mean is not None else ""
    return page.cell(figure(metric, estimate.mean), estimate.mean, small)


def _difference(metric: Metric, name: str, difference: Difference) -> list[str]:
    known = difference.difference
    small = ""
    if known.low is not None and known.high is not None:
        small = f"{_signed(metric, known.low)} to {_signed(metric, known.high)}"
    one_sided = difference.only_first + difference.only_second
    p = difference.p
    return [
        page.words(name),
        page.cell(NONE if known.mean is None else _signed(metric, known.mean), known.mean, small),
        page.cell(NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}", p),
        page.cell(str(known.cases), known.cases, f"{one_sided} in one only" if one_sided else ""),
        *(page.cell(str(n), n) for n in (difference.better, difference.worse, difference.equal)),
    ]


def _score(metric: Metric, value: float | None, bar: bool = False) -> str:
    return page.cell(figure(metric, value), value, bar=bar)


def _worst_labels(case: CaseScore, most: int = MOST_NAMED) -> list[tuple[str, LabelScore]]:
    known = [(name, score) for name, score in case.labels.items() if score.dice is not None]
    lowest = sorted(known, key=lambda entry: entry[1].dice or 0.0)[:most]
    return [entry for entry in known if entry in lowest]


def _remark(outcome: str) -> str:
    return f" ({outcome})" if outcome in (MISSED, FALSE_ALARM) else ""


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _head(metric: Metric) -> str:
    return f"{metric.title} ({metric.unit})" if metric.unit else metric.title


def _tolerance(evaluation: Evaluation) -> str:
    known = sorted(set(evaluation.tolerances.values()))
    if len(known) == 1:
        return f"{known[0]:g} mm"
    return f"{known[0]:g} to {known[-1]:g} mm"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
