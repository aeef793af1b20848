"""Samples per second of the loader alone and of the network alone.

    python Testing/Benchmarks/throughput.py DATASET --base scratch:vit_tiny_patch16_dinov3_qkvb
        [--preset small] [--batch 8] [--workers 0 2] [--device cuda] [--precision bf16] [--cases 4]

The slower of the two decides how fast a run goes; on a processor they also share the cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import torch
from meddinov3.inference.device import choose_device, describe_device
from meddinov3_training.cache import build_cache
from meddinov3_training.learner import Learner
from meddinov3_training.objective import Objective
from meddinov3_training.optimiser import CLIP, build_optimiser
from meddinov3_training.samples import Samples, loader, measure_loader
from meddinov3_training.settings import Settings
from meddinov3_training.task import build_network, prepare


def main() -> None:
    """Measure both, apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--cases", type=int, default=4, help="that are cached")
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    settings = Settings(
        arguments.base, steps=1, batch=arguments.batch, validation=0, preset=arguments.preset,
        device=arguments.device, precision=arguments.precision,
    )  # fmt: skip
    device = choose_device(arguments.device)
    task = prepare(arguments.dataset, settings, device, None)
    task = dataclasses.replace(task, training=task.training[: arguments.cases])
    network, _ = build_network(task)
    patch = task.description.sampling.patch
    print(f"{describe_device(device)}, {task.precision}, patch {patch}, batch {arguments.batch}")
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        cases = build_cache(task.training, task.dataset, task.description, Path(folder))
        print(f"cache of {len(cases)} cases: {time.perf_counter() - begin:.1f} s")
        samples = Samples(cases, task.description, settings.augmentation, 0)
        for workers in arguments.workers:
            rate = measure_loader(samples, arguments.batch, workers, arguments.seconds)
            print(f"loader alone, {workers} workers: {rate:.1f} samples/s")
        images, values = next(loader(samples, arguments.batch, 0, 1, 0))
    optimiser = build_optimiser(network, settings.decoder_rate, task.backbone_rate)
    learner = Learner(
        network.train(), Objective(task.description, task.dataset.members), optimiser, device,
        task.precision, clip=CLIP,
    )  # fmt: skip
    for step in (1, 2):
        learner.learn(images, values, step, 0.0)
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < arguments.seconds:
        learner.learn(images, values, steps + 3, 0.0)
        steps += 1
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - begin
    print(f"network alone: {steps * arguments.batch / seconds:.1f} samples/s")
    for note in learner.notes:
        print(f"  {note}")


if __name__ == "__main__":
    main()
