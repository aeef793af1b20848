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
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.model_store import DESCRIPTION_FILE
from meddinov3.network.segmenter import Ensemble, first_member

from meddinov3_training.checkpoint import FOLDER as CHECKPOINTS
from meddinov3_training.dataset import Dataset, content_hash, read_dataset
from meddinov3_training.decisions import budget_note, with_budget
from meddinov3_training.evaluation.results import SCORES, read_scores, write_scores
from meddinov3_training.finetune import finetune
from meddinov3_training.fold_progress import FoldProgress, events_in, fold_folder
from meddinov3_training.run import CONFIG, Event, Outer, Run, check_place
from meddinov3_training.run_report import write_run_report
from meddinov3_training.settings import Settings
from meddinov3_training.split import fold_count
from meddinov3_training.task import slug
from meddinov3_training.validation import Scores, summary
from meddinov3_training.watcher import end_told, stop_question

KIND, PLAN = "cross-validation.json", "plan.json"


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
        listener: told the events of the folds, and ``fold`` and ``progress`` of the whole.
        resume: go on with what is missing.

    Returns:
        The ensemble's folder; of the folds that were finished, if somebody stopped it.

    Raises:
        MedDINOv3Error: see :func:`finetune`.
        Cancelled: somebody stopped it before a fold was finished.
    """
    check_place(dataset_folder, output)
    settings.check()
    asked, settings = settings, with_budget(settings)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise MedDINOv3Error(
            "bad-settings",
            "A cross-validation is not started by torchrun.",
            "Start each fold by torchrun with --fold, or the cross-validation without it.",
        )
    if settings.prompts:
        raise MedDINOv3Error(
            "bad-settings",
            "Click models do not join into an ensemble, so they are not cross-validated.",
            "Leave --cross-validate or --prompts out; --fold trains one of five folds.",
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
    with end_told(run):
        _check_unchanged(dataset, output)
        run.write_json(KIND, _content(dataset))
        run.save(CONFIG, settings)
        for note in budget_note(asked, settings):
            run.tell("warning", text=note)
        finished = _folds(dataset_folder, run, settings, name, count, listener)
        if not finished:
            run.tell("stopped", model=None, folds=0, of=count, text=_nothing(output, name))
            raise Cancelled("stopped before a fold was finished")
        return _join(finished, count, name, [label.name for label in dataset.labels], run)


def is_cross_validation(folder: Path) -> bool:
    """Whether a run's folder is that of a cross-validation."""
    return (folder / KIND).is_file()


def _content(dataset: Dataset) -> dict[str, Any]:
    """By which a dataset is known again."""
    cases = sorted(dataset.cases, key=lambda case: case.id)
    return {"cases": [case.id for case in cases], "sha256": content_hash(cases)}


def _check_unchanged(dataset: Dataset, output: Path) -> None:
    """Refuse to go on with other cases: folds that split different ones prove nothing together.

    Raises:
        MedDINOv3Error: the dataset is not the one that the cross-validation in `output` began with.
    """
    try:
        known = json.loads((output / KIND).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if known != _content(dataset):
        raise MedDINOv3Error(
            "dataset-changed",
            "Cases were added, removed or changed since this cross-validation began.",
            "Start a new one.",
        )


def _folds(
    dataset_folder: Path,
    run: Run,
    settings: Settings,
    name: str,
    count: int,
    listener: Callable[[Event], None] | None,
) -> list[Path]:
    """Train the folds in turn; bundles of those that are finished, fewer if somebody stops."""
    progress, stop = FoldProgress(run, listener, count), stop_question(run)
    finished: list[Path] = []
    for fold in range(count):
        if stop():
            break
        progress.begin(fold)
        folder = fold_folder(run.folder, fold)
        try:
            bundle = _fold(dataset_folder, folder, settings, name, fold, count, run, progress)
        except Cancelled:
            break
        if not _finished(folder):
            break
        progress.end()
        finished.append(bundle)
    progress.draw()
    return finished


def _fold(
    dataset_folder: Path,
    folder: Path,
    settings: Settings,
    name: str,
    fold: int,
    count: int,
    run: Run,
    progress: FoldProgress,
) -> Path:
    """Train a fold, go on with it, or find it done; returns its bundle."""
    bundle = folder / name
    if (bundle / DESCRIPTION_FILE).is_file() and _finished(folder):
        return bundle
    seconds = None if settings.seconds is None else settings.seconds / count
    own = dataclasses.replace(settings, name=name, fold=fold, validation=None, seconds=seconds)
    learning = not (bundle / DESCRIPTION_FILE).is_file() or (folder / CHECKPOINTS).is_dir()
    begun = (folder / CONFIG).is_file() and learning
    _check_unchanged(read_dataset(dataset_folder), run.folder)
    if not begun:  # nothing was learnt, or somebody stopped it half-way
        shutil.rmtree(folder, ignore_errors=True)
    return finetune(dataset_folder, folder, own, progress, resume=begun, outer=Outer(run, count))


def _finished(folder: Path) -> bool:
    return any(event["event"] == "done" for event in events_in(folder))


def _nothing(output: Path, name: str) -> str:
    kept = f"fold_0/{name}"
    there = (
        f"the model of the first fold as it was lies in '{kept}'"
        if (output / kept / DESCRIPTION_FILE).is_file()
        else "there is no model"
    )
    return f"Stopped before a fold was finished: {there}. Add --resume to go on."


def _join(finished: list[Path], count: int, name: str, labels: list[str], run: Run) -> Path:
    """One bundle of the finished folds' networks, with the folds' scores."""
    read = [read_bundle(bundle) for bundle in finished]
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
    members = [first_member(member) for _, member in read]
    scores: dict[str, Scores] = {}
    for bundle in finished:
        events = events_in(bundle.parent)
        scores |= {str(e["case"]): e["dice"] for e in events if e["event"] == "validated"}
    record: dict[str, Any] = {**first.training, "folds": len(finished), "cases": len(scores)}
    record.pop("fold", None)
    record["minutes"] = round(sum(d.training["minutes"] for d, _ in read), 1)
    record["steps"] = sum(d.training["steps"] for d, _ in read)
    record["stopped_early"] = len(finished) < count
    result = summary(scores, labels)
    result["kind"] = "cross-validation: each case scored by the fold that has not seen it"
    description = dataclasses.replace(
        first,
        network=dataclasses.replace(first.network, members=len(finished)),
        training=record,
    )
    folder = run.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    network = Ensemble(members) if len(members) > 1 else members[0]
    description = write_bundle(folder, description, network)
    update_description(folder, dataclasses.replace(description, scores=result))
    _keep_scores(finished, name, run)
    shutil.copyfile(finished[0].parent / PLAN, run.folder / PLAN)
    for number, (case, dice) in enumerate(scores.items(), start=1):
        run.tell("validated", case=case, dice=dice, number=number, of=len(scores))
    said: dict[str, str] = {}
    if len(finished) < count:
        said["text"] = (
            f"Stopped after {len(finished)} of {count} folds: the model is the ensemble of these, "
            f"scored on their {len(scores)} cases. Add --resume to train the others."
        )
    run.tell("stopped" if said else "done", model=name, steps=record["steps"], scores=result,
             folds=len(finished), of=count, **said)  # fmt: skip
    try:
        write_run_report(run.folder)
    except Exception as error:
        run.tell("warning", text=f"the report could not be written: {error}")
    return folder


def _keep_scores(finished: list[Path], name: str, run: Run) -> None:
    """``scores.json`` over the held-out cases of all folds."""
    try:
        each = [read_scores(bundle.parent / SCORES) for bundle in finished]
    except MedDINOv3Error as error:  # of a run whose scores somebody removed
        run.tell("warning", text=f"scores.json is not written: {error.message}")
        return
    cases = sorted((case for one in each for case in one.cases), key=lambda case: case.case)
    note = "Each case was scored by the network of the fold that has not seen it."
    whole = dataclasses.replace(each[0], name=name, cases=tuple(cases), notes=(note,))
    write_scores(run.folder / SCORES, whole)
