"""``meddinov3 dataset recipes``, ``recipe`` and ``convert``: the paper's benchmarks."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from meddinov3_training.cli.progress import progress_bar
from meddinov3_training.recipes import RECIPES, find_recipe
from meddinov3_training.recipes.recipe import CAVEATS, Recipe


@click.command("recipes")
def list_recipes() -> None:
    """The paper's benchmarks that can be repeated."""
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "what", "cases", "Dice in the paper", "licence"):
        table.add_column(heading, overflow="fold")
    for recipe in RECIPES.values():
        dice = f"{recipe.table_2[-1].dice:.2f}" if recipe.table_2 else "-"
        cases = str(recipe.release.cases)
        table.add_row(recipe.id, recipe.title, cases, dice, recipe.licence)
    Console(highlight=False).print(table)
    click.echo("More: meddinov3 dataset recipe NAME")


@click.command("recipe")
@click.argument("name")
def show_recipe(name: str) -> None:
    """How to repeat the benchmark NAME: the download, the commands, the paper's numbers."""
    recipe = find_recipe(name)
    click.echo(recipe.title + "\n")
    for heading, text in _facts(recipe):
        click.echo(f"{heading:<14}{text}")
    click.echo("\nAs released:")
    click.echo(_indented(recipe.release.structure))
    click.echo("\nCommands (DOWNLOADED is the unpacked folder):")
    click.echo(_indented("\n".join(recipe.commands())))
    if recipe.table_2:
        click.echo("\nThe paper's Table 2, in percent:")
        click.echo(f"  {'':<16}{'Dice':>6}{'NSD':>8}")
    for score in recipe.table_2:
        click.echo(f"  {score.method:<16}{score.dice:6.2f}{score.surface_dice:8.2f}")
    click.echo("\nBefore comparing:")
    for caveat in (f"Its cases: {recipe.compared_with}.", *CAVEATS):
        click.echo(f"  - {caveat}")


def _facts(recipe: Recipe) -> list[tuple[str, str]]:
    labels = ", ".join(
        f"{name} ({'+'.join(map(str, value)) if isinstance(value, tuple) else value})"
        for name, value in recipe.labels
    )
    return [
        ("page", recipe.page),
        ("download", recipe.download),
        ("size", recipe.size),
        ("access", recipe.access),
        ("licence", recipe.licence),
        ("cite", recipe.reference),
        ("channel", recipe.channel),
        ("labels", labels),
    ]


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


@click.command("convert")
@click.argument("name")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--link", is_flag=True, help="Share disk space with SOURCE where possible.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def convert(name: str, source: Path, target: Path, link: bool, quiet: bool) -> None:
    """Write the download SOURCE of the benchmark NAME to TARGET in nnU-Net's raw layout.

    Every label map is looked at; SOURCE is not changed.
    """
    from meddinov3_training.recipes.convert import convert as run

    with progress_bar(quiet) as report:
        done = run(find_recipe(name), source, target, link=link, report=report)
    if not quiet:
        for note in done.notes:
            click.echo(f"Note: {note}.")
        click.echo(f"{done.cases} cases lie in {target}; try: meddinov3 dataset recipe {name}")
