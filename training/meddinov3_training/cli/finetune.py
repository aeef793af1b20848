"""``meddinov3 finetune``: a folder of annotated cases to a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from meddinov3_training.presets import PRESETS

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time such as ``90s``, ``10m`` or ``1.5h``; in seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse text; numbers pass."""
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", value.strip().lower())
        if match is None:
            self.fail(f"'{value}' is no time; write 90s, 10m or 1.5h.", param, ctx)
        return float(match[1]) * UNITS[match[2]]


class Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Parse text; tuples pass."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"'{value}' is no list of numbers.", param, ctx)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--base",
    required=True,
    help="A model (id or folder), MedDINOv3's model.pth, or scratch:TIMM_NAME, e.g. "
    "scratch:vit_tiny_patch16_dinov3_qkvb.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The run's folder, new; the model lies in it at the end.",
)
@click.option("--budget", type=Duration(), help="Wall time in which the schedule ends, e.g. 30m.")
@click.option("--steps", type=click.IntRange(min=1), help="Or a number of optimiser steps.")
@click.option("--name", help="Id of the model.")
@click.option("--title", default="", help="Name of the model for people.")
@click.option("--summary", default="", help="One sentence about the model.")
@click.option("--body-part", default="", help="What the scans show.")
@click.option("--licence", default="", help="Of the weights; the dataset's by default.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True)
@click.option(
    "--hold-out",
    "validation",
    type=click.IntRange(min=0),
    help="Cases scored at the end instead of trained on; a fifth by default.",
)
@click.option(
    "--spacing",
    type=Numbers(),
    metavar="ROWS,COLUMNS",
    help="In-plane spacing in mm; by default the smallest structure gets enough tokens.",
)
@click.option(
    "--context",
    type=Numbers(),
    metavar="MM,...",
    help="Neighbouring slices as further channels, e.g. -2,-1,0,1,2; the base's by default.",
)
@click.option(
    "--mirror/--no-mirror",
    default=None,
    help="Mirror left-right in training; by default unless a label is named after a side.",
)
@click.option(
    "--largest-patch",
    type=click.IntRange(min=16),
    help="Longest edge of a training patch in pixels; the preset's by default.",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="auto",
    show_default=True,
    help="Limits of spacing and patch: paper-896 as MedDINOv3 was evaluated, small for processors.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Processes that prepare batches while the network computes.",
)
@click.option(
    "--trained-on",
    type=click.Choice(["boxes", "scans"]),
    help="Boxes around a structure, or whole scans; guessed by default.",
)
@click.option("--decoder-rate", type=float, default=3e-4, show_default=True)
@click.option("--backbone-rate", type=float, help="By default 3e-5, or 3e-4 from scratch.")
@click.option("--compile", "compiled", is_flag=True, help="Let torch.compile fuse the network.")
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def finetune(dataset: Path, output: Path, budget: float | None, spacing: tuple[float, ...] | None,
             context: tuple[float, ...] | None, **options: Any) -> None:  # fmt: skip
    """Train a model on DATASET, a folder in nnU-Net's raw layout (or the Decathlon's)."""
    if spacing is not None and len(spacing) != 2:
        raise click.UsageError("--spacing takes two numbers.")
    if (budget is None) == (options["steps"] is None):
        raise click.UsageError("Give either --budget or --steps.")
    from meddinov3_training.finetune import Settings
    from meddinov3_training.finetune import finetune as run

    settings = Settings(seconds=budget, spacing=spacing, slice_offsets=context, **options)  # type: ignore[arg-type]
    bundle = run(dataset, output, settings, _tell)
    click.echo(f"The model lies in {bundle}; try: meddinov3 segment SCAN -o OUT --model {bundle}")


def _tell(event: dict[str, Any]) -> None:
    kind = event["event"]
    if kind == "start":
        click.echo(f"Training on {event['training']} cases, {event['held_out']} held out, "
                   f"on {event['device']} in {event['precision']}")  # fmt: skip
        for note in event["notes"]:
            click.echo(f"  {note}")
    elif kind == "step":
        click.echo(f"step {event['step']:6d}  loss {event['loss']:8.4f}  {event['done']:6.1%}  "
                   f"{event['left'] // 60} min left")  # fmt: skip
    elif kind == "validated":
        scores = ", ".join(
            f"{name} {'-' if value is None else format(value, '.3f')}"
            for name, value in event["dice"].items()
        )
        click.echo(f"held-out case {event['number']} of {event['of']}: {scores}")
    elif kind == "done" and event["scores"]:
        click.echo(f"mean Dice of {event['scores']['held_out_cases']} held-out cases: "
                   f"{event['scores']['mean_dice']}")  # fmt: skip
