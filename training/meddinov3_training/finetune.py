"""Fine-tuning: a dataset in, a validated model bundle out."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from meddinov3 import __version__
from meddinov3.bundle import update_description, write_bundle
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.inference.device import choose_device
from meddinov3.model_store import DESCRIPTION_FILE
from meddinov3.plain_json import from_plain
from torch import Tensor
from torch.utils.data import Dataset

from meddinov3_training.aim import Aim, Network, aim_of
from meddinov3_training.cache import CachedCase, build_cache, cache_bytes
from meddinov3_training.checkpoint import remove_checkpoints
from meddinov3_training.curves import Curve, read_events
from meddinov3_training.decisions import budget_note, changed, decide, with_budget
from meddinov3_training.distributed import Group, join
from meddinov3_training.intensity_changes import load_changes
from meddinov3_training.learner import Learner
from meddinov3_training.loop import Batches, Loop, Outcome, Schedule
from meddinov3_training.needs import check_disk, fitting_parts
from meddinov3_training.optimiser import CLIP, build_optimiser
from meddinov3_training.run import CONFIG, EVENTS, Event, Outer, Run, check_place
from meddinov3_training.run_report import write_run_report
from meddinov3_training.samples import Sample, loader
from meddinov3_training.settings import Settings
from meddinov3_training.task import Task, build_network, prepare
from meddinov3_training.tensorboard import TensorBoard
from meddinov3_training.tokens import Packing, TokenPool, encode, seconds_spent
from meddinov3_training.watcher import end_told, progress_told, stop_question

Listener = Callable[[Event], None]


def finetune(
    dataset_folder: Path,
    output: Path,
    settings: Settings,
    listener: Listener | None = None,
    *,
    resume: bool = False,
    outer: Outer | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Train a model on a dataset.

    Args:
        dataset_folder: nnU-Net's raw layout or a Decathlon folder; never changed.
        output: the run's folder, new or empty.
        settings: choices; when continuing, those of the run count. Without steps and time the
            budget is that of the device.
        listener: told every event of ``events.jsonl``.
        resume: continue the run in `output` from its last checkpoint.
        outer: the cross-validation that this is a fold of.
        changes: with `resume`, settings to take over, see :data:`decisions.CHANGEABLE`.

    Returns:
        The model bundle's folder, inside `output`.

    Raises:
        MedDINOv3Error: a defect of the dataset, the base or the settings.
        Cancelled: the watcher stopped it before there was a model.
    """
    if not resume:
        check_place(dataset_folder, output)
    Run.check(output, resume)
    notes: list[str] = []
    if resume:
        settings, notes = changed(read_settings(output), changes or {})
        if (output / EVENTS).is_file() and _ended(output):
            raise MedDINOv3Error(
                "run-ended",
                f"The run in '{output.name}' has ended; its model lies there.",
                "To train on, start a new run with that model as --base.",
            )
    else:
        settings.check()
        asked, settings = settings, with_budget(settings)
        notes = budget_note(asked, settings)
    settings.check()
    load_changes(settings.augmentation)  # a missing library should show now
    group, device = join(choose_device(settings.device))
    try:
        return _finetune(
            dataset_folder, output, settings, listener, resume, group, device, outer, notes
        )
    finally:
        group.leave()


def read_settings(run: Path) -> Settings:
    """The settings of a run.

    Raises:
        MedDINOv3Error: its ``config.json`` is damaged.
    """
    try:
        content = json.loads((run / CONFIG).read_text(encoding="utf-8"))
        settings: Settings = from_plain(Settings, content)
    except (OSError, ValueError, TypeError) as error:
        raise MedDINOv3Error(
            "bad-run", f"The settings of the run cannot be read: {error}.", "Start a new run."
        ) from error
    return settings


def _finetune(
    dataset_folder: Path,
    output: Path,
    settings: Settings,
    listener: Listener | None,
    resume: bool,
    group: Group,
    device: torch.device,
    outer: Outer | None,
    said: list[str],
) -> Path:
    group.wait()  # all have looked at the folder before the first writes into it
    run = Run(output, listener, silent=not group.first, outer=None if outer is None else outer.run)
    run.open(resume)
    with end_told(run, group):
        if group.first:  # alone: the others need not read every case too
            report, stop = progress_told(run), stop_question(run)
            task = prepare(
                dataset_folder, settings, device, output if resume else None, report, stop
            )
            network, notes = build_network(task)
            task = decide(task, network)
            board = TensorBoard(output)
            run.listeners += [Curve(output), board]
            notes += [board.note] if board.note else []
            for file in (task.fingerprint, task.plan, task.cases):
                run.save(file.file, file)
            run.save(CONFIG, task.settings)  # last: where it lies, the others do
            if resume and said:
                run.tell("changed", text=f"continued with {', '.join(said)}")
            for note in task.left_aside:
                run.tell("warning", text=note)
            notes += [] if resume else said
        group.wait()
        if not group.first:
            task = prepare(dataset_folder, settings, device, output)
            network, notes = build_network(task)
            task = decide(task, network)
        return _train_and_score(task, network, notes, run, resume, group, outer)


def _train_and_score(
    task: Task, network: Network, notes: list[str], run: Run, resume: bool, group: Group,
    outer: Outer | None,
) -> Path:  # fmt: skip
    settings, output = task.settings, run.folder
    bundle = output / task.description.id
    share = _share(settings, group)
    _make_ready(network, settings)
    if group.first:
        check_disk(task, network, output)
    parts = group.most(fitting_parts(task, network, share))
    if parts > 1:
        notes.append(f"batches go through in {parts} parts, with the same result: memory is short")
    training_cases, held_out_cases = _cached(task, run, group)
    notes += sorted({note for case in training_cases for note in case.notes})
    run.tell(
        "start", device=str(task.device), precision=task.precision,
        training=len(task.training), held_out=len(task.held_out),
        labels=[label.name for label in task.dataset.labels], processes=group.world,
        notes=[*task.warnings, *task.plan.reasons, *notes],
    )  # fmt: skip
    frozen = bool(settings.frozen)
    aim = aim_of(task, network)
    samples = aim.samples(training_cases)
    batches = _batches(samples, settings, group, task.device)
    if frozen:
        batches = _from_tokens(task, network, samples, aim.packing(), run, group)
    module = aim.module(frozen)
    _make_ready(network, settings)
    optimiser = build_optimiser(
        module, settings.decoder_rate, task.backbone_rate, settings.layer_decay
    )
    learner = Learner(
        module, aim.objective, optimiser, task.device, task.precision, clip=CLIP,
        seed=settings.seed, compiled=settings.compiled, group=group,
    )  # fmt: skip
    learner.parts = parts
    look = aim.look(held_out_cases) if held_out_cases else None
    folds = 1 if outer is None else outer.folds
    schedule = Schedule(settings.steps, settings.seconds, task.base.warmup, folds)
    loop = Loop(
        learner, batches, schedule, run, group=group, batch=settings.batch,
        checkpoint_seconds=settings.checkpoint_seconds, look=look,
        spent=seconds_spent(output / "tokens") if frozen else 0.0,
    )  # fmt: skip
    if resume:
        loop.resume()
        learner.parts = max(learner.parts, parts)  # perhaps on a smaller device than before
    outcome = loop.train()
    if group.first:
        learner.average.put(learner.average.weights)
        _keep(task, network, aim, outcome, frozen, bundle, run, group)
    group.wait()
    return bundle


def _keep(
    task: Task, network: Network, aim: Aim, outcome: Outcome, frozen: bool, bundle: Path,
    run: Run, group: Group,
) -> None:  # fmt: skip
    """Write the averaged weights as a bundle, then score it: scoring may fail, the model stays."""
    settings = task.settings
    network.eval().requires_grad_(False)
    if settings.checkpointing:
        network.backbone.vit.set_grad_checkpointing(False)
    record: dict[str, Any] = {
        "version": __version__, "torch": torch.__version__, "device": task.device.type,
        "precision": task.precision, "steps": outcome.step, "batch": settings.batch,
        "processes": group.world, "minutes": round(outcome.seconds / 60, 1),
        "cases": len(task.training), "dataset_sha256": task.cases.content,
        "seed": settings.seed, "decoder_rate": settings.decoder_rate,
        "base": Path(settings.base).name,
        "backbone_rate": 0.0 if frozen else task.backbone_rate, "frozen": frozen,
        "stopped_early": outcome.stopped,
    }  # fmt: skip
    if settings.fold is not None:
        record["fold"] = settings.fold
    if task.description.prompts is not None:
        record["clicks"] = task.description.prompts.clicks
    description = dataclasses.replace(task.description, training=record)
    if bundle.exists():  # of a run that was cut off between here and its end
        shutil.rmtree(bundle)
    description = write_bundle(bundle, description, network)
    scores, base, said = {}, {}, {}
    try:
        # What is scored is the file: its weights are stored with fewer digits.
        scores = aim.validate(bundle, run, stop_question(run))
        update_description(bundle, dataclasses.replace(description, scores=scores))
        if settings.fold is None:  # the folds of a cross-validation would repeat it
            base = _base_scores(aim, run)
    except Cancelled:
        lost = "the base has no scores" if scores else "the model carries no scores"
        said = {"text": f"Stopped while scoring held-out cases: {lost}."}
    event = "stopped" if outcome.stopped or said else "done"
    run.tell(event, model=description.id, steps=outcome.step, scores=scores,
             base_scores=base, **said)  # fmt: skip
    _finish(run)


def _base_scores(aim: Aim, run: Run) -> dict[str, Any]:
    """Scores of the base; the model is there and scored, so nothing here fails the run."""
    try:
        return aim.base_scores(run, stop_question(run))
    except Cancelled:
        raise
    except Exception as error:
        run.tell("warning", text=f"the base could not be scored: {error}")
        return {"why": "scoring the base failed"}


def _finish(run: Run) -> None:
    """What can be done when the model is there; nothing of it may look like a failed training."""
    try:
        write_run_report(run.folder)
    except Exception as error:
        run.tell("warning", text=f"the report could not be written: {error}")
    remove_checkpoints(run.folder)
    for left in ("cache", "tokens"):
        shutil.rmtree(run.folder / left, ignore_errors=True)


def _ended(folder: Path) -> bool:
    """Whether the run in a folder came to its end, and its model lies there."""
    ends = [e for e in read_events(folder / EVENTS) if e["event"] in ("done", "stopped")]
    return bool(ends) and (folder / str(ends[-1]["model"]) / DESCRIPTION_FILE).is_file()


def _cached(task: Task, run: Run, group: Group) -> tuple[list[CachedCase], list[CachedCase]]:
    """Training and held-out cases as slices on disk; the first process makes them."""
    cases, folder = [*task.training, *task.held_out], run.folder / "cache"

    def build() -> list[CachedCase]:
        return build_cache(
            cases, task.dataset, task.description, folder, workers=2, report=progress_told(run),
            stop=stop_question(run) if group.first else None,
        )  # fmt: skip

    if group.first:
        size = cache_bytes(cases, task.dataset)
        run.tell("preparing", what="caching slices", mib=round(size / 2**20))
        made = build()
    group.wait()
    if not group.first:
        made = build()
    return made[: len(task.training)], made[len(task.training) :]


def _workers(settings: Settings, device: torch.device) -> int:
    """Processes that prepare samples: none on a processor, which has no cores to spare."""
    if settings.workers is not None:
        return settings.workers
    return 0 if device.type == "cpu" else max(1, min(8, (os.cpu_count() or 2) - 2))


def _share(settings: Settings, group: Group) -> int:
    """Samples of a batch that this process computes."""
    share = settings.batch // group.world
    if share * group.world != settings.batch:
        raise MedDINOv3Error(
            "bad-settings",
            f"A batch of {settings.batch} cannot be shared among {group.world} processes.",
            f"Choose a --batch that {group.world} divides.",
        )
    return share


def _make_ready(network: Network, settings: Settings) -> None:
    """Training mode; a frozen backbone stays as it is."""
    network.train()
    network.backbone.requires_grad_(not settings.frozen)
    network.backbone.train(not settings.frozen)
    if settings.checkpointing:
        network.backbone.vit.set_grad_checkpointing(True)


def _batches(
    source: Dataset[Sample], settings: Settings, group: Group, device: torch.device
) -> Batches:
    """This process's share of each batch, from a step on."""
    share = _share(settings, group)
    workers = _workers(settings, device)

    def from_step(step: int) -> Iterator[tuple[Tensor, Tensor]]:
        count = None if settings.steps is None else settings.steps - step
        first = step * settings.batch + group.rank * share
        return loader(source, share, first, count, workers, stride=settings.batch)

    return from_step


def _from_tokens(
    task: Task, network: Network, samples: Dataset[Sample], packing: Packing, run: Run,
    group: Group,
) -> Batches:  # fmt: skip
    """Batches of tokens that the frozen backbone computes once."""
    folder, settings = run.folder / "tokens", task.settings
    if group.first:
        network.eval()
        wanted = 10**9 if settings.steps is None else settings.steps * settings.batch
        count = encode(
            samples, packing, folder, task.device, task.precision, seconds=settings.seconds,
            wanted=wanted, report=progress_told(run), stop=stop_question(run),
        )  # fmt: skip
        run.tell("warning", text=f"the backbone stays frozen: the decoder learns from the tokens "
                 f"of {count} augmented samples")  # fmt: skip
    group.wait()
    return _batches(TokenPool(folder, settings.seed), settings, group, task.device)
