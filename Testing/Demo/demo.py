"""`make demo`: segment a real scan with the starter model and compare with the hand-made labels.

Everything it needs lies in the repository; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import click
from meddinov3.atomic import whole_file
from meddinov3.inference.device import describe_device
from meddinov3.preview import write_preview
from meddinov3.reading import read_label_map, read_volume
from meddinov3.segmentation import load_model, segment
from meddinov3_training.metrics import dice
from rich.console import Console
from rich.table import Table

SAMPLES = Path(__file__).resolve().parents[1] / "Data" / "msd_hippocampus_mr"
MODEL = "hippocampus-mr-tiny"


def main() -> None:
    """Segment, write, picture, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    parser.add_argument("--case", default="hippocampus_091", help="a file in the samples")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()

    started = time.perf_counter()
    model = load_model(MODEL, arguments.device)
    loaded = time.perf_counter() - started
    scan = SAMPLES / "images" / f"{arguments.case}.nii.gz"
    volume = read_volume(scan)
    reference, _ = read_label_map(SAMPLES / "labels" / scan.name)
    result = segment(volume, model)
    output: Path = arguments.output
    written = [output / f"{arguments.case}{end}" for end in (".seg.nrrd", ".nii.gz")]
    for path in written:
        result.save(path)
    picture = output / f"{arguments.case}_preview.png"
    write_preview(picture, volume, result, f"{model.description.name}: {arguments.case}", reference)
    scores = {
        label.name: dice(result.label_map == label.value, reference == label.value)
        for label in result.labels
    }
    report = {**result.report(), "load_seconds": round(loaded, 2), "dice": scores}
    with whole_file(output / f"{arguments.case}_report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    table = Table(
        "structure", "Dice", "ml", title=f"{arguments.case} on {describe_device(model.device)}"
    )
    for name, score in scores.items():
        table.add_row(
            name, "-" if score is None else f"{score:.3f}", f"{report['volume_ml'][name]:.2f}"
        )
    Console(highlight=False).print(table)
    click.echo(
        f"model loaded in {loaded:.1f} s, segmented in {report['total_seconds']:.1f} s, "
        f"peak memory {report['peak_memory_mib']:.0f} MiB"
    )
    for path in [*written, picture]:
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
