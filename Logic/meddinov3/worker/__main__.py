"""``python -m meddinov3.worker``, or this file by its path; see :mod:`meddinov3.worker.messages`.

Before anything else is imported the real stdin and stdout are set aside: what libraries print
goes to stderr, which is the log, and processes they start can read nothing meant for this one.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def set_streams_aside() -> tuple[BinaryIO, BinaryIO]:
    """The real stdin and stdout, for this process only."""
    requests, events = os.dup(0), os.dup(1)  # not inherited by children
    if sys.platform == "win32":
        import msvcrt

        for number in (requests, events):
            msvcrt.setmode(number, os.O_BINARY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdin = open(os.devnull)  # noqa: SIM115 - for as long as the process lives
    sys.stdout = sys.stderr
    return os.fdopen(requests, "rb"), os.fdopen(events, "wb", buffering=0)


def find_package() -> None:
    """Make the package importable when this file is run by its path."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]
    if __package__ in (None, ""):
        sys.path.append(str(here.parents[1]))


def main() -> int:
    """Serve until stdin closes; returns the exit code."""
    requests, events = set_streams_aside()
    faulthandler.enable(sys.stderr)
    find_package()
    from meddinov3.errors import MedDINOv3Error
    from meddinov3.worker.messages import PROTOCOL, Event, encode_event, failure

    events.write(encode_event(Event("starting", None, {"protocol": PROTOCOL, "pid": os.getpid()})))
    try:
        # All that is heavy comes before the thread that reads stdin: on Windows a library that
        # loads while another thread waits for input may wait for ever.
        import platform

        import SimpleITK
        import timm
        import torch

        from meddinov3 import __version__
        from meddinov3.inference.device import choose_device, describe_device
        from meddinov3.worker.server import Worker

        device = choose_device("auto")
        described = describe_device(device)
    # A torch that does not load is an OSError on Windows, one of another torchvision a
    # RuntimeError, a bad driver anything.
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        reason = MedDINOv3Error(
            "not-set-up",
            f"The segmentation process cannot start: {type(error).__name__}: {first}",
            "Set MedDINOv3 up again (Update in its settings); if a graphics card is meant, update "
            "its driver.",
        )
        events.write(encode_event(failure(None, reason)))
        return 2
    versions = {
        "meddinov3": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "simpleitk": SimpleITK.Version_VersionString(),
    }
    ready = {"device": device.type, "name": described, "versions": versions}
    return Worker(requests, events).serve(ready)


if __name__ == "__main__":
    code = main()
    # Threads that wait for input or a slow reader, and libraries' own, must not hold the end up.
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)
