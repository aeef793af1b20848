"""Structures defined in a library, and taken away; those that stay keep their values."""

from __future__ import annotations

from dataclasses import replace

from meddinov3.cases.label_matching import known_values
from meddinov3.cases.records import LibraryRecord, check_label_names
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Code, Colour
from meddinov3.terminology import named_label


def with_label(
    record: LibraryRecord, name: str, colour: Colour | None, code: Code | None, side: Code | None
) -> tuple[LibraryRecord, int]:
    """The record with one structure more, and its value; see ``Library.define_label``."""
    ours = record.labels
    # Regions' values are those they are written with, which need be no voxel values.
    taken = known_values(ours) | {label.value for label in ours.labels}
    value = max(taken, default=0) + 1
    label = named_label(name.strip(), value, len(ours.labels))
    label = replace(
        label,
        colour=colour or label.colour,
        type=code or label.type,
        modifier=side or (label.modifier if code is None else None),
    )
    labels = (*ours.labels, label)
    check_label_names(labels)
    ours = replace(ours, labels=labels, members=(*ours.members, (value,)))
    cases = tuple(replace(case, voxels=case.voxels | {label.name: 0}) for case in record.cases)
    return replace(record, labels=ours, cases=cases), value


def without_label(record: LibraryRecord, name: str) -> LibraryRecord:
    """The record without a structure; see ``Library.remove_label``."""
    ours = record.labels
    wanted = name.strip().casefold()
    kept = [n for n, label in enumerate(ours.labels) if label.name.casefold() != wanted]
    gone = next((label.name for label in ours.labels if label.name.casefold() == wanted), None)
    if gone is None:
        raise MedDINOv3Error(
            "unknown-label",
            f"The library has no structure '{name}'.",
            f"It has: {', '.join(label.name for label in ours.labels) or 'none'}.",
        )
    drawn = [case.id for case in record.cases if case.voxels.get(gone)]
    if drawn:
        raise MedDINOv3Error(
            "label-drawn",
            f"'{gone}' is drawn in {len(drawn)} case(s), the first is {drawn[0]}.",
            "Remove or replace these cases first.",
        )
    ours = replace(
        ours,
        labels=tuple(ours.labels[n] for n in kept),
        members=tuple(ours.members[n] for n in kept),
    )
    cases = tuple(
        replace(case, voxels={key: n for key, n in case.voxels.items() if key != gone})
        for case in record.cases
    )
    return replace(record, labels=ours, cases=cases)
