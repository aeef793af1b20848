"""How much memory this process has held, and how much the machine has."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def peak_memory() -> int:
    """Peak resident memory of this process in bytes."""
    if sys.platform == "win32":
        return _peak_on_windows()
    if sys.platform == "linux":  # getrusage would count what the parent held before exec
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def machine_memory() -> int:
    """Memory of the machine in bytes."""
    if sys.platform == "win32":
        return _total_on_windows()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _total_on_windows() -> int:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [("size", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")
        ]

    status = Status()
    status.size = ctypes.sizeof(status)
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    kernel.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.total)


def _peak_on_windows() -> int:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = [("size", wintypes.DWORD), ("faults", wintypes.DWORD)] + [
            (name, ctypes.c_size_t)
            for name in ("peak", "now", "a", "b", "c", "d", "pagefile", "peak_pagefile")
        ]

    counters = Counters()
    counters.size = ctypes.sizeof(counters)
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.K32GetProcessMemoryInfo.argtypes = [wintypes.HANDLE, ctypes.c_void_p, wintypes.DWORD]
    kernel.K32GetProcessMemoryInfo(
        kernel.GetCurrentProcess(), ctypes.byref(counters), counters.size
    )
    return int(counters.peak)
