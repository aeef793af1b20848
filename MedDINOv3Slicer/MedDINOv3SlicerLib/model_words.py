"""Models in words for the panel: what one is, and two side by side. Knows no qt."""

from __future__ import annotations

from html import escape
from typing import Any

from slicer.i18n import tr as _

from MedDINOv3SlicerLib.model_shelf import ModelEntry

Row = tuple[str, str, str]


def sizeText(count: int) -> str:
    """A size on disk."""
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def diceText(value: Any) -> str:
    """A Dice with three digits, a dash if there is none."""
    return f"{value:.3f}" if isinstance(value, (int, float)) else "-"


def detailText(entry: ModelEntry) -> str:
    """What a model is, as rich text; words of descriptions are shown as written."""
    heading = f"<b>{escape(entry.title or entry.id)}</b>"
    if entry.problem:
        told = _("It cannot be used: {problem}").format(problem=entry.problem)
        return f"{heading}<br>{escape(told)}"
    facts = [
        (_("Finds"), ", ".join(entry.labels)),
        (_("Made for"), entry.purpose),
        (_("Scores"), _scores(entry)),
        (_("From"), _("comes with MedDINOv3") if entry.starter else entry.source),
        (_("Licence"), entry.licence),
        (_("Size"), sizeText(entry.bytes)),
    ]
    rows = "".join(f"<br>{escape(name)}: {escape(text)}" for name, text in facts if text)
    summary = f"<br>{escape(entry.summary)}" if entry.summary else ""
    return heading + summary + rows


def _scores(entry: ModelEntry) -> str:
    if entry.meanDice is None:
        return "" if entry.backbone else _("none: no case was held out")
    cases = entry.scores.get("held_out_cases") or entry.scores.get("test_cases")
    text = _("mean Dice {dice}").format(dice=diceText(entry.meanDice))
    return _("{text} on {count} cases").format(text=text, count=cases) if cases else text


def comparison(one: ModelEntry, other: ModelEntry) -> list[Row]:
    """Scores and training records side by side; a row each, what neither has is left out."""
    first, second = _dice(one), _dice(other)
    rows: list[Row] = [
        (_("Dice, mean"), diceText(one.meanDice), diceText(other.meanDice)),
        *(
            (_("Dice, {name}").format(name=name), diceText(first.get(name)),
             diceText(second.get(name)))
            for name in dict.fromkeys((*first, *second))
        ),
        (_("held-out cases"), _cases(one), _cases(other)),
        (_("made for"), one.purpose, other.purpose),
        (_("licence"), one.licence, other.licence),
        (_("size"), sizeText(one.bytes), sizeText(other.bytes)),
        (_("backbone from"), one.source, other.source),
    ]  # fmt: skip
    names = {
        "base": _("trained from"), "cases": _("training cases"), "minutes": _("minutes"),
        "steps": _("steps"), "batch": _("batch"), "frozen": _("backbone frozen"),
        "decoder_rate": _("rate, decoder"), "backbone_rate": _("rate, backbone"),
        "device": _("device"), "precision": _("precision"), "seed": _("seed"),
        "dataset_sha256": _("data (hash)"), "version": _("MedDINOv3 version"),
        "stopped_early": _("stopped early"),
    }  # fmt: skip
    keys = [key for key in names if key in one.training or key in other.training]
    rows += [
        (names[key], _plain(one.training.get(key)), _plain(other.training.get(key))) for key in keys
    ]
    return [row for row in rows if row[1].strip("-") or row[2].strip("-")]


def sameData(one: ModelEntry, other: ModelEntry) -> str:
    """A caution where two scores cannot be compared, or ""."""
    if one.meanDice is None or other.meanDice is None:
        return ""
    hashes = [entry.training.get("dataset_sha256") for entry in (one, other)]
    if hashes[0] is not None and hashes[0] == hashes[1]:
        return ""
    return _("The two were trained on different cases: their scores do not compare directly.")


def _dice(entry: ModelEntry) -> dict[str, Any]:
    found = entry.scores.get("dice")
    return dict(found) if isinstance(found, dict) else {}


def _cases(entry: ModelEntry) -> str:
    return _plain(entry.scores.get("held_out_cases") or entry.scores.get("test_cases"))


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return text[:10] + "..." if len(text) == 64 else text
