"""Where structures go that the library does not know: a row each, decided by the person."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import qt
from slicer.i18n import tr as _

if TYPE_CHECKING:
    from meddinov3.labels import Label

UNDECIDED, LEAVE_OUT, DEFINE = "?", "", "+"  # no structure is called so: names are never blank


class LabelMapping:
    """Rows "kidney left -> [choose]". ``widget`` is hidden while all structures are known."""

    def __init__(self, changed: Callable[[], object]) -> None:
        self._changed = changed
        self.widget = qt.QWidget()
        self._layout = qt.QFormLayout(self.widget)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setFieldGrowthPolicy(qt.QFormLayout.ExpandingFieldsGrow)
        self._heading = qt.QLabel(_("The library does not have these structures yet:"))
        self._heading.wordWrap = True
        self._layout.addRow(self._heading)
        self._rows: list[tuple[Label, qt.QLabel, qt.QComboBox]] = []
        self.widget.hide()

    def show(self, unknown: Sequence[Label], known: Sequence[str]) -> None:
        """Ask for `unknown` structures; choices among `known` that still fit are kept."""
        before = {label.name: combo.currentData for label, _name, combo in self._rows}
        self.clear()
        for label in unknown:
            name, combo = qt.QLabel(label.name), qt.QComboBox()
            name.setTextFormat(qt.Qt.PlainText)
            combo.addItem(_("choose ..."), UNDECIDED)
            combo.addItem(_("define it as a new structure"), DEFINE)
            combo.addItem(_("leave it out"), LEAVE_OUT)
            for ours in known:
                combo.addItem(_("it is {name}").format(name=ours), f"={ours}")
            combo.currentIndex = max(0, combo.findData(before.get(label.name, UNDECIDED)))
            combo.connect("currentIndexChanged(int)", lambda index: self._changed())
            self._layout.addRow(name, combo)
            self._rows.append((label, name, combo))
        self.widget.visible = bool(unknown)

    def clear(self) -> None:
        """Ask for nothing."""
        for _label, name, combo in self._rows:
            for part in (name, combo):
                self._layout.removeWidget(part)
                part.hide()
                part.deleteLater()
        self._rows = []
        self.widget.hide()

    @property
    def undecided(self) -> list[str]:
        """Names for which nothing is chosen yet."""
        return [label.name for label, _n, combo in self._rows if combo.currentData == UNDECIDED]

    @property
    def new(self) -> list[Label]:
        """Structures to define in the library first."""
        return [label for label, _n, combo in self._rows if combo.currentData == DEFINE]

    @property
    def mapping(self) -> dict[str, str]:
        """The library's name for theirs, "" to leave theirs out; new ones match by name."""
        chosen = {label.name: combo.currentData for label, _n, combo in self._rows}
        return {
            name: choice.removeprefix("=")
            for name, choice in chosen.items()
            if choice not in (UNDECIDED, DEFINE)
        }
