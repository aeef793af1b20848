"""Training slices on disk: as the model sees them, before augmentation.

Slices are oriented and normalised once by the code that inference uses and kept at the scan's
own resolution (resampling is composed with the augmentation's transform), so the cache depends
neither on the plan's spacing or patch nor on its context.

Images are stored as float16, each channel relative to its mean and standard deviation over the
case, so that rounding is at most a thousandth of a deviation for values within four of them,
whatever the intensity scheme. The scan's own integers would be exact and take as much for CT,
but would need the fitted statistics, masks and filled gaps with every slice.

A case is one folder, renamed into place when complete: ``image.npy`` (slices, channels, rows,
columns), ``labels.npy`` (slices, rows, columns) and ``case.json``, which holds what it depends
on. Files are mapped for the moment of a read: any number of cases needs no open files, and on
Windows nothing stands in the way of replacing them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from filelock import FileLock, Timeout
from meddinov3.atomic import whole_folder
from meddinov3.description import ModelDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.slices import SliceSource, neighbours
from meddinov3.plain_json import from_plain, to_plain
from meddinov3.progress import ProgressCallback, Steps, StopQuestion
from meddinov3.region import index_box
from torch import Tensor

from meddinov3_training.array_file import ArrayFile, ArrayWriter
from meddinov3_training.dataset import Case, Dataset, read_case_label
from meddinov3_training.in_threads import in_threads, one_thread

FORMAT = 1
IMAGE, LABELS, RECORD = "image.npy", "labels.npy", "case.json"
HALF = np.dtype(np.float16)
CPU = torch.device("cpu")
SPARE = 64 * 2**20  # bytes left free for the run's other files


@dataclass(frozen=True)
class Record:
    """The content of ``case.json``.

    Attributes:
        format: version of the layout.
        key: hash of everything the slices depend on.
        id: of the case.
        spacing: (slices, rows, columns) in mm.
        slices_with: for each label value, in decimals, the slices that show it.
        notes: what the user should know about the scan.
        offset, scale: for each channel; a normalised value is scale times the stored one, plus
            offset.
        image: (slices, channels, rows, columns).
        labels: (slices, rows, columns).
    """

    format: int
    key: str
    id: str
    spacing: tuple[float, float, float]
    slices_with: dict[str, tuple[int, ...]]
    notes: tuple[str, ...]
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    image: ArrayFile
    labels: ArrayFile


@dataclass(frozen=True)
class CachedCase:
    """A case as the model sees it; slices are read when asked for, in any process.

    Attributes:
        folder: where it lies.
        record: what lies there.
        slice_offsets: context in mm, see :class:`Sampling`.
        slices_with: for each value the slices that show it.
    """

    folder: Path
    record: Record
    slice_offsets: tuple[float, ...]
    slices_with: dict[int, np.ndarray]

    @property
    def id(self) -> str:
        """The case's name in the dataset."""
        return self.record.id

    @property
    def count(self) -> int:
        """Slices."""
        return self.record.labels.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns) of every slice."""
        _, rows, columns = self.record.labels.shape
        return (rows, columns)

    @property
    def spacing(self) -> tuple[float, float]:
        """(rows, columns) in mm."""
        return self.record.spacing[1:]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the scan."""
        return self.record.notes

    def image(self, number: int) -> Tensor:
        """Slice `number` with its context, (offsets * channels, rows, columns) float32."""
        indices = neighbours(number, self.slice_offsets, self.record.spacing[0], (0, self.count))
        planes = [self.record.image.read(self.folder / IMAGE, index) for index in indices]
        image = torch.from_numpy(np.concatenate(planes)).float()
        scale, offset = (
            torch.tensor(values).repeat(len(indices))[:, None, None]
            for values in (self.record.scale, self.record.offset)
        )
        return image.mul_(scale).add_(offset)

    def labels(self, number: int) -> Tensor:
        """Label-map values of slice `number`, (rows, columns) int64."""
        plane = self.record.labels.read(self.folder / LABELS, number)
        return torch.from_numpy(plane.astype(np.int64))


def cache_bytes(cases: Sequence[Case], dataset: Dataset) -> int:
    """How much room the cache of `cases` will take, from the scans' headers.

    Args:
        cases: to be cached.
        dataset: for channels and label values.

    Raises:
        MedDINOv3Error: a file cannot be read.
    """
    voxel = len(dataset.channels) * HALF.itemsize + _label_type(dataset).itemsize
    return sum(_voxels(case) * voxel for case in cases)


def build_cache(
    cases: Sequence[Case],
    dataset: Dataset,
    description: ModelDescription,
    folder: Path,
    *,
    workers: int = 0,
    report: ProgressCallback | None = None,
    stop: StopQuestion | None = None,
) -> list[CachedCase]:
    """Cache the cases' slices; those that lie there and are still right are kept.

    Several processes may ask for the same folder: one builds, the others wait and find it done.

    Args:
        cases: in the order wanted back.
        dataset: names and labels; its files are only read.
        description: orientation, channels and context of the model in training.
        folder: the cache's.
        workers: cases prepared at a time, in threads; each holds one scan and its label map.
        report: told after each case.
        stop: asked before each case.

    Raises:
        MedDINOv3Error: a case cannot be read or used, or the disk has too little room.
        Cancelled: `stop` said so; what is complete stays and is kept next time.
    """
    keys = [case_key(case, dataset, description) for case in cases]
    places = [folder / _name(case, key) for case, key in zip(cases, keys, strict=True)]
    steps = Steps("caching slices", len(cases), report, stop)
    _make(folder)
    with _alone(folder, steps):
        _sweep(folder, cases, places)
        records = [read_record(place, key) for place, key in zip(places, keys, strict=True)]
        missing = [n for n, record in enumerate(records) if record is None]
        if len(missing) < len(cases):
            steps.advance(len(cases) - len(missing))
        _check_room(folder, cache_bytes([cases[n] for n in missing], dataset))

        def build(number: int) -> Record:
            steps.check()
            with one_thread():
                return _build(cases[number], dataset, description, keys[number], places[number])

        for number, record in zip(missing, in_threads(build, missing, workers), strict=True):
            records[number] = record
            steps.advance()
            if steps.done < steps.total:
                steps.check()
    offsets = description.sampling.slice_offsets
    return [
        _open(place, record, offsets)
        for place, record in zip(places, records, strict=True)
        if record is not None
    ]


def case_key(case: Case, dataset: Dataset, description: ModelDescription) -> str:
    """Hexadecimal SHA-256 of what the slices of a case depend on.

    That is: the layout's version, orientation, intensity schemes, the values that count as a
    label, and the source files by name, size and time of change.
    """
    content = {
        "format": FORMAT,
        "id": case.id,
        "orientation": to_plain(description.sampling.orientation),
        "channels": to_plain(description.channels),
        "members": to_plain(dataset.members),
        "ignore": description.ignore_label,
        "files": [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns)
            for path in (*case.images, case.label)
        ],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_record(place: Path, key: str) -> Record | None:
    """The record of a case's folder, or None if it is absent, damaged or made for another key."""
    try:
        content = json.loads((place / RECORD).read_text(encoding="utf-8"))
        record: Record = from_plain(Record, content)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    same = record.image.is_at(place / IMAGE) and record.labels.is_at(place / LABELS)
    return record if same and record.key == key and record.format == FORMAT else None


def _open(place: Path, record: Record, offsets: tuple[float, ...]) -> CachedCase:
    shown = {int(value): np.array(found) for value, found in record.slices_with.items()}
    return CachedCase(place, record, offsets, shown)


def _name(case: Case, key: str) -> str:
    """A folder's name: for people first, short enough for Windows, and exact."""
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', case.id)[:40]}.{key[:16]}"


def _label_type(dataset: Dataset) -> np.dtype[Any]:
    values = [value for members in dataset.members for value in members]
    return np.dtype(np.uint8 if max((*values, dataset.ignore or 0)) <= 255 else np.uint16)


def _voxels(case: Case) -> int:
    """Voxels of the first channel, which the others are resampled to."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(case.images[0]))
    try:
        reader.ReadImageInformation()
        return int(np.prod(reader.GetSize()))
    except RuntimeError:
        return int(np.prod(case.read().grid.size))  # says in words what is wrong


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MedDINOv3Error(
            "cannot-write",
            f"The folder '{folder}' cannot be made: {error.strerror or error}.",
            "Choose another folder for the cache.",
        ) from error


@contextmanager
def _alone(folder: Path, steps: Steps) -> Iterator[None]:
    """Hold the folder's lock; a caller that waits for another can still be stopped."""
    lock = FileLock(folder / "cache.lock")
    while True:
        steps.check()
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            continue
    try:
        yield
    finally:
        lock.release()


def _sweep(folder: Path, cases: Sequence[Case], places: Sequence[Path]) -> None:
    """Remove half-written folders, and what these cases left when they or the plan changed."""
    prefixes = {_name(case, "").rstrip(".") for case in cases}
    for path in folder.iterdir():
        prefix, _, key = path.name.rpartition(".")
        outdated = prefix in prefixes and re.fullmatch("[0-9a-f]{16}", key) and path not in places
        if path.is_dir() and (outdated or re.fullmatch(r"\.[0-9a-f]{8}\.partial", path.name)):
            shutil.rmtree(path, ignore_errors=True)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed and free < needed + SPARE:
        raise MedDINOv3Error(
            "disk-full",
            f"The cache of training slices needs {needed / 2**30:.2f} GiB; '{folder}' has "
            f"{free / 2**30:.2f} GiB free.",
            "Free some space, or choose a folder on another disk.",
        )


def _build(
    case: Case, dataset: Dataset, description: ModelDescription, key: str, place: Path
) -> Record:
    """Orient, normalise and store a case; what lies at `place` is no good."""
    shutil.rmtree(place, ignore_errors=True)
    volume = case.read()
    label_map = read_case_label(case, volume, dataset)
    orientation = description.sampling.orientation
    whole = index_box(None, volume.grid, orientation)
    single = dataclasses.replace(description.sampling, slice_offsets=(0.0,))
    source = SliceSource(volume, description.schemes, single, whole, whole)
    view = orientation.view(label_map, volume.grid)
    with whole_folder(place) as temporary:
        labels, shown = _write_labels(temporary / LABELS, view, _label_type(dataset))
        offset, scale = _moments(source, len(view))
        image = _write_image(temporary / IMAGE, source, len(view), offset, scale)
        shown.pop(str(description.ignore_label), None)
        record = Record(
            FORMAT, key, case.id, orientation.spacing(volume.grid), shown, tuple(source.notes),
            tuple(offset.tolist()), tuple(scale.tolist()), image, labels,
        )  # fmt: skip
        text = json.dumps(to_plain(record)) + "\n"
        (temporary / RECORD).write_text(text, encoding="utf-8", newline="\n")
    return record


def _write_labels(
    path: Path, view: np.ndarray, kind: np.dtype[Any]
) -> tuple[ArrayFile, dict[str, tuple[int, ...]]]:
    """Returns the file, and for each value above 0 the slices that show it."""
    shown: dict[str, tuple[int, ...]] = {}
    with ArrayWriter(path, view.shape, kind) as file:
        for number, plane in enumerate(view):
            stored = plane.astype(kind)
            file.append(stored)
            for value in np.flatnonzero(np.bincount(stored.ravel())).tolist():
                if value:
                    shown[str(value)] = (*shown.get(str(value), ()), number)
    return file.written, shown


def _moments(source: SliceSource, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of the normalised slices; 1 where it is 0."""
    means, squares = [], []
    for number in range(count):
        values = source.batch([number], CPU)[0].double().flatten(1)
        means.append(values.mean(dim=1).numpy())
        squares.append(values.var(dim=1, correction=0).numpy())
    mean = np.mean(means, axis=0)
    spread = np.sqrt(np.mean(squares, axis=0) + np.var(means, axis=0))
    return mean, np.where(spread > 0, spread, 1.0)


def _write_image(
    path: Path, source: SliceSource, count: int, offset: np.ndarray, scale: np.ndarray
) -> ArrayFile:
    with ArrayWriter(path, (count, len(offset), *source.size), HALF) as file:
        for number in range(count):
            values = source.batch([number], CPU)[0].numpy()
            values -= offset[:, None, None].astype(np.float32)
            values /= scale[:, None, None].astype(np.float32)
            file.append(values)
    return file.written
