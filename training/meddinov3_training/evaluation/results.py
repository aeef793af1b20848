"""Scores on disk: ``scores.json`` for programs, ``scores.csv`` for spreadsheets."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

from meddinov3 import __version__
from meddinov3.atomic import whole_file
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Label, default_colour
from meddinov3.plain_json import from_plain, to_plain

from meddinov3_training.evaluation.evaluate import METRICS, Evaluation
from meddinov3_training.evaluation.scores import (
    FALSE_ALARM,
    MISSED,
    CaseScore,
    LabelScore,
)
from meddinov3_training.evaluation.statistics import CONFIDENCE, FEW_CASES

FORMAT = "meddinov3-evaluation"
VERSION = 1
SCORES, TABLE = "scores.json", "scores.csv"

# Shown in the report and kept with the figures, so that nobody has to guess what they mean.
DEFINITIONS = {
    "Dice": "2 |P and R| / (|P| + |R|), in voxels.",
    "NSD": "normalised surface Dice: the share of both surfaces that lies within the tolerance "
    "of the other. A surface is the voxels of a structure that touch its outside by a face, each "
    "counted once (MONAI's compute_surface_dice); distances in mm between voxel centres.",
    "HD95": "the larger of the two directed 95th percentiles of the distances between these "
    "surfaces, in mm (MONAI's compute_hausdorff_distance).",
    "Volume error": "predicted minus reference volume, in ml and in percent of the reference.",
    "Empty structures": "as in nnU-Net: in neither, no score, and the case is left out of the "
    "mean; in one only, Dice and NSD are 0, HD95 has no value, and the case counts as missed or "
    "as a false alarm.",
    "Means": "over the cases of each label, then over the labels (nnU-Net's foreground mean).",
    "Intervals": f"{CONFIDENCE:.0%} percentile bootstrap over cases. With fewer than {FEW_CASES} "
    "cases they mean little.",
    "Comparison": "on the cases that both models have a score for; p is the two-sided Wilcoxon "
    "signed-rank test, not corrected for the number of labels.",
}


def write_scores(
    path: Path, evaluation: Evaluation, against: Evaluation | None = None, command: str = ""
) -> None:
    """Write everything as JSON; floats have six digits after the point.

    Raises:
        MedDINOv3Error: the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "meddinov3": __version__,
        "command": command,
        **_model(evaluation),
        "comparison": None
        if against is None
        else {"against": _model(against), **_comparison(evaluation, against)},
        "definitions": DEFINITIONS,
    }
    with whole_file(path) as temporary:
        text = json.dumps(_rounded(content), indent=1, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8", newline="\n")


def is_scores(path: Path) -> bool:
    """Whether a file is an earlier evaluation's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_scores(path: Path) -> Evaluation:
    """Read the first model of ``scores.json``.

    Raises:
        MedDINOv3Error: it is missing, damaged or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError("another format or version")
        structures = DatasetLabels(
            tuple(
                Label(entry["name"], entry["value"], default_colour(n))
                for n, entry in enumerate(content["labels"])
            ),
            tuple(tuple(entry["members"]) for entry in content["labels"]),
            content["regions"],
            content["ignore"],
        )
        return Evaluation(
            content["model"],
            structures,
            {entry["name"]: float(entry["tolerance_mm"]) for entry in content["labels"]},
            tuple(from_plain(CaseScore, case) for case in content["cases"]),
            tuple(content["notes"]),
            content["seed"],
            content["resamples"],
            content["names_from"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MedDINOv3Error(
            "bad-scores", f"'{path.name}' holds no scores that can be read: {error}."
        ) from error


def write_table(path: Path, *evaluations: Evaluation) -> None:
    """Write a row for each model, case and label as CSV.

    Raises:
        MedDINOv3Error: the file cannot be written.
    """
    scores = [field.name for field in dataclasses.fields(LabelScore)]
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(["model", "case", "predicted", "label", "nsd_tolerance_mm", *scores])
        for evaluation in evaluations:
            for case in evaluation.cases:
                for name, score in case.labels.items():
                    values = [_rounded(getattr(score, key)) for key in scores]
                    writer.writerow(
                        [evaluation.name, case.case, "yes" if case.predicted else "no", name,
                         evaluation.tolerances[name], *values]
                    )  # fmt: skip


def _model(evaluation: Evaluation) -> dict[str, Any]:
    structures = evaluation.structures
    return {
        "model": evaluation.name,
        "labels": [
            {
                "name": label.name,
                "value": label.value,
                "members": list(members),
                "tolerance_mm": evaluation.tolerances[label.name],
            }
            for label, members in zip(structures.labels, structures.members, strict=True)
        ],
        "names_from": evaluation.names_from,
        "regions": structures.regions,
        "ignore": structures.ignore,
        "summary": _summary(evaluation),
        "notes": list(evaluation.notes),
        "caution": evaluation.caution,
        "seed": evaluation.seed,
        "resamples": evaluation.resamples,
        "cases": to_plain(evaluation.cases),
    }


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    means = {metric.key: evaluation.means(metric) for metric in METRICS}
    by_label = {
        name: {
            **{key: to_plain(labels[number]) for key, (labels, _) in means.items()},
            "missed": evaluation.outcomes(name, MISSED),
            "false_alarms": evaluation.outcomes(name, FALSE_ALARM),
        }
        for number, name in enumerate(evaluation.label_names)
    }
    return {
        "mean": {key: to_plain(overall) for key, (_, overall) in means.items()},
        "labels": by_label,
    }


def _comparison(evaluation: Evaluation, against: Evaluation) -> dict[str, Any]:
    compared = {m.key: evaluation.against(against, m) for m in METRICS if m.compared}
    return {
        "mean": {key: to_plain(overall) for key, (_, overall) in compared.items()},
        "labels": {
            name: {key: to_plain(labels[number]) for key, (labels, _) in compared.items()}
            for number, name in enumerate(evaluation.label_names)
        },
    }


def _rounded(value: Any) -> Any:
    """Floats with six digits after the point, however deep they lie."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
