"""What can be chosen for a training run."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import NAME
from meddinov3.model_store import RESERVED as DEVICES

from meddinov3_training.augmentation import ORIENTED, Augmentation

EPOCH = 250  # steps, as nnU-Net counts
RESERVED = (
    "cache", "checkpoints", "config.json", "control.json", "cross-validation.json", "curve.png",
    "events.jsonl", "fingerprint.json", "in-use", "owner.json", "plan.json", "report.html",
    "scores.json", "split.json", "tensorboard", "tokens",
)  # fmt: skip
FOLD = re.compile(r"fold_\d+")  # a cross-validation's


def is_reserved(name: str) -> bool:
    """Whether a model in a run's folder cannot be called so: a file of the run, or Windows'."""
    device = DEVICES.fullmatch(name.partition(".")[0]) is not None
    return name in RESERVED or FOLD.fullmatch(name) is not None or device or name.endswith(".")


@dataclass(frozen=True)
class Settings:
    """Choices of a run; whatever is None or ``auto`` follows from the data or the device.

    The ``config.json`` of a run holds what was decided instead, as far as results depend on it.

    Attributes:
        base: see :func:`meddinov3_training.base.read_base`.
        steps: optimiser steps; or
        seconds: wall time in which the schedule ends. Without either the device decides.
        batch: slices a step, over all processes.
        name: id of the model.
        validation: cases held out and scored at the end; None for a fifth.
        fold: of nnU-Net's five-fold split, instead of `validation`.
        preset: of the plan, see :mod:`meddinov3_training.presets`.
        spacing: (rows, columns) in mm.
        largest_patch: pixels along an edge; None takes the preset's.
        slice_offsets: mm, see :class:`Sampling`; None takes the base's.
        mirror: left-right in training; None if no label is named after a side.
        trained_on: ``boxes`` or ``scans``.
        decoder_rate, backbone_rate: peak learning rates.
        layer_decay: of the backbone's rate, for each block further from the decoder.
        drop_path: stochastic depth; None is the paper's 0.2, or 0.1 for a narrow backbone.
        frozen: keep the backbone and train the decoder on tokens cached once; None does so for a
            large backbone on a CPU.
        checkpointing: recompute activations instead of keeping them.
        compiled: let torch.compile fuse the network first; needs a C++ compiler on a CPU.
        device, precision: where and how.
        workers: processes that prepare samples; None chooses.
        checkpoint_seconds: between checkpoints.
        seed: of everything random.
        title, summary, licence, body_part: for the model's description.
        augmentation: ranges.
        prompts: train a click model: one that segments what points and boxes mean.
    """

    base: str
    steps: int | None = None
    seconds: float | None = None
    batch: int = 16
    name: str | None = None
    validation: int | None = None
    fold: int | None = None
    preset: str = "auto"
    spacing: tuple[float, float] | None = None
    largest_patch: int | None = None
    slice_offsets: tuple[float, ...] | None = None
    mirror: bool | None = None
    trained_on: str | None = None
    decoder_rate: float = 3e-4
    backbone_rate: float | None = None
    layer_decay: float = 1.0
    drop_path: float | None = None
    frozen: bool | None = None
    checkpointing: bool = False
    compiled: bool = False
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    checkpoint_seconds: float = 120.0
    seed: int = 0
    title: str = ""
    summary: str = ""
    licence: str = ""
    body_part: str = ""
    augmentation: Augmentation = ORIENTED
    prompts: bool = False

    def check(self) -> None:
        """Refuse what cannot be meant, before anything is read or written.

        Raises:
            MedDINOv3Error: all of it, in one sentence.
        """
        numbers = (*(self.spacing or ()), self.decoder_rate, self.seconds or 1.0)
        if self.steps is not None and self.seconds is not None:
            raise MedDINOv3Error(
                "two-budgets",
                "Give either steps or a time budget, not both.",
                "For example --budget 30m.",
            )
        problems = [
            (self.seconds is not None and self.seconds <= 0, "the budget is zero"),
            (not all(math.isfinite(n) and n > 0 for n in numbers),
             "spacing, budget and learning rates must be positive"),
            (not 0 <= (self.backbone_rate or 0) < math.inf, "the backbone's rate is no rate"),
            (not 0 < self.layer_decay <= 1, "the layer decay is not between 0 and 1"),
            (self.batch < 1, "the batch is empty"),
            (self.seed < 0, "the seed is negative"),
            (not all(map(math.isfinite, self.slice_offsets or ())), "context must be numbers"),
            (self.slice_offsets == (), "the context is empty"),
            (self.fold is not None and self.validation is not None,
             "give a fold or a number of held-out cases, not both"),
            (self.name is not None and NAME.fullmatch(self.name) is None,
             "a name consists of lower-case letters, digits, dots, dashes and underscores"),
            (self.name is not None and is_reserved(self.name),
             f"'{self.name}' is the name of a file in the run's folder, or of a device"),
        ]  # fmt: skip
        found = [text for wrong, text in problems if wrong]
        if found:
            raise MedDINOv3Error(
                "bad-settings",
                f"This cannot be trained: {'; '.join(found)}.",
                "Correct the options named.",
            )
