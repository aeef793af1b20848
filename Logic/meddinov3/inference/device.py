"""Which device computes, in which precision, and when it is out of memory."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch

from meddinov3.errors import MedDINOv3Error

PRECISIONS = ("fp32", "bf16", "fp16")


def choose_device(name: str = "auto") -> torch.device:
    """The device for a name: ``auto`` (CUDA, else MPS, else CPU), ``cpu``, ``cuda:1``, ``mps``.

    Raises:
        MedDINOv3Error: the device is asked for by name and not here; nothing falls back.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise MedDINOv3Error(
            "unknown-device", f"'{name}' is no device.", "Use auto, cpu, cuda, cuda:1 or mps."
        ) from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise MedDINOv3Error(
            "no-device",
            f"The device '{name}' is not available to torch {torch.__version__}.",
            "Check the driver and torch's build, or choose --device cpu.",
        )
    return device


def try_device(device: torch.device) -> None:
    """Compute something on a device: a driver may list a card that torch cannot use.

    Raises:
        MedDINOv3Error: a first computation fails or comes out wrong.
    """
    values = torch.arange(16.0).reshape(4, 4)
    try:
        found = (values.to(device) @ values.to(device)).cpu()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise MedDINOv3Error(
            "device-fails",
            f"{device}: a first computation failed: {reason}",
            "Update the driver, or install a torch built for this card.",
        ) from error
    if not torch.allclose(found, values @ values, rtol=1e-2):
        raise MedDINOv3Error(
            "device-fails", f"{device} computes wrongly", "Check the card and its driver."
        )


def describe_device(device: torch.device) -> str:
    """The device in words, e.g. ``NVIDIA RTX A4000 (15.7 GiB)`` or ``CPU (2 threads)``."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name} ({properties.total_memory / 2**30:.1f} GiB)"
    return "Apple GPU" if device.type == "mps" else f"CPU ({torch.get_num_threads()} threads)"


def choose_precision(name: str, device: torch.device) -> str:
    """The precision for a name; ``auto`` is bf16 or fp16 on CUDA and fp32 elsewhere.

    Raises:
        MedDINOv3Error: the device cannot compute in it at a useful speed.
    """
    if name == "auto":
        if device.type != "cuda":
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if name not in PRECISIONS:
        raise MedDINOv3Error(
            "unknown-precision", f"'{name}' is no precision.", f"Use {', '.join(PRECISIONS)}."
        )
    if name != "fp32" and not _computes_in(device, name):
        raise MedDINOv3Error(
            "precision-unsupported",
            f"This {device.type.upper()} has no {name} arithmetic; it would be emulated, slowly.",
            "Use --precision fp32.",
        )
    return name


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """A context in which torch computes in `precision` (fp32 leaves it as it is)."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device or the host ran out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    signs = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in signs)


def free_cached_memory(device: torch.device) -> None:
    """Give memory that torch keeps for reuse back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _computes_in(device: torch.device, precision: str) -> bool:
    """Whether the device has arithmetic of its own for ``bf16`` or ``fp16``."""
    if device.type == "cuda":
        return precision == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "mps":
        return precision == "fp16"
    return precision == "bf16" and _cpu_has_bf16()


def _cpu_has_bf16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.9
        return bool(torch.cpu._is_avx512_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
