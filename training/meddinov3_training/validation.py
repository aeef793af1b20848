"""How good the model is: a quick look at some held-out slices, and whole cases at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.description import ModelDescription
from meddinov3.inference import plane
from meddinov3.inference.decision import decide
from meddinov3.inference.device import autocast
from meddinov3.inference.predictor import predict
from meddinov3.network.segmenter import SegmentationNetwork, Segmenter
from meddinov3.progress import Progress, Steps, StopQuestion

from meddinov3_training.cache import CachedCase
from meddinov3_training.dataset import Case, Dataset, read_case_label
from meddinov3_training.evaluation.evaluate import (
    DEFAULT_TOLERANCE,
    Evaluation,
    resolve_tolerances,
)
from meddinov3_training.evaluation.results import SCORES, write_scores
from meddinov3_training.evaluation.scores import score_case
from meddinov3_training.metrics import dice_per_label
from meddinov3_training.run import Run

SLICES_LOOKED_AT = 24
SCORING = "scoring held-out cases"
SCORING_TOLD = 5.0  # seconds between events within a case

Scores = dict[str, float | None]


def quick_look(
    network: Segmenter,
    description: ModelDescription,
    dataset: Dataset,
    cases: Sequence[CachedCase],
    device: torch.device,
    precision: str,
) -> Callable[[], Scores]:
    """A function that gives the Dice over some slices of held-out cases, summed over them.

    Slices that show a structure, evenly spread; always the same.
    """
    shown = [
        (case, int(number))
        for case in cases
        for number in np.unique(np.concatenate([*case.slices_with.values(), np.array([], int)]))
    ]
    step = max(1, len(shown) // SLICES_LOOKED_AT)
    chosen = shown[step // 2 :: step][:SLICES_LOOKED_AT]

    def look() -> Scores:
        training = network.training
        network.eval()
        predicted, reference = [], []
        try:
            for case, number in chosen:
                size = plane.network_size(case.size, case.spacing, description.sampling.spacing)
                image = plane.to_network(case.image(number)[None].to(device), size)
                with torch.inference_mode(), autocast(device, precision):
                    logits = plane.to_scan(network(image), case.size)
                found = decide(logits, description.labels, description.regions, description.labels)
                predicted.append(found[0].cpu().numpy().ravel())
                reference.append(case.labels(number).numpy().ravel())
        finally:
            network.train(training)
        if not chosen:
            return {}
        joined = np.concatenate(predicted), np.concatenate(reference)
        scores = dice_per_label(*joined, dataset)
        return {name: None if v is None else round(v, 4) for name, v in scores.items()}

    return look


def validate(
    network: SegmentationNetwork,
    description: ModelDescription,
    dataset: Dataset,
    cases: Sequence[Case],
    device: torch.device,
    precision: str,
    run: Run,
    stop: StopQuestion | None = None,
) -> dict[str, Any]:
    """Score held-out cases through the engine's own inference.

    Dice goes into the events, all scores into ``scores.json``.

    Returns:
        What the model's description says of them.

    Raises:
        Cancelled: `stop` said so; there is no ``scores.json``.
    """
    structures = DatasetLabels(dataset.labels, dataset.members, dataset.regions, dataset.ignore)
    tolerances = resolve_tolerances(structures, DEFAULT_TOLERANCE, {})
    scores: dict[str, Scores] = {}
    found = []
    steps = Steps(SCORING, len(cases), None, stop)
    begin = time.monotonic()
    for number, case in enumerate(cases):
        report = _slices_told(run, case.id, number, len(cases), begin)
        report(Progress(SCORING, 0, 1))
        steps.check()
        volume = case.read()
        prediction = predict(
            volume, description, network, device, precision=precision, report=report, stop=stop
        )
        reference = read_case_label(case, volume, dataset)
        i, j, k = volume.grid.spacing
        score = score_case(
            case.id, prediction.label_map, reference, (k, j, i), structures, tolerances
        )
        found.append(score)
        scores[case.id] = {name: label.dice for name, label in score.labels.items()}
        left = (time.monotonic() - begin) / (number + 1) * (len(cases) - number - 1)
        run.tell("validated", case=case.id, dice=scores[case.id], number=number + 1,
                 of=len(cases), left=round(left))  # fmt: skip
    if found:
        evaluation = Evaluation(description.id, structures, tolerances, tuple(found))
        write_scores(run.folder / SCORES, evaluation)
    return summary(scores, [label.name for label in dataset.labels])


def _slices_told(
    run: Run, case: str, number: int, count: int, begin: float
) -> Callable[[Progress], None]:
    """Tell how far scoring is within a case, at its begin and every few seconds."""
    told: list[float] = []

    def report(progress: Progress) -> None:
        now = time.monotonic()
        if told and now - told[-1] < SCORING_TOLD:
            return
        told.append(now)
        done = (number + progress.done / max(1, progress.total)) / count
        left = round((now - begin) / done * (1 - done)) if done else None
        run.tell("scoring", what=SCORING, case=case, number=number + 1, of=count,
                 done=round(done, 4), left=left)  # fmt: skip

    return report


def summary(scores: dict[str, Scores], names: Sequence[str]) -> dict[str, Any]:
    """Means over cases, then over labels; {} if there are no cases."""
    if not scores:
        return {}
    means: Scores = {}
    for name in names:
        values = [value for s in scores.values() if (value := s[name]) is not None]
        means[name] = round(float(np.mean(values)), 4) if values else None
    known = [value for value in means.values() if value is not None]
    mean = round(float(np.mean(known)), 4) if known else None
    return {"held_out_cases": len(scores), "dice": means, "mean_dice": mean}
