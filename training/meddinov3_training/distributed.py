"""Several processes that train one model: torchrun starts them, DDP joins their gradients."""

from __future__ import annotations

import datetime
import os
import sys
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from meddinov3.errors import MedDINOv3Error
from torch import Tensor

PATIENCE = datetime.timedelta(hours=6)  # others wait while the first process makes the cache


@dataclass(frozen=True)
class Group:
    """The processes of a run; alone by default.

    Attributes:
        rank: this one's number.
        world: how many there are.
        device: where sums are exchanged.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, without gradient."""
        if self.world == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def agree(self, *values: float) -> list[float]:
        """The first process's numbers, for all."""
        if self.world == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(told, 0)
        return told.tolist()

    def most(self, value: int) -> int:
        """The largest of all processes' numbers."""
        if self.world == 1:
            return value
        told = torch.tensor(value, device=self.device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return int(told)

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            dist.barrier()

    def leave(self) -> None:
        """At the end."""
        if self.world > 1:
            dist.destroy_process_group()


def join(device: torch.device) -> tuple[Group, torch.device]:
    """Join the processes that torchrun started; without torchrun there is one.

    Args:
        device: as asked for; ``cuda`` becomes this process's own card.

    Returns:
        The group, and the device of this process.

    Raises:
        MedDINOv3Error: fewer cards than processes on this node.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Group(), device
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise MedDINOv3Error(
                "too-few-gpus",
                f"Process {local} on this node finds {torch.cuda.device_count()} graphics cards.",
                "Start as many processes a node (--nproc-per-node) as there are cards.",
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    exchange = device if device.type == "cuda" else torch.device("cpu")
    return Group(dist.get_rank(), dist.get_world_size(), exchange), device


def end() -> None:
    """End this process at once if it is one of several, after its work is done.

    On an ordinary exit a thread of torch that is still there aborts the process now and then, and
    torchrun would call the whole run failed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
