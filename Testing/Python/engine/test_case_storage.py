"""A case library whole or not at all: two programs, full disks, and kills at every step."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from filelock import FileLock
from meddinov3.cases import storage
from meddinov3.cases.library import Library
from meddinov3.grid import Grid
from meddinov3_training.dataset import read_case_label, read_dataset
from small_library import (
    add,
    carry_out,
    drawn,
    expected_files,
    files,
    make_library,
    refused,
    scan,
)  # fmt: skip


class TestTwoAtOnce:
    def test_while_another_program_writes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = make_library(tmp_path / "library")
        add(library, 0)
        monkeypatch.setattr(storage.locked.__wrapped__, "__defaults__", (0.1,))  # type: ignore[attr-defined]
        with FileLock(str(tmp_path / "library" / storage.LOCK_FILE)):
            assert refused(add, library, 1).code == "library-in-use"
            assert refused(library.remove, "case_0001").code == "library-in-use"
            # What the other is writing just now is not swept.
            other = tmp_path / "library" / "imagesTr" / "case_0002_0000.nrrd"
            other.write_bytes(b"half")
            assert len(Library.open(tmp_path / "library").cases) == 1
            assert other.exists()
        assert add(library, 1) == "case_0002"


class TestDisk:
    def test_too_little_space_is_said_before(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Usage(NamedTuple):
            free: int

        library = make_library(tmp_path / "library")
        monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: Usage(17 * 10**6))
        error = refused(library.add, [np.zeros((8, 500, 500), np.int16)],
                        Grid((500, 500, 8), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3)),
                        np.ones((8, 500, 500), np.uint8))  # fmt: skip
        assert error.code == "disk-full"
        assert "25 MB" in error.message and "17 MB" in error.message
        assert files(tmp_path / "library") == {"cases.json", "dataset.json"}

    @pytest.mark.parametrize("step", range(5))
    @pytest.mark.parametrize("operation", ["add", "replace", "remove", "define", "exclude"])
    def test_a_failure_at_any_step_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, step: int
    ) -> None:
        folder = tmp_path / "library"
        library = make_library(folder)
        add(library, 0)
        before = {name: (folder / name).read_bytes() for name in files(folder)}
        real, calls = os.replace, iter(range(1000))

        def full(source: Any, target: Any) -> None:
            if next(calls) == step:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(source, target)

        monkeypatch.setattr(os, "replace", full)
        if operation in ("remove", "define", "exclude") and step >= 2:
            carry_out(library, operation)  # these write two files only
            return
        assert refused(carry_out, library, operation).code == "cannot-write"
        monkeypatch.undo()
        assert {name: (folder / name).read_bytes() for name in files(folder)} == before
        assert len(library.cases) == 1
        assert add(library, 9) == "case_0002"


KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
from meddinov3.cases.library import Library
from small_library import carry_out
real, calls = {function}, iter(range(1000))
def killed(*arguments, **named):
    if next(calls) == {step}:
        os._exit(9)
    return real(*arguments, **named)
{function} = killed
carry_out(Library.open(Path({folder!r})), {operation!r})
"""


@pytest.mark.parametrize(
    ("operation", "function", "steps"),
    [
        ("add", "os.replace", range(5)),
        ("replace", "os.replace", range(5)),
        ("replace", "Path.unlink", range(5, 8)),  # before it, temporary files that are gone
        ("remove", "os.replace", range(2)),
        ("remove", "Path.unlink", range(2, 5)),
    ],
)
def test_a_kill_at_any_step_leaves_a_valid_library(
    tmp_path: Path, operation: str, function: str, steps: range
) -> None:
    """The process ends without a word, as when the power fails; nothing is cleaned up."""
    outcomes = set()
    for step in steps:
        folder = tmp_path / f"library{step}"
        library = make_library(folder)
        add(library, 0), add(library, 5)
        path = [p for p in sys.path if p]
        script = KILLED.format(
            path=path, function=function, step=step, folder=str(folder), operation=operation
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120)
        assert done.returncode == 9, done.stderr.decode()
        for _ in range(2):  # before and after sweeping
            dataset = read_dataset(folder)
            for case in dataset.cases:
                read_case_label(case, case.read(), dataset)
            library = Library.open(folder)
        assert files(folder) == expected_files(library)
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        assert list(content["dataset"]) == [case.id for case in library.cases]
        outcomes.add((len(library.cases), sum(case.revision for case in library.cases)))
        for case in library.cases:
            volume, label_map = library.read(case.id)
            number = {"case_0001": 0 if case.revision == 1 else 2, "case_0002": 5, "case_0003": 1}
            np.testing.assert_array_equal(volume.channels[0], scan(number[case.id]))
            expected = drawn() // 2 if case.revision == 2 else drawn()
            np.testing.assert_array_equal(label_map, expected)
        assert add(library, 7) == f"case_{library.record.next - 1:04d}"
    valid = {"add": {(2, 2), (3, 3)}, "replace": {(2, 2), (2, 3)}, "remove": {(2, 2), (1, 1)}}
    assert outcomes <= valid[operation] and outcomes


def test_sweeping_spares_what_others_put_there(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    library = make_library(folder)
    add(library, 0)
    theirs = ("imagesTr/case_0099_0000.nrrd", "imagesTr/README.txt", "notes.txt", "x.partial")
    ours = ("imagesTr/case_0002_0000.nrrd", "labelsTr/.0123abcd.partial.nrrd",
            "thumbnails/case_0001_r2.png", ".0123abcd.partial.json")  # fmt: skip
    for name in (*theirs, *ours):
        (folder / name).write_bytes(b"x")
    library = Library.open(folder)
    assert files(folder) == expected_files(library) | set(theirs)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe", b"{}"])
def test_a_damaged_dataset_json_is_mended(tmp_path: Path, content: bytes | None) -> None:
    """It says nothing that cases.json does not say."""
    library = make_library(tmp_path / "library")
    add(library, 0)
    path = tmp_path / "library" / "dataset.json"
    before = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    Library.open(tmp_path / "library")
    assert path.read_bytes() == before
