"""Loading and saving for ``slicer.util``: the formats that slicer-core reads and writes itself."""

from __future__ import annotations

from typing import Any


class CoreIOManager:
    """As much of ``slicer.app.coreIOManager()`` as loadNodeFromFile and saveNode call."""

    def __init__(self, slicer: Any) -> None:
        self._slicer = slicer

    def _logic(self, name: str) -> Any:
        return getattr(self._slicer.modules, name).logic()

    def fileType(self, filename: Any) -> str:
        name = str(filename).lower()
        endings = {
            ".seg.nrrd": "SegmentationFile",
            ".mrk.json": "MarkupsFile",
            ".stl": "ModelFile",
            ".mrb": "SceneFile",
            ".mrml": "SceneFile",
            ".h5": "TransformFile",
            ".tfm": "TransformFile",
        }
        return next((t for e, t in endings.items() if name.endswith(e)), "VolumeFile")

    def loadNodes(self, kind: str, properties: Any, nodes: Any, messages: Any = None) -> bool:
        file = str(properties["fileName"])
        name = properties.get("name") or ""
        scene = self._slicer.mrmlScene
        node: Any = None
        if kind == "VolumeFile":
            options = 1 if properties.get("labelmap") else 0
            node = self._logic("volumes").AddArchetypeVolume(file, name or _stem(file), options)
        elif kind == "SegmentationFile":
            node = self._logic("segmentations").LoadSegmentationFromFile(file, True, name)
        elif kind == "MarkupsFile":
            identity = self._logic("markups").LoadMarkups(file, name, None)
            node = scene.GetNodeByID(identity) if identity else None
        elif kind == "ModelFile":
            node = self._logic("models").AddModel(file)
        elif kind == "SceneFile":
            scene.SetURL(file)
            if not file.lower().endswith(".mrb"):
                return bool(scene.Import() if not properties.get("clear") else scene.Connect())
            return bool(scene.ReadFromMRB(file, bool(properties.get("clear"))))
        if node is None:
            return False
        nodes.AddItem(node)
        return True

    def fileWriterFileType(self, node: Any, default: str = "") -> str:
        return node.GetClassName()

    def saveNodes(self, kind: str, properties: Any, messages: Any = None) -> bool:
        scene = self._slicer.mrmlScene
        file = str(properties["fileName"])
        if kind == "SceneFile":
            if file.lower().endswith(".mrb"):
                return bool(scene.WriteToMRB(file))
            scene.SetURL(file)
            return bool(scene.Commit(file))
        node = scene.GetNodeByID(properties["nodeID"])
        if not node.GetStorageNode():
            node.AddDefaultStorageNode(file)
        storage = node.GetStorageNode()
        storage.SetFileName(file)
        if "useCompression" in properties:
            storage.SetUseCompression(int(properties["useCompression"]))
        return bool(storage.WriteData(node))

    exportNodes = saveNodes


def _stem(file: str) -> str:
    name = file.replace("\\", "/").rpartition("/")[2]
    for ending in (".nii.gz", ".seg.nrrd", ".nii", ".nrrd", ".mha"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name
