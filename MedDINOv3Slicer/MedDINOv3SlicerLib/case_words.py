"""Cases of a library in words for the panel. Knows no qt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

if TYPE_CHECKING:
    from meddinov3.cases.library import Library
    from meddinov3.cases.records import CaseRecord

SHOWN = 6  # structures


def statusText(status: str) -> str:
    """A status as people read it."""
    return {
        "annotated": _("annotated"), "reviewed": _("reviewed"), "excluded": _("excluded")
    }.get(status, status)  # fmt: skip


def caseText(case: CaseRecord) -> str:
    """Id and status, structures, what was changed and the note: a line each."""
    lines = [f"{case.id}  ·  {statusText(case.status)}", structuresText(case), changedText(case)]
    if case.note:
        lines.append(case.note.splitlines()[0])
    return "\n".join(lines)


def structuresText(case: CaseRecord) -> str:
    """Which structures are drawn."""
    names = [name for name, voxels in case.voxels.items() if voxels]
    if not names:
        return _("no structure drawn")
    text = ", ".join(names[:SHOWN])
    if len(names) > SHOWN:
        text = _("{names} and {count} more").format(names=text, count=len(names) - SHOWN)
    return text


def changedText(case: CaseRecord) -> str:
    """How much a person changed in what a model proposed."""
    origin = case.provenance
    if not origin.model:
        return _("drawn by hand")
    changes = [change for change in origin.changed.values() if change.dice < 1]
    if not origin.changed:
        return _("proposed by {model}; changes not known").format(model=origin.model)
    if not changes:
        return _("proposed by {model}, not changed").format(model=origin.model)
    return _("corrected: +{added} ml, -{removed} ml, overlap {dice:.2f}").format(
        added=_millilitres(sum(c.added_ml for c in changes)),
        removed=_millilitres(sum(c.removed_ml for c in changes)),
        dice=min(change.dice for change in changes),
    )


def caseDetails(case: CaseRecord) -> str:
    """Everything that is known of a case, for its tool tip."""
    columns, rows, slices = case.size
    spacing = " x ".join(f"{mm:.3g}" for mm in case.spacing)
    lines = [
        _("Added {when} (UTC)").format(when=case.added.replace("T", " ").partition("+")[0]),
        _("{size} voxels of {spacing} mm").format(
            size=f"{columns} x {rows} x {slices}", spacing=spacing
        ),
    ]
    if case.provenance.model:
        lines.append(_("Proposed by {model}").format(model=case.provenance.model))
    lines += [
        _("{name}: overlap with the proposal {dice:.2f}, +{added} ml, -{removed} ml").format(
            name=name, dice=change.dice, added=_millilitres(change.added_ml),
            removed=_millilitres(change.removed_ml),
        )
        for name, change in case.provenance.changed.items()
    ]  # fmt: skip
    if case.note:
        lines.append(case.note)
    return "\n".join(lines)


def libraryText(library: Library) -> str:
    """How many cases of which status, channels and structures."""
    counts = [
        (status, sum(case.status == status for case in library.cases))
        for status in ("annotated", "reviewed", "excluded")
    ]
    told = ", ".join(f"{count} {statusText(status)}" for status, count in counts if count)
    names = [label.name for label in library.labels.labels]
    cases = _("No cases yet.") if not library.cases else _("{count} cases: {told}.").format(
        count=len(library.cases), told=told
    )  # fmt: skip
    if len(library.cases) == 1:
        cases = _("1 case: {told}.").format(told=told)
    return " ".join((
        cases,
        _("Channels: {names}.").format(names=", ".join(library.record.channels)),
        _("Structures: {names}.").format(names=_few(names) or _("none yet")),
    ))  # fmt: skip


def _few(names: Sequence[str]) -> str:
    if len(names) <= SHOWN:
        return ", ".join(names)
    return _("{names} and {count} more").format(
        names=", ".join(names[:SHOWN]), count=len(names) - SHOWN
    )


def _millilitres(volume: float) -> str:
    return f"{volume:.1f}" if volume < 100 else f"{volume:.0f}"
