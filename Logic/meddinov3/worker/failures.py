"""What an exception in the worker means to the user."""

from __future__ import annotations

import errno

from meddinov3.errors import MedDINOv3Error
from meddinov3.inference.device import is_out_of_memory

NO_KERNEL = ("no kernel image", "not compiled for", "invalid device function")
FINAL = ("gpu-failed",)  # CUDA does not recover within a process: the client starts another
GPU_ERRORS = ("cuda error", "cudnn error", "cublas", "hip error", "mps backend")


def explain(error: BaseException) -> MedDINOv3Error:
    """The error to show for any exception.

    Args:
        error: as raised by the engine or a library below it.
    """
    if isinstance(error, MedDINOv3Error):
        return error
    said = str(error).strip()
    text, first = said.lower(), (said.splitlines() or [type(error).__name__])[0]
    if is_out_of_memory(error):
        return MedDINOv3Error(
            "out-of-memory",
            "Memory ran out before the scan could be computed.",
            "Close other programs that use this memory, give a region, or choose another device.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MedDINOv3Error(
            "disk-full",
            f"The disk is full: {said}.",
            "Free space on it, or choose another folder.",
        )
    if isinstance(error, RuntimeError) and any(sign in text for sign in NO_KERNEL):
        return MedDINOv3Error(
            "no-kernel",
            "This torch has no code for this graphics card.",
            "Install a torch built for the card (older cards need an older CUDA), or choose the "
            "CPU as device.",
        )
    if isinstance(error, RuntimeError) and any(sign in text for sign in GPU_ERRORS):
        return MedDINOv3Error(
            "gpu-failed",
            f"The graphics card stopped computing: {first}",
            "Try again; if it happens again update the driver, or choose the CPU as device.",
        )
    return MedDINOv3Error(
        "internal",
        f"Something went wrong that should not: {type(error).__name__}: {first}",
        "Please report it with the details and the log.",
    )
