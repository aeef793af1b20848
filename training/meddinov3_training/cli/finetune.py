"""``meddinov3 finetune``: a folder of annotated cases to a model."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from meddinov3_training.cli.torch_loading import loading_torch
from meddinov3_training.cli.training_display import TrainingDisplay
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
    help="A model or backbone (id or folder; `models list` shows them), MedDINOv3's model.pth, or "
    "scratch:TIMM_NAME, e.g. scratch:vit_tiny_patch16_dinov3_qkvb.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="The run's folder, new; the model lies in it at the end.",
)
@click.option(
    "--budget",
    type=Duration(),
    help="Wall time in which the schedule ends, e.g. 30m; by default 1h on a GPU, 30m on a CPU.",
)
@click.option("--steps", type=click.IntRange(min=1), help="Or a number of optimiser steps.")
@click.option("--epochs", type=click.IntRange(min=1), help="Or of nnU-Net's epochs: 250 steps.")
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
    help="Processes that prepare batches while the network computes; chosen by default.",
)
@click.option(
    "--trained-on",
    type=click.Choice(["boxes", "scans"]),
    help="Boxes around a structure, or whole scans; guessed by default.",
)
@click.option("--decoder-rate", type=float, default=3e-4, show_default=True)
@click.option("--backbone-rate", type=float, help="By default 3e-5, or 3e-4 from scratch.")
@click.option(
    "--layer-decay",
    type=float,
    default=1.0,
    show_default=True,
    help="Factor of the backbone's rate for each block further from the decoder.",
)
@click.option(
    "--drop-path",
    type=click.FloatRange(0, 1, max_open=True),
    help="Stochastic depth; the paper's 0.2 by default, 0.1 for a narrow backbone.",
)
@click.option(
    "--frozen/--full",
    default=None,
    help="Train the decoder alone, on tokens computed once; by default on a CPU with a large base.",
)
@click.option(
    "--prompts",
    is_flag=True,
    help="Train a click model: it segments whatever structure points and boxes mean.",
)
@click.option("--checkpointing", is_flag=True, help="Less memory, a third slower.")
@click.option(
    "--checkpoint-every",
    "checkpoint_seconds",
    type=Duration(),
    default="2m",
    show_default=True,
    help="Time between checkpoints.",
)
@click.option("--fold", type=click.IntRange(min=0), help="Of nnU-Net's five-fold split.")
@click.option(
    "--cross-validate",
    is_flag=True,
    help="All folds in turn, and an ensemble of them; the budget is for all together.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue the run in --output as it was begun; only --decoder-rate, --backbone-rate, "
    "--device, --precision, --workers and --checkpoint-every may be given anew.",
)
@click.option("--compile", "compiled", is_flag=True, help="Let torch.compile fuse the network.")
@click.option("--device", default="auto", show_default=True)
@click.option("--precision", default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def finetune(
    dataset: Path,
    output: Path,
    base: str | None,
    budget: float | None,
    epochs: int | None,
    spacing: tuple[float, ...] | None,
    context: tuple[float, ...] | None,
    cross_validate: bool,
    resume: bool,
    **options: Any,
) -> None:
    """Train a model on DATASET, a folder in nnU-Net's raw layout (or the Decathlon's)."""
    with loading_torch():
        from meddinov3_training.crossvalidation import cross_validate as all_folds
        from meddinov3_training.crossvalidation import is_cross_validation
        from meddinov3_training.decisions import CHANGEABLE
        from meddinov3_training.distributed import end as end_process
        from meddinov3_training.finetune import finetune as one_run
        from meddinov3_training.finetune import read_settings
        from meddinov3_training.settings import EPOCH, Settings

    changes: dict[str, Any] = {}
    if resume:
        settings = read_settings(output)
        cross_validate = is_cross_validation(output)
        changes = _changes(click.get_current_context(), () if cross_validate else CHANGEABLE)
    else:
        if spacing is not None and len(spacing) != 2:
            raise click.UsageError("--spacing takes two numbers.")
        if base is None:
            raise click.UsageError("Say what to start from with --base.")
        if sum(given is not None for given in (budget, epochs, options["steps"])) > 1:
            raise click.UsageError("Give one of --budget, --epochs and --steps.")
        if epochs is not None:
            options["steps"] = epochs * EPOCH
        settings = Settings(
            base,
            seconds=budget,
            spacing=spacing,
            slice_offsets=context,
            **options,  # type: ignore[arg-type]
        )
    with TrainingDisplay() as display:
        if cross_validate:
            bundle = all_folds(dataset, output, settings, display, resume=resume)
        else:
            bundle = one_run(dataset, output, settings, display, resume=resume, changes=changes)
    if os.environ.get("RANK", "0") == "0":  # under torchrun one process talks
        tried = f"meddinov3 segment SCAN -o OUT --model {bundle}"
        clicks = "points and boxes, in Slicer"
        click.echo(f"The model lies in {bundle}; try: {clicks if settings.prompts else tried}")
    end_process()


def _changes(context: click.Context, allowed: tuple[str, ...]) -> dict[str, Any]:
    """What was typed beside --resume.

    Args:
        context: of the call.
        allowed: names of the options that a run which is continued takes over.

    Raises:
        MedDINOv3Error: anything else was typed.
    """
    from meddinov3_training.decisions import refused

    typed = {
        parameter.name or "": parameter.opts[0]
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and context.get_parameter_source(parameter.name or "") is not ParameterSource.DEFAULT
    }
    for name in ("resume", "output"):
        typed.pop(name, None)
    fixed = [option for name, option in typed.items() if name not in allowed]
    if fixed:
        raise refused(fixed, allowed)
    return {name: context.params[name] for name in typed}
