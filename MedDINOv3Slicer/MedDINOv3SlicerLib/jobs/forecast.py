"""What a segmentation will take, and what a device is, as the worker found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meddinov3.progress import time_in_words
from slicer.i18n import tr as _

GIB = 2**30
MUCH = 0.8  # of the memory there is


@dataclass(frozen=True)
class Estimate:
    """What a segmentation will take.

    Attributes:
        seconds: with the model loaded.
        slices: that are computed.
        memory, machineMemory: bytes needed, and those the computer has.
        device: ``cpu``, ``cuda`` or ``mps``.
        deviceName: in words.
        gpuMemory, gpuFree: bytes needed and free on the graphics card, None elsewhere.
    """

    seconds: float
    slices: int
    memory: int
    machineMemory: int
    device: str
    deviceName: str
    gpuMemory: int | None = None
    gpuFree: int | None = None

    @property
    def text(self) -> str:
        """In one line."""
        return _("About {time} on {device}, {memory:.1f} GiB of memory").format(
            time=time_in_words(max(1.0, self.seconds)),
            device=self.deviceName,
            memory=self.memory / GIB,
        )

    @property
    def warning(self) -> str:
        """What may go wrong, "" if nothing."""
        if self.memory > MUCH * self.machineMemory:
            return _("This needs {needed:.1f} of the computer's {total:.1f} GiB of memory. Close"
                     " other programs, or draw a region.").format(
                needed=self.memory / GIB, total=self.machineMemory / GIB)  # fmt: skip
        if self.gpuMemory and self.gpuFree is not None and self.gpuMemory > self.gpuFree:
            return _("The graphics card has {free:.1f} GiB free, {needed:.1f} are needed; it may"
                     " take longer. Close other programs that use it.").format(
                needed=self.gpuMemory / GIB, free=self.gpuFree / GIB)  # fmt: skip
        return ""


def estimateFrom(answer: dict[str, Any]) -> Estimate:
    """The worker's answer to ``Estimate``."""
    return Estimate(
        float(answer["seconds"]),
        int(answer["slices"]),
        int(answer["memory"]),
        int(answer["machine_memory"]),
        str(answer["device"]),
        str(answer["name"]),
        answer["gpu_memory"],
        answer["gpu_free"],
    )


@dataclass(frozen=True)
class DeviceFacts:
    """A device on which something was really computed.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        name: in words.
        precision: that it computes in.
        memoryFree, memoryTotal: bytes of a graphics card, None elsewhere.
    """

    device: str
    name: str
    precision: str
    memoryFree: int | None = None
    memoryTotal: int | None = None

    @property
    def text(self) -> str:
        """In one line."""
        if self.memoryFree is None:
            return self.name
        return _("{device}, {free:.1f} GiB free").format(
            device=self.name, free=self.memoryFree / GIB
        )


def deviceFactsFrom(answer: dict[str, Any]) -> DeviceFacts:
    """The worker's answer to ``Inspect``."""
    return DeviceFacts(
        str(answer["device"]),
        str(answer["name"]),
        str(answer["precision"]),
        answer["memory_free"],
        answer["memory_total"],
    )
