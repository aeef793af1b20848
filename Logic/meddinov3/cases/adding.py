"""Files on disk added to a case library: scans of any kind with labels of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meddinov3.cases.label_matching import match_labels
from meddinov3.cases.library import Library
from meddinov3.errors import MedDINOv3Error


@dataclass(frozen=True)
class Added:
    """A case that was added.

    Attributes:
        id: of the case.
        left_out: structures of the file that were not taken.
        notes: what the user should know about how scan and labels were read.
    """

    id: str
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def add_files(
    library: Library,
    images: Sequence[Path],
    label: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    leave_out_others: bool = False,
    series: int | None = None,
    note: str = "",
    allow_empty: bool = False,
    replaced: str = "",
) -> Added:
    """Add a scan and its labels.

    Args:
        library: which gets them.
        images: a file or DICOM folder for each channel; later ones are resampled to the first.
        label: a label map, ``.seg.nrrd``, RTSTRUCT or DICOM SEG.
        mapping: the library's name for a structure's name, "" to leave it out.
        leave_out_others: leave out structures that the library does not have; else they are
            an error.
        series: which of several DICOM series of the first channel, counted from 1.
        note: the user's words.
        allow_empty: also take a case in which nothing is drawn.
        replaced: id of a case in whose place it goes; "" for a new case.

    Raises:
        MedDINOv3Error: a file is unreadable, scan and labels do not fit, or see
            :meth:`Library.add`.
    """
    from meddinov3.label_reading import read_labels_on
    from meddinov3.reading import read_volume
    from meddinov3.volume import join_channels

    if not images:
        raise MedDINOv3Error("no-scan", "No scan was given.", "Give one for each channel.")
    first, *others = images
    volume = join_channels([read_volume(first, series), *map(read_volume, others)])
    drawn = read_labels_on(label, volume)
    values, unknown = match_labels(drawn.labels, library.labels, mapping)
    left_out = [theirs.name for theirs in drawn.labels if values.get(theirs.value) == 0]
    if leave_out_others:
        left_out += [theirs.name for theirs in unknown]
    if left_out:
        kept = [theirs.name for theirs in drawn.labels if theirs.name not in left_out]
        if not kept:
            raise MedDINOv3Error(
                "nothing-annotated",
                f"None of the structures of '{label.name}' is one of the library's: "
                f"{', '.join(theirs.name for theirs in drawn.labels)}.",
                "Define them in the library first, or map them to its own.",
            )
        # Read anew: what is left out may have covered what is kept.
        drawn = read_labels_on(label, volume, kept)
        mapping = {theirs: ours for theirs, ours in (mapping or {}).items() if ours}
    case = volume.channels, volume.grid, drawn.array, drawn.labels
    if replaced:
        library.replace(replaced, *case, mapping=mapping, allow_empty=allow_empty)
        if note:
            library.set_note(replaced, note)
    else:
        replaced = library.add(*case, mapping=mapping, note=note, allow_empty=allow_empty)
    return Added(replaced, tuple(left_out), (*volume.notes, *drawn.notes))
