"""Cross-validation: every case is scored by a network that has not seen it, then all are kept.

The folds are nnU-Net's (one for each case where there are few). Their networks share one plan and
become one ensemble, whose scores are those of the folds: an ensemble cannot be scored honestly on
cases that some of its members were trained on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meddinov3.bundle import read_bundle, update_description, write_bundle
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import DESCRIPTION_FILE
from meddinov3.network.segmenter import Ensemble, first_member

from meddinov3_training.dataset import read_dataset
from meddinov3_training.finetune import finetune
from meddinov3_training.run import CONFIG, EVENTS, Event, Run
from meddinov3_training.settings import Settings
from meddinov3_training.split import fold_count
from meddinov3_training.task import slug
from meddinov3_training.validation import Scores, summary

KIND = "cross-validation.json"


def cross_validate(
    dataset_folder: Path,
    output: Path,
    settings: Settings,
    listener: Callable[[Event], None] | None = None,
    *,
    resume: bool = False,
) -> Path:
    """Train every fold, and make one ensemble of them.

    Args:
        dataset_folder: see :func:`finetune`.
        output: new or empty; gets a folder for each fold.
        settings: choices; a time budget is for all folds together.
        listener: told the events of the folds, and ``fold`` before each.
        resume: go on with what is missing.

    Returns:
        The ensemble's folder.

    Raises:
        MedDINOv3Error: see :func:`finetune`; or somebody stopped a fold.
    """
    settings.check()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise MedDINOv3Error(
            "bad-settings",
            "A cross-validation is not started by torchrun.",
            "Start each fold by torchrun with --fold, or the cross-validation without it.",
        )
    dataset = read_dataset(dataset_folder)
    count = fold_count(len(dataset.cases))
    if count < 2:
        raise MedDINOv3Error(
            "split", "One case cannot be cross-validated.", "Annotate a second case."
        )
    name = settings.name or slug(dataset.name)
    run = Run(output, listener)
    run.open(resume)
    try:
        ids = sorted(case.id for case in dataset.cases)
        known = _known_ids(output)
        if known is not None and known != ids:
            raise MedDINOv3Error(
                "dataset-changed",
                "The dataset has other cases than when this cross-validation began.",
                "Start a new one.",
            )
        run.write_json(KIND, {"cases": ids})
        run.save(CONFIG, settings)
        bundles = []
        for fold in range(count):
            run.tell("fold", fold=fold, of=count)
            bundles.append(_fold(dataset_folder, output, settings, name, fold, count, listener))
        return _join(bundles, output, name, [label.name for label in dataset.labels], run)
    except MedDINOv3Error as error:
        run.tell("error", code=error.code, message=error.message, remedy=error.remedy)
        raise
    finally:
        run.close()


def is_cross_validation(folder: Path) -> bool:
    """Whether a run's folder is that of a cross-validation."""
    return (folder / KIND).is_file()


def _known_ids(folder: Path) -> list[str] | None:
    try:
        found: list[str] = json.loads((folder / KIND).read_text(encoding="utf-8"))["cases"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def _fold(
    dataset_folder: Path,
    output: Path,
    settings: Settings,
    name: str,
    fold: int,
    count: int,
    listener: Callable[[Event], None] | None,
) -> Path:
    """Train a fold, go on with it, or find it done; returns its bundle."""
    folder = output / f"fold_{fold}"
    bundle = folder / name
    if (bundle / DESCRIPTION_FILE).is_file() and _finished(folder):
        return bundle
    seconds = None if settings.seconds is None else settings.seconds / count
    own = dataclasses.replace(settings, name=name, fold=fold, validation=None, seconds=seconds)
    begun = (folder / CONFIG).is_file()
    if not begun:
        shutil.rmtree(folder, ignore_errors=True)  # killed before anything was learnt
    made = finetune(dataset_folder, folder, own, listener, resume=begun)
    if not _finished(folder):
        raise MedDINOv3Error(
            "stopped",
            f"Fold {fold} was stopped; its model is in '{folder.name}'.",
            "There is no ensemble of fewer folds: start again to have one.",
        )
    return made


def _finished(folder: Path) -> bool:
    return any(event["event"] == "done" for event in _events(folder))


def _events(folder: Path) -> list[Event]:
    found = []
    for line in (folder / EVENTS).read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # cut off by a crash
            continue
    return found


def _join(bundles: list[Path], output: Path, name: str, labels: list[str], run: Run) -> Path:
    """One bundle of all folds' networks, with the folds' scores."""
    read = [read_bundle(bundle) for bundle in bundles]
    network = Ensemble(first_member(member) for _, member in read)
    scores: dict[str, Scores] = {}
    for bundle in bundles:
        events = _events(bundle.parent)
        scores |= {e["case"]: e["dice"] for e in events if e["event"] == "validated"}
    first = read[0][0]
    if any(
        (d.sampling, d.channels, d.labels) != (first.sampling, first.channels, first.labels)
        for d, _ in read
    ):
        raise MedDINOv3Error(
            "dataset-changed",
            "The folds were trained by different plans: the dataset changed in between.",
            "Start a new cross-validation.",
        )
    record: dict[str, Any] = {**first.training, "folds": len(bundles), "cases": len(scores)}
    record.pop("fold", None)
    record["minutes"] = round(sum(d.training["minutes"] for d, _ in read), 1)
    record["steps"] = sum(d.training["steps"] for d, _ in read)
    result = summary(scores, labels)
    result["kind"] = "cross-validation: each case scored by the fold that has not seen it"
    description = dataclasses.replace(
        first,
        network=dataclasses.replace(first.network, members=len(bundles)),
        training=record,
    )
    folder = output / name
    shutil.rmtree(folder, ignore_errors=True)
    description = write_bundle(folder, description, network)
    update_description(folder, dataclasses.replace(description, scores=result))
    for number, (case, dice) in enumerate(scores.items(), start=1):
        run.tell("validated", case=case, dice=dice, number=number, of=len(scores))
    run.tell("done", model=name, steps=record["steps"], scores=result)
    return folder
