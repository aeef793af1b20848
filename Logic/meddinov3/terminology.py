"""Colours and SNOMED CT codes for common structures, found by name.

The table (``terminology.json``) holds codes as DICOM PS3.16 lists them.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from meddinov3.labels import ANATOMICAL_STRUCTURE, Code, Colour, Label, default_colour

TABLE = Path(__file__).parent / "terminology.json"
ABNORMALITY = Code("SCT", "49755003", "Morphologically Altered Structure")
SIDES = {"left": Code("SCT", "7771000", "Left"), "right": Code("SCT", "24028007", "Right")}
LEFT_SHADE = 0.82  # the two of a pair should be told apart


def named_label(name: str, value: int, number: int) -> Label:
    """A label with colour and codes from its name; "Tissue" and a free colour if unknown.

    Args:
        name: as in a dataset, e.g. ``kidney_left``, ``Right parotid gland``, ``liver``.
        value: voxel value.
        number: position among the labels, for the colour of unknown names.
    """
    words = re.sub(r"[^a-z]+", " ", name.lower()).strip()
    side = next((side for side in SIDES if side in words.split()), None)
    without = " ".join(word for word in words.split() if word != side)
    entry, modifier = _entry(words), None
    if entry is None:
        entry, modifier = _entry(without), SIDES.get(side or "")
    if entry is None:
        return Label(name, value, default_colour(number), modifier=modifier)
    category = ANATOMICAL_STRUCTURE if entry["category"] == "anatomy" else ABNORMALITY
    red, green, blue = entry["colour"]
    colour: Colour = (red, green, blue)
    if side == "left" and modifier is not None:
        colour = (round(red * LEFT_SHADE), round(green * LEFT_SHADE), round(blue * LEFT_SHADE))
    return Label(
        name, value, colour, category, Code("SCT", entry["code"], entry["meaning"]), modifier
    )


def _entry(name: str) -> dict[str, Any] | None:
    table = _table()
    return table.get(name) or table.get(name.removesuffix("s"))


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return content
