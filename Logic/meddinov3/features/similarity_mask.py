"""A first mask without any training: what is like the clicked places, and near them.

Each voxel is told its likeness to the tokens under positive and under negative points, all levels
of the backbone alike, and to their intensities, which have the scan's own sharpness. What tells
the structure from its surroundings is found in the region itself: the threshold that splits the
likeness there into two classes (N. Otsu, IEEE Trans. SMC 9, 1979). As a training-free query of
tokens it follows 3DSAM-adapter's point features (arXiv 2306.13465) and DINOv3's dense similarity.
"""

from __future__ import annotations

import numpy as np

from meddinov3.features.prompts import PlacedPrompts
from meddinov3.features.tokens import TokenVolume
from meddinov3.region import IndexBox


class Likeness:
    """Masks by likeness for one scan.

    Args:
        tokens: of the scan.
    """

    def __init__(self, tokens: TokenVolume) -> None:
        self._tokens = tokens

    def __call__(self, region: IndexBox, placed: PlacedPrompts) -> np.ndarray:
        raise NotImplementedError
