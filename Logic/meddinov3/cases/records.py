"""What a case library writes down: ``cases.json``, and nnU-Net's ``dataset.json`` from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from meddinov3.cases.change import Change
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Label
from meddinov3.plain_json import from_plain, to_plain

CASES_FILE = "cases.json"
DATASET_FILE = "dataset.json"
FORMAT = "meddinov3-cases"
VERSION = 1
ENDING = ".nrrd"  # keeps geometry as it is, where NIfTI rounds it to float32
CASE_ID = re.compile(r"case_[0-9]{4,}")
STATUSES = ("annotated", "reviewed", "excluded")


@dataclass(frozen=True)
class Changed:
    """How much of a proposal's structure a person changed; see :class:`Change`."""

    dice: float
    added_ml: float
    removed_ml: float


@dataclass(frozen=True)
class Provenance:
    """Where a case's label map comes from.

    Attributes:
        model: id of the model that proposed it; "" if it was drawn by hand.
        model_sha256: of that model's weights.
        changed: by name of the structure.
    """

    model: str = ""
    model_sha256: str = ""
    changed: dict[str, Changed] = field(default_factory=dict)


def changed(found: Mapping[str, Change]) -> dict[str, Changed]:
    """What is kept of the changes in a :class:`Provenance`."""
    return {name: Changed(c.dice, c.added_ml, c.removed_ml) for name, c in found.items()}


@dataclass(frozen=True)
class CaseRecord:
    """What is known of a case. Nothing says whose it is or where it came from.

    Attributes:
        id: ``case_0001``; serial, never used again.
        status: one of ``STATUSES``; excluded cases take no part in training.
        added: when it was added or last replaced, ISO 8601 in UTC.
        size: voxels along (i, j, k).
        spacing: mm along (i, j, k).
        voxels: number of voxels of each structure, by name.
        image_sha256: of each channel's values, see :func:`values_sha256`.
        label_sha256: of the label map's values.
        provenance: which model proposed it, and what was changed.
        note: the user's own words.
        revision: 1, and one more each time the case is replaced.
    """

    id: str
    status: str
    added: str
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    voxels: dict[str, int]
    image_sha256: tuple[str, ...]
    label_sha256: str
    provenance: Provenance = field(default_factory=Provenance)
    note: str = ""
    revision: int = 1

    @property
    def _stem(self) -> str:
        # Files are never overwritten: a reader sees the old case or the new one, whole.
        return self.id if self.revision == 1 else f"{self.id}_r{self.revision}"

    @property
    def images(self) -> tuple[str, ...]:
        """Image files of the channels, relative to the library."""
        return tuple(
            f"imagesTr/{self._stem}_{n:04d}{ENDING}" for n in range(len(self.image_sha256))
        )

    @property
    def label(self) -> str:
        """The label map's file, relative to the library."""
        return f"labelsTr/{self._stem}{ENDING}"

    @property
    def thumbnail(self) -> str:
        """The small picture's file, relative to the library."""
        return f"thumbnails/{self._stem}.png"

    @property
    def files(self) -> tuple[str, ...]:
        """All files, relative to the library."""
        return (*self.images, self.label, self.thumbnail)


@dataclass(frozen=True)
class LibraryRecord:
    """The content of ``cases.json``, from which ``dataset.json`` follows.

    Attributes:
        name: for people.
        channels: names in order; ``CT`` means Hounsfield units.
        labels: structures with values, colours and codes.
        cases: in the order of their ids.
        next: number of the next case.
        licence, reference: as the user states them.
    """

    name: str
    channels: tuple[str, ...]
    labels: DatasetLabels
    cases: tuple[CaseRecord, ...] = ()
    next: int = 1
    licence: str = ""
    reference: str = ""

    @property
    def training_cases(self) -> tuple[CaseRecord, ...]:
        """Those that are not excluded."""
        return tuple(case for case in self.cases if case.status != "excluded")

    def to_json(self) -> str:
        """The text of ``cases.json``."""
        content = {"format": FORMAT, "version": VERSION} | to_plain(self)
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def dataset_json(self) -> str:
        """The text of ``dataset.json``.

        Cases are named one by one, as nnU-Net allows: it then takes these and no other file in
        the folders. So excluded cases stay where they are.
        """
        listed = {
            case.id: {"images": list(case.images), "label": case.label}
            for case in self.training_cases
        }
        content = dataset_content(self.name, self.channels, self.labels, len(listed))
        content |= {"licence": self.licence, "reference": self.reference, "dataset": listed}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def dataset_content(
    name: str, channels: Sequence[str], labels: DatasetLabels, cases: int
) -> dict[str, Any]:
    """The entries of a ``dataset.json`` that nnU-Net asks for."""
    entries: dict[str, Any] = {"background": 0}
    for label, members in zip(labels.labels, labels.members, strict=True):
        entries[label.name] = list(members) if labels.regions else label.value
    if labels.ignore is not None:
        entries["ignore"] = labels.ignore
    content = {
        "name": name,
        "channel_names": {str(n): channel for n, channel in enumerate(channels)},
        "labels": entries,
        "numTraining": cases,
        "file_ending": ENDING,
    }
    if labels.regions:
        content["regions_class_order"] = [label.value for label in labels.labels]
    return content


def is_library(folder: Path) -> bool:
    """Whether a folder is a case library that this program made."""
    try:
        content = json.loads((folder / CASES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def no_library(name: str, reason: object) -> MedDINOv3Error:
    """The refusal of a folder that is no library, or has gone."""
    return MedDINOv3Error(
        "no-library",
        f"'{name}' is no case library of MedDINOv3: {CASES_FILE} is missing or damaged ({reason}).",
        "Give a folder that 'meddinov3 dataset create' made, or import the dataset into one.",
    )


def read_record(folder: Path) -> LibraryRecord:
    """Read a library's ``cases.json``.

    Raises:
        MedDINOv3Error: it is none of ours, damaged, or from a newer version.
    """
    path = folder / CASES_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            raise ValueError("it states another format")
    except (OSError, ValueError) as error:
        raise no_library(folder.name, getattr(error, "strerror", None) or error) from error
    version = content.pop("version", None)
    if isinstance(version, int) and version > VERSION:
        raise MedDINOv3Error(
            "newer-library",
            f"The case library '{folder.name}' was written by a newer version of MedDINOv3.",
            "Update MedDINOv3.",
        )
    try:
        record: LibraryRecord = from_plain(LibraryRecord, content)
        if any(case.status not in STATUSES for case in record.cases):
            raise ValueError("unknown status")
        _check_ids(record)
    except (KeyError, TypeError, ValueError) as error:
        raise MedDINOv3Error(
            "bad-library",
            f"{CASES_FILE} of the case library '{folder.name}' is damaged: {error}.",
            "Restore the file from a backup; images and label maps are not affected.",
        ) from error
    return record


def _check_ids(record: LibraryRecord) -> None:
    """Paths are made of the ids, and files are deleted by them."""
    ids = [case.id for case in record.cases]
    if len(set(ids)) != len(ids):
        raise ValueError("a case is there twice")
    for case in record.cases:
        if CASE_ID.fullmatch(case.id) is None or int(case.id.removeprefix("case_")) >= record.next:
            raise ValueError(f"'{case.id}' is no case's id")
        if case.revision < 1:
            raise ValueError(f"'{case.id}' has the revision {case.revision}")


def check_label_names(labels: Sequence[Label]) -> None:
    """Refuse names that a library cannot hold.

    Raises:
        MedDINOv3Error: a name is empty, reserved or there twice, or a value is out of range.
    """
    names = [label.name.strip().casefold() for label in labels]
    for label, name in zip(labels, names, strict=True):
        if not name or not label.name.isprintable() or name in ("background", "ignore"):
            raise MedDINOv3Error(
                "bad-label",
                f"'{label.name}' cannot name a structure.",
                "Use a name of letters, digits and blanks; 'background' and 'ignore' are taken.",
            )
        if names.count(name) > 1 or [other.value for other in labels].count(label.value) > 1:
            raise MedDINOv3Error(
                "label-twice",
                f"The structure '{label.name}' or its value {label.value} is there already.",
                "Give each structure its own name and value; capitals make no difference.",
            )
        if not 0 < label.value <= np.iinfo(np.uint16).max:
            raise MedDINOv3Error(
                "bad-label",
                f"The value {label.value} of '{label.name}' is not between 1 and 65535.",
                "Choose another value.",
            )


def checked_status(status: str) -> str:
    """The status, if it is one.

    Raises:
        MedDINOv3Error: it is none of ``STATUSES``.
    """
    if status not in STATUSES:
        raise MedDINOv3Error(
            "bad-status", f"'{status}' is no status of a case.", f"Use {', '.join(STATUSES)}."
        )
    return status
