"""What jobs need of the scene: handed in, so that they can be tested without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from meddinov3.grid import Grid
from meddinov3.labels import Label

Node = Any


class SceneAccess(Protocol):
    """The functions of :mod:`MedDINOv3SlicerLib.scene` that segmenting uses."""

    def checkChannels(self, volumeNodes: Sequence[Node]) -> Grid:
        """The grid that all channels share; MedDINOv3Error if they are no channels of one scan."""

    def arrayOf(self, volumeNode: Node) -> np.ndarray:
        """A volume's voxels (k, j, i)."""

    def modalityOf(self, volumeNode: Node) -> str:
        """``CT``, ``MR`` ... or ""."""

    def regionOf(self, roiNode: Node, volumeNode: Node) -> str | None:
        """A region as the worker takes it; None for no region."""

    def placeResult(
        self,
        scene: Node,
        volumeNode: Node,
        labelMap: np.ndarray,
        labels: Sequence[Label],
        into: Node | None = None,
        name: str = "",
        proposedBy: str = "",
        weightsSha256: str = "",
    ) -> Node:
        """Show a label map as a segmentation."""


def sceneAccess() -> SceneAccess:
    """The scene's real functions."""
    from types import SimpleNamespace

    from MedDINOv3SlicerLib.scene.regions import regionOf
    from MedDINOv3SlicerLib.scene.segmentations import placeResult
    from MedDINOv3SlicerLib.scene.volumes import arrayOf, checkChannels, modalityOf

    functions: Any = SimpleNamespace(
        checkChannels=checkChannels,
        arrayOf=arrayOf,
        modalityOf=modalityOf,
        regionOf=regionOf,
        placeResult=placeResult,
    )
    found: SceneAccess = functions
    return found
