"""Everything about a run that is known before its first step."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from meddinov3.bundle import backbone_shape
from meddinov3.description import ModelDescription, Purpose
from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import choose_precision
from meddinov3.labels import Label, default_colour
from meddinov3.network.prompt_segmenter import PromptSegmenter
from meddinov3.network.segmenter import Segmenter
from meddinov3.progress import ProgressCallback, Steps, StopQuestion

from meddinov3_training.base import Base, base_offsets, read_base
from meddinov3_training.check import check_dataset, require_sound
from meddinov3_training.checkpoint import FOLDER as CHECKPOINTS
from meddinov3_training.dataset import Case, Dataset, read_case_label, read_dataset
from meddinov3_training.fingerprint import Fingerprint, read_fingerprint
from meddinov3_training.plan import Plan, make_plan
from meddinov3_training.run_cases import FILE, RunCases
from meddinov3_training.settings import Settings, is_reserved
from meddinov3_training.split import Split, fold_split, random_split

WIDE = 384  # ViT-S


@dataclass(frozen=True)
class Task:
    """Everything that is known before the first step.

    Attributes:
        dataset: names and labels.
        training, held_out: its cases.
        settings: choices.
        base: what is started from.
        fingerprint: what the cases are like.
        plan: what follows from that.
        description: of the model to be.
        device, precision: where and how to compute.
        cases: the cases' content at the beginning of the run.
        warnings: what is odd about the dataset, in words.
        left_aside: what was added to the dataset since the run began, in words.
    """

    dataset: Dataset
    training: tuple[Case, ...]
    held_out: tuple[Case, ...]
    settings: Settings
    base: Base
    fingerprint: Fingerprint
    plan: Plan
    description: ModelDescription
    device: torch.device
    precision: str
    cases: RunCases
    warnings: tuple[str, ...] = ()
    left_aside: tuple[str, ...] = ()

    @property
    def backbone_rate(self) -> float:
        """Peak learning rate of the backbone."""
        rate = self.settings.backbone_rate
        return self.base.backbone_rate if rate is None else rate


def prepare(
    dataset_folder: Path,
    settings: Settings,
    device: torch.device,
    run: Path | None,
    report: ProgressCallback | None = None,
    stop: StopQuestion | None = None,
) -> Task:
    """Read the dataset and the base, and decide what follows from them.

    Args:
        dataset_folder: see :func:`meddinov3_training.finetune.finetune`.
        settings: choices.
        device: where to compute.
        run: folder of a run that is continued, or None.
        report, stop: progress and the question whether to stop, asked between cases.

    Raises:
        MedDINOv3Error: a defect of the dataset, the base or the settings.
        Cancelled: `stop` said so.
    """
    if run is not None and (run / FILE).is_file():
        return _taken_up(dataset_folder, settings, device, run, report, stop)
    if run is not None and (run / CHECKPOINTS).is_dir():
        raise MedDINOv3Error(
            "bad-run", f"'{run.name}' lacks {FILE}: what it was trained on is not known.",
            "Start a new run.",
        )  # fmt: skip
    precision = choose_precision(settings.precision, device)
    dataset = read_dataset(dataset_folder, complete=False)
    defects = check_dataset(dataset, report, stop)
    require_sound(defects)
    training, held_out = _split(dataset, settings)
    if settings.slice_offsets is None:
        settings = replace(settings, slice_offsets=base_offsets(settings.base))
    offsets = settings.slice_offsets or (0.0,)
    base = read_base(settings.base, len(dataset.channels) * len(offsets))
    cases = RunCases.of(dataset, training, held_out, base.network.backbone_hash, report, stop)
    # Folds share one plan, as in nnU-Net, so that their networks can be averaged.
    seen = training if settings.fold is None else dataset.cases
    fingerprint = _fingerprint(dataset, seen, held_out, report, stop)
    names = [label.name for label in dataset.labels]
    plan = make_plan(
        dataset, fingerprint, spacing=settings.spacing, largest_patch=settings.largest_patch,
        slice_offsets=offsets, mirror=settings.mirror, trained_on=settings.trained_on,
        preset=settings.preset, base_spacing=base.spacing_for(names), clicks=settings.prompts,
    )  # fmt: skip
    name = settings.name or slug(dataset.name)
    description = _describe(name, dataset, plan, base, len(training), settings)
    return Task(
        dataset, training, held_out, settings, base, fingerprint, plan, description, device,
        precision, cases, (*(str(defect) for defect in defects), *plan.warnings),
    )  # fmt: skip


def _taken_up(
    dataset_folder: Path, settings: Settings, device: torch.device, run: Path,
    report: ProgressCallback | None, stop: StopQuestion | None,
) -> Task:  # fmt: skip
    """The task of a run that is continued: nothing is decided again."""
    try:
        cases = RunCases.from_json((run / FILE).read_text(encoding="utf-8"))
        fingerprint = Fingerprint.from_json((run / Fingerprint.file).read_text(encoding="utf-8"))
        plan = Plan.from_json((run / Plan.file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MedDINOv3Error(
            "bad-run", f"What the run decided cannot be read: {error}.", "Start a new run."
        ) from error
    found = read_dataset(dataset_folder, complete=False)
    dataset, training, held_out, notes = cases.take_up(found, report, stop)
    base = read_base(settings.base, len(plan.channels) * len(plan.sampling.slice_offsets))
    if base.network.backbone_hash != cases.backbone_hash:
        raise MedDINOv3Error(
            "base-changed",
            f"'{Path(settings.base).name}' is not the base that this run began with.",
            "Put it back as it was, or start a new run.",
        )
    name = settings.name or slug(dataset.name)
    description = _describe(name, dataset, plan, base, len(training), settings)
    return Task(
        dataset, training, held_out, settings, base, fingerprint, plan, description, device,
        choose_precision(settings.precision, device), cases, plan.warnings, tuple(notes),
    )  # fmt: skip


def build_network(task: Task) -> tuple[Segmenter | PromptSegmenter, list[str]]:
    """The network with the base's weights, and what should be known about them."""
    torch.manual_seed(task.settings.seed)
    description, rate, scale = task.description, drop_path(task), task.base.layer_scale
    shape = backbone_shape(description)
    network: Segmenter | PromptSegmenter
    if description.prompts is None:
        network = Segmenter(shape, description.network.outputs, rate, scale)
    else:
        channels = len(description.channels)
        network = PromptSegmenter(shape, channels, description.prompts, rate, scale)
    notes = task.base.load_into(network, [label.name for label in description.labels])
    if not task.held_out:
        notes.append("no case is held out: the model will carry no scores")
    return network.to(task.device), notes


def drop_path(task: Task) -> float:
    """As asked for; a narrow backbone has no capacity to spare."""
    if task.settings.drop_path is not None:
        return task.settings.drop_path
    network = task.description.network
    narrow = "tiny" in network.backbone or network.overrides.get("embed_dim", WIDE) < WIDE
    return 0.1 if narrow else 0.2


def _fingerprint(
    dataset: Dataset,
    cases: tuple[Case, ...],
    held_out: tuple[Case, ...],
    report: ProgressCallback | None,
    stop: StopQuestion | None,
) -> Fingerprint:
    """Of `cases`; the others are read too, so that their defects show."""
    fingerprint = read_fingerprint(dataset, cases, report, stop=stop)
    unread = [case for case in held_out if case not in cases]
    steps = Steps("looking at held-out cases", len(unread), report, stop)
    for case in unread:  # a defect should show now, not after hours of training
        steps.check()
        read_case_label(case, case.read(), dataset)
        steps.advance()
    return fingerprint


def _split(dataset: Dataset, settings: Settings) -> Split:
    if settings.fold is not None:
        return fold_split(dataset.cases, settings.fold)
    return random_split(dataset.cases, settings.validation, settings.seed)


def _describe(
    name: str, dataset: Dataset, plan: Plan, base: Base, count: int, settings: Settings
) -> ModelDescription:
    if plan.prompts is not None:
        made = _describe(
            name, _anything(dataset), replace(plan, prompts=None), base, count, settings
        )
        return replace(made, prompts=plan.prompts, summary=settings.summary or (
            f"Segments what points and boxes mean; trained on {count} cases of {dataset.name} with "
            f"up to {plan.prompts.clicks} simulated clicks on one structure."))  # fmt: skip
    outputs = len(dataset.labels) + (0 if dataset.regions else 1)
    return ModelDescription(
        id=name,
        name=settings.title or dataset.name,
        network=replace(base.network, outputs=outputs),
        channels=plan.channels,
        labels=dataset.labels,
        sampling=plan.sampling,
        purpose=Purpose(
            _modality(dataset.channels), settings.body_part, plan.trained_on, plan.extent
        ),
        regions=dataset.regions,
        ignore_label=dataset.ignore,
        summary=settings.summary or f"Fine-tuned on {count} cases of {dataset.name}.",
        licence=settings.licence or _joined(dataset.licence, base.licence),
        attribution=_joined(dataset.reference, base.attribution),
    )


def _anything(dataset: Dataset) -> Dataset:
    """The dataset with one structure, which stands for whatever is clicked."""
    label = Label("structure", 1, default_colour(0))
    return replace(dataset, labels=(label,), members=((1,),), regions=True)


def _modality(channels: tuple[str, ...]) -> str:
    """``CT`` or ``MR`` if every channel's name says so and no other; else ""."""
    words = [set(re.split(r"[^A-Z]+", name.upper())) for name in channels]
    if all("CT" in found for found in words) and not any("MR" in name.upper() for name in channels):
        return "CT"
    mr = all("MR" in name.upper() for name in channels)
    return "MR" if mr and not any("CT" in found for found in words) else ""


def _joined(*texts: str) -> str:
    """Different texts in one line: a model inherits from its data and from its base."""
    return "; ".join(dict.fromkeys(filter(None, texts)))


def slug(name: str) -> str:
    """A model id made of a data set's name."""
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{made}-model" if not made or is_reserved(made) else made
