"""One scan selector for each channel that a model looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.signal import Signal


class ChannelSelectors:
    """Rows in the form of ``place``, made anew when a model with other channels is chosen.

    Attributes:
        changed: emitted when another scan is chosen.
        combos: the selectors, in the model's order.
    """

    def __init__(self, place: Any) -> None:
        self._place, self._scene = place, None
        self._labels: list[Any] = []
        self._names: tuple[str, ...] = ()
        self.combos: list[Any] = []
        self.changed = Signal()

    def setScene(self, scene: Any) -> None:
        """Offer the scans of this scene."""
        self._scene = scene
        for combo in self.combos:
            combo.setMRMLScene(scene)

    def setChannels(self, names: Sequence[str]) -> None:
        """Ask for these channels; scans that were chosen stay, by position."""
        if tuple(names) == self._names:
            return
        chosen = self.volumes()
        for widget in (*self.combos, *self._labels):
            self._place.layout().removeWidget(widget)
            widget.setParent(None)
            widget.deleteLater()
        self._names, self.combos, self._labels = tuple(names), [], []
        for number, name in enumerate(names):
            self._addRow(name, chosen[number] if number < len(chosen) else None)
        self.changed.emit()

    def volumes(self) -> tuple[Any, ...]:
        """The chosen scans, None where there is none."""
        return tuple(combo.currentNode() for combo in self.combos)

    def setVolumes(self, nodes: Sequence[Any]) -> None:
        """Choose these scans."""
        for combo, node in zip(self.combos, nodes, strict=False):
            combo.setCurrentNode(node)

    def problem(self) -> str:
        """Why the choice cannot be segmented; "" if it can."""
        if not self.combos:
            return _("Choose a model.")
        chosen = self.volumes()
        for name, node in zip(self._names, chosen, strict=True):
            if node is None:
                if len(chosen) == 1:
                    return _("Choose a scan.")
                return _("Choose a scan for {channel}.").format(channel=name)
        if len({node.GetID() for node in chosen}) < len(chosen):
            return _("The same scan is chosen twice; each channel needs its own.")
        return ""

    def _title(self, name: str) -> str:
        return _("Scan") if len(self._names) < 2 else name

    def _addRow(self, name: str, node: Any) -> None:
        combo = slicer.qMRMLNodeComboBox()
        combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        combo.showChildNodeTypes = False  # label maps and colour images are no scans
        combo.addEnabled = combo.removeEnabled = combo.renameEnabled = False
        combo.noneEnabled = True
        combo.noneDisplay = _("Choose a scan")
        combo.toolTip = _("The scan for the model's channel {name}.").format(name=name)
        combo.setMRMLScene(self._scene)
        combo.setCurrentNode(node)
        label = qt.QLabel(self._title(name) + ":")
        label.toolTip = combo.toolTip
        self._place.layout().addRow(label, combo)
        combo.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self.changed.emit())
        self.combos.append(combo)
        self._labels.append(label)
