"""Small case libraries that several test files fill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from meddinov3.cases import storage
from meddinov3.cases.library import Library
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.terminology import named_label

GRID = Grid((12, 10, 8), (0.7, 0.9, 2.5), (-10.0, 20.0, 30.0), np.eye(3))
LIVER, TUMOUR = named_label("liver", 1, 0), named_label("tumour", 2, 1)


def make_library(folder: Path, channels: tuple[str, ...] = ("CT",)) -> Library:
    return Library.create(folder, "Livers", channels, (LIVER, TUMOUR))


def scan(seed: int, grid: Grid = GRID) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 2000, grid.shape).astype(np.int16)


def drawn(grid: Grid = GRID) -> np.ndarray:
    """A label map with 1 and 2 in it."""
    label_map = np.zeros(grid.shape, np.uint8)
    label_map[1:, 1:, :-1] = 1
    label_map[1:, 1:, 0] = 2
    return label_map


def add(library: Library, seed: int) -> str:
    return library.add([scan(seed)], GRID, drawn())


def carry_out(library: Library, operation: str) -> None:
    """One change of a library whose first case is of seed 0."""
    calls = {
        "add": lambda: add(library, 1),
        "replace": lambda: library.replace("case_0001", [scan(2)], GRID, drawn() // 2),
        "remove": lambda: library.remove("case_0001"),
        "define": lambda: library.define_label("spleen"),
        "exclude": lambda: library.set_status("case_0001", "excluded"),
    }
    calls[operation]()


def refused(call: Any, *arguments: Any, **named: Any) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        call(*arguments, **named)
    assert caught.value.message and caught.value.remedy
    return caught.value


def files(folder: Path) -> set[str]:
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return found - {storage.LOCK_FILE}


def expected_files(library: Library) -> set[str]:
    return {"cases.json", "dataset.json", *(n for case in library.cases for n in case.files)}
