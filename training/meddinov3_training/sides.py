"""Left and right in the names of structures: mirroring would make such labels wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

from meddinov3.labels import Label

# English, Latin, German, French and Italian, as they stand in label names.
LEFT = ("l", "lt", "left", "sin", "sinister", "li", "links", "gauche", "sx", "sinistra")
RIGHT = ("r", "rt", "right", "dex", "dexter", "re", "rechts", "droite", "dx", "destra")
SIDES = dict.fromkeys(LEFT, "left") | dict.fromkeys(RIGHT, "right")
WORD = re.compile(r"[A-Z]+(?![a-z\d])|[A-Z]?[a-z]+(?!\d)")


def side_of(name: str) -> tuple[str, str] | None:
    """The structure and the side that a name tells, or None: kidney_left, Parotid_L, LtKidney.

    Returns:
        The name without the side, which a pair has in common, and ``left`` or ``right``.
    """
    lower = name.lower()
    for side in ("left", "right"):
        if side in lower:
            return " ".join(re.findall(r"[^\W_]+", lower.replace(side, " ", 1))), side
    words = [word.lower() for word in WORD.findall(name)]
    for number, word in enumerate(words):
        if word in SIDES:
            return " ".join(words[:number] + words[number + 1 :]), SIDES[word]
    return None


def pairs(labels: Sequence[Label]) -> list[tuple[int, int]]:
    """Positions among the labels of each left structure and its right counterpart."""
    found: dict[str, dict[str, int]] = {}
    for number, label in enumerate(labels):
        sided = side_of(label.name)
        if sided is not None:
            found.setdefault(sided[0], {}).setdefault(sided[1], number)
    return [(pair["left"], pair["right"]) for pair in found.values() if len(pair) == 2]


def tells_sides(names: Sequence[str]) -> bool:
    """Whether a name tells its side, or two names differ in nothing but the side."""
    return any(side_of(name) is not None for name in names) or any(
        _are_a_pair(first, second) for first, second in combinations(names, 2)
    )


def _are_a_pair(first: str, second: str) -> bool:
    """Whether names differ in one letter, l and r: lungl and lungr, LV and RV, L5 and R5."""
    if len(first) != len(second):
        return False
    couples = zip(first.lower(), second.lower(), strict=True)
    return [{a, b} for a, b in couples if a != b] == [{"l", "r"}]
