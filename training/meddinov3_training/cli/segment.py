"""``meddinov3 segment``: scans on disk to segmentations on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from meddinov3.atomic import whole_file
from meddinov3.dicom_headers import is_dicom
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import find_model

from meddinov3_training.cli.progress import progress_bar
from meddinov3_training.cli.torch_loading import loading_torch

if TYPE_CHECKING:
    from meddinov3.segmentation import Segmentation

FILE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".dcm")  # .seg.nrrd ends in .nrrd
OTHER_FILES = (".gz", ".mhd", ".nhdr", ".hdr", ".img", ".dicom", ".tif", ".png", ".json", ".mgz")


@click.command()
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="A folder (gets NAME.nii.gz and NAME.seg.nrrd), or one file: .nii.gz, .nrrd, "
    ".mha, .seg.nrrd, or .dcm (DICOM SEG, for DICOM input).",
)
@click.option("-m", "--model", help="Id or folder; may be left out if only one is installed.")
@click.option(
    "-c",
    "--channel",
    multiple=True,
    metavar="NAME=FILE",
    help="A further channel, resampled to the first. Repeat for each.",
)
@click.option(
    "--series",
    type=click.IntRange(min=1),
    help="Which DICOM series of a folder that holds several (without it they are listed).",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--precision", default="auto", show_default=True, help="auto, fp32, bf16 or fp16.")
@click.option(
    "--roi",
    metavar="REGION",
    help="Only here: R0,R1,A0,A1,S0,S1 in mm (RAS, as Slicer shows), a markups ROI "
    "(.mrk.json), or a label map.",
)
@click.option("--labels", metavar="A,B", help="Only these labels (names or values).")
@click.option("--mirror", is_flag=True, help="Average over mirrored copies where the model allows.")
@click.option("--largest", is_flag=True, help="Keep each label's largest connected part.")
@click.option("--fill-holes", is_flag=True, help="Fill holes in each label.")
@click.option(
    "--minimum-volume",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="ML",
    help="Remove connected parts smaller than this.",
)
@click.option("--batch", type=click.IntRange(min=1), help="Slices at a time.")
@click.option("--preview", is_flag=True, help="Also write NAME_preview.png.")
@click.option(
    "--report", is_flag=True, help="Also write NAME_report.json: versions, times, memory."
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def segment(
    inputs: tuple[Path, ...],
    output: Path,
    model: str | None,
    channel: tuple[str, ...],
    series: int | None,
    device: str,
    precision: str,
    roi: str | None,
    labels: str | None,
    mirror: bool,
    largest: bool,
    fill_holes: bool,
    minimum_volume: float,
    batch: int | None,
    preview: bool,
    report: bool,
    quiet: bool,
) -> None:
    """Segment INPUTS: NIfTI, NRRD, MHA files or folders with one DICOM series each."""
    channels = _channels(channel)
    scans: list[Path | None] = list(inputs) or ([None] if channels else [])
    names = _names(scans, channels)
    as_file = output.name.lower().endswith(FILE_ENDINGS) and not output.is_dir()
    _check(scans, channels, roi, output, as_file, names)

    find_model(model)  # a misspelt name should not wait for torch

    with loading_torch():
        from meddinov3.inference.cleanup import Cleanup
        from meddinov3.inference.device import describe_device
        from meddinov3.preview import write_preview
        from meddinov3.segmentation import load_model, read_scan
        from meddinov3.segmentation import segment as run

    loaded = load_model(model, device, precision)
    if not quiet:
        where = describe_device(loaded.device)
        click.echo(f"Model {loaded.description.id} on {where}, {loaded.precision}")
    folder = output.parent if as_file else output

    def one(scan: Path | None, name: str) -> None:
        with progress_bar(quiet) as show:
            result = run(
                scan,
                loaded,
                channels=channels,
                series=series,
                region=roi,
                labels=None if labels is None else labels.split(","),
                mirror=mirror,
                cleanup=Cleanup(largest, fill_holes, minimum_volume),
                batch=batch,
                report=show,
            )
        targets = [output] if as_file else _in_folder(folder, name)
        for target in targets:
            result.save(target)
        if preview:
            volume = read_scan(scan, channels, loaded.description, series)
            targets.append(folder / f"{name}_preview.png")
            write_preview(targets[-1], volume, result, loaded.description.name)
        if report:
            targets.append(_report(folder / f"{name}_report.json", result))
        if not quiet:
            _tell(name, result, targets)

    failed = []
    for scan, name in zip(scans, names, strict=True):
        try:
            one(scan, name)
        except MedDINOv3Error as error:
            if len(scans) == 1:
                raise
            failed.append(name)  # the others need not suffer
            click.secho(f"{name}: not segmented. {error}", fg="red", err=True)
    if failed:
        raise MedDINOv3Error(
            "some-failed",
            f"{len(failed)} of {len(scans)} scans were not segmented: {', '.join(failed)}.",
            "The reasons stand above; the results of the others are complete.",
        )


def _channels(pairs: tuple[str, ...]) -> dict[str, str]:
    channels = dict(pair.partition("=")[::2] for pair in pairs)
    if len(channels) != len(pairs) or not all(channels.values()):
        raise click.UsageError("--channel takes NAME=FILE, each name once.")
    return channels


def _names(scans: list[Path | None], channels: dict[str, str]) -> list[str]:
    """What the outputs are called; inputs of one name would overwrite each other."""
    from meddinov3.reading import stem

    files = [scan if scan is not None else Path(next(iter(channels.values()))) for scan in scans]
    names = [stem(path) for path in files]
    folded = [name.casefold() for name in names]  # Windows does not tell A from a
    twice = sorted({name for name in names if folded.count(name.casefold()) > 1})
    if twice:
        raise MedDINOv3Error(
            "same-names",
            f"Several inputs are called '{twice[0]}'; their results would overwrite each other.",
            "Segment them into separate folders.",
        )
    return names


def _check(
    scans: list[Path | None],
    channels: dict[str, str],
    roi: str | None,
    output: Path,
    as_file: bool,
    names: list[str],
) -> None:
    """Refuse beforehand what would fail after the work is done, or overwrite what was given."""
    from meddinov3.writing import check_nifti_twin, check_not_read

    if not scans:
        raise click.UsageError("Give at least one scan.")
    if len(scans) > 1 and (as_file or channels):
        raise click.UsageError(
            "With several scans --output is a folder and --channel is not possible."
        )
    read = [*(scan for scan in scans if scan is not None), *map(Path, channels.values())]
    missing = next((path for path in read if not path.exists()), None)
    if missing is not None:
        raise MedDINOv3Error(
            "file-missing", f"There is no file or folder '{missing}'.", "Check the path."
        )
    if not as_file and not output.exists() and output.suffix.lower() in OTHER_FILES:
        raise MedDINOv3Error(
            "unknown-ending",
            f"'{output.name}' has no ending that a segmentation can be written to.",
            f"Use {', '.join((*FILE_ENDINGS, '.seg.nrrd'))}, or name a folder.",
        )
    folder = output.parent if as_file else output
    _check_place(folder)
    written = [output] if as_file else [t for name in names for t in _in_folder(folder, name)]
    if roi is not None and _is_file(roi):
        read.append(Path(roi))
    for target in written:
        check_not_read(target, read)
        check_nifti_twin(target)
    if output.suffix.lower() == ".dcm" and as_file:
        _check_dicom(read[0])


def _check_place(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise MedDINOv3Error(
            "cannot-write", f"'{place.name}' is a file, not a folder.", "Choose another --output."
        )
    if not os.access(place, os.W_OK):
        raise MedDINOv3Error(
            "cannot-write",
            f"You may not write to the folder '{place}'.",
            "Choose another --output, or ask for permission.",
        )


def _check_dicom(scan: Path) -> None:
    if not scan.is_dir() and not is_dicom(scan):
        raise MedDINOv3Error(
            "not-dicom",
            f"DICOM SEG refers to DICOM slices, and '{scan.name}' is no DICOM series.",
            "Choose .seg.nrrd or .nii.gz, or give the DICOM folder as input.",
        )


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # too long for a file name: six numbers, perhaps
        return False


def _in_folder(folder: Path, name: str) -> list[Path]:
    """The files a scan's result gets in a folder."""
    return [folder / f"{name}.nii.gz", folder / f"{name}.seg.nrrd"]


def _report(path: Path, result: Segmentation) -> Path:
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(result.report(), indent=2) + "\n", encoding="utf-8")
    return path


def _tell(name: str, result: Segmentation, targets: list[Path]) -> None:
    facts = result.report()
    click.echo(
        f"{name}: {facts['total_seconds']:.1f} s, peak memory {facts['peak_memory_mib']:.0f} MiB"
    )
    for label, volume in facts["volume_ml"].items():
        click.echo(f"  {label:<24}{volume:10.2f} ml")
    for note in result.notes:
        click.secho(f"  Note: {note}", fg="yellow")
    for target in targets:
        click.echo(f"  wrote {target}")
