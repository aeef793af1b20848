"""The labels of an nnU-Net ``dataset.json``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from meddinov3.labels import Label
from meddinov3.terminology import named_label


@dataclass(frozen=True)
class DatasetLabels:
    """What label-map values stand for.

    Attributes:
        labels: structures; for region-based datasets in the order they are written.
        members: for each label the label-map values that make it up.
        regions: whether labels are regions that may overlap.
        ignore: value that is not annotated, or None.
    """

    labels: tuple[Label, ...]
    members: tuple[tuple[int, ...], ...]
    regions: bool
    ignore: int | None


def read_labels(content: dict[str, Any]) -> DatasetLabels:
    """Understand the ``labels`` of a dataset.json, nnU-Net's or the Decathlon's.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: an entry is missing or garbled.
    """
    entries: dict[str, Any] = content["labels"]
    if all(key.isdigit() for key in entries):  # Decathlon: value to name
        entries = {name: int(value) for value, name in entries.items()}
    ignore = entries.get("ignore")
    structures = {
        name: tuple(value) if isinstance(value, list) else (int(value),)
        for name, value in entries.items()
        if name != "ignore" and value not in (0, [0])
    }
    regions = any(len(members) > 1 for members in structures.values())
    order = content.get("regions_class_order") if regions else None
    if regions and (order is None or len(order) != len(structures)):
        raise KeyError("regions_class_order")
    labels = tuple(
        named_label(name, int(order[n]) if order else members[0], n)
        for n, (name, members) in enumerate(structures.items())
    )
    if not labels:
        raise ValueError("labels: there is none beside the background")
    values = [label.value for label in labels]
    if len(set(values)) != len(values):
        raise ValueError("labels: two of them have one value")
    return DatasetLabels(
        labels, tuple(structures.values()), regions, None if ignore is None else int(ignore)
    )


def in_order_of_outputs(labels: DatasetLabels) -> DatasetLabels:
    """Labels as nnU-Net's network gives them: by value, whatever the order in the file.

    Regions keep the file's order, which is that of their outputs.
    """
    if labels.regions:
        return labels
    order = sorted(range(len(labels.labels)), key=lambda n: labels.labels[n].value)
    return dataclasses.replace(
        labels,
        labels=tuple(labels.labels[n] for n in order),
        members=tuple(labels.members[n] for n in order),
    )
