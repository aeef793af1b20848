"""An exponential moving average of weights: the model that is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from meddinov3_training.interrupts import interrupts_held

DECAY = 0.999


class MovingAverage:
    """Average of a module's trainable parameters.

    The decay grows from little to :data:`DECAY`, so that short runs forget their start too.

    Args:
        module: what is trained.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.weights = {
            name: parameter.detach().clone()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights in after step number `step` (from 1)."""
        decay = min(DECAY, (1 + step) / (10 + step))
        for name, parameter in self._module.named_parameters():
            if name in self.weights:
                self.weights[name].lerp_(parameter.detach(), 1 - decay)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take over an average that was stored."""
        for name, value in self.weights.items():
            value.copy_(weights[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the module have the average for a while."""
        parameters = dict(self._module.named_parameters())
        kept = {name: parameters[name].detach().clone() for name in self.weights}
        try:
            with interrupts_held():
                self.put(self.weights)
            yield
        finally:
            with interrupts_held():  # half of each would be a third model
                self.put(kept)

    @torch.no_grad()
    def put(self, weights: dict[str, Tensor]) -> None:
        """Copy weights into the module."""
        parameters = dict(self._module.named_parameters())
        for name, value in weights.items():
            parameters[name].copy_(value)
