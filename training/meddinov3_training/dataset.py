"""Folders of annotated cases: nnU-Net's raw layout, and the Decathlon's older lists.

Nothing in such a folder is ever changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from meddinov3.cases.records import is_library, read_record
from meddinov3.dataset_labels import read_labels
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Label
from meddinov3.reading import read_label_map, read_volume
from meddinov3.volume import Volume, join_channels


@dataclass(frozen=True)
class Case:
    """One annotated scan: an image file for each channel, and a label map."""

    id: str
    images: tuple[Path, ...]
    label: Path

    def read(self) -> Volume:
        """Read the channels, later ones resampled to the first."""
        return join_channels([read_volume(path) for path in self.images])


@dataclass(frozen=True)
class Dataset:
    """What ``dataset.json`` says, and the cases it names.

    Attributes:
        name: for people.
        channels: names in order.
        labels: structures; for region-based datasets in the order they are written.
        members: for each label the label-map values that make it up.
        regions: whether labels are regions that may overlap.
        ignore: value that is not annotated, or None.
        cases: for training.
        licence, reference: as stated by the dataset.
        folder: where it lies.
    """

    name: str
    channels: tuple[str, ...]
    labels: tuple[Label, ...]
    members: tuple[tuple[int, ...], ...]
    regions: bool
    ignore: int | None
    cases: tuple[Case, ...]
    licence: str = ""
    reference: str = ""
    folder: Path | None = None


def read_dataset(folder: Path, *, complete: bool = True) -> Dataset:
    """Read ``dataset.json`` and find the training cases.

    A case library of ours (``cases.json``) gives its own labels, with colours and codes, and
    its cases without those that are excluded.

    Args:
        folder: never changed.
        complete: refuse a dataset without cases or with files missing.

    Raises:
        MedDINOv3Error: it is missing, damaged, or files it names are missing (all listed).
    """
    if is_library(folder):
        return _of_library(folder, complete)
    path = folder / "dataset.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MedDINOv3Error(
            "no-dataset",
            f"'{folder}' is no dataset: dataset.json is missing or damaged ({error}).",
            "Give a folder in nnU-Net's raw layout (imagesTr, labelsTr, dataset.json).",
        ) from error
    try:
        channels = content.get("channel_names") or content["modality"]
        names = tuple(channels[key] for key in sorted(channels, key=int))
        read = read_labels(content)
        cases = _cases(folder, content, len(names))
        short = [case.id for case in cases if len(case.images) != len(names)]
        if short:
            raise ValueError(f"the channels of {short[0]}: {len(names)} images are needed")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MedDINOv3Error(
            "bad-dataset",
            f"dataset.json of '{folder.name}' lacks or garbles {error}.",
            "Compare it with nnU-Net's description of the raw layout.",
        ) from error
    if complete:
        _check_complete(folder, cases)
    return Dataset(
        content.get("name", folder.name),
        names,
        read.labels,
        read.members,
        read.regions,
        read.ignore,
        tuple(cases),
        str(content.get("licence", content.get("license", ""))),
        str(content.get("reference", "")),
        folder,
    )


def _of_library(folder: Path, complete: bool) -> Dataset:
    record = read_record(folder)
    labels = record.labels
    if complete and not labels.labels:
        raise MedDINOv3Error(
            "no-labels",
            f"The case library '{folder.name}' has no structures yet.",
            "Define one with 'meddinov3 dataset define', and draw it.",
        )
    cases = tuple(
        Case(case.id, tuple(folder / name for name in case.images), folder / case.label)
        for case in record.training_cases
    )
    if complete:
        _check_complete(folder, cases)
    return Dataset(
        record.name, record.channels, labels.labels, labels.members, labels.regions,
        labels.ignore, cases, record.licence, record.reference, folder,
    )  # fmt: skip


def _check_complete(folder: Path, cases: Sequence[Case]) -> None:
    missing = [p for case in cases for p in (*case.images, case.label) if not p.is_file()]
    if missing or not cases:
        listed = ", ".join(_shown(folder, p) for p in missing[:10])
        raise MedDINOv3Error(
            "cases-missing",
            f"'{folder.name}' has {len(cases)} training cases; {len(missing)} files are missing"
            + (f": {listed}." if missing else "."),
            "Complete the folder, or correct dataset.json.",
        )


def _shown(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _cases(folder: Path, content: dict[str, Any], channels: int) -> list[Case]:
    listed = content.get("dataset")
    if isinstance(listed, dict):  # nnU-Net's explicit file lists
        return [
            Case(
                name,
                tuple(_inside(folder, p) for p in entry["images"]),
                _inside(folder, entry["label"]),
            )
            for name, entry in listed.items()
        ]
    listed = content.get("training")
    if isinstance(listed, list) and listed and "file_ending" not in content:
        return [_decathlon_case(folder, entry) for entry in listed]
    ending = content["file_ending"]
    return [
        Case(
            name := label.name.removesuffix(ending),
            tuple(folder / "imagesTr" / f"{name}_{n:04d}{ending}" for n in range(channels)),
            label,
        )
        for label in sorted((folder / "labelsTr").glob(f"*{ending}"))
        if not label.name.startswith(".")  # macOS leaves such files beside real ones
    ]


def _decathlon_case(folder: Path, entry: dict[str, str]) -> Case:
    label = _inside(folder, entry["label"])
    return Case(label.name.split(".")[0], (_inside(folder, entry["image"]),), label)


def _inside(folder: Path, name: str) -> Path:
    path = Path(name)
    return path if path.is_absolute() else folder / path


def read_case_label(case: Case, volume: Volume, dataset: Dataset) -> np.ndarray:
    """The case's label map (k, j, i), checked against its scan and the dataset.

    Raises:
        MedDINOv3Error: it lies on another grid, or holds values that dataset.json does not name.
    """
    labels, grid = read_label_map(case.label)
    if not grid.same_as(volume.grid, tolerance=0.1):
        raise MedDINOv3Error(
            "label-grid",
            f"The label map of case '{case.id}' is not on its scan's grid.",
            "Resample it to the scan (nearest neighbour).",
        )
    known = {0, *(value for members in dataset.members for value in members), dataset.ignore}
    found = {int(value) for plane in labels for value in np.unique(plane)}
    if not found <= known:
        raise MedDINOv3Error(
            "unknown-values",
            f"The label map of case '{case.id}' holds {sorted(found - known)}, which dataset.json "
            "does not name.",
            "Name the structure in dataset.json, or remove the value from the label map.",
        )
    return labels


def content_hash(cases: Sequence[Case]) -> str:
    """Hexadecimal SHA-256 of the cases' images and label maps, whatever they are called."""
    digest = hashlib.sha256()
    for case in cases:
        for path in (*case.images, case.label):
            with open(path, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
