"""What a run teaches, and all that follows from it: to find structures, or to answer clicks.

The plan, the cache, the loop, checkpoints and events are the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from meddinov3.bundle import read_bundle
from meddinov3.network.prompt_segmenter import PromptSegmenter
from meddinov3.network.segmenter import Segmenter
from meddinov3.progress import StopQuestion
from torch import Tensor, nn
from torch.utils.data import Dataset

from meddinov3_training.base_scores import score_base
from meddinov3_training.cache import CachedCase
from meddinov3_training.objective import Objective, Teaching
from meddinov3_training.run import Run
from meddinov3_training.samples import Samples
from meddinov3_training.task import Task
from meddinov3_training.tokens import Packing, TokenSegmenter, slice_packing
from meddinov3_training.validation import Scores, quick_look, validate

Network = Segmenter | PromptSegmenter


class Aim(Protocol):
    """What a run teaches.

    Attributes:
        objective: the loss.
    """

    objective: Teaching

    def samples(self, cases: Sequence[CachedCase]) -> Dataset[tuple[Tensor, Tensor]]:
        """Where training samples come from."""
        ...

    def module(self, frozen: bool) -> nn.Module:
        """What the learner trains: the network, or the part behind a frozen backbone."""
        ...

    def shapes(self, frozen: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the input and the label values of one sample of :meth:`module`."""
        ...

    def packing(self) -> Packing:
        """How samples are kept for the part behind a frozen backbone."""
        ...

    def look(self, cases: Sequence[CachedCase]) -> Callable[[], Scores]:
        """A quick look at held-out cases."""
        ...

    def validate(self, bundle: Path, run: Run, stop: StopQuestion) -> dict[str, Any]:
        """Scores of a finished model on whole held-out cases, for its description."""
        ...

    def base_scores(self, run: Run, stop: StopQuestion) -> dict[str, Any]:
        """Scores of the base on the same cases."""
        ...


def aim_of(task: Task, network: Network) -> Aim:
    """The aim of a task."""
    if isinstance(network, PromptSegmenter):
        from meddinov3_training.prompts.aim import ClickAim

        return ClickAim(task, network)
    return StructureAim(task, network)


class StructureAim:
    """To find the dataset's structures in slices.

    Args:
        task: decided.
        network: to be trained.
    """

    def __init__(self, task: Task, network: Segmenter) -> None:
        self._task, self._network = task, network
        patch = task.description.sampling.patch
        assert patch is not None
        self._patch = patch
        self.objective: Teaching = Objective(task.description, task.dataset.members)

    def samples(self, cases: Sequence[CachedCase]) -> Samples:
        """See :class:`Aim`."""
        settings = self._task.settings
        return Samples(cases, self._task.description, settings.augmentation, settings.seed)

    def module(self, frozen: bool) -> nn.Module:
        """See :class:`Aim`."""
        return TokenSegmenter(self._network, self._patch) if frozen else self._network

    def shapes(self, frozen: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """See :class:`Aim`."""
        if frozen:
            return self.packing().shape, self._patch
        return (self._task.description.network_channels, *self._patch), self._patch

    def packing(self) -> Packing:
        """See :class:`Aim`."""
        return slice_packing(self._network.backbone, self._patch)

    def look(self, cases: Sequence[CachedCase]) -> Callable[[], Scores]:
        """See :class:`Aim`."""
        task = self._task
        return quick_look(
            self._network, task.description, task.dataset, cases, task.device, task.precision
        )

    def validate(self, bundle: Path, run: Run, stop: StopQuestion) -> dict[str, Any]:
        """See :class:`Aim`."""
        task = self._task
        description, network = read_bundle(bundle, task.device)
        return validate(
            network,
            description,
            task.dataset,
            task.held_out,
            task.device,
            task.precision,
            run,
            stop,
        )

    def base_scores(self, run: Run, stop: StopQuestion) -> dict[str, Any]:
        """See :class:`Aim`."""
        task = self._task
        return score_base(
            task.settings.base, task.dataset, task.held_out, task.device, task.precision, run, stop
        )
