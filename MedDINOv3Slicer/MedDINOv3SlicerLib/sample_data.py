"""A small scan that comes with the module, offered in Slicer's Sample Data."""

from __future__ import annotations

import hashlib
from pathlib import Path

from MedDINOv3SlicerLib.resources import resourcePath

NAME = "HippocampusMR"
FILE = "SampleData/hippocampus_091.nii.gz"


def registerSampleData() -> None:
    """Tell the Sample Data module; nothing is downloaded, the file lies beside the module."""
    import SampleData  # a module of Slicer's, there once Slicer has started

    path = Path(resourcePath(FILE))
    if not path.is_file():
        return
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="MedDINOv3",
        sampleName=NAME,
        uris=path.as_uri(),
        fileNames=path.name,
        nodeNames=NAME,
        thumbnailFileName=resourcePath("Icons/MedDINOv3Slicer.png"),
        checksums=f"SHA256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
    )
