"""What a run trains on, as it was when the run began: cases, their content, labels.

A run that is continued takes this from ``split.json`` in its folder, so that a dataset that grew,
or was written in another order, changes neither its cases nor its labels.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meddinov3.bundle import sha256
from meddinov3.description import JsonFile
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Label
from meddinov3.progress import ProgressCallback, Steps, StopQuestion

from meddinov3_training.dataset import Case, Dataset

FILE = "split.json"
NEW_RUN = "Put it back as it was, or start a new run, perhaps with this one's model as --base."


@dataclass(frozen=True)
class FileRecord:
    """One file: hexadecimal SHA-256; size in bytes and time of change in ns spare a second look."""

    sha256: str
    bytes: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Read a file."""
        found = path.stat()
        return cls(sha256(path), found.st_size, found.st_mtime_ns)

    def is_at(self, path: Path) -> bool:
        """Whether the file's content is still this; it is read only if its time has changed."""
        found = path.stat()
        if found.st_size != self.bytes:
            return False
        return found.st_mtime_ns == self.changed or sha256(path) == self.sha256


@dataclass(frozen=True)
class CaseRecord:
    """A case: its name, and its images and label map in this order."""

    id: str
    files: tuple[FileRecord, ...]

    @classmethod
    def of(cls, case: Case) -> CaseRecord:
        """Read a case's files."""
        return cls(case.id, tuple(FileRecord.of(path) for path in (*case.images, case.label)))

    def is_of(self, case: Case) -> bool:
        """Whether the case is still what it was."""
        paths = (*case.images, case.label)
        return len(paths) == len(self.files) and all(
            file.is_at(path) for file, path in zip(self.files, paths, strict=True)
        )


@dataclass(frozen=True)
class RunCases(JsonFile):
    """The content of ``split.json``.

    Attributes:
        name, licence, reference: of the dataset.
        channels, labels, members, regions, ignore: see :class:`Dataset`.
        training, held_out: cases in the order in which they are used.
        backbone_hash: of the weights that training started from, "" if there were none.
    """

    file = FILE
    remedy = "Start the run again in a new folder."

    name: str
    licence: str
    reference: str
    channels: tuple[str, ...]
    labels: tuple[Label, ...]
    members: tuple[tuple[int, ...], ...]
    regions: bool
    ignore: int | None
    training: tuple[CaseRecord, ...]
    held_out: tuple[CaseRecord, ...]
    backbone_hash: str

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        training: Sequence[Case],
        held_out: Sequence[Case],
        backbone_hash: str,
        report: ProgressCallback | None = None,
        stop: StopQuestion | None = None,
    ) -> RunCases:
        """Record what a run begins with; every file is read.

        Raises:
            Cancelled: `stop`, asked before each case, said so.
        """
        steps = Steps("noting the cases' content", len(training) + len(held_out), report, stop)

        def record(case: Case) -> CaseRecord:
            steps.check()
            made = CaseRecord.of(case)
            steps.advance()
            return made

        return cls(
            dataset.name, dataset.licence, dataset.reference, dataset.channels, dataset.labels,
            dataset.members, dataset.regions, dataset.ignore,
            tuple(map(record, training)), tuple(map(record, held_out)),
            backbone_hash,
        )  # fmt: skip

    @property
    def content(self) -> str:
        """Hexadecimal SHA-256 of the training cases, as :func:`dataset.content_hash` gives it."""
        digest = hashlib.sha256()
        for case in self.training:
            for file in case.files:
                digest.update(bytes.fromhex(file.sha256))
        return digest.hexdigest()

    def take_up(
        self,
        dataset: Dataset,
        report: ProgressCallback | None = None,
        stop: StopQuestion | None = None,
    ) -> tuple[Dataset, tuple[Case, ...], tuple[Case, ...], list[str]]:
        """Find the run's cases in the dataset as it is now.

        Args:
            dataset: as read now; other cases and labels may have been added.
            report, stop: progress and the question whether to stop, asked between cases.

        Returns:
            The dataset with the run's labels and cases, the training and the held-out cases, and
            what is left aside, in words.

        Raises:
            MedDINOv3Error: a label or channel is another one, or a case is missing or changed.
            Cancelled: `stop` said so.
        """
        notes = self._compare_labels(dataset)
        known = {case.id: case for case in dataset.cases}
        records = (*self.training, *self.held_out)
        _refuse([r.id for r in records if r.id not in known or not _is_there(known[r.id])],
                "missing from the dataset")  # fmt: skip
        steps, wrong = Steps("comparing cases", len(records), report, stop), []
        for record in records:
            steps.check()
            wrong += [] if record.is_of(known[record.id]) else [record.id]
            steps.advance()
        _refuse(wrong, "changed since this run began")
        added = [name for name in known if name not in {record.id for record in records}]
        if added:
            notes.append(f"{_listed(added)}: added to the dataset since this run began, and not "
                         "trained on by it")  # fmt: skip
        training = tuple(known[record.id] for record in self.training)
        held_out = tuple(known[record.id] for record in self.held_out)
        same = dataclasses.replace(
            dataset, name=self.name, licence=self.licence, reference=self.reference,
            channels=self.channels, labels=self.labels, members=self.members,
            regions=self.regions, ignore=self.ignore, cases=(*training, *held_out),
        )  # fmt: skip
        return same, training, held_out, notes

    def _compare_labels(self, dataset: Dataset) -> list[str]:
        """Raise if they differ in substance; returns what was added, in words."""
        for what, then, now in (
            ("channels", ", ".join(self.channels), ", ".join(dataset.channels)),
            ("kind of labels", _kind(self.regions), _kind(dataset.regions)),
            ("ignore label", str(self.ignore), str(dataset.ignore)),
        ):
            if then != now:
                raise _changed(f"The {what} of the dataset were '{then}' and are '{now}' now.")
        then_values, now_values = _values(self.labels, self.members), _values(
            dataset.labels, dataset.members
        )  # fmt: skip
        wrong = [
            f"'{name}' was {_numbers(values)} and is "
            + (_numbers(now_values[name]) if name in now_values else "gone")
            for name, values in then_values.items()
            if now_values.get(name) != values
        ]
        if wrong:
            raise _changed(f"The labels of the dataset changed: {'; '.join(wrong)}.")
        added = [name for name in now_values if name not in then_values]
        if not added:
            return []
        return [f"{_listed(added)}: added to the labels since this run began, and not learnt by it"]


def _changed(message: str) -> MedDINOv3Error:
    return MedDINOv3Error("dataset-changed", message, NEW_RUN)


def _refuse(cases: list[str], what: str) -> None:
    if cases:
        raise _changed(f"Cases of this run are {what}: {_listed(cases)}.")


def _is_there(case: Case) -> bool:
    return all(path.is_file() for path in (*case.images, case.label))


def _values(
    labels: Sequence[Label], members: Sequence[tuple[int, ...]]
) -> dict[str, frozenset[int]]:
    return {label.name: frozenset(values) for label, values in zip(labels, members, strict=True)}


def _numbers(values: frozenset[int]) -> str:
    return " + ".join(map(str, sorted(values)))


def _kind(regions: bool) -> str:
    return "regions that may overlap" if regions else "exclusive classes"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
