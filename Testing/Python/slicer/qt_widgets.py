"""The module ``qt``, and its QUiLoader that knows the stand-in widgets."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pyside
import pythonqt
import pythonqt_signals
import pythonqt_values
from PySide6 import QtCore, QtUiTools, QtWidgets

widget_classes: dict[str, type] = {}  # what a .ui may name beyond Qt's own


def stand_in(kind: type) -> type:
    """Make a class known to the loader of .ui files."""
    widget_classes[kind.__name__] = kind
    pyside.remember_meta(kind)
    return kind


def stored(kind: Any, default: Any, after: str = "") -> QtCore.Property:
    """A property that keeps its value and calls the method `after` when it changes."""
    key = object()

    def get(self: Any) -> Any:
        return self.__dict__.setdefault("_stored", {}).get(key, default)

    def put(self: Any, value: Any) -> None:
        before = get(self)
        self.__dict__["_stored"][key] = value
        if after and before != value:
            getattr(self, after)()

    return QtCore.Property(kind, get, put)


class QUiLoader(QtUiTools.QUiLoader):
    """Loads stand-in widgets, and makes the connections that only they can make.

    Raises RuntimeError for a class, a property or a connection end that does not exist: Designer
    files are written by hand here, and the real loader only prints.
    """

    def createWidget(self, name: str, parent: Any = None, object_name: str = "") -> Any:
        if name in widget_classes:
            widget = widget_classes[name](parent)
            widget.setObjectName(object_name)
            return widget
        if name not in self.availableWidgets() and name != "Line":
            raise RuntimeError(f".ui: there is no widget class {name}")
        return super().createWidget(name, parent, object_name)

    def load(self, device: Any, parent: Any = None) -> Any:
        """Load, as PythonQt's does; custom connections are made afterwards in Python."""
        tree = ElementTree.fromstring(pyside.bytes_of(device.readAll()))
        connections = tree.find("connections")
        found = [] if connections is None else list(connections)
        if connections is not None:
            tree.remove(connections)
        later = [*_taken_custom_properties(tree)]
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        if widget is None:
            raise RuntimeError(f".ui: {self.errorString()}")
        for object_name, name, value in later:
            target = _named(widget, object_name)
            pythonqt_values.set_property(target, pythonqt_values.property_of(target, name), value)
        for connection in found:
            _connect(widget, *(connection.findtext(t) or "" for t in ENDS))
        return widget


ENDS = ("sender", "signal", "receiver", "slot")


def _named(root: Any, name: str) -> Any:
    found = root if root.objectName() == name else root.findChild(QtCore.QObject, name)
    if found is None:
        raise RuntimeError(f".ui: there is no object {name}")
    return found


def _connect(root: Any, sender: str, signal: str, receiver: str, slot: str) -> None:
    source, target = _named(root, sender), _named(root, receiver)
    method = slot.partition("(")[0]
    call = getattr(target, method, None) or pythonqt.setter(target, method)
    if call is None or not pythonqt_signals.connect(source, signal, call):
        raise RuntimeError(f".ui: cannot connect {sender}.{signal} to {receiver}.{slot}")


def _taken_custom_properties(tree: Any) -> list[tuple[str, str, int]]:
    """Enums of stand-ins, taken out of the tree: PySide's loader cannot know their names.

    Also checks that each property exists on its class.
    """
    taken = []
    for element in tree.iter("widget"):
        kind = widget_classes.get(element.get("class", ""))
        if kind is None:
            continue
        known = pyside.meta_of_class(kind)
        for prop in element.findall("property"):
            name = prop.get("name", "")
            if known.indexOfProperty(name) < 0 and prop.get("stdset") != "0":
                raise RuntimeError(f".ui: {kind.__name__} has no property {name}")
            words = prop.findtext("set") or prop.findtext("enum") or ""
            if re.match(r"(ctk|qMRML|qSlicer)\w+::", words):
                values = [getattr(kind, w.rpartition("::")[2]) for w in words.split("|")]
                total = 0
                for value in values:
                    total |= int(value)
                taken.append((element.get("name", ""), name, total))
                element.remove(prop)
    return taken


def qt_module() -> types.ModuleType:
    """Everything that is in Slicer's ``qt``; QTest and others are absent there."""
    pythonqt.patch()
    qt = types.ModuleType("qt")
    for module in pyside.MODULES:
        for name in dir(module):
            if not name.startswith("_"):
                setattr(qt, name, getattr(module, name))
    qt.QUiLoader = QUiLoader
    return qt


def box(widget: Any, *parts: Any, across: bool = True) -> None:
    """Put `parts` into a tight layout of `widget`."""
    layout = QtWidgets.QHBoxLayout(widget) if across else QtWidgets.QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(2)
    for part in parts:
        layout.addWidget(part)


def tool_button(text: str, pressed: Callable[[], Any] | None = None) -> QtWidgets.QToolButton:
    """A small button, as those beside CTK's edits."""
    button = QtWidgets.QToolButton()
    button.setText(text)
    if pressed is not None:
        QtCore.QObject.connect(button, QtCore.SIGNAL("clicked()"), lambda: pressed())
    return button
