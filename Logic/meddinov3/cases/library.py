"""A library of annotated cases in nnU-Net's raw layout, kept by this program.

A library is a folder with ``imagesTr``, ``labelsTr`` and ``dataset.json``, which nnU-Net and
:mod:`meddinov3_training` read, and with ``cases.json``, which says what is known of each case
and marks the folder as ours; no other folder is ever written to. Nothing in it tells whose the
scans are: ids are serial, headers hold the geometry only, no file or node name is kept.

Files are written once and never changed: a replaced case gets new files. ``cases.json`` comes
last, so a crash leaves the library as it was before, and the next opening sweeps what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meddinov3.atomic import make_way, whole_folder
from meddinov3.cases import storage
from meddinov3.cases.content import (
    bytes_needed,
    check_arrays,
    value_counts,
    values_sha256,
    voxels_by_name,
)
from meddinov3.cases.label_editing import with_label, without_label
from meddinov3.cases.label_matching import known_values, match_labels, renumber
from meddinov3.cases.records import (
    STATUSES,
    CaseRecord,
    LibraryRecord,
    Provenance,
    check_label_names,
    checked_status,
    read_record,
)
from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.labels import Code, Colour, Label

if TYPE_CHECKING:  # SimpleITK is slow to import, and Slicer lists cases without it
    from meddinov3.volume import Volume


class Library:
    """A case library on disk. Make one with :meth:`create` or :meth:`open`.

    Every method that changes it takes the library's lock, reads ``cases.json`` anew, checks the
    disk's space, and either succeeds or leaves the library as it was. All raise
    :class:`MedDINOv3Error` if another program is writing or the disk is full.
    """

    def __init__(self, folder: Path, record: LibraryRecord) -> None:
        self.folder = folder
        self.record = record

    @classmethod
    def create(
        cls,
        folder: Path,
        name: str,
        channels: Sequence[str],
        labels: Sequence[Label] | DatasetLabels = (),
        *,
        licence: str = "",
        reference: str = "",
    ) -> Library:
        """Make an empty library.

        Args:
            folder: new or empty.
            name: for people.
            channels: names in order; ``CT`` means Hounsfield units.
            labels: structures; regions and an ignore label as :class:`DatasetLabels`.
            licence, reference: of the data.

        Raises:
            MedDINOv3Error: the folder is not empty, or a name or value cannot be.
        """
        if not isinstance(labels, DatasetLabels):
            labels = DatasetLabels(tuple(labels), tuple((x.value,) for x in labels), False, None)
        check_label_names(labels.labels)
        if not channels or not all(channel.strip() for channel in channels):
            raise MedDINOv3Error(
                "no-channels", "A case library needs at least one channel.", "Name it, e.g. CT."
            )
        record = LibraryRecord(
            name.strip() or "Cases", tuple(c.strip() for c in channels), labels,
            licence=licence, reference=reference,
        )  # fmt: skip
        make_way(folder)
        with whole_folder(folder) as temporary:
            for part in storage.FOLDERS:
                (temporary / part).mkdir()
            storage.commit(temporary, record)
        return cls(folder, record)

    @classmethod
    def open(cls, folder: Path) -> Library:
        """Open a library and sweep what a crash may have left.

        Raises:
            MedDINOv3Error: it is none of ours, damaged, or from a newer version.
        """
        return cls(folder, storage.read_swept(folder))

    @property
    def cases(self) -> tuple[CaseRecord, ...]:
        """All cases as last read or written."""
        return self.record.cases

    @property
    def labels(self) -> DatasetLabels:
        """The library's structures."""
        return self.record.labels

    def refresh(self) -> None:
        """See what other programs have changed since."""
        self.record = read_record(self.folder)

    def case(self, case_id: str) -> CaseRecord:
        """What is known of a case.

        Raises:
            MedDINOv3Error: there is none of that id.
        """
        for case in self.record.cases:
            if case.id == case_id:
                return case
        ids = [case.id for case in self.record.cases]
        listed = f"It has {ids[0]} to {ids[-1]}." if ids else "It has no cases yet."
        raise MedDINOv3Error("no-case", f"The library has no case '{case_id}'.", listed)

    def read(self, case_id: str) -> tuple[Volume, np.ndarray]:
        """A case's scan and its label map (k, j, i) on the scan's grid.

        Raises:
            MedDINOv3Error: there is none of that id, or a file is missing or damaged.
        """
        from meddinov3.reading import read_label_map, read_volume
        from meddinov3.volume import join_channels

        case = self.case(case_id)
        volume = join_channels([read_volume(self.folder / name) for name in case.images])
        return volume, read_label_map(self.folder / case.label)[0]

    def add(
        self,
        channels: Sequence[np.ndarray],
        grid: Grid,
        label_map: np.ndarray,
        labels: Sequence[Label] | None = None,
        *,
        mapping: Mapping[str, str] | None = None,
        provenance: Provenance | None = None,
        status: str = "annotated",
        note: str = "",
        allow_empty: bool = False,
    ) -> str:
        """Add a case.

        Args:
            channels: arrays (k, j, i) on `grid`, in the library's order.
            grid: of all of them.
            label_map: (k, j, i) integers on `grid`.
            labels: what its values stand for, see :func:`match_labels`; None if they are the
                library's own values.
            mapping: the library's name for a name of `labels`, "" to leave it out.
            provenance: which model proposed it and what was changed.
            status: one of ``STATUSES``.
            note: the user's words; kept as they are.
            allow_empty: also take a case in which nothing is drawn.

        Returns:
            The case's id.

        Raises:
            MedDINOv3Error: channels or grids do not fit, structures the library does not have
                (all listed), nothing drawn, the same scan is there already, or see the class.
        """
        check_arrays(channels, grid, label_map)
        with self._changing(bytes_needed(channels, label_map)):
            ready = self._in_our_values(label_map, labels, mapping)
            number = self.record.next
            case = self._describe(f"case_{number:04d}", channels, grid, ready, allow_empty)
            case = replace(
                case,
                status=checked_status(status),
                note=note,
                provenance=provenance or Provenance(),
            )
            record = replace(self.record, cases=(*self.cases, case), next=number + 1)
            self._write(case, channels, grid, ready, record)
        return case.id

    def replace(
        self,
        case_id: str,
        channels: Sequence[np.ndarray],
        grid: Grid,
        label_map: np.ndarray,
        labels: Sequence[Label] | None = None,
        *,
        mapping: Mapping[str, str] | None = None,
        provenance: Provenance | None = None,
        allow_empty: bool = False,
    ) -> None:
        """Put a new scan and label map in a case's place; status and note stay.

        Args:
            case_id: of the case.
            channels, grid, label_map, labels, mapping, provenance, allow_empty: as for
                :meth:`add`; without `provenance` the old one stays.

        Raises:
            MedDINOv3Error: as :meth:`add`, or there is no such case.
        """
        check_arrays(channels, grid, label_map)
        with self._changing(bytes_needed(channels, label_map)):
            old = self.case(case_id)
            ready = self._in_our_values(label_map, labels, mapping)
            new = self._describe(case_id, channels, grid, ready, allow_empty)
            new = replace(
                new, status=old.status, note=old.note, revision=old.revision + 1,
                provenance=provenance or old.provenance,
            )  # fmt: skip
            self._write(new, channels, grid, ready, self._with(new))
            storage.delete(self.folder, old.files)

    def remove(self, case_id: str) -> None:
        """Delete a case for good. Its id is not used again.

        Raises:
            MedDINOv3Error: there is no such case.
        """
        with self._changing():
            case = self.case(case_id)
            self._commit(replace(self.record, cases=tuple(c for c in self.cases if c != case)))
            storage.delete(self.folder, case.files)

    def set_status(self, case_id: str, status: str) -> None:
        """Mark a case as annotated, reviewed or excluded.

        Excluded cases take no part in training, neither here nor in nnU-Net: ``dataset.json``
        names the cases one by one and leaves them out.

        Raises:
            MedDINOv3Error: there is no such case or status.
        """
        with self._changing():
            self._commit(self._with(replace(self.case(case_id), status=checked_status(status))))

    def set_note(self, case_id: str, note: str) -> None:
        """Keep the user's words on a case.

        Raises:
            MedDINOv3Error: there is no such case.
        """
        with self._changing():
            self._commit(self._with(replace(self.case(case_id), note=note)))

    def define_label(
        self,
        name: str,
        colour: Colour | None = None,
        code: Code | None = None,
        modifier: Code | None = None,
    ) -> int:
        """Define a new structure; those that are there keep their values.

        Args:
            name: for people.
            colour, code, modifier: of the structure, its SNOMED type and side; found by the
                name if left out.

        Returns:
            Its value in label maps.

        Raises:
            MedDINOv3Error: the name is taken or none.
        """
        with self._changing():
            record, value = with_label(self.record, name, colour, code, modifier)
            self._commit(record)
        return value

    def remove_label(self, name: str) -> None:
        """Remove a structure that is drawn in no case, excluded ones included.

        Raises:
            MedDINOv3Error: there is none of that name, or a case has it.
        """
        with self._changing():
            self._commit(without_label(self.record, name))

    @contextmanager
    def _changing(self, needed: int = 0) -> Iterator[None]:
        with storage.locked(self.folder):
            self.refresh()
            storage.check_space(self.folder, needed)
            yield

    def _commit(self, record: LibraryRecord) -> None:
        storage.commit(self.folder, record)
        self.record = record

    def _write(
        self,
        case: CaseRecord,
        channels: Sequence[np.ndarray],
        grid: Grid,
        label_map: np.ndarray,
        record: LibraryRecord,
    ) -> None:
        storage.write_case(self.folder, case, channels, grid, label_map, record)
        try:
            self._commit(record)
        except BaseException:
            storage.delete(self.folder, case.files)
            raise

    def _with(self, case: CaseRecord) -> LibraryRecord:
        cases = tuple(case if other.id == case.id else other for other in self.cases)
        return replace(self.record, cases=cases)

    def _in_our_values(
        self,
        label_map: np.ndarray,
        labels: Sequence[Label] | None,
        mapping: Mapping[str, str] | None,
    ) -> np.ndarray:
        present = set(value_counts(label_map)) - {0}
        if labels is None:
            values = {value: value for value in known_values(self.labels)}
            unknown = [f"value {value}" for value in sorted(present - set(values))]
        else:
            values, missing = match_labels(labels, self.labels, mapping)
            unknown = [label.name for label in missing if label.value in present]
            named = {label.value for label in labels}
            unknown += [f"value {value}" for value in sorted(present - named)]
        if unknown:
            listed = ", ".join(label.name for label in self.labels.labels) or "none yet"
            raise MedDINOv3Error(
                "unknown-label",
                f"The library does not have {len(unknown)} of the structures drawn: "
                f"{', '.join(unknown)}.",
                f"Define them first, map them to the library's ({listed}), or leave them out.",
            )
        return renumber(label_map, values)

    def _describe(
        self,
        case_id: str,
        channels: Sequence[np.ndarray],
        grid: Grid,
        label_map: np.ndarray,
        allow_empty: bool,
    ) -> CaseRecord:
        if len(channels) != len(self.record.channels):
            raise MedDINOv3Error(
                "wrong-channels",
                f"The library's cases have {len(self.record.channels)} channel(s) "
                f"({', '.join(self.record.channels)}); {len(channels)} were given.",
                "Give one scan for each channel, in this order.",
            )
        counts = value_counts(label_map)
        if not allow_empty and not any(counts.get(v, 0) for v in known_values(self.labels)):
            raise MedDINOv3Error(
                "nothing-annotated",
                "None of the library's structures is drawn on this scan.",
                "Draw at least one, or say that the scan really has none.",
            )
        hashes = tuple(values_sha256(channel) for channel in channels)
        for other in self.cases:
            if other.image_sha256 == hashes and other.id != case_id:
                raise MedDINOv3Error(
                    "duplicate-case",
                    f"This scan is in the library already, as {other.id}.",
                    f"Replace {other.id} instead: the same scan twice would spoil the scores.",
                )
        columns, rows, slices = grid.size
        across, down, through = grid.spacing
        return CaseRecord(
            case_id,
            STATUSES[0],
            datetime.now(UTC).isoformat(timespec="seconds"),
            (int(columns), int(rows), int(slices)),
            (float(across), float(down), float(through)),
            voxels_by_name(counts, self.labels),
            hashes,
            values_sha256(label_map),
        )
