"""NRRD geometry that reads back bit by bit as it was.

NRRD stores spacing times direction, and readers divide again: spacing = |v|, direction =
v * (1/|v|). Rounding moves the last bit, so that a mask's grid would differ from its scan's
by 1e-16. For a grid that was read from NRRD there is a vector that gives it back exactly; it
lies within a few units in the last place of the product.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np

from meddinov3.grid import FloatArray, Grid

REACH = 3  # units in the last place
FIELD = re.compile(rb"^space directions:[^\n]*$", re.MULTILINE)


def exact_vector(direction: FloatArray, spacing: float) -> FloatArray:
    """The vector that a reader splits into exactly `direction` and `spacing`, if there is one.

    Args:
        direction: unit vector (3,).
        spacing: mm.

    Returns:
        The vector (3,) in mm; the plain product where no exact one exists.
    """
    product = direction * spacing
    candidates = []
    for component, wanted in zip(product, direction, strict=True):
        near = [component]
        for way in (-np.inf, np.inf):
            value = component
            for _ in range(REACH):
                value = np.nextafter(value, way)
                near.append(value)
        candidates.append([v for v in near if v * (1.0 / spacing) == wanted] or [component])
    for vector in itertools.product(*candidates):
        x, y, z = (float(v) for v in vector)
        length = np.sqrt(x * x + y * y + z * z)
        if length == spacing:
            return np.array(vector)
    return product


def restore_geometry(path: Path, grid: Grid) -> None:
    """Replace the directions in the header of a NRRD file that ITK has just written."""
    vectors = [exact_vector(grid.direction[:, n], grid.spacing[n]) for n in range(3)]
    text = " ".join("(" + ",".join(repr(float(v)) for v in vector) + ")" for vector in vectors)
    content = path.read_bytes()
    end = content.index(b"\n\n")
    header = FIELD.sub(b"space directions: " + text.encode(), content[:end])
    path.write_bytes(header + content[end:])
