"""Plots of scores as SVG; colours can be told apart by everybody (Okabe and Ito)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from meddinov3_training.evaluation.evaluate import Evaluation, Metric
from meddinov3_training.evaluation.statistics import Difference

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, INK, LINE = "#0072b2", "#d55e00", "#1c2530", "#c9d1da"
MOST_LABELS = 12  # volume panels
COLUMNS = 3
WIDTH = 9.4  # inches


def distribution_plot(metric: Metric, *evaluations: Evaluation) -> bytes:
    """Every case as a point, by label: box of the quartiles, mean and its interval.

    Args:
        metric: what is shown.
        evaluations: one or two models, scored for the same labels.
    """
    names = evaluations[0].label_names
    rows = len(names) * len(evaluations)
    figure = _figure(0.9 + 0.4 * rows + 0.15 * len(names))
    axis = figure.subplots()
    ticks = []
    for number, name in enumerate(names):
        place = number * (len(evaluations) + 0.4)
        ticks.append((place + (len(evaluations) - 1) / 2, name))
        for offset, evaluation in enumerate(evaluations):
            values = evaluation.table(metric)[:, number]
            estimate = evaluation.means(metric)[0][number]
            interval = (estimate.mean, estimate.low, estimate.high)
            _strip(axis, values, place + offset, (BLUE, ORANGE)[offset], interval)
    axis.set_yticks([place for place, _ in ticks], [_short(name) for _, name in ticks])
    axis.set_ylim(ticks[-1][0] + len(evaluations) / 2 + 0.2, -0.7)
    axis.set_xlabel(f"{metric.title} ({metric.unit})" if metric.unit else metric.title)
    if metric.lower_is_better:
        axis.set_xlim(left=min(0.0, -0.01 * axis.get_xlim()[1]))
    else:
        low = min((float(np.nanmin(e.table(metric))) for e in evaluations if _any(e, metric)),
                  default=0.0)  # fmt: skip
        axis.set_xlim(max(-0.01, np.floor(low * 10 - 0.5) / 10), 1.01)
    if len(evaluations) > 1:
        _legend(axis, [(e.name, (BLUE, ORANGE)[n]) for n, e in enumerate(evaluations)])
    return _svg(figure)


def volume_plot(evaluation: Evaluation) -> bytes:
    """Bland-Altman plot of each label: error of the volume against the volume, in ml."""
    labels = evaluation.label_names[:MOST_LABELS]
    columns = min(COLUMNS, len(labels))
    lines = -(-len(labels) // columns)
    figure = _figure(0.3 + 2.6 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, label in zip(axes, labels, strict=False):
        scores = [case.labels[label] for case in evaluation.cases]
        pairs = np.array([(s.reference_ml, s.predicted_ml) for s in scores
                          if s.reference_ml or s.predicted_ml])  # fmt: skip
        axis.set_title(_short(label), fontsize=10, loc="left", color=INK)
        axis.axhline(0, color=LINE, lw=1, zorder=0)
        if len(pairs):
            error, middle = pairs[:, 1] - pairs[:, 0], pairs.mean(axis=1)
            axis.scatter(middle, error, s=16, color=BLUE, alpha=0.65, lw=0)
            axis.axhline(error.mean(), color=BLUE, lw=1.6)
            if len(error) > 2:
                for limit in error.mean() + np.array([-1.96, 1.96]) * error.std(ddof=1):
                    axis.axhline(limit, color=BLUE, lw=1, ls=(0, (4, 3)))
            axis.margins(x=0.08, y=0.18)
    for axis in axes[len(labels) :]:
        axis.set_axis_off()
    for number, axis in enumerate(axes[: len(labels)]):
        if number + columns >= len(labels):
            axis.set_xlabel("mean of both volumes (ml)")
        if number % columns == 0:
            axis.set_ylabel("predicted \N{MINUS SIGN} reference (ml)")
    return _svg(figure)


def difference_plot(metric: Metric, names: Sequence[str], differences: list[Difference]) -> bytes:
    """Mean difference of two models with its interval, by label; the last row sums up."""
    figure = _figure(0.9 + 0.34 * len(names))
    axis = figure.subplots()
    axis.axvline(0, color=INK, lw=1)
    for row, difference in enumerate(differences):
        known = difference.difference
        if known.mean is None:
            continue
        colour = ORANGE if row == len(differences) - 1 else BLUE
        if known.low is not None and known.high is not None:
            axis.plot([known.low, known.high], [row, row], color=colour, lw=2.4)
        axis.plot(known.mean, row, "o", color=colour, ms=7)
    axis.set_yticks(range(len(names)), [_short(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.margins(x=0.12)
    better = "left" if metric.lower_is_better else "right"
    unit = f", {metric.unit}" if metric.unit else ""
    axis.set_xlabel(f"difference of {metric.title}{unit} (better is to the {better})")
    return _svg(figure)


def style(axis: Any) -> None:
    """A quiet look: no box, a light grid, small grey figures."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(LINE)
    axis.tick_params(colors="#4a5562", labelsize=9, length=3)
    axis.grid(axis="both", color="#eef1f5", lw=0.8)
    axis.set_axisbelow(True)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_size(9.5)
        label.set_color(INK)


def _strip(
    axis: Any,
    values: NDArray[np.float64],
    place: float,
    colour: str,
    interval: tuple[float | None, float | None, float | None],
) -> None:
    values = values[np.isfinite(values)]
    if not len(values):
        axis.text(0.01, place, "no score", transform=axis.get_yaxis_transform(), va="center",
                  fontsize=9, color="#5b6775")  # fmt: skip
        return
    spread = np.random.default_rng(0).uniform(-0.2, 0.2, len(values))
    axis.scatter(values, place + spread, s=13, color=colour, alpha=0.45, lw=0,
                 rasterized=len(values) > 500)  # fmt: skip
    if len(values) > 3:
        low, middle, high = np.percentile(values, (25, 50, 75))
        axis.barh(place, high - low, 0.56, low, color="none", edgecolor=colour, lw=1.1)
        axis.plot([middle, middle], [place - 0.28, place + 0.28], color=colour, lw=1.6)
    mean, lower, upper = interval
    if lower is not None and upper is not None:
        axis.plot([lower, upper], [place, place], color=INK, lw=2.2, solid_capstyle="butt")
    axis.plot(mean, place, "D", color="white", mec=INK, mew=1.4, ms=6)


def _legend(axis: Any, entries: list[tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, marker="o", lw=0, label=_short(n, 40)) for n, c in entries]
    axis.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(entries),
                frameon=False, fontsize=9)  # fmt: skip


def _any(evaluation: Evaluation, metric: Metric) -> bool:
    return bool(np.isfinite(evaluation.table(metric)).any())


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else name[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _svg(figure: Figure) -> bytes:
    for axis in figure.axes:
        if axis.axison:
            style(axis)
    target = io.BytesIO()
    figure.savefig(target, format="svg", metadata={"Date": None}, dpi=150)
    return target.getvalue()
