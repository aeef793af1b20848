"""MedDINOv3's engine: volumes, network, models, inference.

    >>> from meddinov3.segmentation import load_model, segment
    >>> result = segment("scan.nii.gz", load_model("hippocampus-mr-tiny"))
    >>> result.save("scan.seg.nrrd")

Importing this package, its model descriptions and its model list needs no torch.
"""

from __future__ import annotations

__version__ = "0.1.0"
