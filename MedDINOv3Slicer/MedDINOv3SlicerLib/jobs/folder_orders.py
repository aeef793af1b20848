"""A folder of scans as orders of a batch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from meddinov3.errors import MedDINOv3Error
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.jobs.orders import FileOrder

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
RESULT = ".seg.nrrd"
CHANNEL = re.compile(r"(.+)_(\d{4})")  # as nnU-Net names the files of several channels


def folderOrders(
    folder: Path,
    output: Path | None,
    model: str,
    channels: Sequence[str],
    *,
    device: str = "auto",
    labels: tuple[str, ...] | None = None,
    full: bool = False,
    again: bool = False,
) -> tuple[list[FileOrder], list[Path]]:
    """Orders for the scans in a folder.

    Image files count, and folders in it as DICOM series. A model with several channels needs
    nnU-Net's names: ``scan_0000.nii.gz``, ``scan_0001.nii.gz``.

    Args:
        folder: with scans.
        output: where results go; None puts them beside the scans.
        model, device, labels, full: see :class:`FileOrder`.
        channels: the model's.
        again: also segment what has a result already.

    Returns:
        Orders, and results that are there already and were left out.

    Raises:
        MedDINOv3Error: there is no scan, two results would have one name, or a channel is missing.
    """
    try:
        scans = _scans(folder, channels)
    except OSError as error:
        raise MedDINOv3Error(
            "no-folder",
            _("The folder '{name}' cannot be read: {reason}.").format(
                name=folder.name, reason=error.strerror or error
            ),
            _("Choose a folder with scans."),
        ) from error
    if not scans:
        raise MedDINOv3Error(
            "no-scan",
            _("There is no scan in '{name}'.").format(name=folder.name),
            _("Choose a folder with {endings} files or DICOM folders.").format(
                endings=", ".join(ENDINGS)
            ),
        )
    names = [name.casefold() for name in scans]  # Windows does not tell A from a
    twice = sorted(name for name in scans if names.count(name.casefold()) > 1)
    if twice:
        raise _sameNames(twice[0])
    orders, present = [], []
    for name, files in scans.items():
        target = (output or folder) / f"{name}{RESULT}"
        if target.exists() and not again:
            present.append(target)
            continue
        orders.append(FileOrder(files, (target,), model, device, labels, full))
    return orders, present


def _scans(folder: Path, channels: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Files by channel, by the name of the scan."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        name = _nameOf(path)
        if name is None:
            continue
        channel, match = 0, CHANNEL.fullmatch(name)
        if match is not None and (len(channels) > 1 or match[2] == "0000"):
            name, channel = match[1], int(match[2])
        if len(channels) > 1 and (match is None or channel >= len(channels)):
            continue
        if channels[channel] in found.get(name, {}):
            raise _sameNames(name)
        found.setdefault(name, {})[channels[channel]] = path
    for name, files in found.items():
        missing = [channel for channel in channels if channel not in files]
        if missing:
            raise MedDINOv3Error(
                "wrong-channels",
                _("The scan '{name}' has no file for {missing}.").format(
                    name=name, missing=", ".join(missing)
                ),
                _("Name the files of a scan as NAME_0000, NAME_0001 in the order {names}.").format(
                    names=", ".join(channels)
                ),
            )
    return found


def _nameOf(path: Path) -> str | None:
    """Name of the scan that a path holds, None if it holds none."""
    lower = path.name.lower()
    if path.name.startswith(".") or lower.endswith(RESULT):
        return None
    if path.is_dir():
        return path.name if any(entry.is_file() for entry in path.iterdir()) else None
    ending = next((ending for ending in ENDINGS if lower.endswith(ending)), None)
    return None if ending is None else path.name[: -len(ending)]


def _sameNames(name: str) -> MedDINOv3Error:
    return MedDINOv3Error(
        "same-names",
        _("Several scans are called '{name}'; their results would have one name.").format(
            name=name
        ),
        _("Give them different names, or put them into separate folders."),
    )
