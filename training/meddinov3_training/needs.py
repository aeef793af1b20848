"""What a run will need of disk and memory, known before anybody waits for its cache.

Memory is estimated from what one and two samples leave behind for the backward pass, so it is a
lower bound: work space of kernels is not in it. Where it turns out too low, the learner splits
batches further.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import autocast, free_cached_memory, is_out_of_memory
from meddinov3.memory import machine_memory
from torch import Tensor, nn

from meddinov3_training.aim import Network, aim_of
from meddinov3_training.cache import SPARE, cache_bytes
from meddinov3_training.checkpoint import FOLDER, KEPT
from meddinov3_training.task import Task
from meddinov3_training.tokens import FEWEST

HOST_SHARE = 0.75  # of the machine's memory; the rest is for the system, scans and workers
GIB = 2**30


def check_disk(task: Task, network: Network, folder: Path) -> None:
    """Refuse a run whose files will not fit: cache, checkpoints, model.

    Args:
        task: decided.
        network: ready to be trained: a frozen backbone needs no gradient.
        folder: the run's; what lies there already is not needed again.

    Raises:
        MedDINOv3Error: the disk has too little room.
    """
    cases = [*task.training, *task.held_out]
    cache, trained = cache_bytes(cases, task.dataset), _bytes(network, trained=True)
    stored = trained if task.settings.frozen else _bytes(network)
    # Weights, their average and the optimiser's two moments; one more while the next is written.
    checkpoints = (KEPT + 1) * (stored + 3 * trained)
    model = _bytes(network) // 2
    patch = task.description.sampling.patch
    tokens = 0
    if task.settings.frozen and patch is not None:
        tokens = 2 * FEWEST * aim_of(task, network).packing().bytes  # half stays free
    there = sum(_size(folder / name) for name in ("cache", FOLDER, "tokens"))
    needed, free = cache + checkpoints + tokens + model - there, shutil.disk_usage(folder).free
    if free < needed + SPARE:
        raise MedDINOv3Error(
            "disk-full",
            f"This run needs {needed / GIB:.2f} GiB: {cache / GIB:.2f} for training slices, "
            f"{checkpoints / GIB:.2f} for {KEPT + 1} checkpoints, {(model + tokens) / GIB:.2f} for "
            f"the rest; '{folder}' has {free / GIB:.2f} GiB free.",
            "Free some space, or choose an --output on another disk.",
        )


def fitting_parts(task: Task, network: Network, share: int) -> int:
    """In how many parts a batch must go through for a step to fit into memory.

    Args:
        task: decided.
        network: on the device, ready to be trained.
        share: samples of a batch that this process computes.

    Raises:
        MedDINOv3Error: not even one sample fits.
    """
    aim, frozen = aim_of(task, network), bool(task.settings.frozen)
    module, (shape, annotated) = aim.module(frozen), aim.shapes(frozen)

    def loss(samples: int) -> Tensor:
        images = torch.zeros(samples, *shape, device=task.device)
        values = torch.zeros(samples, *annotated, dtype=torch.int64, device=task.device)
        with autocast(task.device, task.precision):
            outputs = aim.objective.ask(module, images, values)
        return aim.objective.sums(outputs, values).loss()

    # Gradient, average and the optimiser's two moments; the weights are there.
    fixed, free = 4 * _bytes(network, trained=True), available(task.device)

    def kept(samples: int) -> int | None:
        """Bytes for some samples, None if memory ran out over them."""
        try:
            return kept_for_backward(network, lambda: loss(samples))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        free_cached_memory(task.device)  # behind the handler, which holds the tensors
        return None

    one = kept(1)
    two = kept(2) if share > 1 and one is not None else None
    if one is None:
        one = free
    elif two is None and share > 1 and fixed + one <= free:
        return share  # one fits, two do not
    each = max((two or 2 * one) - one, 1)
    fixed += max(one - each, 0)
    if fixed + each > free:
        raise MedDINOv3Error(
            "out-of-memory",
            f"A step with a single sample needs at least {(fixed + each) / GIB:.1f} GiB of memory; "
            f"{free / GIB:.1f} GiB are to be had on {task.device}.",
            "Choose a smaller --largest-patch, a smaller base, --checkpointing or --frozen.",
        )
    parts = 1
    while parts < share and fixed + math.ceil(share / parts) * each > free:
        parts = min(share, 2 * parts)
    return parts


def kept_for_backward(network: nn.Module, compute: Callable[[], Tensor]) -> int:
    """Bytes that a computation keeps for its backward pass, the network's weights left out."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself would keep its own graph alive

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = compute()
        del result
    return sum(size for place, size in kept.items() if place not in weights)


def available(device: torch.device) -> int:
    """Bytes of memory that a run may take on a device.

    Of a graphics card, what is free now. Of a machine, a share of its memory for each process:
    what others will take of it meanwhile cannot be known.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + unused)
    return int(machine_memory() * HOST_SHARE) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _bytes(network: nn.Module, *, trained: bool = False) -> int:
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in network.parameters()
        if tensor.requires_grad or not trained
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
