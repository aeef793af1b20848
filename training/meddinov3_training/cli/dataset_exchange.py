"""``meddinov3 dataset import`` and ``export``: to and from nnU-Net."""

from __future__ import annotations

from pathlib import Path

import click

from meddinov3_training.cli.dataset_check import print_defects
from meddinov3_training.cli.progress import progress_bar


@click.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("library", type=click.Path(path_type=Path))
@click.option("-q", "--quiet", is_flag=True, help="Do not print which case became which.")
def import_into_library(folder: Path, library: Path, quiet: bool) -> None:
    """Copy the nnU-Net or Decathlon dataset in FOLDER into the new case library LIBRARY.

    Cases are numbered anew. Which case became which is printed once and stored nowhere, because
    old names may tell whose the scans are.
    """
    from meddinov3_training.import_dataset import import_dataset

    with progress_bar() as show:
        ids, warnings = import_dataset(folder, library, show)
    if warnings:
        print_defects(warnings)
    if not quiet:
        for old, new in ids.items():
            click.echo(f"{old} -> {new}")
    click.echo(f"{len(ids)} cases copied to {library}")


@click.command()
@click.argument("library", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--id", "number", type=int, required=True, help="nnU-Net's number, e.g. 501.")
@click.option("--name", required=True, help="nnU-Net's name, e.g. Liver.")
def export(library: Path, target: Path, number: int, name: str) -> None:
    """Write the case library LIBRARY as an nnU-Net dataset, TARGET/Dataset501_NAME.

    Excluded cases are left out, label values made consecutive.
    """
    from meddinov3.cases.export import export_dataset
    from meddinov3.cases.library import Library

    with progress_bar() as show:
        folder = export_dataset(Library.open(library), target, number, name, show)
    click.echo(f"wrote {folder}")
