"""Scans over time: the frames of a sequence as volumes, and results as a sequence beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import slicer
from meddinov3.errors import MedDINOv3Error
from meddinov3.labels import Label
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.scene.geometry import Node
from MedDINOv3SlicerLib.scene.hierarchy import putBeside
from MedDINOv3SlicerLib.scene.segmentations import placeResult


@dataclass(frozen=True, eq=False)
class Frame:
    """One point in time.

    Attributes:
        index: what the sequence calls it, e.g. seconds as text.
        volume: the frame's volume node; it lies in the sequence, not in the scene, and has no
            parent transform of its own.
    """

    index: str
    volume: Node


def sequenceOf(volumeNode: Node) -> tuple[Node, Node] | None:
    """The browser that plays a volume, and the sequence that it plays; None if none does."""
    scene = volumeNode.GetScene()
    count = scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode") if scene else 0
    for number in range(count):
        browser = scene.GetNthNodeByClass(number, "vtkMRMLSequenceBrowserNode")
        sequence = browser.GetSequenceNode(volumeNode)
        if sequence is not None:
            return browser, sequence
    return None


def framesOf(sequenceNode: Node) -> tuple[Frame, ...]:
    """The frames in their order.

    Raises:
        MedDINOv3Error: the sequence has none, or they are no scans.
    """
    frames = tuple(
        Frame(sequenceNode.GetNthIndexValue(number), sequenceNode.GetNthDataNode(number))
        for number in range(sequenceNode.GetNumberOfDataNodes())
    )
    if not frames or not all(frame.volume.IsA("vtkMRMLScalarVolumeNode") for frame in frames):
        raise MedDINOv3Error(
            "no-scan",
            _("The sequence '{name}' holds no scans.").format(name=sequenceNode.GetName()),
            _("Choose a sequence of CT or MR volumes."),
        )
    return frames


class ResultSequence:
    """Segmentations that are played together with the scan they belong to.

    The sequence appears in the scene with the first result, so that one cancelled before
    leaves nothing behind.
    """

    def __init__(self, scene: Node, browserNode: Node, volumeNode: Node, name: str = "") -> None:
        """Prepare it.

        Args:
            scene: the MRML scene.
            browserNode: plays the scan.
            volumeNode: the scan as it is played, which states transform and place.
            name: of the sequence of results.
        """
        self._scene, self._browser, self._volume = scene, browserNode, volumeNode
        self._name = name or _("{scan} segmentation").format(scan=volumeNode.GetName())
        self._sequence: Node | None = None

    @property
    def segmentationNode(self) -> Node | None:
        """What shows the result of the frame that is played; None before the first result."""
        return self._browser.GetProxyNode(self._sequence) if self._sequence is not None else None

    def put(self, frame: Frame, labelMap: np.ndarray, labels: Sequence[Label]) -> None:
        """Add the result of a frame.

        Args:
            frame: from :func:`framesOf`.
            labelMap: (k, j, i) on the frame's voxels.
            labels: what its values stand for.

        Raises:
            MedDINOv3Error: the label map does not fit the frame.
        """
        aside = slicer.vtkMRMLScene()  # nothing flickers in the views
        made = placeResult(aside, frame.volume, labelMap, labels, name=self._name)
        # Its volume is in no scene that the copy will be in; an id there means something else.
        made.SetNodeReferenceID(made.GetReferenceImageGeometryReferenceRole(), None)
        if self._sequence is None:
            self._sequence = self._newSequence()
        self._sequence.SetDataNodeAtValue(made, frame.index)
        aside.Clear(1)
        if self.segmentationNode is None:
            self._show()

    def _newSequence(self) -> Node:
        master = self._browser.GetMasterSequenceNode()
        sequence = self._scene.AddNewNodeByClass(
            "vtkMRMLSequenceNode", self._scene.GenerateUniqueName(self._name)
        )
        sequence.SetIndexName(master.GetIndexName())
        sequence.SetIndexUnit(master.GetIndexUnit())
        sequence.SetIndexType(master.GetIndexType())
        return sequence

    def _show(self) -> None:
        assert self._sequence is not None
        self._browser.AddSynchronizedSequenceNodeID(self._sequence.GetID())
        node = self.segmentationNode
        if node is not None:
            if node.GetDisplayNode() is None:
                node.CreateDefaultDisplayNodes()
            node.SetReferenceImageGeometryParameterFromVolumeNode(self._volume)
            node.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())
            putBeside(self._scene, node, self._volume)
