"""Small things that several panels do with widgets."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

DEVICES = ("auto", "cpu", "cuda", "mps")  # in the order of the .ui files


def enable(button: Any, reason: str, toolTip: str) -> None:
    """Let a button be pressed unless there is a reason against it, which its tool tip gives."""
    button.enabled = not reason
    button.toolTip = reason or toolTip


def chosenDevice(combo: Any) -> str:
    """The device that a combo box with the entries of ``DEVICES`` shows."""
    return DEVICES[max(combo.currentIndex, 0)]


def chooseDevice(combo: Any, device: str) -> None:
    """Show a device, as if nobody chose; one that the list lacks (``cuda:1``) as its kind."""
    kind = device.partition(":")[0]
    combo.blockSignals(True)
    combo.setCurrentIndex(DEVICES.index(kind) if kind in DEVICES else 0)
    combo.blockSignals(False)


def sizeText(size: float) -> str:
    """Bytes as people say them."""
    if size < 0.95e9:
        return _("{n} MB").format(n=round(size / 1e6))
    return _("{n} GB").format(n=f"{size / 1e9:.1f}")
