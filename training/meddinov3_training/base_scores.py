"""What the base finds in the held-out cases, so that the new model can stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from meddinov3.bundle import read_bundle
from meddinov3.cases.label_matching import renumber
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.description import ModelDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.predictor import predict
from meddinov3.model_store import find_model
from meddinov3.progress import StopQuestion

from meddinov3_training.dataset import Case, Dataset, read_case_label
from meddinov3_training.metrics import dice_per_label
from meddinov3_training.run import Run
from meddinov3_training.validation import Scores, summary


def score_base(
    base: str, dataset: Dataset, cases: Sequence[Case], device: torch.device, precision: str,
    run: Run, stop: StopQuestion | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Dice of the base on the held-out cases; one ``base_validated`` event a case.

    Structures are matched by name; those that the base does not know have no score. The base may
    have been trained on a case that is held out here: its scores are no measure of the base.

    Args:
        base: as ``--base``.
        dataset: whose labels count.
        cases: held out.
        device, precision: where and how to compute.
        run: told of each case.
        stop: asked between slices.

    Returns:
        As :func:`meddinov3_training.validation.summary`, or ``{"why": ...}`` if the base is no
        model that could be compared.

    Raises:
        Cancelled: `stop` said so.
    """
    if not cases:
        return {"why": "no case is held out"}
    try:
        description, network = read_bundle(find_model(base), device)
    except MedDINOv3Error:  # random weights, a backbone, a .pth file: they segment nothing
        return {"why": "the base is no segmentation model"}
    why = _why_not(description, dataset)
    if why:
        return {"why": why}
    network.eval().requires_grad_(False)
    values = _values(description, dataset)
    names = [label.name for label in dataset.labels]
    known = {label.name for label in dataset.labels if label.value in values.values()}
    structures = DatasetLabels(dataset.labels, dataset.members, dataset.regions, dataset.ignore)
    assert not structures.regions
    scores: dict[str, Scores] = {}
    for number, case in enumerate(cases, start=1):
        volume = case.read()
        found = predict(
            volume, description, network, device, precision=precision, stop=stop
        ).label_map
        dice = dice_per_label(
            renumber(found, values), read_case_label(case, volume, dataset), dataset
        )
        scores[case.id] = {name: dice[name] if name in known else None for name in names}
        run.tell("base_validated", case=case.id, dice=scores[case.id], number=number, of=len(cases))
    return summary(scores, names)


def _why_not(description: ModelDescription, dataset: Dataset) -> str:
    if description.regions or dataset.regions:
        return "overlapping regions are not compared"
    if len(description.channels) != len(dataset.channels):
        return "the base has other channels"
    return "" if _values(description, dataset) else "the base knows none of the structures"


def _values(description: ModelDescription, dataset: Dataset) -> dict[int, int]:
    """The dataset's value for each value of the base, by name."""
    ours = {label.name.lower(): label.value for label in dataset.labels}
    return {
        label.value: ours[label.name.lower()]
        for label in description.labels
        if label.name.lower() in ours
    }
