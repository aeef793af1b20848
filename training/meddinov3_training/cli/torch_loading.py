"""What to say where torch does not load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from meddinov3.errors import MedDINOv3Error

REINSTALL = (
    "Install torch and torchvision again, both at once and of versions made for each other: "
    "pip install --force-reinstall torch torchvision. If another package is named, install that."
)


@contextmanager
def loading_torch() -> Iterator[None]:
    """For the imports that need torch.

    Raises:
        MedDINOv3Error: torch, or a package beside it, does not load.
    """
    try:
        yield
    except Exception as error:  # a missing DLL is an OSError, a wrong torchvision a RuntimeError
        raise MedDINOv3Error(
            "torch-does-not-load", f"torch cannot be loaded: {reason(error)}", REINSTALL
        ) from error


def reason(error: Exception) -> str:
    """An exception of an import in one line."""
    said = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {said}"
