"""Fine-tuning: a dataset in, a validated model bundle out."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from meddinov3 import __version__
from meddinov3.bundle import backbone_shape, update_description, write_bundle
from meddinov3.description import ModelDescription, Purpose
from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import autocast, choose_device, choose_precision
from meddinov3.inference.predictor import predict
from meddinov3.model_store import NAME
from meddinov3.network.segmenter import Segmenter
from torch import Tensor

from meddinov3_training.augmentation import ORIENTED, Augmentation
from meddinov3_training.base import Base, base_offsets, read_base
from meddinov3_training.cache import build_cache, cache_bytes
from meddinov3_training.dataset import (
    Case,
    Dataset,
    content_hash,
    read_case_label,
    read_dataset,
)
from meddinov3_training.fingerprint import read_fingerprint
from meddinov3_training.intensity_changes import load_changes
from meddinov3_training.losses import exclusive_loss, region_loss
from meddinov3_training.metrics import dice_per_label
from meddinov3_training.optimiser import CLIP, build_optimiser, rate_factor
from meddinov3_training.plan import Plan, make_plan
from meddinov3_training.run import Event, Run
from meddinov3_training.samples import Sample, Samples, loader

REPORT_EVERY = 20  # steps, or
REPORT_SECONDS = 15.0
RESERVED = ("config.json", "fingerprint.json", "plan.json", "events.jsonl", "cache")


@dataclass(frozen=True)
class Settings:
    """Choices of a run; whatever is None follows from the data or the device.

    Attributes:
        base: see :func:`read_base`.
        steps: optimiser steps; or
        seconds: wall time in which the schedule ends. One of the two is given.
        batch: slices a step.
        name: id of the model.
        validation: cases held out and scored at the end; None for a fifth.
        spacing: (rows, columns) in mm.
        preset: see :mod:`meddinov3_training.presets`.
        largest_patch: pixels along an edge; None for the preset's.
        slice_offsets: mm, see :class:`Sampling`; None takes the base's.
        mirror: left-right in training; None if no label is named after a side.
        trained_on: ``boxes`` or ``scans``.
        decoder_rate, backbone_rate: peak learning rates.
        drop_path: stochastic depth.
        compiled: let torch.compile fuse the network first; needs a C++ compiler on a CPU.
        device, precision: where and how.
        seed: of everything random.
        title, summary, licence, body_part: for the model's description.
        augmentation: ranges.
        workers: processes that prepare batches; 0 for none.
    """

    base: str
    steps: int | None = None
    seconds: float | None = None
    batch: int = 16
    name: str | None = None
    validation: int | None = None
    spacing: tuple[float, float] | None = None
    preset: str = "auto"
    largest_patch: int | None = None
    slice_offsets: tuple[float, ...] | None = None
    mirror: bool | None = None
    trained_on: str | None = None
    decoder_rate: float = 3e-4
    backbone_rate: float | None = None
    drop_path: float = 0.1
    compiled: bool = False
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    title: str = ""
    summary: str = ""
    licence: str = ""
    body_part: str = ""
    augmentation: Augmentation = ORIENTED
    workers: int = 0


def finetune(
    dataset_folder: Path,
    output: Path,
    settings: Settings,
    listener: Callable[[Event], None] | None = None,
) -> Path:
    """Train a model on a dataset.

    Args:
        dataset_folder: nnU-Net's raw layout or a Decathlon folder; never changed.
        output: the run's folder, new or empty.
        settings: choices.
        listener: told every event of ``events.jsonl``.

    Returns:
        The model bundle's folder, inside `output`.

    Raises:
        MedDINOv3Error: a defect of the dataset, the base or the settings.
    """
    _check(settings)
    load_changes(settings.augmentation)  # a missing library should show now
    Run.check(output)
    device = choose_device(settings.device)
    precision = choose_precision(settings.precision, device)
    dataset = read_dataset(dataset_folder)
    name = settings.name or _slug(dataset.name)
    training, held_out = _split(dataset, settings)
    if settings.slice_offsets is None:
        settings = dataclasses.replace(settings, slice_offsets=base_offsets(settings.base))
    offsets = settings.slice_offsets or (0.0,)
    base = read_base(settings.base, len(dataset.channels) * len(offsets))
    run = Run(output, listener)

    fingerprint = read_fingerprint(dataset, training)
    for case in held_out:  # a defect should show now, not after hours of training
        read_case_label(case, case.read(), dataset)
    plan = make_plan(
        dataset, fingerprint, spacing=settings.spacing, largest_patch=settings.largest_patch,
        slice_offsets=offsets, mirror=settings.mirror, trained_on=settings.trained_on,
        preset=settings.preset,
    )  # fmt: skip
    description = _describe(name, dataset, plan, base, len(training), settings)
    torch.manual_seed(settings.seed)
    network = Segmenter(
        backbone_shape(description),
        description.network.outputs,
        settings.drop_path,
        base.layer_scale,
    )
    notes = [
        *plan.warnings,
        *plan.reasons,
        *base.load_into(network, [label.name for label in dataset.labels]),
    ]
    if not held_out:
        notes.append("no case is held out: the model will carry no scores")
    network.to(device)

    run.open()
    run.save("config.json", settings)
    run.save("fingerprint.json", fingerprint)
    run.save("plan.json", plan)
    size = cache_bytes(training, dataset)
    notes.append(f"training slices are cached in the run's folder: {size / 2**20:.0f} MiB")
    cases = build_cache(training, dataset, description, output / "cache")
    notes += sorted({note for case in cases for note in case.notes})
    run.tell("start", device=str(device), precision=precision, training=len(training),
             held_out=len(held_out), notes=notes)  # fmt: skip
    samples = Samples(cases, description, settings.augmentation, settings.seed)
    batches = loader(samples, settings.batch, 0, settings.steps, settings.workers)
    steps = _train(network, batches, dataset, description, base, settings, run, device, precision)

    network.eval().requires_grad_(False)
    description = dataclasses.replace(
        description,
        training={
            "version": __version__, "torch": torch.__version__, "device": device.type,
            "precision": precision, "steps": steps, "batch": settings.batch,
            "minutes": round(run.elapsed / 60, 1), "cases": len(training),
            "dataset_sha256": content_hash(training), "seed": settings.seed,
            "decoder_rate": settings.decoder_rate, "base": Path(settings.base).name,
            "backbone_rate": _backbone_rate(settings, base),
        },
    )  # fmt: skip
    bundle = output / name
    description = write_bundle(bundle, description, network)  # before anything else can fail
    scores = _validate(network, description, dataset, held_out, device, precision, run)
    update_description(bundle, dataclasses.replace(description, scores=scores))
    run.tell("done", model=name, steps=steps, scores=scores)
    return bundle


def _check(settings: Settings) -> None:
    """Refuse settings that cannot be meant, before anything is read or written."""
    numbers = (*(settings.spacing or ()), settings.decoder_rate, settings.seconds or 1.0)
    if (settings.steps is None) == (settings.seconds is None):
        raise MedDINOv3Error("no-budget", "Give either steps or a time budget.")
    problems = [
        (settings.seconds is not None and settings.seconds <= 0, "the budget is zero"),
        (not all(math.isfinite(n) and n > 0 for n in numbers),
         "spacing, budget and learning rates must be positive"),
        (not 0 <= (settings.backbone_rate or 0) < math.inf, "the backbone's rate is no rate"),
        (not all(map(math.isfinite, settings.slice_offsets or ())), "context must be numbers"),
        (settings.slice_offsets == (), "the context is empty"),
        (settings.name is not None and NAME.fullmatch(settings.name) is None,
         "a name consists of lower-case letters, digits, dots, dashes and underscores"),
        (settings.name in RESERVED, f"'{settings.name}' is the name of a file in the run's folder"),
    ]  # fmt: skip
    found = [text for wrong, text in problems if wrong]
    if found:
        raise MedDINOv3Error("bad-settings", f"This cannot be trained: {'; '.join(found)}.")


def _backbone_rate(settings: Settings, base: Base) -> float:
    return base.backbone_rate if settings.backbone_rate is None else settings.backbone_rate


def _train(
    network: Segmenter,
    batches: Iterator[Sample],
    dataset: Dataset,
    description: ModelDescription,
    base: Base,
    settings: Settings,
    run: Run,
    device: torch.device,
    precision: str,
) -> int:
    """Optimise until the budget ends; returns the number of steps."""
    rates = settings.decoder_rate, _backbone_rate(settings, base)
    optimiser = build_optimiser(network, *rates)
    peaks = [group["lr"] for group in optimiser.param_groups]
    scaler = torch.GradScaler(device.type, enabled=precision == "fp16")
    network.train()
    forward = torch.compile(network) if settings.compiled else network
    step, losses, begin = 0, [], run.elapsed
    told = begin
    while True:
        passed = run.elapsed - begin
        done = step / settings.steps if settings.steps else passed / (settings.seconds or 1)
        if done >= 1:
            return step
        for group, peak in zip(optimiser.param_groups, peaks, strict=True):
            group["lr"] = peak * rate_factor(done, base.warmup)
        images, labels = next(batches)
        with autocast(device, precision):
            logits = forward(images.to(device)).float()
        loss = _loss(logits, labels.to(device), dataset, description)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(scaler.scale(loss))
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        scaler.step(optimiser)
        scaler.update()
        step += 1
        losses.append(float(loss.detach()))
        if not np.isfinite(losses[-1]):
            raise MedDINOv3Error(
                "diverged", f"The loss is not finite at step {step}.", "Lower the learning rates."
            )
        if step % REPORT_EVERY == 0 or run.elapsed - told > REPORT_SECONDS:
            told = run.elapsed
            left = passed / max(done, 1e-9) * (1 - done)
            run.tell("step", step=step, loss=round(float(np.mean(losses)), 5), done=round(done, 4),
                     left=round(left), rate=optimiser.param_groups[0]["lr"])  # fmt: skip
            losses.clear()


def _loss(
    logits: Tensor, values: Tensor, dataset: Dataset, description: ModelDescription
) -> Tensor:
    """Loss of logits (B, K, H, W) against label-map values (B, H, W)."""
    valid = (
        values != dataset.ignore if dataset.ignore is not None else torch.ones_like(values).bool()
    )
    if dataset.regions:
        members = [torch.tensor(m, device=values.device) for m in dataset.members]
        target = torch.stack([torch.isin(values, m) for m in members], dim=1)
        return region_loss(logits, target, valid)
    target = torch.zeros_like(values)
    for position, label in enumerate(description.labels):
        target[values == label.value] = position + 1
    return exclusive_loss(logits, torch.where(valid, target, -1))


def _validate(
    network: Segmenter,
    description: ModelDescription,
    dataset: Dataset,
    cases: tuple[Case, ...],
    device: torch.device,
    precision: str,
    run: Run,
) -> dict[str, Any]:
    """Dice of held-out cases through the engine's own inference."""
    scores: dict[str, dict[str, float | None]] = {}
    for number, case in enumerate(cases):
        volume = case.read()
        prediction = predict(volume, description, network, device, precision=precision)
        reference = read_case_label(case, volume, dataset)
        scores[case.id] = dice_per_label(prediction.label_map, reference, dataset)
        run.tell("validated", case=case.id, dice=scores[case.id], number=number + 1, of=len(cases))
    if not scores:
        return {}
    means = {}
    for label in dataset.labels:
        values = [s[label.name] for s in scores.values() if s[label.name] is not None]
        means[label.name] = round(float(np.mean(values)), 4) if values else None  # type: ignore[arg-type]
    known = [value for value in means.values() if value is not None]
    mean = round(float(np.mean(known)), 4) if known else None
    return {"held_out_cases": len(cases), "dice": means, "mean_dice": mean}


def _describe(
    name: str,
    dataset: Dataset,
    plan: Plan,
    base: Base,
    count: int,
    settings: Settings,
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


def _split(dataset: Dataset, settings: Settings) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Training and held-out cases, drawn by the seed."""
    count = len(dataset.cases)
    held_out = count // 5 if settings.validation is None else settings.validation
    if not 0 <= held_out < count:
        raise MedDINOv3Error(
            "split", f"{held_out} of {count} cases cannot be held out.", "Hold out fewer."
        )
    order = np.random.default_rng(settings.seed).permutation(count)
    chosen = set(order[:held_out].tolist())
    training = tuple(case for n, case in enumerate(dataset.cases) if n not in chosen)
    return training, tuple(dataset.cases[n] for n in sorted(chosen))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"
