"""The ``meddinov3`` command."""

from __future__ import annotations

import sys

import click
from meddinov3 import __version__
from meddinov3.errors import Cancelled, MedDINOv3Error
from rich.console import Console
from rich.markup import escape

from meddinov3_training.cli.dataset import dataset
from meddinov3_training.cli.doctor import doctor
from meddinov3_training.cli.evaluate import evaluate
from meddinov3_training.cli.finetune import finetune
from meddinov3_training.cli.models import models
from meddinov3_training.cli.segment import segment

CANCELLED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="meddinov3")
def meddinov3() -> None:
    """Segment CT and MR scans with MedDINOv3, and fine-tune on your own cases."""


for command in (segment, models, dataset, finetune, evaluate, doctor):
    meddinov3.add_command(command)


def main() -> None:
    """Run the command; an error a user can mend is one sentence, not a traceback."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        meddinov3(standalone_mode=False)
    except MedDINOv3Error as error:
        _tell(console, error)
        sys.exit(1)
    except (Cancelled, KeyboardInterrupt, click.Abort):
        console.print("Cancelled; nothing was left half-written.")
        sys.exit(CANCELLED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RuntimeError as error:
        from meddinov3.worker.failures import explain  # torch, seconds

        told = explain(error)
        if told.code == "internal":
            raise
        _tell(console, told)
        sys.exit(1)


def _tell(console: Console, error: MedDINOv3Error) -> None:
    console.print(f"[bold red]Error:[/] {escape(error.message)}")
    if error.remedy:
        console.print(f"[bold]What to do:[/] {escape(error.remedy)}")
