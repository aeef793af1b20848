"""Whether labels tell left from right, so that mirroring would make them wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

# English, Latin, German, French and Italian, as they stand in label names.
LEFT = {"l", "lt", "left", "sin", "sinister", "li", "links", "gauche", "sx", "sinistra"}
RIGHT = {"r", "rt", "right", "dex", "dexter", "re", "rechts", "droite", "dx", "destra"}
WORD = re.compile(r"[A-Z]+(?![a-z\d])|[A-Z]?[a-z]+(?!\d)")


def tells_sides(names: Sequence[str]) -> bool:
    """Whether a name tells its side, or two names differ in nothing but the side."""
    return any(map(_is_sided, names)) or any(
        _are_a_pair(first, second) for first, second in combinations(names, 2)
    )


def _is_sided(name: str) -> bool:
    """Whether a name holds a side: kidney_left, Parotid_L, LtKidney."""
    if any(side in name.lower() for side in ("left", "right")):
        return True
    return any(word.lower() in LEFT | RIGHT for word in WORD.findall(name))


def _are_a_pair(first: str, second: str) -> bool:
    """Whether names differ in one letter, l and r: lungl and lungr, LV and RV, L5 and R5."""
    if len(first) != len(second):
        return False
    pairs = zip(first.lower(), second.lower(), strict=True)
    return [{a, b} for a, b in pairs if a != b] == [{"l", "r"}]
