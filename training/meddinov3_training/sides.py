"""Left and right in the names of structures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from meddinov3.labels import Label

LETTERS = {
    "l": "left", "lt": "left", "li": "left", "r": "right", "rt": "right", "re": "right",
}  # fmt: skip
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
        if word in LETTERS:
            return " ".join(words[:number] + words[number + 1 :]), LETTERS[word]
    return None


def pairs(labels: Sequence[Label]) -> list[tuple[int, int]]:
    """Positions among the labels of each left structure and its right counterpart."""
    found: dict[str, dict[str, int]] = {}
    for number, label in enumerate(labels):
        sided = side_of(label.name)
        if sided is not None:
            found.setdefault(sided[0], {}).setdefault(sided[1], number)
    return [(pair["left"], pair["right"]) for pair in found.values() if len(pair) == 2]
