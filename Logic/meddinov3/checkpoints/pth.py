"""Reading ``.pth`` files without running what is in them.

``torch.load(weights_only=True)`` inside a closed list of plain types. nnU-Net checkpoints
hold numpy scalars and a ``torch.device`` beside the tensors; those types are constructed
from bytes and numbers only, so they are allowed. Anything else is refused.
"""

from __future__ import annotations

import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from meddinov3.errors import MedDINOv3Error

# How torch names a type or function outside the list.
FOREIGN = re.compile(r"(?:GLOBAL |[Uu]nsupported class |of type )([A-Za-z_][\w.]*)")


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
        found = FOREIGN.search(str(error))
        if found is None or _is_cut_off(found[1]):
            raise _damaged(path, error) from error
        raise MedDINOv3Error(
            "unsafe-checkpoint",
            f"'{path.name}' holds more than weights ({found[1]}) and was not opened.",
            "Ask its author for a safetensors file or a plain state dict.",
        ) from error
    except Exception as error:  # a damaged file can break the reader anywhere
        raise _damaged(path, error) from error


def _is_cut_off(name: str) -> bool:
    """Whether a name is that of nothing in a module that is loaded: a file that ends too early."""
    module, _, last = name.rpartition(".")
    return module in sys.modules and not hasattr(sys.modules[module], last)


def _damaged(path: Path, error: Exception) -> MedDINOv3Error:
    reason = str(error).strip().splitlines()
    return MedDINOv3Error(
        "damaged-checkpoint",
        f"'{path.name}' is no readable torch file: {reason[-1] if reason else 'it is cut off'}",
        "Download or copy it again.",
    )
