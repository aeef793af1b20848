"""``meddinov3 models``: what is installed. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path

import click
from meddinov3.description import ModelDescription
from meddinov3.model_store import (
    find_model,
    installed_backbones,
    installed_models,
    read_description,
    user_folder,
)
from rich.console import Console
from rich.table import Table


@click.group()
def models() -> None:
    """List and describe models."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_models(as_json: bool) -> None:
    """Models on this machine: starters that ship with MedDINOv3, and your own."""
    found = installed_models()
    if as_json:
        click.echo(
            json.dumps([{"id": m.id, "starter": m.starter, "problem": m.problem} for m in found])
        )
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "what it finds", "modality", "licence", ""):
        table.add_column(heading, overflow="fold")
    for model in found:
        if model.description is None:
            table.add_row(model.id, f"unreadable: {model.problem}", "", "", "")
            continue
        names = [label.name for label in model.description.labels]
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        table.add_row(
            model.id, shown, model.description.purpose.modality, model.description.licence,
            "starter" if model.starter else "",
        )  # fmt: skip
    Console(highlight=False).print(table)
    if not found:
        click.echo("None.")
    for folder, backbone in installed_backbones():
        told = "unreadable" if backbone is None else f"{backbone.backbone}, {backbone.licence}"
        click.echo(f"Backbone to train from: {folder.name} ({told})")
    click.echo(f"Your own models belong into {user_folder() / 'models'}")


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

    PATH is MedDINOv3's model.pth, a DINOv3 .pth or .safetensors, a results folder of MedDINOv3's
    nnU-Net fork, or a .zip that `models export` wrote.
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
    """Write MODEL as one file TARGET (.zip), to carry to another machine."""
    from meddinov3.model_archive import export_model

    folder = find_model(model)
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
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="The whole model.json.")
def info(model: str, as_json: bool) -> None:
    """Describe MODEL, an id or a folder."""
    description = read_description(find_model(model))
    if as_json:
        click.echo(description.to_json(), nl=False)
        return
    for heading, text in _facts(description):
        if text:
            click.echo(f"{heading:<14}{text}")


def _facts(description: ModelDescription) -> list[tuple[str, str]]:
    purpose, sampling = description.purpose, description.sampling
    extent = " x ".join(f"{mm:.0f}" for mm in purpose.extent) if purpose.extent else ""
    spacing = " x ".join(f"{mm:g}" for mm in sampling.spacing) if sampling.spacing else "as scanned"
    slices = f"{sampling.orientation.code} along {sampling.orientation.slice_axis}, {spacing} mm"
    if len(sampling.slice_offsets) > 1:
        slices += f", with neighbours at {', '.join(f'{o:g}' for o in sampling.slice_offsets)} mm"
    made_on = {"boxes": "boxes around the structure", "scans": "whole scans"}[purpose.trained_on]
    scores = description.scores.get("dice", {})
    return [
        ("id", description.id),
        ("name", description.name),
        ("summary", description.summary),
        ("finds", ", ".join(f"{label.name} ({label.value})" for label in description.labels)),
        ("channels", ", ".join(f"{c.name} ({c.intensity.kind})" for c in description.channels)),
        ("made for", " ".join(filter(None, (purpose.modality, purpose.body_part)))),
        (
            "trained on",
            made_on + (f" of about {extent} mm (slices x rows x columns)" if extent else ""),
        ),
        ("slices", slices),
        ("network", f"{description.network.backbone} from {description.network.backbone_source}"),
        ("Dice", ", ".join(f"{name} {value}" for name, value in scores.items())),
        ("licence", description.licence),
        ("cite", description.attribution),
    ]
