"""When cached slices are kept, when they are made anew, and what is left of a broken build."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shutil
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cached_cases import ball_and_box
from meddinov3.description import ModelDescription
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.grid import SliceOrientation
from meddinov3.intensity import IntensityScheme
from meddinov3.progress import Progress
from meddinov3_training import cache as module
from meddinov3_training.array_file import ArrayWriter
from meddinov3_training.cache import CachedCase, build_cache, cache_bytes, case_key
from meddinov3_training.dataset import Case, Dataset, read_dataset
from short_runs import contents
from synthetic_dataset import draw_case, save, write_dataset


@dataclasses.dataclass
class Made:
    """A dataset on disk and its cache."""

    root: Path
    dataset: Dataset
    description: ModelDescription
    built: list[str]

    def build(self, description: ModelDescription | None = None, **options: Any) -> list[str]:
        """Build and say which cases were made anew."""
        self.built.clear()
        dataset = read_dataset(self.root / "d")
        found = build_cache(
            dataset.cases, dataset, description or self.description, self.root / "cache", **options
        )
        assert [case.id for case in found] == [case.id for case in dataset.cases]
        return sorted(self.built)

    def folders(self) -> list[Path]:
        return sorted(path for path in (self.root / "cache").iterdir() if path.is_dir())


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Three cases with a fresh cache; notes every case that is built."""
    dataset = read_dataset(write_dataset(tmp_path / "d", 3))
    built: list[str] = []
    real = module._build

    def noting(case: Case, *arguments: Any) -> Any:
        built.append(case.id)
        return real(case, *arguments)

    monkeypatch.setattr(module, "_build", noting)
    result = Made(tmp_path, dataset, ball_and_box(), built)
    assert result.build() == ["case_0", "case_1", "case_2"]
    return result


ALL = ["case_0", "case_1", "case_2"]


def test_what_is_right_is_kept(made: Made) -> None:
    before = contents(made.root / "cache")
    assert made.build() == []
    assert contents(made.root / "cache") == before


@pytest.mark.parametrize(
    "changed",
    [
        ball_and_box(orientation=SliceOrientation("LPS", "P")),
        ball_and_box(orientation=SliceOrientation("RPS", "S")),
        ball_and_box(scheme=IntensityScheme("range")),
        ball_and_box(scheme=IntensityScheme("zscore", mask="nonzero")),
        ball_and_box(scheme=IntensityScheme("ct", (0.0, 100.0), 50.0, 10.0)),
    ],
)
def test_a_plan_that_sees_slices_otherwise_makes_them_anew(
    made: Made, changed: ModelDescription
) -> None:
    assert made.build(changed) == ALL
    assert len(made.folders()) == 3, "the old slices are removed"


@pytest.mark.parametrize(
    "sampling",
    [
        {"spacing": (0.3, 0.4)},
        {"patch": (64, 16)},
        {"slice_offsets": (-2.0, 0.0, 2.0)},
        {"mirror_axes": (1,)},
    ],
)
def test_what_slices_do_not_depend_on_leaves_them(made: Made, sampling: dict[str, Any]) -> None:
    changed = dataclasses.replace(
        made.description, sampling=dataclasses.replace(made.description.sampling, **sampling)
    )
    assert made.build(changed) == []


def test_another_version_of_the_layout_makes_them_anew(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert made.build() == ALL


@pytest.mark.parametrize("file", ["imagesTr/case_1_0000.nrrd", "labelsTr/case_1.nrrd"])
def test_a_changed_source_makes_its_case_anew(made: Made, file: str) -> None:
    path = made.root / "d" / file
    images, labels = draw_case(77)
    save(path, labels if "labels" in file else images[0])
    os.utime(path, ns=(1, 10**18))
    assert made.build() == ["case_1"]
    assert len(made.folders()) == 3


def test_a_source_that_was_only_touched_or_moved(made: Made, tmp_path: Path) -> None:
    os.utime(made.root / "d" / "labelsTr" / "case_2.nrrd", ns=(1, 10**18))
    assert made.build() == ["case_2"]
    shutil.copytree(made.root / "d", made.root / "moved")  # with names, sizes and times
    shutil.rmtree(made.root / "d")
    (made.root / "moved").rename(made.root / "d")
    assert made.build() == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def overwrite(path: Path) -> None:
    """Same size, other content, at a later time."""
    content = bytearray(path.read_bytes())
    content[-5] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 60))


def empty_object(path: Path) -> None:
    path.write_text("{}")


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("image.npy", truncate),
        ("image.npy", overwrite),
        ("image.npy", Path.unlink),
        ("labels.npy", truncate),
        ("labels.npy", overwrite),
        ("case.json", truncate),
        ("case.json", empty_object),
        ("case.json", Path.unlink),
    ],
)
def test_a_damaged_case_is_made_anew(made: Made, file: str, damage: Callable[[Path], None]) -> None:
    before = contents(made.root / "cache")
    folder = made.folders()[1]
    damage(folder / file)
    assert made.build() == ["case_1"]
    after = contents(made.root / "cache")
    assert {k: v for k, v in after.items() if k.endswith(".npy")} == {
        k: v for k, v in before.items() if k.endswith(".npy")
    }


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_build_goes_on(made: Made, workers: int) -> None:
    shutil.rmtree(made.root / "cache")
    stop = threading.Event()
    with pytest.raises(Cancelled):
        made.build(report=lambda p: stop.set() if p.done else None, stop=stop.is_set)
    complete = len(made.folders())
    assert complete == 1
    (made.root / "cache" / ".0a1b2c3d.partial").mkdir()  # as a killed process leaves it
    (made.root / "cache" / ".0a1b2c3d.partial" / "image.npy").write_bytes(b"half")
    assert len(made.build(workers=workers)) == 3 - complete
    assert not list((made.root / "cache").glob("*.partial"))
    assert made.build() == []


def test_a_failure_leaves_no_half_written_case(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(made.root / "cache")
    real, written = ArrayWriter.append, []

    def full(self: ArrayWriter, plane: np.ndarray) -> None:
        written.append(plane.size)
        if len(written) > 30:  # in the second case
            raise OSError(28, "No space left on device")
        real(self, plane)

    monkeypatch.setattr(ArrayWriter, "append", full)
    with pytest.raises(MedDINOv3Error) as caught:
        made.build()
    assert "No space left" in caught.value.message
    names = [path.name for path in (made.root / "cache").iterdir() if path.is_dir()]
    assert len(names) == 1 and names[0].startswith("case_0")
    monkeypatch.setattr(ArrayWriter, "append", real)
    assert made.build() == ["case_1", "case_2"]


def test_other_files_in_the_folder_are_left_alone(made: Made) -> None:
    kept = made.root / "cache" / "thesis"
    kept.mkdir()
    (kept / "chapter.txt").write_text("precious")
    other = made.root / "cache" / "elsewhere.0123456789abcdef"  # another run's case
    other.mkdir()
    made.build(ball_and_box(scheme=IntensityScheme("range")))
    assert (kept / "chapter.txt").read_text() == "precious"
    assert other.is_dir()


def test_the_dataset_is_only_read(made: Made) -> None:
    before = contents(made.root / "d")
    times = {path: path.stat().st_mtime_ns for path in (made.root / "d").rglob("*")}
    for path in sorted((made.root / "d").rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    shutil.rmtree(made.root / "cache")
    assert made.build() == ALL
    assert contents(made.root / "d") == before
    assert {path: path.stat().st_mtime_ns for path in (made.root / "d").rglob("*")} == times


def test_keys_differ_by_case_and_members(made: Made) -> None:
    cases = made.dataset.cases
    keys = {case_key(case, made.dataset, made.description) for case in cases}
    other = dataclasses.replace(made.dataset, members=((1,), (2, 300)))
    assert len(keys | {case_key(cases[0], other, made.description)}) == 4


# Side by side.


def test_threads_write_the_same(made: Made) -> None:
    before = contents(made.root / "cache")
    shutil.rmtree(made.root / "cache")
    assert made.build(workers=3) == ALL
    after = contents(made.root / "cache")
    assert {k: v for k, v in after.items() if k.endswith(".npy")} == {
        k: v for k, v in before.items() if k.endswith(".npy")
    }


def test_two_builders_of_one_folder_build_once(made: Made) -> None:
    """As the processes of a training on several GPUs do."""
    shutil.rmtree(made.root / "cache")
    made.built.clear()
    found: list[list[CachedCase]] = []

    def build() -> None:
        found.append(
            build_cache(made.dataset.cases, made.dataset, made.description, made.root / "cache")
        )

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made.built) == ALL
    assert len(found) == 3
    assert all([case.folder for case in cases] == made.folders() for cases in found)


def test_progress_counts_what_is_kept(made: Made) -> None:
    shutil.rmtree(made.folders()[0])
    told: list[Progress] = []
    assert made.build(report=told.append) == ["case_0"]
    assert [(p.done, p.total) for p in told] == [(2, 3), (3, 3)]


# Room.


def test_the_size_is_known_beforehand(made: Made) -> None:
    said = cache_bytes(made.dataset.cases, made.dataset)
    files = [path for folder in made.folders() for path in folder.glob("*.npy")]
    stored = sum(path.stat().st_size for path in files)
    assert said == 3 * 12 * 40 * 32 * 3
    assert said <= stored <= said + len(files) * 200, "but for the headers"


def test_the_size_counts_channels_and_label_values(tmp_path: Path) -> None:
    dataset = read_dataset(write_dataset(tmp_path / "d", 1, channels=("a", "b")))
    voxels = 12 * 40 * 32
    assert cache_bytes(dataset.cases, dataset) == voxels * (2 + 2 + 1)
    many = dataclasses.replace(dataset, members=((1,), (256,)))
    assert cache_bytes(dataset.cases, many) == voxels * (2 + 2 + 2)


def test_too_little_room_is_said_before_anything_is_written(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in made.folders()[:2]:
        shutil.rmtree(folder)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 0, 2**26 + 50_000))
    with pytest.raises(MedDINOv3Error) as caught:
        made.build()
    assert caught.value.code == "disk-full"
    assert "0.06 GiB free" in caught.value.message
    assert len(made.folders()) == 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 0, 2**26 + 100_000))
    assert made.build() == ["case_0", "case_1"], "what lies there needs no further room"


def test_an_unreadable_scan_is_named(made: Made) -> None:
    path = made.root / "d" / "imagesTr" / "case_1_0000.nrrd"
    path.write_bytes(gzip.compress(b"nothing"))
    with pytest.raises(MedDINOv3Error, match="case_1"):
        made.build()


def test_records_are_readable(made: Made) -> None:
    record = json.loads((made.folders()[0] / "case.json").read_text(encoding="utf-8"))
    assert record["id"] == "case_0"
    assert record["image"]["shape"] == [12, 1, 40, 32]
    assert str(made.root) not in json.dumps(record)
    array = np.load(made.folders()[0] / "image.npy", mmap_mode="r")
    assert array.shape == (12, 1, 40, 32)
