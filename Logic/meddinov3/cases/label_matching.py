"""Structures of a file or a scene matched with those of a library: by name, then by code."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from meddinov3.dataset_labels import DatasetLabels
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import ANATOMICAL_STRUCTURE, TISSUE, Label

UNSPECIFIC = {TISSUE.value, ANATOMICAL_STRUCTURE.value}


def match_labels(
    labels: Sequence[Label], ours: DatasetLabels, mapping: Mapping[str, str] | None = None
) -> tuple[dict[int, int], tuple[Label, ...]]:
    """Find the library's value for each structure.

    A structure is matched by the mapping, else by its name (capitals, blanks, dashes and
    underscores make no difference), else by its SNOMED code and side if just one structure of
    the library has them. ``label 3``, as label maps without names call value 3, is value 3.

    Args:
        labels: theirs.
        ours: the library's.
        mapping: our name for theirs, or "" to leave theirs out.

    Returns:
        Our value for each of their values (0 for those left out), and their labels that match
        none of ours.

    Raises:
        MedDINOv3Error: the mapping names what neither side has, or our labels are regions,
            which overlap.
    """
    chosen = {_plain(theirs): name for theirs, name in (mapping or {}).items()}
    _check_mapping(chosen, labels, ours)
    nameless = all(_is_value(label, ours) or _left_out(label, chosen) for label in labels)
    if ours.regions and (any(chosen.values()) or not nameless):
        raise MedDINOv3Error(
            "regions",
            "The library's structures are regions that overlap; names do not say which value a "
            "voxel has.",
            "Give a label map with the values that dataset.json names.",
        )
    by_name = {_plain(label.name): label.value for label in ours.labels}
    values: dict[int, int] = {}
    unknown = []
    for label in labels:
        name = _plain(label.name)
        mapped = next((chosen[key] for key in _called(label) if key in chosen), None)
        if mapped is not None:
            values[label.value] = by_name[_plain(mapped)] if mapped else 0
            continue
        found = label.value if _is_value(label, ours) else None
        if name in by_name and not ours.regions:
            found = by_name[name]
        elif found is None:
            found = _by_code(label, ours)
        if found is None:
            unknown.append(label)
        else:
            values[label.value] = found
    return values, tuple(unknown)


def renumber(label_map: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """A label map (k, j, i) with other values; those not named become 0.

    Returns:
        A new array, uint8 where the values allow it, else uint16.
    """
    highest = max(values.values(), default=0)
    result = np.zeros(label_map.shape, np.uint8 if highest < 256 else np.uint16)
    table = np.zeros(int(label_map.max(initial=0)) + 1, result.dtype)
    for theirs, ours in values.items():
        if theirs < len(table):
            table[theirs] = ours
    for plane, old in zip(result, label_map, strict=True):
        plane[...] = table[old]
    return result


def known_values(ours: DatasetLabels) -> set[int]:
    """All values that a library's label maps may hold beside the background."""
    values = {value for members in ours.members for value in members}
    return values if ours.ignore is None else values | {ours.ignore}


def _check_mapping(chosen: Mapping[str, str], labels: Sequence[Label], ours: DatasetLabels) -> None:
    theirs = {key for label in labels for key in _called(label)}
    names = {_plain(label.name) for label in ours.labels}
    wrong = [name for name in chosen if name not in theirs]
    wrong += [name for name in chosen.values() if name and _plain(name) not in names]
    if wrong:
        raise MedDINOv3Error(
            "unknown-label",
            f"There is no structure {', '.join(map(repr, wrong))} to map.",
            f"Given: {_listed(labels)}. The library has: {_listed(ours.labels)}.",
        )


def _listed(labels: Sequence[Label]) -> str:
    return ", ".join(label.name for label in labels) or "none"


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _called(label: Label) -> tuple[str, ...]:
    """What a mapping may call a label: the value does for one without a name."""
    name = _plain(label.name)
    return (name, str(label.value)) if name == f"label {label.value}" else (name,)


def _left_out(label: Label, chosen: Mapping[str, str]) -> bool:
    return any(chosen.get(key) == "" for key in _called(label))


def _is_value(label: Label, ours: DatasetLabels) -> bool:
    return _plain(label.name) == f"label {label.value}" and label.value in known_values(ours)


def _by_code(label: Label, ours: DatasetLabels) -> int | None:
    if label.type.value in UNSPECIFIC:
        return None
    found = [other.value for other in ours.labels if _code(other) == _code(label)]
    return found[0] if len(found) == 1 else None


def _code(label: Label) -> tuple[str, str, str]:
    side = label.modifier.value if label.modifier else ""
    return (label.type.scheme, label.type.value, side)
