"""The module ``ctk``: the common widgets, drawn simply, with CTK's properties and signals."""

from __future__ import annotations

import types
from typing import Any

import pythonqt_signals
import qt_widgets
from PySide6 import QtCore, QtGui, QtWidgets
from qt_widgets import box, stand_in, stored, tool_button

Signal = QtCore.Signal
HEADER = 24  # pixels, a collapsible's bar


@stand_in
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A bar that shows and hides what lies in its layout."""

    contentsCollapsed = Signal(bool)
    flat = stored(bool, False)
    collapsedHeight = stored(int, 5)
    contentsFrameShape = stored(int, 0)
    contentsFrameShadow = stored(int, 0)
    contentsLineWidth = stored(int, 1)

    def __init__(self, text: Any = "", parent: Any = None) -> None:
        if not isinstance(text, str):
            text, parent = "", text
        super().__init__(parent)
        self._hidden_by_me: list[Any] = []
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(
            QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred
        )
        self.setContentsMargins(4, HEADER, 4, 2)
        QtCore.QObject.connect(self, QtCore.SIGNAL("toggled(bool)"), self._toggle)

    def _toggle(self, shown: bool) -> None:
        if shown:
            for child in self._hidden_by_me:
                child.setVisible(True)
            self._hidden_by_me = []
        else:
            self._hide_children()
        self.setMaximumHeight(16777215 if shown else HEADER)
        self.updateGeometry()
        self.contentsCollapsed.emit(not shown)

    def _hide_children(self) -> None:
        for child in QtCore.QObject.children(self):
            if isinstance(child, QtWidgets.QWidget) and not child.isHidden():
                child.setVisible(False)
                self._hidden_by_me.append(child)

    def showEvent(self, event: Any) -> None:
        if not self.isChecked():
            self._hide_children()  # what a .ui added after it collapsed
        super().showEvent(event)

    def _get_collapsed(self) -> bool:
        return not self.isChecked()

    def _set_collapsed(self, value: bool) -> None:
        self.setChecked(not value)

    collapsed = QtCore.Property(bool, _get_collapsed, _set_collapsed)

    def hitButton(self, where: Any) -> bool:
        return where.y() < HEADER

    def sizeHint(self) -> Any:
        inside = self.layout()
        if inside is None or not self.isChecked():
            return QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text()) + 40, HEADER)
        return inside.totalSizeHint()

    def minimumSizeHint(self) -> Any:
        inside = self.layout()
        return inside.totalMinimumSize() if inside and self.isChecked() else self.sizeHint()

    def paintEvent(self, event: Any) -> None:
        painter = QtGui.QPainter(self)
        painter.fillRect(0, 0, self.width(), HEADER - 2, QtGui.QColor(205, 212, 222))
        painter.setPen(QtGui.QColor("black" if self.isEnabled() else "gray"))
        mark = "\N{BLACK DOWN-POINTING SMALL TRIANGLE}"
        if not self.isChecked():
            mark = "\N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
        painter.drawText(6, 16, f"{mark} {self.text()}")
        painter.end()


@stand_in
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    def __init__(self, title: Any = "", parent: Any = None) -> None:
        if not isinstance(title, str):
            title, parent = "", title
        super().__init__(title, parent)
        self.setCheckable(True)
        QtCore.QObject.connect(self, QtCore.SIGNAL("toggled(bool)"), self._toggle)

    def _toggle(self, shown: bool) -> None:
        for child in QtCore.QObject.children(self):
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(shown)
        self.setMaximumHeight(16777215 if shown else HEADER)

    def showEvent(self, event: Any) -> None:
        self._toggle(self.isChecked())
        super().showEvent(event)

    collapsed = QtCore.Property(
        bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value)
    )
    collapsedHeight = stored(int, 14)


@stand_in
class ctkExpandableWidget(QtWidgets.QFrame):
    pass


@stand_in
class ctkPathLineEdit(QtWidgets.QWidget):
    """An edit and a button; ``browse`` opens a dialog there and nothing here."""

    Dirs, Files, Executable, NoSymLinks = 1, 2, 0x40, 8
    Drives, Readable, Writable, Hidden = 4, 0x10, 0x20, 0x100
    NoDot, NoDotDot = 0x2000, 0x4000  # as QDir has them
    FLAGS = ("filters",)

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    filters = stored(int, Files)
    nameFilters = stored("QStringList", [])
    settingKey = stored(str, "")
    showBrowseButton = stored(bool, True, "_show")
    showHistoryButton = stored(bool, True)
    sizeAdjustPolicy = stored(int, 0)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._edit, self._button = QtWidgets.QLineEdit(), tool_button("...")
        box(self, self._edit, self._button)
        QtCore.QObject.connect(
            self._edit, QtCore.SIGNAL("textChanged(QString)"), self.currentPathChanged.emit
        )

    def _show(self) -> None:
        self._button.setVisible(self.showBrowseButton)

    currentPath = QtCore.Property(
        str, lambda self: self._edit.text(), lambda self, value: self._edit.setText(value)
    )

    def addCurrentPathToHistory(self) -> None:
        pass

    def browse(self) -> None:
        pass

    def comboBox(self) -> Any:
        return self._edit


class _Sliding(QtWidgets.QWidget):
    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    singleStep = stored(float, 1.0)
    pageStep = stored(float, 10.0)
    tracking = stored(bool, True)
    tickInterval = stored(float, 0.0)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider, self._spin = (
            QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal),
            QtWidgets.QDoubleSpinBox(),
        )
        self._slider.setRange(0, 1000)
        box(self, self._slider, self._spin)
        QtCore.QObject.connect(
            self._spin, QtCore.SIGNAL("valueChanged(double)"), self._spin_changed
        )

    def _spin_changed(self, value: float) -> None:
        low, high = self._spin.minimum(), self._spin.maximum()
        self._slider.setValue(round(1000 * (value - low) / ((high - low) or 1)))
        self.valueChanged.emit(value)

    def _spin_property(name: str, kind: type) -> Any:  # type: ignore[misc]
        put = "set" + name[0].upper() + name[1:]
        return QtCore.Property(
            kind,
            lambda self: getattr(self._spin, name)(),
            lambda self, value: getattr(self._spin, put)(value),
        )

    value = _spin_property("value", float)
    minimum = _spin_property("minimum", float)
    maximum = _spin_property("maximum", float)
    decimals = _spin_property("decimals", int)
    prefix = _spin_property("prefix", str)
    suffix = _spin_property("suffix", str)
    specialValueText = _spin_property("specialValueText", str)


@stand_in
class ctkSliderWidget(_Sliding):
    pass


@stand_in
class ctkDoubleSpinBox(QtWidgets.QDoubleSpinBox):
    pass


@stand_in
class ctkComboBox(QtWidgets.QComboBox):
    defaultText = stored(str, "", "_default")
    forceDefault = stored(bool, False)
    elideMode = stored(int, 1)

    def _default(self) -> None:
        self.setPlaceholderText(self.defaultText)


@stand_in
class ctkCheckableComboBox(ctkComboBox):
    checkedIndexesChanged = Signal()

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        QtCore.QObject.connect(
            self.model(), QtCore.SIGNAL("dataChanged(QModelIndex,QModelIndex)"), self._changed
        )

    def _changed(self, *_: Any) -> None:
        self.checkedIndexesChanged.emit()

    def _item(self, index: Any) -> Any:
        return self.model().itemFromIndex(index)

    def checkState(self, index: Any) -> int:
        value = index.data(QtCore.Qt.ItemDataRole.CheckStateRole)
        return int(value or 0)

    def setCheckState(self, index: Any, state: int) -> None:
        self._item(index).setCheckable(True)
        self._item(index).setCheckState(QtCore.Qt.CheckState(int(state)))

    def checkedIndexes(self) -> tuple[Any, ...]:
        indexes = [self.model().index(row, 0) for row in range(self.count())]
        return tuple(i for i in indexes if self.checkState(i) == 2)

    def allChecked(self) -> bool:
        return len(self.checkedIndexes()) == self.count()

    def checkableModel(self) -> Any:
        return self.model()


@stand_in
class ctkDirectoryButton(QtWidgets.QWidget):
    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    directory = stored(str, "", "_changed")
    caption = stored(str, "")
    text = stored(str, "", "_show")
    acceptMode = stored(int, 0)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._button = QtWidgets.QPushButton()
        box(self, self._button)

    def _show(self) -> None:
        self._button.setText(self.text or self.directory)

    def _changed(self) -> None:
        self._show()
        self.directoryChanged.emit(self.directory)

    def browse(self) -> None:
        pass


@stand_in
class ctkSettingsPanel(QtWidgets.QWidget):
    """Writes a registered property to the settings when its signal comes."""

    settingChanged = Signal(str, object)
    SIGNALS = {"settingChanged(QString,QVariant)": "settingChanged"}

    def registerProperty(
        self, key: str, target: Any, name: str, signal: str, label: str = "", options: int = 0
    ) -> None:
        settings = QtCore.QSettings()
        if settings.contains(key):
            target.setProperty(name, settings.value(key))

        def write() -> None:
            QtCore.QSettings().setValue(key, target.property(name))
            self.settingChanged.emit(key, target.property(name))

        pythonqt_signals.connect(target, signal, write)

    def settings(self) -> Any:
        return QtCore.QSettings()


@stand_in
class ctkMessageBox(QtWidgets.QMessageBox):
    dontShowAgain = stored(bool, False)
    dontShowAgainVisible = stored(bool, False)
    dontShowAgainSettingsKey = stored(str, "")


@stand_in
class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    collapsed = stored(bool, True)


def ctk_module() -> types.ModuleType:
    """The module ``ctk``."""
    ctk = types.ModuleType("ctk")
    for name, kind in qt_widgets.widget_classes.items():
        if name.startswith("ctk"):
            setattr(ctk, name, kind)
    return ctk
