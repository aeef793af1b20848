"""``meddinov3 dataset``: annotated cases on disk."""

from __future__ import annotations

import click

from meddinov3_training.cli.dataset_check import check
from meddinov3_training.cli.dataset_exchange import export, import_into_library
from meddinov3_training.cli.library import add, create, define, list_cases, mark, remove, undefine
from meddinov3_training.cli.recipes import convert, list_recipes, show_recipe


@click.group()
def dataset() -> None:
    """Collect, check, import and export annotated cases."""


for command in (
    create, define, undefine, add, list_cases, mark, remove, check, import_into_library, export,
    list_recipes, show_recipe, convert,
):  # fmt: skip
    dataset.add_command(command)
