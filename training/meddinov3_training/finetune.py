"""Fine-tuning: a dataset in, a validated model bundle out."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from meddinov3 import __version__
from meddinov3.bundle import backbone_shape, update_description, write_bundle
from meddinov3.description import ModelDescription, Purpose
from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import choose_device, choose_precision
from meddinov3.network.segmenter import Segmenter
from meddinov3.plain_json import from_plain
from meddinov3.progress import Progress
from torch import Tensor, nn

from meddinov3_training.base import SCRATCH, Base, base_offsets, read_base
from meddinov3_training.cache import CachedCase, build_cache, cache_bytes
from meddinov3_training.checkpoint import remove_checkpoints
from meddinov3_training.dataset import Case, Dataset, content_hash, read_case_label, read_dataset
from meddinov3_training.distributed import Group, join
from meddinov3_training.fingerprint import Fingerprint, read_fingerprint
from meddinov3_training.learner import Learner
from meddinov3_training.loop import Batches, Loop, Outcome, Schedule
from meddinov3_training.objective import Objective
from meddinov3_training.optimiser import CLIP, build_optimiser
from meddinov3_training.plan import Plan, make_plan
from meddinov3_training.run import CONFIG, Event, Run
from meddinov3_training.samples import Samples, loader
from meddinov3_training.settings import Settings
from meddinov3_training.split import Split, fold_split, random_split
from meddinov3_training.tokens import TokenPool, TokenSegmenter, encode, too_large_for_cpu
from meddinov3_training.validation import quick_look, validate

Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Task:
    """Everything that is known before the first step.

    Attributes:
        dataset: names and labels.
        training, held_out: its cases.
        settings: choices.
        base: what is started from.
        plan: what follows from the data.
        description: of the model to be.
        device, precision: where and how to compute.
    """

    dataset: Dataset
    training: tuple[Case, ...]
    held_out: tuple[Case, ...]
    settings: Settings
    base: Base
    plan: Plan
    description: ModelDescription
    device: torch.device
    precision: str

    @property
    def backbone_rate(self) -> float:
        """Peak learning rate of the backbone."""
        rate = self.settings.backbone_rate
        return self.base.backbone_rate if rate is None else rate


def finetune(
    dataset_folder: Path,
    output: Path,
    settings: Settings,
    listener: Listener | None = None,
    *,
    resume: bool = False,
) -> Path:
    """Train a model on a dataset.

    Args:
        dataset_folder: nnU-Net's raw layout or a Decathlon folder; never changed.
        output: the run's folder, new or empty.
        settings: choices; when continuing, those of the run count.
        listener: told every event of ``events.jsonl``.
        resume: continue the run in `output` from its last checkpoint.

    Returns:
        The model bundle's folder, inside `output`.

    Raises:
        MedDINOv3Error: a defect of the dataset, the base or the settings.
    """
    Run.check(output, resume)
    if resume:
        settings = read_settings(output)
    settings.check()
    group, device = join(choose_device(settings.device))
    try:
        return _finetune(dataset_folder, output, settings, listener, resume, group, device)
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
) -> Path:
    precision = choose_precision(settings.precision, device)
    dataset = read_dataset(dataset_folder)
    training, held_out = _split(dataset, settings)
    if settings.slice_offsets is None:
        settings = dataclasses.replace(settings, slice_offsets=base_offsets(settings.base))
    offsets = settings.slice_offsets or (0.0,)
    base = read_base(settings.base, len(dataset.channels) * len(offsets))
    # Folds share one plan, as in nnU-Net, so that their networks can be averaged.
    seen = training if settings.fold is None else dataset.cases
    fingerprint = _fingerprint(dataset, seen, held_out, output if resume else None)
    plan = make_plan(
        dataset, fingerprint, spacing=settings.spacing, largest_patch=settings.largest_patch,
        slice_offsets=offsets, mirror=settings.mirror, trained_on=settings.trained_on,
        preset=settings.preset,
    )  # fmt: skip
    name = settings.name or slug(dataset.name)
    description = _describe(name, dataset, plan, base, len(training), settings)
    task = Task(dataset, training, held_out, settings, base, plan, description, device, precision)
    network, notes = _build_network(task)
    run = Run(output, listener, silent=not group.first)
    run.open(resume)
    try:
        run.save(CONFIG, settings)
        run.save("fingerprint.json", fingerprint)
        run.save("plan.json", plan)
        bundle = _train_and_score(task, network, notes, run, resume, group)
    except MedDINOv3Error as error:
        run.tell("error", code=error.code, message=error.message, remedy=error.remedy)
        raise
    finally:
        run.close()
    return bundle


def _train_and_score(
    task: Task, network: Segmenter, notes: list[str], run: Run, resume: bool, group: Group
) -> Path:
    settings, output = task.settings, run.folder
    bundle = output / task.description.id
    training_cases, held_out_cases = _cached(task, run, group)
    notes += sorted({note for case in training_cases for note in case.notes})
    run.tell(
        "start", device=str(task.device), precision=task.precision,
        training=len(task.training), held_out=len(task.held_out),
        labels=[label.name for label in task.dataset.labels], processes=group.world,
        notes=[*task.plan.warnings, *task.plan.reasons, *notes],
    )  # fmt: skip
    frozen = _is_frozen(task, network)
    samples = Samples(training_cases, task.description, settings.augmentation, settings.seed)
    patch = task.description.sampling.patch
    assert patch is not None
    module: nn.Module = network
    batches = _batches(samples, settings, group)
    if frozen:
        module, batches = _from_tokens(task, network, samples, patch, run, group)
    network.train()
    network.backbone.requires_grad_(not frozen)
    network.backbone.train(not frozen)
    if settings.checkpointing:
        network.backbone.vit.set_grad_checkpointing(True)
    optimiser = build_optimiser(
        module, settings.decoder_rate, task.backbone_rate, settings.layer_decay
    )
    learner = Learner(
        module, Objective(task.description, task.dataset.members), optimiser, task.device,
        task.precision, clip=CLIP, seed=settings.seed, compiled=settings.compiled, group=group,
    )  # fmt: skip
    look = None
    if held_out_cases:
        look = quick_look(network, task.description, task.dataset, held_out_cases, task.device,
                          task.precision)  # fmt: skip
    loop = Loop(
        learner, batches, Schedule(settings.steps, settings.seconds, task.base.warmup), run,
        group=group, batch=settings.batch, checkpoint_seconds=settings.checkpoint_seconds,
        look=look,
    )  # fmt: skip
    if resume:
        loop.resume()
    outcome = loop.train()
    if group.first:
        learner.average.put(learner.average.weights)
        _keep(task, network, outcome, frozen, bundle, run, group)
    group.wait()
    return bundle


def _keep(
    task: Task, network: Segmenter, outcome: Outcome, frozen: bool, bundle: Path, run: Run,
    group: Group,
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
        "cases": len(task.training), "dataset_sha256": content_hash(task.training),
        "seed": settings.seed, "decoder_rate": settings.decoder_rate,
        "base": Path(settings.base).name,
        "backbone_rate": 0.0 if frozen else task.backbone_rate, "frozen": frozen,
        "stopped_early": outcome.stopped,
    }  # fmt: skip
    if settings.fold is not None:
        record["fold"] = settings.fold
    description = dataclasses.replace(task.description, training=record)
    if bundle.exists():  # of a run that was cut off between here and its end
        shutil.rmtree(bundle)
    description = write_bundle(bundle, description, network)
    scores = validate(
        network, description, task.dataset, task.held_out, task.device, task.precision, run
    )
    update_description(bundle, dataclasses.replace(description, scores=scores))
    event = "stopped" if outcome.stopped else "done"
    run.tell(event, model=description.id, steps=outcome.step, scores=scores)
    remove_checkpoints(run.folder)
    for left in ("cache", "tokens"):
        shutil.rmtree(run.folder / left, ignore_errors=True)


def _fingerprint(
    dataset: Dataset,
    cases: tuple[Case, ...],
    held_out: tuple[Case, ...],
    run: Path | None,
) -> Fingerprint:
    """Of `cases`; that of a run which is continued, if it is still right."""
    if run is not None and (run / "fingerprint.json").is_file():
        found = Fingerprint.from_json((run / "fingerprint.json").read_text(encoding="utf-8"))
        if [case.id for case in found.cases] != [case.id for case in cases]:
            raise MedDINOv3Error(
                "dataset-changed",
                "The dataset has other cases than when this run began.",
                "Start a new run, perhaps with the last one's model as --base.",
            )
        return found
    fingerprint = read_fingerprint(dataset, cases)
    for case in held_out:  # a defect should show now, not after hours of training
        read_case_label(case, case.read(), dataset)
    return fingerprint


def _build_network(task: Task) -> tuple[Segmenter, list[str]]:
    """The network with the base's weights, and what should be known about them."""
    torch.manual_seed(task.settings.seed)
    network = Segmenter(
        backbone_shape(task.description),
        task.description.network.outputs,
        task.settings.drop_path,
        task.base.layer_scale,
    )
    notes = task.base.load_into(network, [label.name for label in task.dataset.labels])
    if not task.held_out:
        notes.append("no case is held out: the model will carry no scores")
    return network.to(task.device), notes


def _cached(task: Task, run: Run, group: Group) -> tuple[list[CachedCase], list[CachedCase]]:
    """Training and held-out cases as slices on disk; the first process makes them."""
    cases, folder = [*task.training, *task.held_out], run.folder / "cache"

    def build() -> list[CachedCase]:
        return build_cache(
            cases, task.dataset, task.description, folder, workers=2, report=_passed_on(run)
        )

    if group.first:
        size = cache_bytes(cases, task.dataset, task.description)
        run.tell("preparing", what="caching slices", mib=round(size / 2**20))
        made = build()
    group.wait()
    if not group.first:
        made = build()
    return made[: len(task.training)], made[len(task.training) :]


def _passed_on(run: Run) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        run.tell("preparing", what=progress.phase, done=progress.done, total=progress.total,
                 left=progress.seconds_left and round(progress.seconds_left))  # fmt: skip

    return report


def _batches(source: Samples | TokenPool, settings: Settings, group: Group) -> Batches:
    """This process's share of each batch, from a step on."""
    share = settings.batch // group.world
    if share * group.world != settings.batch:
        raise MedDINOv3Error(
            "bad-settings",
            f"A batch of {settings.batch} cannot be shared among {group.world} processes.",
            f"Choose a --batch that {group.world} divides.",
        )
    workers = settings.workers or 0

    def from_step(step: int) -> Iterator[tuple[Tensor, Tensor]]:
        count = None if settings.steps is None else settings.steps - step
        first = step * settings.batch + group.rank * share
        return loader(source, share, first, count, workers, stride=settings.batch)

    return from_step


def _is_frozen(task: Task, network: Segmenter) -> bool:
    """Whether the backbone stays as it is: as asked, or where training it is hopeless."""
    patch = task.description.sampling.patch
    if task.settings.frozen is not None or patch is None:
        return bool(task.settings.frozen)
    return (
        task.device.type == "cpu"
        and not task.settings.base.startswith(SCRATCH)
        and too_large_for_cpu(network.backbone, patch)
    )


def _from_tokens(
    task: Task,
    network: Segmenter,
    samples: Samples,
    patch: tuple[int, int],
    run: Run,
    group: Group,
) -> tuple[nn.Module, Batches]:
    """The decoder alone, and batches of tokens that the frozen backbone computes once."""
    folder, settings = run.folder / "tokens", task.settings
    if group.first:
        network.eval()
        wanted = 10**9 if settings.steps is None else settings.steps * settings.batch
        count = encode(
            samples, network.backbone, patch, folder, task.device, task.precision,
            seconds=settings.seconds, wanted=wanted, report=_passed_on(run),
        )  # fmt: skip
        run.tell("warning", text=f"the backbone stays frozen: the decoder learns from the tokens "
                 f"of {count} augmented samples")  # fmt: skip
    group.wait()
    module = TokenSegmenter(network, patch)
    return module, _batches(TokenPool(folder, settings.seed), settings, group)


def _split(dataset: Dataset, settings: Settings) -> Split:
    if settings.fold is not None:
        return fold_split(dataset.cases, settings.fold)
    return random_split(dataset.cases, settings.validation, settings.seed)


def _describe(
    name: str, dataset: Dataset, plan: Plan, base: Base, count: int, settings: Settings
) -> ModelDescription:
    outputs = len(dataset.labels) + (0 if dataset.regions else 1)
    modality = "CT" if all(c.strip().upper() == "CT" for c in dataset.channels) else ""
    if not modality and all("MR" in c.upper() for c in dataset.channels):
        modality = "MR"
    return ModelDescription(
        id=name,
        name=settings.title or dataset.name,
        network=dataclasses.replace(base.network, outputs=outputs),
        channels=plan.channels,
        labels=dataset.labels,
        sampling=plan.sampling,
        purpose=Purpose(modality, settings.body_part, plan.trained_on, plan.extent),
        regions=dataset.regions,
        ignore_label=dataset.ignore,
        summary=settings.summary or f"Fine-tuned on {count} cases of {dataset.name}.",
        licence=settings.licence or _joined(dataset.licence, base.licence),
        attribution=_joined(dataset.reference, base.attribution),
    )


def _joined(*texts: str) -> str:
    """Different texts in one line: a model inherits from its data and from its base."""
    return "; ".join(dict.fromkeys(filter(None, texts)))


def slug(name: str) -> str:
    """A model id made of a data set's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"
