"""What a warm worker costs besides the network, from volume in memory to label map in memory.

    python Testing/Benchmarks/worker_overhead.py [--labels 5 60] [--device cuda]

A phantom of 512 x 512 x 200 goes through a narrow network with random weights. What happens
from slice tensor to label slice (network, decide) is listed and left out of the sum. The second
request counts, the first warms up.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from meddinov3.bundle import backbone_shape, write_bundle
from meddinov3.description import Channel, ModelDescription, NetworkDescription, Sampling
from meddinov3.grid import Grid
from meddinov3.intensity import IntensityScheme
from meddinov3.labels import Label, default_colour
from meddinov3.network.segmenter import Segmenter
from meddinov3.worker.exchange import Exchange, read_label_map, write_scan
from meddinov3.worker.messages import Load, Segment
from meddinov3.worker.process import WorkerProcess

NETWORK = ("network", "decide")
GRID = Grid((512, 512, 200), (0.8, 0.8, 1.5), (-204.0, -204.0, 0.0), np.eye(3))


def phantom() -> np.ndarray:
    """A body of six tissues in ellipsoids, (k, j, i) int16 in Hounsfield units.

    Smooth, since label maps of patients are: one of noise cannot be compressed.
    """
    k, j, i = (
        np.linspace(-1, 1, count, dtype=np.float32).reshape(
            [-1 if a == axis else 1 for a in range(3)]
        )
        for axis, count in enumerate(GRID.shape)
    )
    body = np.full(GRID.shape, -1000, np.int16)
    for value, (x, y, z), (a, b, c) in (
        (-80, (0, 0, 0), (0.9, 0.7, 3.0)),
        (50, (0, 0, 0), (0.82, 0.62, 3.0)),
        (110, (-0.35, -0.1, 0.2), (0.35, 0.4, 0.5)),
        (130, (0.5, 0.1, 0.3), (0.15, 0.2, 0.25)),
        (30, (0.0, -0.2, -0.5), (0.2, 0.15, 0.2)),
        (400, (0, 0.45, 0), (0.12, 0.12, 3.0)),
    ):
        inside = ((i - x) / a) ** 2 + ((j - y) / b) ** 2 + ((k - z) / c) ** 2 < 1
        body[inside] = value
    return body


def make_model(folder: Path, labels: int) -> None:
    """A bundle with a narrow network that has `labels` classes besides background."""
    shape = NetworkDescription(
        "vit_tiny_patch16_dinov3_qkvb", labels + 1, {"embed_dim": 32, "depth": 4, "num_heads": 2}
    )
    description = ModelDescription(
        id="narrow",
        name="narrow",
        network=shape,
        channels=(Channel("CT", IntensityScheme.meddinov3_ct()),),
        labels=tuple(Label(f"label {n}", n, default_colour(n)) for n in range(1, labels + 1)),
        sampling=Sampling(spacing=(0.8, 0.8), patch=(512, 512)),
    )
    torch.manual_seed(0)
    write_bundle(folder, description, Segmenter(backbone_shape(description), labels + 1).eval())


def timed(process: WorkerProcess, model: Path, scan: np.ndarray, device: str) -> dict[str, float]:
    """Seconds by part of one request."""
    with Exchange() as exchange:
        begin = time.perf_counter()
        folder, result = exchange.new("scan"), exchange.new("result")
        write_scan(folder, [scan], GRID, "CT")
        written = time.perf_counter()
        answer = process.result(
            Segment(str(model), device, scan=str(folder), result=str(result)), 3600
        )
        answered = time.perf_counter()
        read_label_map(result, GRID)
        end = time.perf_counter()
    inside = answer["seconds"]
    return {
        "client writes scan": written - begin,
        **inside,
        "messages and report": answered - written - sum(inside.values()),
        "client reads label map": end - answered,
    }


def main() -> None:
    """Print one table for each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 60])
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    scan = phantom()
    with tempfile.TemporaryDirectory() as place:
        begin = time.perf_counter()
        with WorkerProcess(Path(place) / "log") as process:
            first = Path(place) / f"model{arguments.labels[0]}"
            make_model(first, arguments.labels[0])
            process.result(Load(str(first), arguments.device), 600)
            started = time.perf_counter() - begin
            assert process.client.ready is not None
            print(f"{process.client.ready['name']}; start-up with first model {started:.1f} s")
            for labels in arguments.labels:
                model = Path(place) / f"model{labels}"
                if not model.exists():
                    make_model(model, labels)
                timed(process, model, scan, arguments.device)
                parts = timed(process, model, scan, arguments.device)
                print(f"\n{labels} labels\n\n| part | seconds |\n|---|---|")
                for part, seconds in parts.items():
                    print(f"| {part} | {seconds:.2f} |")
                overhead = sum(s for part, s in parts.items() if part not in NETWORK)
                print(f"| all but network and decide | {overhead:.2f} |")


if __name__ == "__main__":
    main()
