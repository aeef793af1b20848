"""What is said before and after an installation."""

from __future__ import annotations

import re

from slicer.i18n import tr as _

from MedDINOv3SlicerLib.install.packages import TRAINING, Missing
from MedDINOv3SlicerLib.problem import Problem

PACKAGES_MB = {"segmenting": 10, "training": 70}
TORCH_DISK_GB = 7.0  # with the parts for a graphics card, unpacked
PACKAGES_DISK_GB = 0.5
OFFLINE = re.compile(
    r"name resolution|NameResolutionError|getaddrinfo|NewConnectionError|new connection|"
    r"ProxyError|ConnectTimeout|Connection timed out|Network is unreachable|"
    r"No route to host|CERTIFICATE_VERIFY_FAILED|RemoteDisconnected",
    re.IGNORECASE,
)
DISK_FULL = re.compile(r"No space left|Errno 28|not enough space", re.IGNORECASE)
REFUSED = re.compile(r"Permission denied|Access is denied|Errno 13|WinError 5\b", re.IGNORECASE)
LONG_PATH = re.compile(r"WinError 206|WinError 3\b|path too long|long path", re.IGNORECASE)


def question(missing: Missing, purpose: str, where: str, freeGb: float | None) -> str:
    """What is asked before anything is installed: what, how large, where."""
    parts = []
    if missing.torch:
        parts.append(
            _("PyTorch, which computes: 0.2 GB to download, up to 3 GB with a graphics card")
        )
    if missing.packages:
        names = ", ".join(re.split(r"[<>=!~]", line)[0] for line in missing.packages)
        parts.append(
            _("Python packages, about {size} MB: {names}").format(
                size=PACKAGES_MB.get(purpose, 70), names=names
            )
        )
    task = _("Fine-tuning") if purpose == TRAINING else _("Segmenting")
    free = _(" ({free:.0f} GB are free)").format(free=freeGb) if freeGb is not None else ""
    return "\n\n".join(
        (
            _("{task} needs parts that are not installed yet:").format(task=task),
            "\n".join(f"  \u2022 {part}" for part in parts),
            _("They go into Slicer's own Python: {where}{free}.").format(where=where, free=free),
            _("What Slicer itself uses is not replaced. Scans are not sent anywhere."),
            _("Download and install them now?"),
        )
    )


def declined(purpose: str) -> Problem:
    """Somebody said no."""
    task = _("Fine-tuning") if purpose == TRAINING else _("Segmenting")
    return Problem(
        _("{task} is not set up: the installation was declined.").format(task=task),
        _("Press the button again when you want to install; everything else works without."),
        code="declined",
    )


def littleSpace(neededGb: float, freeGb: float, where: str) -> Problem:
    """There is too little room on the disk."""
    return Problem(
        _("{where} has {free:.1f} GB left, and about {needed:.0f} GB are needed.").format(
            where=where, free=freeGb, needed=neededGb
        ),
        _("Free some space on that disk and try again."),
        code="disk-full",
    )


def noTorchExtension() -> Problem:
    """The extension that installs torch is not here."""
    return Problem(
        _("Slicer's PyTorch extension is not installed; it finds the right PyTorch."),
        _(
            "Open View, Extensions Manager, search for PyTorch, install it, restart Slicer and"
            " press the button again."
        ),
        code="no-pytorch-extension",
    )


def oldSlicer() -> Problem:
    """Slicer has no ``slicer.packaging``."""
    return Problem(
        _("This Slicer is too old to install packages safely."),
        _("Update to Slicer 5.12 or newer, or choose another Python in the settings."),
        code="old-slicer",
    )


def failed(reason: str, log: str) -> Problem:
    """The installation did not succeed; its words say why, as far as they are known."""
    text = f"{reason}\n{log}"
    for pattern, what, remedy, code in _causes():
        if pattern.search(text):
            return Problem(what, remedy, text, code)
    return Problem(
        _("The installation did not succeed."),
        _(
            "Check the internet connection and try again; it goes on where it stopped. If it"
            " happens again, restart Slicer first."
        ),
        text,
        "not-installed",
    )


def _causes() -> tuple[tuple[re.Pattern[str], str, str, str], ...]:
    """What pip prints, what happened, what to do, and the problem's code."""
    return (
        (
            OFFLINE,
            _("The packages could not be downloaded: there is no connection to the internet."),
            _(
                "Check the connection, a firewall or the proxy settings and try again; what"
                " already works goes on working."
            ),
            "offline",
        ),
        (
            DISK_FULL,
            _("The installation stopped because the disk is full."),
            _("Free some space and try again; it goes on where it stopped."),
            "disk-full",
        ),
        (
            LONG_PATH,
            _("The installation stopped because a path is too long for Windows."),
            _("Install Slicer in a folder with a short path, such as C:\\Slicer, and try again."),
            "long-path",
        ),
        (
            REFUSED,
            _("The installation may not write into Slicer's folder, or a file there is in use."),
            _("Close other Slicer windows, restart Slicer and try again."),
            "no-permission",
        ),
    )
