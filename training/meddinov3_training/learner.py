"""One optimiser step after another: the part of training that knows no files and no clock."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import autocast, free_cached_memory, is_out_of_memory
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from meddinov3_training.average import MovingAverage
from meddinov3_training.distributed import Group
from meddinov3_training.losses import LossSums
from meddinov3_training.objective import Teaching

MOST_SKIPPED = 10  # steps in a row; fp16 needs some to find its scale


class Learner:
    """A network in training, with optimiser and moving average.

    Every step seeds torch from (seed, step, process), so that a run continued from its state is
    the run that was not interrupted.

    Attributes:
        module: what is trained, as it will be used later.
        average: of its weights.
        optimiser: groups with a ``peak`` rate each.
        parts: micro-batches that a batch is split into; grows when memory runs out.
        notes: what was done about memory, in words; the caller takes them away.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Teaching,
        optimiser: torch.optim.Optimizer,
        device: torch.device,
        precision: str,
        *,
        clip: float,
        seed: int = 0,
        compiled: bool = False,
        group: Group | None = None,
    ) -> None:
        """Begin.

        Args:
            module: batches (B, ...) on `device` to logits (B, K, H, W).
            objective: the loss.
            optimiser: of the module's parameters.
            device, precision: where and how to compute.
            clip: largest norm of the gradient.
            seed: of stochastic depth.
            compiled: let torch.compile fuse the module first.
            group: other processes; each takes its share of a batch.
        """
        self.module, self.optimiser, self._objective = module, optimiser, objective
        self._device, self._precision, self._clip = device, precision, clip
        self._seed, self._group = seed, group or Group()
        self.average = MovingAverage(module)
        self._scaler = torch.GradScaler(device.type, enabled=precision == "fp16")
        self._forward: nn.Module = torch.compile(module) if compiled else module  # type: ignore[assignment]
        if self._group.world > 1:
            self._forward = DistributedDataParallel(self._forward, broadcast_buffers=False)
        self.parts, self._skipped = 1, 0
        self.notes: list[str] = []

    @property
    def skipped(self) -> int:
        """Steps in a row, up to now, that were left out."""
        return self._skipped

    def learn(self, images: Tensor, values: Tensor, step: int, rate: float) -> float:
        """Take one step.

        Args:
            images: (B, ...) this process's share of the batch.
            values: (B, H, W) label-map values.
            step: number of the step, from 1.
            rate: share of the peak rates.

        Returns:
            The loss of the whole batch; not finite if the step was left out.

        Raises:
            MedDINOv3Error: the loss stays without a number, or one sample does not fit into
                memory.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * rate
        images, values = images.to(self._device), values.to(self._device)
        while True:
            try:
                loss = self._gradient(images, values, step)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._split_more(len(images))
        self._update(loss, step)
        return loss

    def _gradient(self, images: Tensor, values: Tensor, step: int) -> float:
        """Leave the gradient of the whole batch's loss in the parameters."""
        self.optimiser.zero_grad(set_to_none=True)
        pieces = list(zip(images.chunk(self.parts), values.chunk(self.parts), strict=True))
        others = None
        if len(pieces) > 1:
            with torch.no_grad():
                own = [self._sums(self.module, *piece, step, n) for n, piece in enumerate(pieces)]
            others = self._group.sum(torch.stack([sums.pack() for sums in own]).sum(dim=0))
        for number, piece in enumerate(pieces):
            with ExitStack() as stack:
                if isinstance(self._forward, DistributedDataParallel):
                    last = number == len(pieces) - 1
                    stack.enter_context(nullcontext() if last else self._forward.no_sync())
                sums = self._sums(self._forward, *piece, step, number)
                packed = sums.pack()
                whole = self._group.sum(packed.detach()) if others is None else others
                # The value of all, the gradient of this piece; DDP averages, so times the world.
                loss = sums.unpack(whole - packed.detach() + packed).loss()
                torch.autograd.backward(self._scaler.scale(loss * self._group.world))
        return float(loss.detach())

    def _sums(
        self, forward: nn.Module, images: Tensor, values: Tensor, step: int, piece: int
    ) -> LossSums:
        torch.manual_seed(mixed(self._seed, step, self._group.rank, piece))
        with autocast(self._device, self._precision):
            outputs = self._objective.ask(forward, images, values)
        return self._objective.sums(outputs, values)

    def _update(self, loss: float, step: int) -> None:
        self._scaler.unscale_(self.optimiser)
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._clip)
        if bool(torch.isfinite(norm)):
            self._scaler.step(self.optimiser)
            self.average.update(step)
            self._skipped = 0
        else:
            self._skipped += 1
        self._scaler.update()
        if self._skipped > MOST_SKIPPED:
            raise MedDINOv3Error(
                "diverged",
                f"The loss has been without a number for {self._skipped} steps, up to {step} "
                f"({loss}).",
                "Lower the learning rates, or train in fp32; --resume goes on from the last "
                "checkpoint, which is sound.",
            )

    def _split_more(self, batch: int) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        free_cached_memory(self._device)
        if self.parts >= batch or self._group.world > 1:
            raise MedDINOv3Error(  # several processes would have to agree in the midst of a step
                "out-of-memory",
                f"Memory ran out with {-(-batch // self.parts)} sample(s) at a time.",
                "Choose a smaller --batch or --largest-patch, a smaller base, or --checkpointing.",
            )
        self.parts = min(batch, self.parts * 2)
        self.notes.append(
            f"memory ran out: batches go through in {self.parts} parts, with the same result"
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that later steps depend on, as tensors and as JSON."""
        tensors = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.weights.items()}
        names = self._names()
        for number, entries in self.optimiser.state_dict()["state"].items():
            for k, v in entries.items():
                tensors[f"optimiser.{names[number]}.{k}"] = torch.as_tensor(v)
        return tensors, {
            "parts": self.parts,
            "skipped": self._skipped,
            "scaler": self._scaler.state_dict(),
        }

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Continue from a state.

        Raises:
            MedDINOv3Error: it belongs to another network.
        """
        by_part: dict[str, dict[str, Tensor]] = {"module": {}, "average": {}, "optimiser": {}}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            by_part[part][name] = value
        numbers = {name: number for number, name in enumerate(self._names())}
        entries: dict[int, dict[str, Tensor]] = {}
        try:
            for key, value in by_part["optimiser"].items():
                parameter, _, name = key.rpartition(".")
                entries.setdefault(numbers[parameter], {})[name] = value
            self.module.load_state_dict(by_part["module"])
            self.average.load(by_part["average"])
            groups = self.optimiser.state_dict()["param_groups"]
            self.optimiser.load_state_dict({"state": entries, "param_groups": groups})
        except (RuntimeError, KeyError, ValueError) as error:
            raise MedDINOv3Error(
                "checkpoint-does-not-fit",
                f"The checkpoint belongs to another network: {str(error).splitlines()[0]}",
                "Start a new run.",
            ) from error
        if facts["scaler"]:  # empty unless the precision was fp16
            self._scaler.load_state_dict(facts["scaler"])
        self.parts, self._skipped = facts["parts"], facts["skipped"]

    def _names(self) -> list[str]:
        """Parameters in the optimiser's order, which follows the rates and may change with them."""
        names = {parameter: name for name, parameter in self.module.named_parameters()}
        return [names[p] for group in self.optimiser.param_groups for p in group["params"]]


def mixed(*numbers: int) -> int:
    """One seed out of several numbers, unlike for any change of one."""
    text = ",".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest())
