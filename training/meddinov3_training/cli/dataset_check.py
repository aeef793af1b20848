"""``meddinov3 dataset check``: every defect at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from meddinov3.plain_json import to_plain
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from meddinov3_training.check_case import ERROR, Defect
from meddinov3_training.cli.progress import progress_bar

STYLES = {"error": "red", "warning": "yellow"}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def check(folder: Path, as_json: bool) -> None:
    """List every defect of the dataset in FOLDER (nnU-Net, Decathlon, or a case library).

    Nothing is changed. The exit code is 1 if there are errors; warnings alone give 0.
    """
    from meddinov3_training.check import check_folder

    with progress_bar(as_json) as show:
        defects = check_folder(folder, show)
    if as_json:
        click.echo(json.dumps(to_plain(defects), indent=2))
    else:
        print_defects(defects)
    if any(defect.severity == ERROR for defect in defects):
        sys.exit(1)


def print_defects(defects: Sequence[Defect]) -> None:
    """A table for people, and how many there are."""
    if not defects:
        click.echo("No defects found.")
        return
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(("", "case", "what is wrong", "what to do")):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    for defect in defects:
        severity = f"[{STYLES[defect.severity]}]{defect.severity}[/]"
        table.add_row(severity, *map(escape, (defect.case, defect.message, defect.remedy)))
    Console(highlight=False).print(table)
    errors = sum(defect.severity == ERROR for defect in defects)
    click.echo(f"{errors} error(s), {len(defects) - errors} warning(s)")
