"""``meddinov3 dataset create``, ``add`` and the like: case libraries of our own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import click
from meddinov3.cases.library import Library
from meddinov3.cases.records import STATUSES, CaseRecord
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.labels import Colour
from meddinov3.plain_json import to_plain
from meddinov3.terminology import named_label
from rich.console import Console
from rich.markup import escape
from rich.table import Table

LIBRARY = click.argument("library", type=click.Path(path_type=Path))
HEX = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What the dataset is called.")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    required=True,
    help="CT (Hounsfield units) or the MR sequence. Repeat for each, in order.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A structure, or 'ignore' for what is not annotated. Repeat for each.",
)
@click.option("--licence", default="", help="Of the scans.")
@click.option("--reference", default="", help="Where they come from, for those who cite.")
def create(
    folder: Path,
    name: str,
    channels: tuple[str, ...],
    labels: tuple[str, ...],
    licence: str,
    reference: str,
) -> None:
    """Make an empty case library in FOLDER, which must be new or empty."""
    made = Library.create(
        folder, name, channels, _labels(labels), licence=licence, reference=reference
    )
    for label in made.labels.labels:
        click.echo(f"  {label.value:>3}  {label.name}")
    click.echo(f"made {folder}; next: meddinov3 dataset add {folder} --image SCAN --label LABELS")


def _labels(texts: Sequence[str]) -> DatasetLabels:
    """NAME=VALUE in words; without a value the next one above all before."""
    labels, ignore, last = [], None, 0
    for number, text in enumerate(texts):
        name, _, value = text.rpartition("=") if "=" in text else (text, "", str(last + 1))
        if not value.strip().isdigit():
            raise click.UsageError(f"--label {text}: the value must be a whole number.")
        if name.strip().lower() == "ignore":
            ignore = int(value)
        else:
            labels.append(named_label(name.strip(), int(value), number))
        last = max(last, int(value))
    if ignore in [label.value for label in labels]:
        raise click.UsageError(f"--label ignore: the value {ignore} is a structure's.")
    return DatasetLabels(tuple(labels), tuple((x.value,) for x in labels), False, ignore)


@click.command()
@LIBRARY
@click.argument("name")
@click.option("--colour", metavar="RRGGBB", help="Chosen by the name if left out.")
def define(library: Path, name: str, colour: str | None) -> None:
    """Define NAME as a further structure of LIBRARY; existing values stay."""
    value = Library.open(library).define_label(name, None if colour is None else _rgb(colour))
    click.echo(f"'{name}' is value {value}")


@click.command()
@LIBRARY
@click.argument("name")
def undefine(library: Path, name: str) -> None:
    """Remove the structure NAME, which no case of LIBRARY has."""
    Library.open(library).remove_label(name)
    click.echo(f"'{name}' is no longer a structure")


def _rgb(text: str) -> Colour:
    found = HEX.fullmatch(text)
    if found is None:
        raise click.UsageError("--colour takes six hexadecimal digits, e.g. dd8265.")
    red, green, blue = (int(part, 16) for part in found.groups())
    return (red, green, blue)


@click.command()
@LIBRARY
@click.option(
    "--image",
    "images",
    multiple=True,
    required=True,
    metavar="FILE[,FILE...]",
    help="Scan or DICOM folder; one for each channel, in order.",
)
@click.option(
    "--label",
    required=True,
    type=click.Path(path_type=Path),
    help="Label map, .seg.nrrd, RTSTRUCT or DICOM SEG.",
)
@click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="THEIRS=OURS",
    help="A structure of the file and the library's name for it; THEIRS= leaves it out.",
)
@click.option("--leave-out-others", is_flag=True, help="Structures that the library does not have.")
@click.option("--series", type=click.IntRange(min=1), help="Which of several DICOM series.")
@click.option("--note", default="", help="Your own words; kept as they are.")
@click.option("--replace", "replaced", default="", metavar="CASE", help="Put it in CASE's place.")
@click.option("--empty", is_flag=True, help="Nothing is drawn because nothing is there.")
def add(
    library: Path,
    images: tuple[str, ...],
    label: Path,
    pairs: tuple[str, ...],
    leave_out_others: bool,
    series: int | None,
    note: str,
    replaced: str,
    empty: bool,
) -> None:
    """Add a scan with its labels to LIBRARY.

    Structures are matched by name, then by SNOMED code. Of the files only voxels and geometry
    are kept: no name, no DICOM tag.
    """
    from meddinov3.cases.adding import add_files

    if not all("=" in pair for pair in pairs):
        raise click.UsageError("--map takes THEIRS=OURS.")
    mapping = {theirs: ours for theirs, _, ours in (pair.rpartition("=") for pair in pairs)}
    opened = Library.open(library)
    added = add_files(
        opened,
        _paths(images),
        label,
        mapping=mapping,
        leave_out_others=leave_out_others,
        series=series,
        note=note,
        allow_empty=empty,
        replaced=replaced,
    )
    click.echo(f"replaced {added.id}" if replaced else f"added as {added.id}")
    for name, voxels in opened.case(added.id).voxels.items():
        click.echo(f"  {name:<24}{voxels:>10} voxels")
    if added.left_out:
        click.echo(f"  left out: {', '.join(added.left_out)}")
    for text in added.notes:
        click.secho(f"  Note: {text}", fg="yellow")


def _paths(texts: Sequence[str]) -> list[Path]:
    """Commas separate channels, unless a file has one in its name."""
    return [
        Path(part)
        for text in texts
        for part in ([text] if Path(text).exists() else text.split(","))
    ]


@click.command("list")
@LIBRARY
@click.option("--json", "as_json", is_flag=True, help="All there is to know, for programs.")
def list_cases(library: Path, as_json: bool) -> None:
    """List the cases of LIBRARY."""
    record = Library.open(library).record
    if as_json:
        click.echo(json.dumps(to_plain(record), indent=2))
        return
    table = Table(box=None, pad_edge=False, title_justify="left", title_style="bold")
    table.title = escape(f"{record.name}: {', '.join(record.channels)}")
    for heading in ("case", "status", "voxels", "spacing (mm)", "structures", "added", "note"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("case", "status"))
    for case in record.cases:
        table.add_row(*map(escape, _row(case)))
    Console(highlight=False).print(table)
    excluded = len(record.cases) - len(record.training_cases)
    click.echo(f"{len(record.cases)} case(s)" + (f", {excluded} excluded" if excluded else ""))
    names = ", ".join(f"{label.name} ({label.value})" for label in record.labels.labels)
    click.echo(f"structures: {names or 'none yet'}")


def _row(case: CaseRecord) -> tuple[str, ...]:
    drawn = [name for name, voxels in case.voxels.items() if voxels]
    return (
        case.id,
        case.status,
        " x ".join(map(str, case.size)),
        " x ".join(f"{step:.3g}" for step in case.spacing),
        ", ".join(drawn) or "none",
        case.added[:10],
        case.note,
    )


@click.command()
@LIBRARY
@click.argument("cases", nargs=-1, required=True)
@click.option("--status", type=click.Choice(STATUSES), required=True)
def mark(library: Path, cases: tuple[str, ...], status: str) -> None:
    """Mark CASES of LIBRARY; excluded ones take no part in training."""
    opened = Library.open(library)
    for case in cases:
        opened.case(case)  # all or none
    for case in cases:
        opened.set_status(case, status)
        click.echo(f"{case} is {status}")


@click.command()
@LIBRARY
@click.argument("cases", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(library: Path, cases: tuple[str, ...], yes: bool) -> None:
    """Delete CASES of LIBRARY for good; their ids are not used again."""
    opened = Library.open(library)
    for case in cases:
        opened.case(case)
    if not yes:
        click.confirm(f"Delete {', '.join(cases)} for good?", abort=True)
    for case in cases:
        opened.remove(case)
        click.echo(f"removed {case}")
