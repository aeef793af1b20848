"""Peak memory of `meddinov3 segment` against the number of slices and labels.

    python Testing/Benchmarks/memory.py

A narrow network segments 512 x 512 x 100 and x 600 voxels (int16) with 2 and 60 labels, each in
a process of its own; also with a model whose pixels are much coarser than the scan's. The claim:
peak memory grows by at most 1.2 times the extra bytes of scan (as stored) and label map.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from meddinov3.bundle import backbone_shape, write_bundle
from meddinov3.description import Channel, ModelDescription, NetworkDescription, Sampling
from meddinov3.intensity import IntensityScheme
from meddinov3.labels import Label, default_colour
from meddinov3.network.segmenter import Segmenter

PIXELS = 512


def write_scan(path: Path, slices: int) -> None:
    """Noise of 512 x 512 x slices, int16, one slice repeated so that writing is quick."""
    plane = np.random.default_rng(0).integers(-1000, 1000, (PIXELS, PIXELS), dtype=np.int16)
    image = sitk.GetImageFromArray(np.repeat(plane[None], slices, axis=0))
    image.SetSpacing((0.8, 0.8, 1.0))
    sitk.WriteImage(image, str(path), useCompression=path.suffix == ".gz")


def write_model(folder: Path, labels: int, spacing: float) -> None:
    """A narrow random network that wants slices of `spacing` mm."""
    torch.manual_seed(0)
    description = ModelDescription(
        id=folder.name,
        name=folder.name,
        network=NetworkDescription(
            "vit_tiny_patch16_dinov3_qkvb",
            labels + 1,
            {"embed_dim": 32, "depth": 4, "num_heads": 2},
        ),
        channels=(Channel("CT", IntensityScheme.meddinov3_ct()),),
        labels=tuple(Label(f"label {n}", n, default_colour(n)) for n in range(1, labels + 1)),
        sampling=Sampling(spacing=(spacing, spacing), patch=(PIXELS, PIXELS)),
    )
    write_bundle(folder, description, Segmenter(backbone_shape(description), labels + 1))


def peak(scan: Path, model: Path, output: Path) -> float:
    """Peak resident memory in MiB, as the process itself reports it."""
    command = [sys.executable, "-m", "meddinov3_training", "segment", str(scan)]
    command += ["-o", str(output), "--model", str(model), "--device", "cpu", "--report", "-q"]
    subprocess.run(command, check=True)
    report = next(output.glob("*_report.json"))
    return float(json.loads(report.read_text(encoding="utf-8"))["peak_memory_mib"])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endings", nargs="+", default=[".nii.gz", ".nrrd"])
    parser.add_argument("--slices", nargs=2, type=int, default=[100, 600])
    arguments = parser.parse_args()
    few, many = arguments.slices
    extra = (many - few) * PIXELS**2 * 3 / 2**20
    print("| file | labels | model, mm | few slices, MiB | many, MiB | difference / extra bytes |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for ending in arguments.endings:
            for labels, spacing in ((2, 0.8), (60, 0.8), (60, 6.0)):
                model = folder / f"model-{labels}-{spacing:.0f}"
                if not model.exists():
                    write_model(model, labels, spacing)
                figures = []
                for slices in (few, many):
                    scan = folder / f"scan{slices}{ending}"
                    if not scan.exists():
                        write_scan(scan, slices)
                    output = folder / f"out-{slices}-{model.name}-{ending[1:3]}"
                    figures.append(peak(scan, model, output))
                ratio = (figures[1] - figures[0]) / extra
                print(
                    f"| {ending} | {labels} | {spacing} | {figures[0]:.0f} | {figures[1]:.0f} "
                    f"| {ratio:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
