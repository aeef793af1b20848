"""What a run decides where nothing was asked for, and what may still be changed on the way.

Decided once, at the beginning, and kept in the run's ``config.json``: a run that is continued,
perhaps by another version or on another machine, does not decide again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import choose_device, choose_precision
from meddinov3.network.prompt_segmenter import PromptSegmenter
from meddinov3.network.segmenter import Segmenter

from meddinov3_training.base import SCRATCH
from meddinov3_training.settings import Settings
from meddinov3_training.task import Task, drop_path
from meddinov3_training.tokens import too_large_for_cpu

GPU_BUDGET, CPU_BUDGET = 3600.0, 1800.0  # seconds, where no budget is given
# What a run that is continued takes over: whoever lowers a rate after a divergence, or goes on on
# another machine, trains the same model on the same data.
CHANGEABLE = (
    "decoder_rate", "backbone_rate", "device", "precision", "workers", "checkpoint_seconds",
)  # fmt: skip


def with_budget(settings: Settings) -> Settings:
    """Give a run without steps and without time the time that suits its device.

    Raises:
        MedDINOv3Error: the device is not here.
    """
    if settings.steps is not None or settings.seconds is not None:
        return settings
    on_cpu = choose_device(settings.device).type == "cpu"
    return dataclasses.replace(settings, seconds=CPU_BUDGET if on_cpu else GPU_BUDGET)


def budget_note(asked: Settings, settings: Settings) -> list[str]:
    """Says so if the budget is the default one."""
    if asked.steps is not None or asked.seconds is not None or settings.seconds is None:
        return []
    kind = "a CPU" if settings.seconds == CPU_BUDGET else "a GPU"
    return [f"no budget was given: {settings.seconds / 60:g} minutes, the default on {kind} "
            "(--budget decides otherwise)"]  # fmt: skip


def decide(task: Task, network: Segmenter | PromptSegmenter) -> Task:
    """Write into a task's settings what follows from data, base and device, and changes results.

    Args:
        task: as prepared.
        network: with the base's weights.
    """
    settings = task.settings
    asked = settings.device
    decided = dataclasses.replace(
        settings,
        name=task.description.id,
        device=task.device.type if asked == "auto" else asked,
        precision=task.precision,
        frozen=_is_frozen(task, network),
        backbone_rate=task.backbone_rate,
        drop_path=drop_path(task),
    )
    return dataclasses.replace(task, settings=decided)


def changed(settings: Settings, changes: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Settings of a run that is continued, with what was asked for anew.

    A precision that was decided for another kind of device is decided again.

    Args:
        settings: the run's.
        changes: by name; None where nothing was asked for.

    Returns:
        The settings, and what is different, in words.

    Raises:
        MedDINOv3Error: something else than :data:`CHANGEABLE` is to be changed.
    """
    wanted = {name: value for name, value in changes.items() if value is not None}
    fixed = [name for name in wanted if name not in CHANGEABLE]
    if fixed:
        raise refused(fixed)
    if settings.frozen and "backbone_rate" in wanted:
        raise MedDINOv3Error(
            "bad-settings", "The backbone of this run is frozen; it has no rate.",
            "Leave --backbone-rate out.",
        )  # fmt: skip
    new = dataclasses.replace(settings, **wanted)
    if "precision" not in wanted and settings.precision != "auto" and "device" in wanted:
        device = choose_device(new.device)
        if device.type != torch.device(_kind(settings.device)).type:
            new = dataclasses.replace(new, precision=choose_precision("auto", device))
    notes = [
        f"{name.replace('_', ' ')} {getattr(new, name)} instead of {getattr(settings, name)}"
        for name in CHANGEABLE
        if getattr(new, name) != getattr(settings, name)
    ]
    return new, notes


def refused(names: Sequence[str], allowed: Sequence[str] = CHANGEABLE) -> MedDINOv3Error:
    """The error for options that a run which is continued cannot take over.

    Args:
        names: of settings, or options as they are typed.
        allowed: settings that it takes over.
    """
    listed = ", ".join(name if name.startswith("-") else _option(name) for name in names)
    others = f" With --resume go {', '.join(map(_option, allowed))}." if allowed else ""
    return MedDINOv3Error(
        "cannot-change",
        f"A run is continued as it was begun; {listed} cannot be changed.",
        f"Leave out what is named, or start a new run.{others}",
    )


def _option(name: str) -> str:
    return "--checkpoint-every" if name == "checkpoint_seconds" else f"--{name.replace('_', '-')}"


def _kind(device: str) -> str:
    return choose_device("auto").type if device == "auto" else device.partition(":")[0]


def _is_frozen(task: Task, network: Segmenter | PromptSegmenter) -> bool:
    """Whether the backbone stays as it is: as asked, or where training it is hopeless."""
    patch = task.description.sampling.patch
    if task.settings.frozen is not None or patch is None:
        return bool(task.settings.frozen)
    return (
        task.device.type == "cpu"
        and not task.settings.base.startswith(SCRATCH)
        and too_large_for_cpu(network.backbone, patch)
    )
