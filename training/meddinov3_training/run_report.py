"""The report of a training run: one HTML file in its folder."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Label, default_colour
from meddinov3.progress import time_in_words

from meddinov3_training.curves import EVENTS, Curves, Event, draw, draw_folds, read_events
from meddinov3_training.evaluation import page, report
from meddinov3_training.evaluation.evaluate import DEFAULT_TOLERANCE, METRICS, Evaluation
from meddinov3_training.evaluation.plots import distribution_plot
from meddinov3_training.evaluation.results import DEFINITIONS, SCORES, read_scores
from meddinov3_training.evaluation.scores import CaseScore, LabelScore
from meddinov3_training.evaluation.statistics import few_cases
from meddinov3_training.fold_progress import fold_curves

REPORT = "report.html"
HAPPENED = ("warning", "changed", "paused", "resumed", "stopped", "error")
WENT_ON = ("done", "stopped", "start", "resumed", "fold", "progress", "step", "validated")
DICE = METRICS[0]
FOLDS = (
    "Running mean of the loss, and pseudo Dice, of each fold's network. Every score below is of a "
    "case that the network which segmented it has not seen; the ensemble of all networks cannot "
    "be scored on cases that some of them have seen."
)


def write_run_report(folder: Path) -> Path:
    """Write ``report.html`` out of whatever a run's folder holds; missing parts are left out.

    Read are ``config.json``, ``plan.json``, ``events.jsonl``, and ``scores.json`` (as
    ``meddinov3 evaluate`` writes it). Without the latter the Dice of the ``validated`` events is
    shown.

    Args:
        folder: of the run.

    Returns:
        The report's path.

    Raises:
        MedDINOv3Error: the report cannot be written.
    """
    config, plan = _json(folder / "config.json"), _json(folder / "plan.json")
    events: list[Event] = []
    with contextlib.suppress(OSError):
        events = read_events(folder / EVENTS)
    last = {str(event["event"]): event for event in events}
    curves = Curves.of(events)
    evaluation = _scores(folder, events)
    done, start = last.get("done", {}), last.get("start", {})
    name = str(done.get("model") or config.get("name") or folder.resolve().name)
    state = _state(events)
    path = folder / REPORT
    page.write_page(
        path,
        str(config.get("title") or f"Training of {name}"),
        ", ".join(filter(None, (
            name, _folds(done or last.get("stopped", {})), _cases(start), _place(start), state,
        ))),
        page.tiles(_facts(evaluation, curves, events, done)),
        page.warning(_failure(events)),
        _curves(curves),
        _curves_of_folds(folder),
        *_scored(evaluation),
        _happened(start, events),
        _settings("The plan", "What followed from the data.", plan),
        _settings("Settings", "What was asked for, and what was decided in its stead.", config),
        _definitions(evaluation),
    )  # fmt: skip
    return path


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _scores(folder: Path, events: list[Event]) -> Evaluation | None:
    with contextlib.suppress(MedDINOv3Error):
        return read_scores(folder / SCORES)
    return _from_events(events)


def _from_events(events: list[Event]) -> Evaluation | None:
    """Dice of the held-out cases; a case that was scored again counts once."""
    scored = {
        str(event["case"]): event["dice"]
        for event in events
        if event["event"] == "validated" and "case" in event and isinstance(event.get("dice"), dict)
    }
    names = list(dict.fromkeys(name for dice in scored.values() for name in dice))
    if not names:
        return None
    labels = tuple(Label(name, n + 1, default_colour(n)) for n, name in enumerate(names))
    members = tuple((label.value,) for label in labels)
    cases = tuple(
        CaseScore(case, {name: _only_dice(dice.get(name)) for name in names})
        for case, dice in sorted(scored.items())
    )
    tolerances = dict.fromkeys(names, DEFAULT_TOLERANCE)
    return Evaluation("model", DatasetLabels(labels, members, False, None), tolerances, cases)


def _only_dice(dice: Any) -> LabelScore:
    dice = float(dice) if isinstance(dice, (int, float)) else None
    return LabelScore(dice, None, None, None, None, 0.0, 0.0, "", 0, 0, 0)


def _has_surfaces(evaluation: Evaluation) -> bool:
    return any(s.outcome for case in evaluation.cases for s in case.labels.values())


def _facts(
    evaluation: Evaluation | None, curves: Curves, events: list[Event], done: Event
) -> list[tuple[str, str, str]]:
    facts = []
    if evaluation is not None:
        _, overall = evaluation.means(DICE)
        remark = f"{report.interval(DICE, overall)}, {overall.cases} held-out cases"
        facts.append(("Mean Dice", report.figure(DICE, overall.mean), remark))
    base = (done.get("base_scores") or {}).get("mean_dice")
    if base is not None:
        facts.append(("The base", report.figure(DICE, base), "mean Dice on the same cases"))
    steps = done.get("steps") or max(curves.loss, default=None)
    if steps is not None:
        facts.append(("Steps", f"{steps:,}", ""))
    if curves.total_seconds:
        facts.append(("Time", time_in_words(curves.total_seconds), ""))
    steps_told = [event for event in events if event["event"] == "step"]
    speeds = [e["samples_per_second"] for e in steps_told if e.get("samples_per_second")]
    if speeds:
        middle = sorted(speeds)[len(speeds) // 2]
        waits = [e["data_wait"] for e in steps_told if e.get("data_wait") is not None]
        wait = f"{sum(waits) / len(waits):.0%} of the time waiting for data" if waits else ""
        facts.append(("Slices a second", f"{middle:.3g}", wait))
    return facts


def _curves(curves: Curves) -> str:
    if not curves.loss and not curves.dice:
        return ""
    more = (
        " Below it the Dice of held-out slices, all taken together, as training went on; the "
        "scores of whole cases are further down."
        if curves.dice
        else ""
    )
    drawn = page.picture(draw(curves, "svg"), "svg+xml", "Loss and pseudo Dice by step")
    return page.section("Training", f"Loss, and in bold its running mean.{more}", drawn)


def _curves_of_folds(folder: Path) -> str:
    folds = {fold: curves for fold, curves in fold_curves(folder).items() if curves.loss}
    if not folds:
        return ""
    drawn = page.picture(draw_folds(folds, "svg"), "svg+xml", "Loss and pseudo Dice by fold")
    return page.section("Training of the folds", FOLDS, drawn)


def _scored(evaluation: Evaluation | None) -> list[str]:
    if evaluation is None:
        return [page.warning("No case was held out: nothing is known about the model's quality.")]
    caution = page.warning(few_cases(len(evaluation.cases)))
    if _has_surfaces(evaluation):
        return [
            caution,
            report.summary(evaluation),
            report.distributions(evaluation),
            report.volumes(evaluation),
            report.all_cases(evaluation),
        ]
    labels, overall = evaluation.means(DICE)
    rows = [
        [page.words(name), page.cell(str(estimate.cases), estimate.cases),
         page.cell(report.figure(DICE, estimate.mean), estimate.mean,
                   report.interval(DICE, estimate))]
        for name, estimate in zip(
            (*evaluation.label_names, "Mean of the labels"), (*labels, overall), strict=True
        )
    ]  # fmt: skip
    plot = page.picture(distribution_plot(DICE, evaluation), "svg+xml", "Dice by label")
    names = evaluation.label_names
    cases = [
        [page.words(case.case), *(
            page.cell(report.figure(DICE, case.labels[n].dice), case.labels[n].dice, bar=True)
            for n in names)]
        for case in evaluation.cases
    ]  # fmt: skip
    return [
        caution,
        page.section(
            "Held-out cases",
            "Cases that the model never saw. A point is a case; the diamond is the mean, the dark "
            "bar its 95 % interval.",
            page.table(["Label", "Cases", "Dice"], rows, total=True),
            plot,
        ),
        page.section("All held-out cases", "Click a heading to sort.",
                     page.table(["Case", *(f"Dice {n}" for n in names)], cases, sorts=True)),
    ]  # fmt: skip


def _definitions(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return ""
    if _has_surfaces(evaluation):
        return report.definitions(evaluation)
    told = [(term, DEFINITIONS[term]) for term in ("Dice", "Means", "Intervals")]
    return page.section("What the figures mean", "", page.facts(told))


def _happened(start: Event, events: list[Event]) -> str:
    """Notes of the start, and what was not planned."""
    notes = [page.without_paths(str(note)) for note in start.get("notes") or ()]
    told = [("" if n else "At the start", note) for n, note in enumerate(notes)]
    for event in events:
        if event["event"] in HAPPENED:
            text = event.get("text") or event.get("message") or ""
            more = event.get("remedy") or ""
            seconds = event.get("seconds")
            when = f" after {time_in_words(seconds)}" if isinstance(seconds, (int, float)) else ""
            told.append((str(event["event"]).capitalize() + when,
                         page.without_paths(f"{text} {more}".strip())))  # fmt: skip
    return page.section("What happened", "", page.facts(told)) if told else ""


def _failure(events: list[Event]) -> str:
    """The error that a run ended with; one that it was taken up again after is none."""
    last = next((e for e in reversed(events) if e["event"] in ("error", *WENT_ON)), None)
    if last is None or last["event"] != "error":
        return ""
    return page.without_paths(f"The run ended with an error: {last.get('message', 'unknown')} "
                              f"{last.get('remedy', '')}".strip())  # fmt: skip


def _state(events: list[Event]) -> str:
    """How it ended, if it did not come to its end."""
    last = next((e["event"] for e in reversed(events) if e["event"] in WENT_ON), "")
    return {"done": "", "stopped": "stopped early"}.get(str(last), "not finished")


def _settings(heading: str, intro: str, content: dict[str, Any]) -> str:
    if not content:
        return ""
    told = [(key.replace("_", " "), _shown(value)) for key, value in content.items()]
    return page.section(
        heading, intro, "<details><summary>Show</summary>", page.facts(told), "</details>"
    )


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "\N{EN DASH}"
    if isinstance(value, dict):
        return "; ".join(f"{key.replace('_', ' ')}: {_shown(v)}" for key, v in value.items())
    if isinstance(value, list):
        inner = [_shown(item) for item in value]
        return " | ".join(inner) if any(isinstance(v, (dict, list)) for v in value) else (
            ", ".join(inner)
        )  # fmt: skip
    if isinstance(value, float):
        return f"{value:.6g}"
    return page.without_paths(str(value))


def _cases(start: Event) -> str:
    if "training" not in start:
        return ""
    return f"{start['training']} training cases, {start.get('held_out', 0)} held out"


def _folds(end: Event) -> str:
    return f"{end['folds']} of {end['of']} folds" if "folds" in end and "of" in end else ""


def _place(start: Event) -> str:
    return f"on {start['device']} in {start.get('precision', '?')}" if "device" in start else ""
