"""MedDINOv3's engine: volumes, network, models, inference.

    >>> import meddinov3
    >>> result = meddinov3.segment("scan.nii.gz", model="hippocampus-mr-tiny")
    >>> result.save("output")

Importing this package, its model descriptions and its model list needs no torch.
"""

from __future__ import annotations

__version__ = "0.1.0"
