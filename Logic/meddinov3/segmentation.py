"""Segment a scan: the Python interface, equal to the command line.

>>> from meddinov3.segmentation import load_model, segment
>>> model = load_model("hippocampus-mr-tiny", device="cpu")
>>> result = segment("scan.nii.gz", model)
>>> result.save("scan.seg.nrrd")
"""

from __future__ import annotations

import gc
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from meddinov3 import __version__
from meddinov3.bundle import read_bundle
from meddinov3.description import ModelDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.fitness import check_fitness
from meddinov3.grid import Grid
from meddinov3.inference.cleanup import Cleanup, clean
from meddinov3.inference.device import choose_device, choose_precision, describe_device
from meddinov3.inference.predictor import SliceNetwork, predict
from meddinov3.labels import Label
from meddinov3.memory import peak_memory
from meddinov3.model_store import find_model
from meddinov3.progress import ProgressCallback, StopQuestion, Stopwatch
from meddinov3.reading import read_volume
from meddinov3.region import Region, read_region
from meddinov3.volume import Volume, join_channels
from meddinov3.writing import (
    SEGMENTATION_ENDING,
    check_not_read,
    write_label_map,
    write_segmentation,
)


@dataclass(frozen=True)
class Model:
    """A model ready to run.

    Attributes:
        description: what it is.
        network: takes slices (B, C, H, W) and tokens to decode at a time, gives logits.
        device, precision: where and how it computes.
    """

    description: ModelDescription
    network: SliceNetwork
    device: torch.device
    precision: str = "fp32"


@dataclass
class Segmentation:
    """A label map on exactly the scan's grid.

    Attributes:
        label_map: (k, j, i) unsigned integers, 0 is background.
        grid: the scan's.
        labels: those asked for, in the model's order.
        model: id of the model.
        notes: warnings and what was done about memory.
        seconds: by phase.
        source: the scan's DICOM files, if it came from DICOM.
        inputs: files and DICOM folders that were read; none is overwritten.
        details: versions, device and precision, for the report.
    """

    label_map: np.ndarray
    grid: Grid
    labels: tuple[Label, ...]
    model: str
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    source: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write ``.seg.nrrd``, ``.nii.gz``, ``.nrrd``, ``.mha`` or DICOM SEG (``.dcm``).

        Raises:
            MedDINOv3Error: the ending is unknown, the place cannot be written to, an input would
                be overwritten, or DICOM is asked for a scan that did not come from DICOM.
        """
        path, watch = Path(path), Stopwatch()
        check_not_read(path, self.inputs)
        watch.enter("write")
        if path.name.lower().endswith(SEGMENTATION_ENDING):
            write_segmentation(path, self.label_map, self.grid, self.labels, self.model)
        elif path.suffix.lower() == ".dcm":
            from meddinov3.dicom_seg import write_dicom_seg

            self.notes += write_dicom_seg(
                path, self.label_map, self.labels, self.source, self.model
            )
        else:
            write_label_map(path, self.label_map, self.grid)
        watch.enter("")
        self.seconds["write"] = self.seconds.get("write", 0.0) + watch.seconds["write"]

    def report(self) -> dict[str, Any]:
        """Versions, device, seconds by phase, peak memory, volumes; no paths, no names of files."""
        voxel_ml = abs(float(np.linalg.det(self.grid.index_to_patient))) / 1000
        longest = 1 + max(int(self.label_map.max()), *(label.value for label in self.labels))
        # Slice by slice: bincount works on a copy eight times as large.
        counts = sum(np.bincount(plane.ravel(), minlength=longest) for plane in self.label_map)
        counts = np.asarray(counts)
        volumes = {
            label.name: round(float(counts[label.value] * voxel_ml), 4) for label in self.labels
        }
        return {
            "model": self.model,
            **self.details,
            "size": list(self.grid.size),
            "spacing_mm": list(self.grid.spacing),
            "volume_ml": volumes,
            "seconds": {phase: round(value, 4) for phase, value in self.seconds.items()},
            "total_seconds": round(sum(self.seconds.values()), 4),
            "peak_memory_mib": round(peak_memory() / 2**20, 1),
            "notes": self.notes,
        }


def load_model(name: str | None = None, device: str = "auto", precision: str = "auto") -> Model:
    """Load a model by id or folder; None takes the only one installed.

    Raises:
        MedDINOv3Error: no such model, altered weights, or no such device or precision.
    """
    chosen = choose_device(device)
    description, network = read_bundle(find_model(name), chosen)
    return Model(description, network, chosen, choose_precision(precision, chosen))


def read_scan(
    image: str | Path | None,
    channels: dict[str, str] | None,
    description: ModelDescription,
    series: int | None = None,
) -> Volume:
    """Read a scan's channels in the model's order.

    Args:
        image: the first channel, or None if all are in `channels`.
        channels: files by channel name; resampled to the first channel's grid.
        description: names the channels.
        series: which of several DICOM series in a folder, counted from 1.

    Raises:
        MedDINOv3Error: a channel is unknown, missing or given twice, or a file is unreadable.
    """
    names = [channel.name for channel in description.channels]
    files = {name: Path(path) for name, path in (channels or {}).items()}
    by_lower = {name.lower(): name for name in names}
    unknown = [name for name in files if name.lower() not in by_lower]
    given = {by_lower[name.lower()]: path for name, path in files.items() if name not in unknown}
    if image is not None and names[0] not in given:
        given[names[0]] = Path(image)
    elif image is not None:
        unknown.append(names[0] + " (twice)")
    if unknown or len(given) != len(names):
        raise MedDINOv3Error(
            "wrong-channels",
            f"The model '{description.id}' takes the channel(s) {', '.join(names)}; "
            f"given: {', '.join([*given, *unknown]) or 'none'}.",
            "Give the first as input and each other as --channel NAME=FILE.",
        )
    first, *others = (given[name] for name in names)
    return join_channels([read_volume(first, series), *map(read_volume, others)])


def segment(
    image: str | Path | Volume | None,
    model: Model,
    *,
    channels: dict[str, str] | None = None,
    series: int | None = None,
    region: str | Path | Region | None = None,
    labels: Sequence[str] | None = None,
    mirror: bool = False,
    cleanup: Cleanup | None = None,
    batch: int | None = None,
    report: ProgressCallback | None = None,
    stop: StopQuestion | None = None,
) -> Segmentation:
    """Segment one scan.

    Args:
        image: a file, a DICOM folder, or a volume in memory.
        model: from :func:`load_model`.
        channels: files of further channels by name.
        series: which of several DICOM series in a folder, counted from 1.
        region: as ``--roi`` (see :func:`meddinov3.region.read_region`) or a region.
        labels: names or values; all by default.
        mirror: average over mirrored copies, as far as the model allows.
        cleanup: connected parts and holes.
        batch: slices at a time; None chooses.
        report, stop: progress, and the question whether to stop.

    Raises:
        MedDINOv3Error: anything the user can mend, with its remedy.
        Cancelled: `stop` said so.
    """
    watch = Stopwatch()
    watch.enter("read")
    volume = (
        image
        if isinstance(image, Volume)
        else read_scan(image, channels, model.description, series)
    )
    area = read_region(str(region)) if isinstance(region, (str, Path)) else region
    watch.enter("check")
    notes = [*volume.notes, *check_fitness(volume, model.description, area)]
    watch.enter("")
    prediction = predict(
        volume,
        model.description,
        model.network,
        model.device,
        precision=model.precision,
        region=area,
        labels=None if labels is None else list(labels),
        mirror=mirror,
        batch=batch,
        report=report,
        stop=stop,
    )
    grid, source, inputs = volume.grid, volume.source, (*volume.inputs, *volume.source)
    if area is not region:
        inputs += (str(region),)  # a file, or six numbers that are none
    del volume  # the scan need not be held while the result is cleaned and written
    image = None
    gc.collect()
    if cleanup is not None and cleanup.asked:
        watch.enter("clean up")
        clean(prediction.label_map, grid, prediction.labels, cleanup)
        watch.enter("")
    return Segmentation(
        prediction.label_map,
        grid,
        prediction.labels,
        model.description.id,
        [*notes, *prediction.notes],
        {**watch.seconds, **prediction.seconds},
        source,
        _details(model),
        inputs,
    )


def _details(model: Model) -> dict[str, Any]:
    return {
        "weights_sha256": model.description.weights_sha256,
        "device": describe_device(model.device),
        "precision": model.precision,
        "versions": {
            "meddinov3": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "simpleitk": sitk.Version_VersionString(),
            "numpy": np.__version__,
        },
    }
