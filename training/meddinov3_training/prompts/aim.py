"""What a run with ``--prompts`` teaches: to answer clicks on any structure of the dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from meddinov3.features.click_model import load_click_model
from meddinov3.network.prompt_segmenter import PromptSegmenter
from meddinov3.progress import StopQuestion
from torch import Tensor, nn

from meddinov3_training.cache import CachedCase
from meddinov3_training.objective import Teaching
from meddinov3_training.prompts.lesson import Lesson
from meddinov3_training.prompts.looking import quick_look
from meddinov3_training.prompts.practice import (
    Practice,
    PromptObjective,
    fine_picture,
    pack,
    packed_length,
)
from meddinov3_training.prompts.slabs import SlabSamples
from meddinov3_training.prompts.validation import validate
from meddinov3_training.run import Run
from meddinov3_training.task import Task
from meddinov3_training.tokens import Packing
from meddinov3_training.validation import Scores


class ClickAim:
    """To answer clicks; see :class:`meddinov3_training.aim.Aim`.

    Args:
        task: decided.
        network: to be trained.
    """

    def __init__(self, task: Task, network: PromptSegmenter) -> None:
        self._task, self._network = task, network
        self._lesson = Lesson.of(task.description, task.dataset.members)
        self.objective: Teaching = PromptObjective()

    def samples(self, cases: Sequence[CachedCase]) -> SlabSamples:
        """Slabs of slices."""
        task = self._task
        return SlabSamples(
            cases, task.description, self._lesson, task.settings.augmentation, task.settings.seed
        )

    def module(self, frozen: bool) -> nn.Module:
        """The practice; behind a frozen backbone on packed slabs."""
        return Practice(self._network, self._lesson, frozen)

    def shapes(self, frozen: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Slabs or packed slabs, and their label values."""
        lesson, patch = self._lesson, self._lesson.sampling.patch
        assert patch is not None
        values = (lesson.slices, *lesson.fine)
        if frozen:
            return self.packing().shape, values
        return (lesson.slices, self._task.description.network_channels, *patch), values

    def packing(self) -> Packing:
        """Tokens and fine intensities of a slab in one vector."""
        lesson, backbone = self._lesson, self._network.backbone
        length = packed_length(lesson, backbone.width)

        def compute(images: Tensor) -> Tensor:
            tokens = torch.cat([backbone(image[None]) for image in images])
            return pack(tokens.float(), fine_picture(images[None], lesson)[0])

        return Packing((length,), (lesson.slices, *lesson.fine), compute)

    def look(self, cases: Sequence[CachedCase]) -> Callable[[], Scores]:
        """A simulated user on some slabs."""
        task = self._task
        return quick_look(
            self._network, task.description, self._lesson, cases, task.device, task.precision
        )

    def validate(self, bundle: Path, run: Run, stop: StopQuestion) -> dict[str, Any]:
        """A simulated user on whole cases, through the engine's own session."""
        task = self._task
        model = load_click_model(str(bundle), str(task.device), task.precision)
        return validate(model, task.dataset, task.held_out, run, stop)

    def base_scores(self, run: Run, stop: StopQuestion) -> dict[str, Any]:
        """None: whatever the base is, it was not asked the same."""
        return {"why": "a click model is not compared with its base"}
