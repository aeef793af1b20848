"""A whole segmentation split into read, resample, network, decide, write.

    python Testing/Benchmarks/phases.py SCAN --backbone vit_small_patch16_dinov3 [--device cuda]

The weights are random: time does not depend on them. `--spacing 0.45` gives the paper's 896
pixels on a 400 mm slice.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from meddinov3.bundle import backbone_shape
from meddinov3.description import Channel, ModelDescription, NetworkDescription, Sampling
from meddinov3.inference.device import choose_device, choose_precision, describe_device
from meddinov3.intensity import IntensityScheme
from meddinov3.labels import Label, default_colour
from meddinov3.network.segmenter import Segmenter
from meddinov3.segmentation import Model, segment


def main() -> None:
    """Run once and print the phases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--backbone", default="vit_small_patch16_dinov3")
    parser.add_argument("--spacing", type=float, default=0.8)
    parser.add_argument("--labels", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    description = ModelDescription(
        id="phases",
        name="phases",
        network=NetworkDescription(arguments.backbone, arguments.labels + 1),
        channels=(Channel("CT", IntensityScheme.meddinov3_ct()),),
        labels=tuple(
            Label(f"label {n}", n, default_colour(n)) for n in range(1, arguments.labels + 1)
        ),
        sampling=Sampling(spacing=(arguments.spacing,) * 2, patch=(512, 512)),
    )
    device = choose_device(arguments.device)
    torch.manual_seed(0)
    network = Segmenter(backbone_shape(description), arguments.labels + 1)
    network.eval().requires_grad_(False).to(device)
    model = Model(description, network, device, choose_precision(arguments.precision, device))
    result = segment(arguments.scan, model)
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder) / "result.seg.nrrd")
        result.save(Path(folder) / "result.nii.gz")
    slices = result.grid.size[2]
    print(
        f"{arguments.backbone} on {describe_device(device)}, {model.precision}, {result.grid.size}"
    )
    print("| phase | seconds | a slice, ms |")
    print("|---|---|---|")
    for phase, value in result.seconds.items():
        print(f"| {phase} | {value:.2f} | {1000 * value / slices:.1f} |")
    print(f"peak memory {result.report()['peak_memory_mib']:.0f} MiB")


if __name__ == "__main__":
    main()
