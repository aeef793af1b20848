"""What computes, in words."""

from __future__ import annotations

from typing import Protocol

from slicer.i18n import tr as _


class DeviceFacts(Protocol):
    """What the worker found after it really computed something.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        name: of the processor or card.
    """

    @property
    def device(self) -> str: ...

    @property
    def name(self) -> str: ...


def deviceText(facts: DeviceFacts) -> str:
    """Where it will compute, as the status strip says it."""
    if facts.device == "cpu":
        return _("Ready. Computes on the processor (CPU only), which is slow for large scans.")
    return _("Ready. Computes on {name}.").format(name=facts.name)
