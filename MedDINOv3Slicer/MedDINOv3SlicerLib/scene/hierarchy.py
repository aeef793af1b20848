"""Where nodes stand in the subject hierarchy, as the Data module shows it."""

from __future__ import annotations

import slicer

from MedDINOv3SlicerLib.scene.geometry import Node


def putBeside(scene: Node, node: Node, volumeNode: Node) -> None:
    """Put a new node into the study of its scan, as exporting to DICOM asks for.

    A node that somebody has put somewhere already stays there.
    """
    kind = slicer.vtkMRMLSubjectHierarchyNode
    hierarchy = kind.GetSubjectHierarchyNode(scene) or kind.ResolveSubjectHierarchy(scene)
    if hierarchy is None:
        return
    volumeItem = hierarchy.GetItemByDataNode(volumeNode)
    top = hierarchy.GetSceneItemID()
    parent = hierarchy.GetItemParent(volumeItem) if volumeItem else top
    item = hierarchy.GetItemByDataNode(node)
    if not item:  # the application makes items itself
        hierarchy.CreateItem(parent, node)
    elif hierarchy.GetItemParent(item) == top and parent != top:
        hierarchy.SetItemParent(item, parent)
