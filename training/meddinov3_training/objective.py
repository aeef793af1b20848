"""From label-map values to what the loss compares: classes, or regions that may overlap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from meddinov3.description import ModelDescription
from torch import Tensor

from meddinov3_training.losses import LossSums, exclusive_sums, region_sums

NOT_ANNOTATED = -1
Forward = Callable[..., Any]  # a module in training


class Teaching(Protocol):
    """How a module in training is asked, and what its answer costs."""

    def ask(self, forward: Forward, images: Tensor, values: Tensor) -> Any:
        """What the module says to a batch."""
        ...

    def sums(self, outputs: Any, values: Tensor) -> LossSums:
        """Sums of the loss of what it said."""
        ...


class Objective:
    """The loss of a model in training.

    Args:
        description: labels, regions and ignore label.
        members: for each label the label-map values that make it up.
    """

    def __init__(self, description: ModelDescription, members: tuple[tuple[int, ...], ...]) -> None:
        self._labels, self._regions = description.labels, description.regions
        self._ignore, self._members = description.ignore_label, members

    def ask(self, forward: Forward, images: Tensor, _values: Tensor) -> Tensor:
        """The network's logits (B, K, H, W) for a batch."""
        logits: Tensor = forward(images)
        return logits

    def sums(self, logits: Tensor, values: Tensor) -> LossSums:
        """Sums of the loss.

        Args:
            logits: (B, K, H, W); summed up in float32.
            values: (B, H, W) label-map values.
        """
        logits = logits.float()
        if self._regions:
            return region_sums(logits, self.regions(values), self.annotated(values))
        target = torch.zeros_like(values)
        for position, label in enumerate(self._labels):
            target[values == label.value] = position + 1
        annotated = self.annotated(values)
        return exclusive_sums(logits, torch.where(annotated, target, NOT_ANNOTATED))

    def annotated(self, values: Tensor) -> Tensor:
        """Where `values` hold an annotation, boolean and of the same shape."""
        if self._ignore is None:
            return torch.ones_like(values, dtype=torch.bool)
        return values != self._ignore

    def regions(self, values: Tensor) -> Tensor:
        """(B, H, W) values to (B, K, H, W) booleans, one for each label."""
        members = [torch.tensor(m, device=values.device) for m in self._members]
        return torch.stack([torch.isin(values, m) for m in members], dim=1)
