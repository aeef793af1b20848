"""Named structures: values, colours, terminology, regions."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

from meddinov3.errors import MedDINOv3Error

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Code:
    """A coded concept, e.g. ("SCT", "10200004", "Liver")."""

    scheme: str
    value: str
    meaning: str


TISSUE = Code("SCT", "85756007", "Tissue")
ANATOMICAL_STRUCTURE = Code("SCT", "123037004", "Anatomical Structure")


@dataclass(frozen=True)
class Label:
    """One structure of a model.

    Attributes:
        name: what a person calls it; unique within a model.
        value: voxel value in the label map, above 0.
        colour: RGB, 0 to 255.
        category, type, modifier: SNOMED CT coding; the modifier is a side.
    """

    name: str
    value: int
    colour: Colour
    category: Code = TISSUE
    type: Code = TISSUE
    modifier: Code | None = None

    @property
    def terminology(self) -> str:
        """The entry as Slicer writes it into ``.seg.nrrd``."""
        codes = [self.category, self.type, self.modifier]
        parts = ["^".join((c.scheme, c.value, c.meaning)) if c else "^^" for c in codes]
        return "~".join(("Segmentation category and type - 3D Slicer General Anatomy list",
                         *parts, "Anatomic codes - DICOM master list", "^^", "^^"))  # fmt: skip


def codes_of(terminology: str) -> tuple[Code | None, Code | None, Code | None]:
    """Category, type and modifier of an entry as :attr:`Label.terminology` has it.

    Args:
        terminology: parts joined by ``~``, each ``scheme^value^meaning``; may be empty.

    Returns:
        None for each that is missing.
    """
    codes: list[Code | None] = []
    for part in (*terminology.split("~")[1:4], "", "", "")[:3]:
        scheme, _, rest = part.partition("^")
        value, _, meaning = rest.partition("^")
        codes.append(Code(scheme, value, meaning) if value else None)
    return (codes[0], codes[1], codes[2])


SHADES = ((0.65, 0.95), (0.85, 0.75), (0.4, 0.85), (0.6, 0.7))


def default_colour(number: int) -> Colour:
    """A colour for the n-th label (0-based); neighbours differ in hue by the golden angle."""
    hue = (0.08 + number * 0.618034) % 1.0
    saturation, brightness = SHADES[number % len(SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, brightness)
    return (round(255 * red), round(255 * green), round(255 * blue))


def choose(labels: tuple[Label, ...], wanted: list[str] | None) -> tuple[Label, ...]:
    """The labels named in `wanted` (names or values), in the model's order; all for None.

    Raises:
        MedDINOv3Error: a name is not among the model's labels.
    """
    if wanted is None:
        return labels
    known = {str(label.value): label for label in labels}
    known |= {label.name.lower(): label for label in reversed(labels)}
    known |= {label.name: label for label in labels}  # as written goes before all else
    found = {name: known.get(name.strip()) or known.get(name.strip().lower()) for name in wanted}
    unknown = [name for name, label in found.items() if label is None]
    if unknown or not wanted:
        raise MedDINOv3Error(
            "unknown-label",
            f"The model has no label {', '.join(map(repr, unknown)) or 'without a name'}.",
            f"It has: {', '.join(label.name for label in labels)}.",
        )
    return tuple(label for label in labels if label in found.values())
