"""What the widget classes of the stand-in have: properties and signals, for the lint."""

from __future__ import annotations

from functools import cache

import pyside
import qt_widgets
from PySide6 import QtCore


def _classes() -> list[type]:
    of_qt = [
        kind
        for module in pyside.MODULES
        for kind in (getattr(module, name) for name in dir(module))
        if isinstance(kind, type) and issubclass(kind, QtCore.QObject)
    ]
    return [*of_qt, *qt_widgets.widget_classes.values()]


@cache
def writable_properties() -> set[str]:
    """Names that some class's objects may be given."""
    found = {"name"}
    for kind in _classes():
        meta = pyside.meta_of_class(kind)
        every = (meta.property(n) for n in range(meta.propertyCount()))
        found.update(prop.name() for prop in every if prop.isWritable())
    return found


@cache
def signals() -> set[str]:
    """Full signatures, as ``connect`` takes them."""
    found = {"aboutToQuit()", "startupCompleted()"}
    for kind in _classes():
        meta = pyside.meta_of_class(kind)
        for n in range(meta.methodCount()):
            method = meta.method(n)
            if method.methodType() == QtCore.QMetaMethod.MethodType.Signal:
                found.add(pyside.bytes_of(method.methodSignature()).decode())
        found.update(getattr(kind, "SIGNALS", {}))
    return {signal for signal in found if "PyObject" not in signal}
