"""What the CMake files list, read without CMake."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
LISTS = {
    "Logic": ("MEDDINOV3_SCRIPTS", "MEDDINOV3_PACKAGE_DATA"),
    "training": ("MEDDINOV3_TRAINING_SCRIPTS",),
    "MedDINOv3Slicer": ("MEDDINOV3SLICER_SCRIPTS",),
    ".": ("MEDDINOV3_RESOURCES",),
}


def variable(folder: str, name: str) -> list[str]:
    """The values that `folder`'s CMakeLists.txt sets `name` to, quotes removed."""
    text = (ROOT / folder / "CMakeLists.txt").read_text(encoding="utf-8")
    found = re.findall(rf"^set\({name}\s+([^)]*)\)", text, re.MULTILINE)
    assert len(found) == 1, f"{folder}/CMakeLists.txt sets {name} {len(found)} times"
    return [a or b for a, b in re.findall(r'"([^"]*)"|(\S+)', found[0])]


def listed(folder: str) -> list[str]:
    """All files that `folder`'s CMakeLists.txt installs, relative to `folder`."""
    return [file for name in LISTS[folder] for file in variable(folder, name)]


def install(target: Path) -> Path:
    """Copy what CMake installs to `target`, as it lies in ``qt-scripted-modules``."""
    for folder in LISTS:
        for file in listed(folder):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / folder / file, target / file)
    return target
