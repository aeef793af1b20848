"""``meddinov3 models pull``: a backbone of the catalogue, from the Hugging Face hub."""

from __future__ import annotations

import os
import sys

import click
from meddinov3.catalogue import CatalogueEntry, catalogue, entry_of, find_entry, pulled
from meddinov3.description import BackboneDescription
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.hub import Pulled, moved_on
from meddinov3.hub import pull as pull_from_hub
from meddinov3.model_store import (
    BACKBONE_DESCRIPTION_FILE,
    installed_models,
    read_backbone_description,
    user_folder,
)

from meddinov3_training.cli.facts import echo_facts, entry_facts
from meddinov3_training.cli.progress import progress_bar


@click.command()
@click.argument("entry_id", metavar="ID")
@click.option("--name", default="", help="Id of the backbone here; the catalogue's by default.")
@click.option("--revision", default="", help="Commit, branch or tag; the newest by default.")
@click.option("--yes", is_flag=True, help="Accept the licence without being asked.")
@click.option("--check", is_flag=True, help="Only ask whether the hub has something newer.")
def pull(entry_id: str, name: str, revision: str, yes: bool, check: bool) -> None:
    """Download ID, a backbone of the catalogue (see `models list`), once.

    The licence is shown and asked about first. A pull that broke off goes on where it was.
    Afterwards no connection is needed. HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE and HTTPS_PROXY
    mean what they mean elsewhere.
    """
    entry = find_entry(entry_id)
    if entry is None:
        _explain_absence(entry_id)
        return
    name = name or entry.id
    folder = user_folder() / "backbones" / name
    if (folder / BACKBONE_DESCRIPTION_FILE).is_file():
        _explain_presence(read_backbone_description(folder), entry, revision, check)
        return
    if check:
        raise MedDINOv3Error(
            "no-backbone",
            f"There is no backbone '{name}' to compare with the hub.",
            f"Run: meddinov3 models pull {entry.id}",
        )
    echo_facts([*entry_facts(entry), ("hub", os.environ.get("HF_ENDPOINT", ""))])
    _ask(yes)
    made = _pull(entry, name, revision)
    for note in made.notes:
        click.echo(f"  {note}")
    others = [path.name for path in pulled(entry) if path != made.folder]
    if others:
        click.echo(f"  pulled from the same place before: {', '.join(others)}")
    click.echo(f"Pulled {made.hub.repository} at revision {made.hub.revision}")
    click.echo(f"Train from it: meddinov3 finetune DATASET --base {name} -o RUN")


def _pull(entry: CatalogueEntry, name: str, revision: str) -> Pulled:
    try:
        with progress_bar() as report:
            return pull_from_hub(entry, name, revision=revision, report=report)
    except (Cancelled, KeyboardInterrupt):
        click.echo("What has arrived is kept; the next pull goes on from there.", err=True)
        raise


def _ask(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise MedDINOv3Error(
            "no-consent",
            "Nothing was downloaded: nobody is there to accept the licence.",
            "Read it at the address above, then run the command again with --yes.",
        )
    click.confirm("Download it, and accept this licence?", abort=True)


def _explain_absence(name: str) -> None:
    if any(model.starter and model.id == name for model in installed_models()):
        click.echo(f"'{name}' ships with MedDINOv3; there is nothing to download.")
        return
    raise MedDINOv3Error(
        "not-in-catalogue",
        f"The catalogue has no '{name}'.",
        f"It has: {', '.join(entry.id for entry in catalogue())}.",
    )


def _explain_presence(
    backbone: BackboneDescription, entry: CatalogueEntry, revision: str, check: bool
) -> None:
    """Say what is here; open a connection only for ``--check``."""
    if backbone.hub is not None and (
        entry_of(backbone) != entry or not backbone.hub.revision.startswith(revision)
    ):
        raise MedDINOv3Error(
            "exists",
            f"'{backbone.id}' is here already, from {backbone.hub.repository} at revision "
            f"{backbone.hub.revision}.",
            f"Choose another --name, or run: meddinov3 models remove {backbone.id}",
        )
    if check:
        later = moved_on(backbone)
        if later is None:
            click.echo(f"'{backbone.id}' is what the hub has.")
        else:
            click.echo(f"The hub has another file by now, at revision {later.revision}.")
            click.echo(f"Get it with: meddinov3 models pull {entry.id} --name NEW-NAME")
        return
    source = f"revision {backbone.hub.revision}" if backbone.hub else f"{backbone.source}, by hand"
    click.echo(f"'{backbone.id}' is here already ({source}); nothing was downloaded.")
