"""Scans handed from process to process: exact, private, and swept when abandoned."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import random_grid
from meddinov3.errors import MedDINOv3Error
from meddinov3.worker import exchange
from meddinov3.worker.exchange import (
    Exchange,
    read_label_map,
    read_scan,
    sweep,
    write_label_map,
    write_scan,
)

HOLD = """
import sys, time
from pathlib import Path
from meddinov3.worker.exchange import Exchange
held = Exchange(Path(sys.argv[1]))
print(held.folder, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.float32, np.float64, ">i2"])
def test_scans_arrive_bit_for_bit(tmp_path: Path, seed: int, kind: type | str) -> None:
    grid = random_grid(seed)
    values = np.random.default_rng(seed).normal(0, 90, (2, *grid.shape)).astype(kind)
    flipped = values[1][::-1].copy()[::-1]  # as Slicer's views may come: not contiguous
    write_scan(tmp_path / "scan", [values[0], flipped], grid, "CT")
    found = read_scan(tmp_path / "scan")
    for array, expected in zip(found.channels, values, strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype
    assert found.grid.same_as(grid, tolerance=0.0)
    assert found.grid.origin == grid.origin
    np.testing.assert_array_equal(found.grid.direction, grid.direction)
    assert found.modality == "CT"


def test_label_maps_arrive_and_only_on_their_grid(tmp_path: Path) -> None:
    grid = random_grid(1)
    labels = np.random.default_rng(0).integers(0, 60, grid.shape).astype(np.uint8)
    write_label_map(tmp_path / "result", labels)
    np.testing.assert_array_equal(read_label_map(tmp_path / "result", grid), labels)
    with pytest.raises(MedDINOv3Error) as caught:
        read_label_map(tmp_path / "result", random_grid(2))
    assert caught.value.code == "no-result"
    with pytest.raises(MedDINOv3Error):
        read_label_map(tmp_path / "nothing", grid)


def test_an_array_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MedDINOv3Error) as caught:
        write_scan(tmp_path / "scan", [np.zeros((2, 2, 2))], random_grid(0))
    assert caught.value.code == "wrong-shape"
    assert not (tmp_path / "scan").exists()


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/thesis").write_text("precious")
    with pytest.raises(MedDINOv3Error) as caught:
        write_label_map(tmp_path / "results", np.zeros((1, 1, 1), np.uint8))
    assert caught.value.code == "exists"
    assert (tmp_path / "results/thesis").read_text() == "precious"


def test_what_a_worker_writes_while_it_closes_goes_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, remove, calls = Exchange(tmp_path), shutil.rmtree, []

    def removing(folder: Path, **how: bool) -> None:
        remove(folder, **how)
        calls.append(folder)
        if len(calls) == 1:
            folder.mkdir()
            (folder / "late").touch()

    monkeypatch.setattr(exchange.shutil, "rmtree", removing)
    opened.close()
    assert not opened.folder.exists() and len(calls) == 2


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    grid = random_grid(0)
    write_scan(tmp_path / "scan", [np.zeros(grid.shape)], grid)
    with open(tmp_path / "scan/channel0.npy", "wb") as stream:  # an array of Python objects
        header = {"descr": "|O", "fortran_order": False, "shape": grid.shape}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(b"cposix\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(MedDINOv3Error) as caught:
        read_scan(tmp_path / "scan")
    assert caught.value.code == "no-scan"


class TestFullDisk:
    def test_said_beforehand(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        full = type("Usage", (), {"free": 1000})
        monkeypatch.setattr(exchange.shutil, "disk_usage", lambda _: full)
        self._refused(tmp_path)

    def test_or_when_it_happens(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def save(path: Path, *_: object, **__: object) -> None:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(exchange.np, "save", save)
        self._refused(tmp_path)

    def _refused(self, tmp_path: Path) -> None:
        grid = random_grid(0)
        with pytest.raises(MedDINOv3Error) as caught:
            write_scan(tmp_path / "scan", [np.zeros(grid.shape)], grid)
        assert caught.value.code == "disk-full" and "TMPDIR" in caught.value.remedy
        assert not (tmp_path / "scan").exists()


class TestFolder:
    @pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps temporary folders private")
    def test_only_its_user_can_read_it(self, tmp_path: Path) -> None:
        with Exchange(tmp_path) as opened:
            assert stat.S_IMODE(opened.folder.stat().st_mode) == 0o700

    def test_is_gone_when_closed(self, tmp_path: Path) -> None:
        with Exchange(tmp_path) as opened:
            write_label_map(opened.new("result"), np.zeros((1, 1, 1), np.uint8))
            assert opened.new("a") != opened.new("a")
        assert list(tmp_path.iterdir()) == []

    def test_what_a_killed_program_left_is_swept_and_what_is_in_use_is_not(
        self, tmp_path: Path
    ) -> None:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(exchange.__file__).parents[2])},
        )
        assert holder.stdout is not None
        folder = Path(holder.stdout.readline().strip())
        assert folder.is_dir()
        with Exchange(tmp_path):
            assert sweep(tmp_path) == []
            assert folder.is_dir()
            holder.kill()
            holder.wait()
            holder.stdout.close()
            assert sweep(tmp_path) == [folder]
        assert not folder.exists()

    def test_a_folder_just_being_made_is_left_and_one_long_forgotten_is_not(
        self, tmp_path: Path
    ) -> None:
        names = ("meddinov3-young000", "meddinov3-old00000", "meddinov3-full0000", "meddinov3-mine")
        young, old, full, mine = folders = [tmp_path / name for name in names]
        for folder in folders:
            folder.mkdir()
        (full / "work").write_text("days")
        long_ago = time.time() - 2 * exchange.ABANDONED
        for folder in (old, full, mine):
            os.utime(folder, (long_ago, long_ago))
        assert sweep(tmp_path) == [old]
        assert young.is_dir() and mine.is_dir()
        assert (full / "work").read_text() == "days", "without our lock nothing is deleted"

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        precious = tmp_path / "precious"
        precious.mkdir()
        (precious / "in-use").touch()
        (tmp_path / "meddinov3-link0000").symlink_to(precious)
        assert sweep(tmp_path) == []
        assert (precious / "in-use").exists()

    def test_no_place_for_it_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            Exchange(tmp_path / "nowhere")
        assert caught.value.code == "no-temporary-folder"


def test_a_missing_lock_package_is_named_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "filelock", None)
    with pytest.raises(MedDINOv3Error) as caught:
        Exchange(tmp_path)
    assert caught.value.code == "not-set-up" and "filelock" in caught.value.message
    assert list(tmp_path.iterdir()) == []
