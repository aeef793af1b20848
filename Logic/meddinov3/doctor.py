"""What this machine can do, found out by doing it."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import SimpleITK as sitk
import timm
import torch

from meddinov3 import __version__
from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import (
    choose_device,
    choose_precision,
    describe_device,
    try_device,
)
from meddinov3.memory import machine_memory
from meddinov3.model_store import InstalledModel, installed_models, user_folder
from meddinov3.segmentation import Model, load_model
from meddinov3.speed import measure
from meddinov3.worker.failures import explain

LITTLE_DISK, LITTLE_MEMORY = 5.0, 4.0  # GiB; torch and a model, a scan and a model


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: in a word or two.
        text: what was found.
        remedy: what to do, "" if all is well.
    """

    topic: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class TypicalScan:
    """A scan as they come: pixels and mm in the plane, slices."""

    name: str
    pixels: int
    spacing: float
    slices: int


TYPICAL = {
    "CT": TypicalScan("CT", 512, 0.78, 300),
    "MR": TypicalScan("MR", 256, 0.94, 180),
}


def examine(device: str = "auto", time_models: bool = True) -> Iterator[Finding]:
    """Look at everything, one finding at a time.

    Args:
        device: as for segmenting.
        time_models: run each installed model on a piece of a typical scan.

    Raises:
        MedDINOv3Error: the device is asked for by name and not here.
    """
    yield _versions()
    yield from _accelerators()
    yield _memory()
    yield _folder()
    chosen = choose_device(device)
    precision = choose_precision("auto", chosen)
    yield Finding("segments on", f"{describe_device(chosen)}, {precision}")
    for model in installed_models():
        yield _examine_model(model, device, time_models)


def _versions() -> Finding:
    versions = {
        "meddinov3": __version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "timm": timm.__version__,
        "SimpleITK": sitk.Version_VersionString(),
        "numpy": np.__version__,
    }
    return Finding("versions", ", ".join(f"{name} {version}" for name, version in versions.items()))


def _accelerators() -> Iterator[Finding]:
    """Each GPU with a kernel really launched: a driver may list a card that torch cannot use."""
    names = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    if not names:
        built = torch.version.cuda or torch.version.hip
        yield Finding(
            "GPU",
            "none that torch can use"
            + ("" if built else ", and this torch is built for the processor only"),
        )
    for name in names:
        yield _try_device(torch.device(name))


def _try_device(device: torch.device) -> Finding:
    try:
        try_device(device)
    except MedDINOv3Error as error:
        return Finding("GPU", error.message, error.remedy)
    return Finding("GPU", f"{device}: {describe_device(device)}, a first computation went well")


def _memory() -> Finding:
    total = machine_memory() / 2**30
    remedy = "" if total >= LITTLE_MEMORY else "Large scans may not fit; give regions (--roi)."
    return Finding("memory", f"{total:.1f} GiB, {os.cpu_count()} processor(s)", remedy)


def _folder() -> Finding:
    folder = user_folder()
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    text = f"{folder}, {free:.1f} GiB free"
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(
            "your folder",
            f"{text}, cannot be written to: {error.strerror or error}",
            "Name another in the environment variable MEDDINOV3_HOME.",
        )
    remedy = "" if free >= LITTLE_DISK else "Free some space before you train or download."
    return Finding("your folder", text, remedy)


def _examine_model(model: InstalledModel, device: str, timed: bool) -> Finding:
    try:
        loaded = load_model(str(model.folder), device)
        if not timed:
            return Finding(model.id, "can be loaded")
        return Finding(model.id, "; ".join(_times(loaded)))
    except (MedDINOv3Error, RuntimeError) as error:  # a card that torch cannot use, memory
        told = explain(error)
        return Finding(model.id, told.message, told.remedy)


def _times(model: Model) -> list[str]:
    """Seconds for typical scans, from a few slices that were really computed."""
    purpose = model.description.purpose
    if purpose.trained_on == "boxes" and purpose.extent is not None:
        slices, rows, columns = (max(1, round(mm)) for mm in purpose.extent)
        seconds = _seconds(model, (rows, columns), 1.0, slices)
        return [f"a box of its size ({slices} slices of 1 mm) takes {_in_words(seconds)}"]
    told = []
    for scan in TYPICAL.values():
        if purpose.modality in ("", scan.name):
            seconds = _seconds(model, (scan.pixels, scan.pixels), scan.spacing, scan.slices)
            told.append(
                f"{scan.name} of {scan.pixels} x {scan.pixels} x {scan.slices} takes "
                f"{_in_words(seconds)}"
            )
    return told or [f"can be loaded; made for {purpose.modality}"]


def _seconds(model: Model, size: tuple[int, int], spacing: float, slices: int) -> float:
    """Time for `slices` slices, from the first few of them."""
    return measure(model, size, (spacing, spacing), slices).seconds * slices


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
