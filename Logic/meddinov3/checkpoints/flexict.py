"""FlexiCT's 2D path (arXiv 2605.21906) as a DINOv3 backbone with patches of 16 pixels.

Its files name two patch embeddings, for slices and for volumes, of 8 pixels; at run time the
kernel K is resampled to the patch size that is asked for: K times the pseudoinverse of R, where
R is the bicubic interpolation from 8 x 8 to 16 x 16 (FlexiViT, arXiv 2212.08013). Done once
here, the network is that of FlexiCT at patch size 16. Layout and conventions (LayerNorm 1e-6,
RoPE as DINOv3's) are those of github.com/ricklisz/FlexiCT.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from meddinov3.errors import MedDINOv3Error
from meddinov3.network.backbone import PATCH

KERNEL = "patch_embed_2D.proj.weight"
STORED = 8  # pixels of a patch in the file
VOLUMES = ("patch_embed_3D.", "rope_embed_3D.")


def is_flexict(state: Mapping[str, object]) -> bool:
    """Whether a checkpoint is FlexiCT's, by its two patch embeddings."""
    inner = state.get("teacher", state)
    if not isinstance(inner, Mapping) or not all(isinstance(key, str) for key in inner):
        return False
    return any(key.endswith(KERNEL) for key in inner)


def as_dinov3(state: Mapping[str, object]) -> dict[str, object]:
    """A bare state dict with DINOv3's names, the patch kernel resampled.

    Args:
        state: ``{"teacher": {"backbone.*": ...}}`` or what is in it.

    Raises:
        MedDINOv3Error: the kernel is none of one channel and 8 x 8 pixels.
    """
    inner = state.get("teacher", state)
    assert isinstance(inner, Mapping)
    renamed: dict[str, object] = {}
    for key, value in inner.items():
        name = key.removeprefix("backbone.")
        if not name.startswith(VOLUMES):
            renamed[name.replace("patch_embed_2D.", "patch_embed.").replace("_2D.", ".")] = value
    kernel = renamed["patch_embed.proj.weight"]
    if not isinstance(kernel, Tensor) or kernel.shape[1:] != (1, STORED, STORED):
        raise MedDINOv3Error(
            "not-a-backbone",
            f"The FlexiCT checkpoint has no patch kernel of one channel and {STORED} x {STORED} "
            "pixels.",
            "Choose FlexiCT-2D's checkpoint.",
        )
    renamed["patch_embed.proj.weight"] = resample_kernel(kernel, PATCH)
    return renamed


def resample_kernel(kernel: Tensor, size: int) -> Tensor:
    """The kernel that answers to an interpolated patch as `kernel` does to the patch itself.

    Args:
        kernel: (D, C, rows, columns).
        size: rows and columns of the result.

    Returns:
        (D, C, size, size), float32.
    """
    rows, columns = kernel.shape[-2:]
    patches = torch.eye(rows * columns, dtype=torch.float64).reshape(-1, 1, rows, columns)
    grown = interpolate(patches, (size, size), mode="bicubic", antialias=True)
    back = torch.linalg.pinv(grown.flatten(1).T)  # (rows * columns, size * size)
    resampled: Tensor = (kernel.flatten(2).double() @ back).unflatten(2, (size, size)).float()
    return resampled
