"""The structures of a segmentation: looked at or not, and what was changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import qt
from slicer.i18n import tr as _

NAME, ADDED, REMOVED, DICE = range(4)


class Change(Protocol):
    """See meddinov3.cases.change."""

    @property
    def added_ml(self) -> float: ...

    @property
    def removed_ml(self) -> float: ...

    @property
    def dice(self) -> float: ...


class ReviewTable:
    """Fills a table widget with a row for each segment; the tick says that it was reviewed."""

    def __init__(self, table: Any, tick: Callable[[str, bool], None]) -> None:
        """Prepare.

        Args:
            table: a QTableWidget.
            tick: told a segment's id and whether it is reviewed, when a person ticks.
        """
        self._table, self._tick = table, tick
        self._ids: list[str] = []
        table.setColumnCount(4)
        headings = (_("Structure"), _("Added"), _("Removed"), _("Dice"))
        table.setHorizontalHeaderLabels(list(headings))
        table.verticalHeader().setVisible(False)
        header = table.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(NAME, qt.QHeaderView.Stretch)
        table.connect("itemChanged(QTableWidgetItem*)", self._itemChanged)

    @property
    def ids(self) -> tuple[str, ...]:
        """The segments, by row."""
        return tuple(self._ids)

    def fill(
        self,
        segments: Mapping[str, tuple[str, tuple[float, ...], bool]],
        changes: Mapping[str, Change] | None,
    ) -> None:
        """Show segments.

        Args:
            segments: (name, colour from 0 to 1, reviewed) by id, in order.
            changes: by id; segments that no model proposed have none. None if not known.
        """
        current = self.current()
        self._table.blockSignals(True)
        self._ids = list(segments)
        self._table.setRowCount(len(self._ids))
        for row, (identity, (name, colour, reviewed)) in enumerate(segments.items()):
            item = qt.QTableWidgetItem(name)
            item.setToolTip(name)
            item.setFlags(qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            item.setCheckState(qt.Qt.Checked if reviewed else qt.Qt.Unchecked)
            square = qt.QPixmap(12, 12)
            square.fill(qt.QColor(*(round(255 * part) for part in colour)))
            item.setIcon(qt.QIcon(square))
            self._table.setItem(row, NAME, item)
            for column, text in _cells(changes, identity).items():
                self._table.setItem(row, column, _number(text))
        self._table.blockSignals(False)
        self.select(current)

    def current(self) -> str:
        """The selected segment's id, "" if there is none."""
        row = self._table.currentRow()
        return self._ids[row] if 0 <= row < len(self._ids) else ""

    def select(self, identity: str) -> None:
        """Select a segment's row."""
        if identity in self._ids:
            self._table.blockSignals(True)
            self._table.setCurrentCell(self._ids.index(identity), NAME)
            self._table.blockSignals(False)

    def _itemChanged(self, item: Any) -> None:
        if item.column() == NAME and 0 <= item.row() < len(self._ids):
            self._tick(self._ids[item.row()], item.checkState() == qt.Qt.Checked)


def _cells(changes: Mapping[str, Change] | None, identity: str) -> dict[int, str]:
    if changes is None or identity not in changes:
        return {ADDED: "", REMOVED: "", DICE: ""}
    change = changes[identity]
    return {
        ADDED: _("{n} ml").format(n=f"{change.added_ml:.2f}"),
        REMOVED: _("{n} ml").format(n=f"{change.removed_ml:.2f}"),
        DICE: f"{change.dice:.3f}",
    }


def _number(text: str) -> Any:
    item = qt.QTableWidgetItem(text)
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item
