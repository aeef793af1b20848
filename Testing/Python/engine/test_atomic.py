"""Files and folders that appear whole, also where something holds them for a moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from meddinov3 import atomic
from meddinov3.errors import MedDINOv3Error

RENAME = os.replace


def held(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Renaming fails so many times, as on Windows while a scanner looks at the files."""
    tries: list[int] = []

    def replace(source: Any, target: Any) -> None:
        tries.append(1)
        if len(tries) <= times:
            raise PermissionError(13, "Access is denied")
        RENAME(source, target)

    monkeypatch.setattr(atomic, "WAITS", (0.0,) * 3)
    monkeypatch.setattr(atomic.os, "replace", replace)
    return tries


def test_a_folder_that_is_held_for_a_moment_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = held(monkeypatch, 3)
    with atomic.whole_folder(tmp_path / "made") as partial:
        (partial / "file").write_text("content")
    assert (tmp_path / "made/file").read_text() == "content"
    assert len(tries) == 4


def test_one_that_stays_held_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(monkeypatch, 100)
    with pytest.raises(MedDINOv3Error) as caught, atomic.whole_folder(tmp_path / "made"):
        pass
    assert caught.value.code == "cannot-write"
    assert list(tmp_path.iterdir()) == []
