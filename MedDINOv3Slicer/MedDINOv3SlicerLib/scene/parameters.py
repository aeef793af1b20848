"""What is chosen in the module, kept in the scene and saved with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from MedDINOv3SlicerLib.scene.geometry import Node

TAG = "MedDINOv3Slicer"
VOLUME_ROLE = "volume"  # and the channel's number
QUALITIES = ("standard", "best")
T = TypeVar("T")


class _Value(Generic[T]):
    """One parameter: text in the node, a value of its own type in Python.

    A node that holds nothing gives the default: closing a scene empties it.
    """

    def __init__(
        self, name: str, default: T, read: Callable[[str], T], write: Callable[[T], str]
    ) -> None:
        self._name, self._default, self._read, self._write = name, default, read, write

    def __get__(self, parameters: Parameters, owner: type | None = None) -> T:
        text = parameters.node.GetParameter(self._name)
        if not text:
            return self._default
        try:
            return self._read(text)
        except (ValueError, TypeError):  # a scene edited by hand, or from another version
            return self._default

    def __set__(self, parameters: Parameters, value: T) -> None:
        parameters.node.SetParameter(self._name, self._write(value))


class _Reference:
    """A node of the scene that is chosen; None if there is none, or it was removed."""

    def __init__(self, role: str) -> None:
        self._role = role

    def __get__(self, parameters: Parameters, owner: type | None = None) -> Node | None:
        return parameters.node.GetNodeReference(self._role)

    def __set__(self, parameters: Parameters, value: Node | None) -> None:
        parameters.node.SetNodeReferenceID(self._role, value.GetID() if value else None)


def _text(name: str, default: str = "") -> _Value[str]:
    return _Value(name, default, str, str)


def _flag(name: str, default: bool) -> _Value[bool]:
    return _Value(name, default, lambda text: text == "true", lambda on: "true" if on else "false")


def _number(name: str, default: float) -> _Value[float]:
    return _Value(name, default, float, lambda value: repr(float(value)))


def _readNames(text: str) -> tuple[str, ...] | None:
    names = json.loads(text)
    return None if names is None else tuple(map(str, names))


def _writeNames(names: Sequence[str] | None) -> str:
    return json.dumps(None if names is None else list(names))


def _readQuality(text: str) -> str:
    if text not in QUALITIES:
        raise ValueError(text)
    return text


class Parameters:
    """The module's parameters.

    Attributes:
        roi, segmentation: chosen nodes; `segmentation` is where a result goes, None for a new
            one.
        model: id of the model to segment with.
        labels: which of its structures; None for all.
        quality: one of ``QUALITIES``.
        device: as for the worker: ``auto``, ``cpu``, ``cuda`` ...; the default, which is not
            saved, until one is chosen.
        show3d: make surfaces of a result.
        corrected: the segmentation that is corrected and becomes a training case.
        correctedScan: the scan that it belongs to.
        library: folder of the case library.
        caseId: the library's case that is open, or "".
        base: id of the model or backbone that is fine-tuned.
        runName: of the fine-tuned model.
        budgetMinutes: how long to train.
    """

    roi = _Reference("roi")
    segmentation = _Reference("segmentation")
    model = _text("model")
    labels: _Value[tuple[str, ...] | None] = _Value("labels", None, _readNames, _writeNames)
    quality = _Value("quality", QUALITIES[0], _readQuality, _readQuality)
    _device = _text("device")
    show3d = _flag("show3d", False)
    library = _text("library")
    corrected = _Reference("corrected")
    correctedScan = _Reference("correctedScan")
    caseId = _text("caseId")
    base = _text("base")
    runName = _text("runName")
    budgetMinutes = _number("budgetMinutes", 30.0)

    def __init__(self, node: Node, device: str = "auto") -> None:
        """Use a ``vtkMRMLScriptedModuleNode``; see :meth:`of`."""
        self.node, self._defaultDevice = node, device

    @classmethod
    def of(cls, scene: Node, device: str = "auto") -> Parameters:
        """The scene's parameters; made if there are none.

        Args:
            scene: the MRML scene.
            device: what holds as long as none is chosen in the scene.
        """
        node = scene.GetSingletonNode(TAG, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(TAG)
            node.SetModuleName(TAG)
            node.SetName(TAG)
            node = scene.AddNode(node)
        return cls(node, device)

    @property
    def device(self) -> str:
        return self._device or self._defaultDevice

    @device.setter
    def device(self, device: str) -> None:
        self._device = device

    @property
    def volumes(self) -> tuple[Node | None, ...]:
        """The chosen scan for each channel, in order; None where none is chosen."""
        roles: list[str] = []
        self.node.GetNodeReferenceRoles(roles)
        numbers = [
            int(role.removeprefix(VOLUME_ROLE))
            for role in roles
            if role.removeprefix(VOLUME_ROLE).isdigit() and self.node.GetNodeReferenceID(role)
        ]
        count = max(numbers, default=-1) + 1
        return tuple(self.node.GetNodeReference(f"{VOLUME_ROLE}{n}") for n in range(count))

    @volumes.setter
    def volumes(self, nodes: Sequence[Node | None]) -> None:
        before = len(self.volumes)
        wasModifying = self.node.StartModify()
        for number in range(max(before, len(nodes))):
            node: Any = nodes[number] if number < len(nodes) else None
            self.node.SetNodeReferenceID(f"{VOLUME_ROLE}{number}", node.GetID() if node else None)
        self.node.EndModify(wasModifying)
