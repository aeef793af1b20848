"""Reading ``.pth`` files without running what is in them.

``torch.load(weights_only=True)`` inside a closed list of plain types. nnU-Net checkpoints
hold numpy scalars and a ``torch.device`` beside the tensors; those types are constructed
from bytes and numbers only, so they are allowed. Anything else is refused.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meddinov3.errors import MedDINOv3Error


def _allowed_types() -> list[Any]:
    scalars = [np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_]
    dtypes = [type(np.dtype(scalar)) for scalar in scalars]
    construct = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [np.dtype, *dtypes, *((construct, name) for name in names), torch.device]


def read_pth(path: Path) -> Any:
    """Load a torch file on the CPU.

    Raises:
        MedDINOv3Error: the file is missing, damaged, or holds types beyond tensors, plain
            containers, numpy scalars and ``torch.device``.

    """
    if not path.is_file():
        raise MedDINOv3Error("file-missing", f"There is no file '{path.name}'.", "Check the path.")
    try:
        with torch.serialization.safe_globals(_allowed_types()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise MedDINOv3Error(
            "unsafe-checkpoint",
            f"'{path.name}' holds more than weights and was not opened: {_first_line(error)}",
            "Ask its author for a safetensors file or a plain state dict.",
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise MedDINOv3Error(
            "damaged-checkpoint",
            f"'{path.name}' is no readable torch file: {_first_line(error)}",
            "Download or copy it again.",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
