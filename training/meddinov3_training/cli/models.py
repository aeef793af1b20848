"""``meddinov3 models``: what is here and what can be had. Listing needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from meddinov3.catalogue import catalogue, find_entry
from meddinov3.description import BackboneDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import (
    InstalledModel,
    find_installed,
    installed_backbones,
    installed_models,
    is_backbone,
    read_backbone_description,
    read_description,
    user_folder,
)
from meddinov3.plain_json import to_plain
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from meddinov3_training.cli.facts import (
    Facts,
    backbone_facts,
    echo_facts,
    entry_facts,
    model_facts,
)
from meddinov3_training.cli.pull import pull


@click.group()
def models() -> None:
    """List, describe, pull, import, export and remove models and backbones."""


models.add_command(pull)


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_models(as_json: bool) -> None:
    """What is on this machine: models, and backbones to train from; and what can be pulled."""
    found, backbones = installed_models(), installed_backbones()
    if as_json:
        click.echo(json.dumps(_as_plain(found, backbones), indent=2))
        return
    rows = [_model_row(model) for model in found if not model.takes_clicks]
    _print_table("Models", ("id", "what it finds", "modality", "licence", ""), rows)
    rows = [_click_row(model) for model in found if model.takes_clicks]
    if rows:
        _print_table(
            "Click models: they segment what points and boxes mean",
            ("id", "what it was trained on", "modality", "licence"), rows,
        )  # fmt: skip
    if backbones:
        rows = [_backbone_row(folder, backbone) for folder, backbone in backbones]
        _print_table("Backbones to train from", ("id", "architecture", "modality", "licence"), rows)
    here = {folder.name for folder, _ in backbones}
    rows = [
        (entry.id, entry.purpose, entry.size, entry.licence)
        for entry in catalogue()
        if entry.id not in here
    ]
    if rows:
        title = "Backbones to pull: meddinov3 models pull ID"
        _print_table(title, ("id", "what for", "download", "licence"), rows)
    click.echo(f"Your own models belong into {user_folder() / 'models'}")


def _as_plain(
    found: list[InstalledModel], backbones: list[tuple[Path, BackboneDescription | None]]
) -> dict[str, Any]:
    here = {folder.name for folder, _ in backbones}
    return {
        "models": [
            {"id": m.id, "starter": m.starter, "problem": m.problem, "clicks": m.takes_clicks}
            for m in found
        ],
        "backbones": [
            {"id": folder.name, "problem": "" if backbone else "unreadable"}
            | ({} if backbone is None else {"hub": to_plain(backbone.hub)})
            for folder, backbone in backbones
        ],
        "catalogue": [to_plain(entry) | {"installed": entry.id in here} for entry in catalogue()],
    }


def _print_table(title: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)  # ids are typed again
    for row in rows or [("none", *[""] * (len(headings) - 1))]:
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)
    click.echo()


def _model_row(model: InstalledModel) -> tuple[str, ...]:
    if model.description is None:
        return (model.id, f"unreadable: {model.problem}", "", "", "")
    names = [label.name for label in model.description.labels]
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return (
        model.id, shown, model.description.purpose.modality, model.description.licence,
        "starter" if model.starter else "",
    )  # fmt: skip


def _click_row(model: InstalledModel) -> tuple[str, ...]:
    assert model.description is not None
    described = model.description
    return (model.id, described.name, described.purpose.modality, described.licence)


def _backbone_row(folder: Path, backbone: BackboneDescription | None) -> tuple[str, ...]:
    if backbone is None:
        return (folder.name, "unreadable", "", "")
    return (folder.name, backbone.backbone, backbone.modality, backbone.licence)


@models.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Id of the new model or backbone.")
@click.option(
    "--orientation",
    metavar="CODE",
    help="How the images of an nnU-Net results folder were stored, e.g. LPS, RAS or LAS; as "
    "stored if left out.",
)
@click.option("--fold", help="Of a results folder; the first by default.")
@click.option("--checkpoint", type=click.Choice(["final", "best"]), default="final")
def import_model(
    path: Path, name: str, orientation: str | None, fold: str | None, checkpoint: str
) -> None:
    """Convert PATH and keep it.

    PATH is MedDINOv3's model.pth, a DINOv3 .pth or .safetensors, FlexiCT-2D's .pth, a results
    folder of MedDINOv3's nnU-Net fork, or a .zip that `models export` wrote.
    """
    from meddinov3.checkpoints.importing import import_file

    made = import_file(path, name, orientation=orientation, fold=fold, checkpoint=checkpoint)
    for note in made.notes:
        click.echo(f"  {note}")
    if made.is_model:
        click.echo(f"Imported; try: meddinov3 segment SCAN -o OUT --model {name}")
    else:
        click.echo(f"Imported; train from it: meddinov3 finetune DATASET --base {name} -o RUN")


@models.command("export")
@click.argument("model")
@click.argument("target", type=click.Path(path_type=Path))
def export(model: str, target: Path) -> None:
    """Write MODEL, or a backbone, as one file TARGET (.zip), to carry to another machine."""
    from meddinov3.model_archive import export_model

    folder = find_installed(model)
    export_model(folder, target)
    click.echo(f"wrote {target}; there: meddinov3 models import {target.name} --name {folder.name}")


@models.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, yes: bool) -> None:
    """Remove NAME, one of your models or backbones, from this machine."""
    from meddinov3.model_archive import remove_model

    if not yes:
        click.confirm(f"Remove '{name}' for good?", abort=True)
    click.echo(f"removed {remove_model(name)}")


@models.command("info")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="All there is to know, for programs.")
def info(name: str, as_json: bool) -> None:
    """Describe NAME: a model or backbone (id or folder), or an entry of the catalogue."""
    text, facts = _described(name)
    if as_json:
        click.echo(text, nl=False)
    else:
        echo_facts(facts)


def _described(name: str) -> tuple[str, Facts]:
    """As JSON and for people; what is here goes before what could be pulled."""
    entry = find_entry(name)
    try:
        folder = find_installed(name)
    except MedDINOv3Error:
        if entry is None:
            raise
        return json.dumps(to_plain(entry), indent=2) + "\n", entry_facts(entry)
    if is_backbone(folder):
        backbone = read_backbone_description(folder)
        return backbone.to_json(), backbone_facts(backbone)
    model = read_description(folder)
    return model.to_json(), model_facts(model)
