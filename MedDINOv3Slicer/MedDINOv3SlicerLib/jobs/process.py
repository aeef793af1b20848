"""Processes that outlive Slicer: started apart from it, looked after by number."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from meddinov3.errors import MedDINOv3Error
from slicer.i18n import tr as _

STILL_ACTIVE = 259  # Windows
_children: dict[int, subprocess.Popen[bytes]] = {}  # whoever starts a process learns of its end


def startDetached(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a process that goes on when Slicer ends; returns its number.

    Args:
        command: program and arguments.
        environment: the whole of it.
        log: gets what it prints, behind what is in there.

    Raises:
        MedDINOv3Error: it cannot be started, or the log not be written.
    """
    apart: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        apart = {"creationflags": flags | subprocess.CREATE_BREAKAWAY_FROM_JOB}
    try:
        with open(log, "ab") as stream:
            try:
                return _popen(command, environment, stream, apart)
            except PermissionError:  # a job of Windows that nothing may leave
                if sys.platform != "win32":
                    raise
                return _popen(command, environment, stream, {"creationflags": flags})
    except OSError as error:
        raise MedDINOv3Error(
            "not-started",
            _("'{program}' cannot be started: {reason}.").format(
                program=Path(command[0]).name, reason=error.strerror or error
            ),
            _("Check the Python that is chosen in the settings, and free space on the disk."),
        ) from error


def isAlive(pid: int) -> bool:
    """Whether a process of this number runs; another than was meant if it is not ours."""
    if pid in _children:
        return _children[pid].poll() is None
    if sys.platform == "win32":
        return _isAliveOnWindows(pid)
    try:
        os.kill(pid, 0)  # on Windows this would end it
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def isOurs(pid: int) -> bool:
    """Whether this Slicer started it."""
    return pid in _children


def exitCode(pid: int) -> int | None:
    """How a process of ours ended, negative for a signal; None if that is not known."""
    return _children[pid].poll() if pid in _children else None


def endTree(pid: int) -> None:
    """End a process and what it started, at once; nothing happens if it is gone.

    Args:
        pid: of a process that :func:`startDetached` started, or of one below it: PythonSlicer is a
            launcher, the real Python its child.
    """
    if sys.platform == "win32":
        command = ["taskkill", "/T", "/F", "/PID", str(pid)]
        flags = subprocess.CREATE_NO_WINDOW
        subprocess.run(command, capture_output=True, check=False, creationflags=flags)
        return
    import signal

    with suppress(ProcessLookupError, PermissionError):
        group = os.getpgid(pid)
        if group == os.getpgid(0):  # never Slicer's own
            os.kill(pid, signal.SIGKILL)
        else:
            os.killpg(group, signal.SIGKILL)


def _popen(
    command: Sequence[str], environment: Mapping[str, str], stream: Any, apart: dict[str, Any]
) -> int:
    process = subprocess.Popen(
        list(command),
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=subprocess.STDOUT,
        **apart,
    )
    _children[process.pid] = process
    return process.pid


def _isAliveOnWindows(pid: int) -> bool:
    import ctypes
    from ctypes import wintypes

    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = wintypes.HANDLE
    limitedInformation = 0x1000
    handle = kernel.OpenProcess(limitedInformation, False, pid)
    if not handle:
        return False
    code = wintypes.DWORD()
    try:
        asked = kernel.GetExitCodeProcess(wintypes.HANDLE(handle), ctypes.byref(code))
    finally:
        kernel.CloseHandle(wintypes.HANDLE(handle))
    return bool(asked) and code.value == STILL_ACTIVE
