"""Which of a model's structures are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.signal import Signal


class LabelChoice:
    """The folded list of structures, each with a tick.

    Attributes:
        changed: emitted when a tick changes.
    """

    def __init__(self, ui: Any) -> None:
        self._ui, self._names = ui, ()
        self.changed = Signal()
        ui.labelsBox.visible = False
        ui.labelsButton.connect("toggled(bool)", self._fold)
        ui.labelsList.connect("itemChanged(QListWidgetItem*)", lambda item: self._changed())
        ui.allLabelsButton.connect("clicked(bool)", lambda: self.choose(None))
        ui.noLabelsButton.connect("clicked(bool)", lambda: self.choose(()))

    def setLabels(self, names: Sequence[str], colours: Sequence[Sequence[int]]) -> None:
        """Offer these structures, all ticked."""
        self._names: tuple[str, ...] = tuple(names)
        self._ui.labelsList.blockSignals(True)
        self._ui.labelsList.clear()
        for name, colour in zip(names, colours, strict=True):
            item = qt.QListWidgetItem(name)
            item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled)
            item.setCheckState(qt.Qt.Checked)
            square = qt.QPixmap(12, 12)
            square.fill(qt.QColor(*colour))
            item.setIcon(qt.QIcon(square))
            self._ui.labelsList.addItem(item)
        self._ui.labelsList.blockSignals(False)
        self._changed()

    def chosen(self) -> tuple[str, ...] | None:
        """The ticked names; None for all."""
        ticked = tuple(name for name, item in self._items() if item.checkState() == qt.Qt.Checked)
        return None if ticked == self._names else ticked

    def choose(self, names: Sequence[str] | None) -> None:
        """Tick these; all for None."""
        self._ui.labelsList.blockSignals(True)
        for name, item in self._items():
            wanted = names is None or name in names
            item.setCheckState(qt.Qt.Checked if wanted else qt.Qt.Unchecked)
        self._ui.labelsList.blockSignals(False)
        self._changed()

    def _items(self) -> list[tuple[str, Any]]:
        return [(name, self._ui.labelsList.item(row)) for row, name in enumerate(self._names)]

    def _fold(self, open_: bool) -> None:
        self._ui.labelsBox.visible = open_

    def _changed(self) -> None:
        chosen = self.chosen()
        self._ui.labelsLabel.text = (
            _("All ({count})").format(count=len(self._names))
            if chosen is None
            else _("{some} of {all}").format(some=len(chosen), all=len(self._names))
        )
        self.changed.emit()
