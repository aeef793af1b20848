"""The cache's size and time, and samples per second of the loader alone.

    python Testing/Benchmarks/loader.py DATASET [--preset paper-896] [--spacing 0.6 --patch 512]

No network is involved: this is what a device can be fed with.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

from meddinov3.description import ModelDescription, NetworkDescription
from meddinov3_training.augmentation import AUGMENTATIONS
from meddinov3_training.cache import build_cache, cache_bytes
from meddinov3_training.dataset import read_dataset
from meddinov3_training.fingerprint import read_fingerprint
from meddinov3_training.plan import make_plan
from meddinov3_training.presets import PRESETS
from meddinov3_training.samples import Samples, measure_loader


def main() -> None:
    """Build a cache in a temporary folder, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--preset", choices=PRESETS, default="auto")
    parser.add_argument("--spacing", type=float, help="mm; the plan's by default")
    parser.add_argument("--patch", type=int, help="pixels along both edges; the plan's by default")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    dataset = read_dataset(arguments.dataset)
    spacing = arguments.spacing and (arguments.spacing,) * 2
    start = time.perf_counter()
    fingerprint = read_fingerprint(dataset, dataset.cases)
    print(f"fingerprint of {len(dataset.cases)} cases: {time.perf_counter() - start:.1f} s")
    plan = make_plan(dataset, fingerprint, spacing=spacing, preset=arguments.preset)
    patch = arguments.patch and (arguments.patch,) * 2
    sampling = dataclasses.replace(plan.sampling, patch=patch or plan.sampling.patch)
    description = ModelDescription(
        id="loader",
        name="loader",
        network=NetworkDescription("none", len(dataset.labels) + (not dataset.regions)),
        channels=plan.channels,
        labels=dataset.labels,
        sampling=sampling,
        regions=dataset.regions,
        ignore_label=dataset.ignore,
    )
    with tempfile.TemporaryDirectory() as folder:
        for again in ("", "again, "):
            start = time.perf_counter()
            cases = build_cache(dataset.cases, dataset, description, Path(folder))
            seconds = time.perf_counter() - start
            print(f"cache, {again}{cache_bytes(dataset.cases, dataset) / 2**20:.1f} MiB: "
                  f"{seconds:.2f} s")  # fmt: skip
        print(f"patch {sampling.patch} of {sampling.spacing} mm, {os.cpu_count()} processors")
        print("| augmentation | workers | samples/s |")
        print("|---|---|---|")
        for name, augmentation in AUGMENTATIONS.items():
            samples = Samples(cases, description, augmentation, 0)
            for workers in arguments.workers:
                rate = measure_loader(samples, arguments.batch, workers, arguments.seconds)
                print(f"| {name} | {workers} | {rate:.1f} |", flush=True)


if __name__ == "__main__":
    main()
