"""Values as PythonQt gives and takes them: R1, R3, R9, R10, R14 of pythonqt.py."""

from __future__ import annotations

from typing import Any

from pyside import QObject, className, meta_of
from PySide6 import QtCore


def property_of(obj: Any, name: str) -> QtCore.QMetaProperty | None:
    meta = meta_of(obj)
    # Seen there: the static slot hides the property, setSingleShot works.
    if name == "singleShot" and isinstance(obj, QtCore.QTimer):
        return None
    index = meta.indexOfProperty("objectName" if name == "name" else name)
    return meta.property(index) if index >= 0 else None


class OpaqueFlags:
    """R10: what a flag property gives; good for nothing."""

    def _refuse(self, *_: Any) -> Any:
        raise TypeError("a flag property reads as an opaque object: write flags, do not read them")

    __int__ = __and__ = __or__ = __eq__ = __index__ = __bool__ = _refuse
    __hash__ = None  # type: ignore[assignment]


def plain(value: Any) -> Any:
    """A numpy scalar as Python's; anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and not value.shape else value


def convert(kind: str, value: Any) -> Any:
    """R3: what a setter makes of `value` for a C++ type; TypeError if nothing."""
    value = plain(value)
    if kind == "QString":
        return str(value)
    if kind == "bool":
        return bool(value)
    if kind in ("int", "uint", "double", "float") and isinstance(value, str | bytes | type(None)):
        raise TypeError(f"{value!r} is no {kind}")
    if kind in ("int", "uint"):
        return int(value)
    return float(value) if kind in ("double", "float") else value


def set_property(obj: Any, prop: QtCore.QMetaProperty, value: Any) -> None:
    name = prop.name()
    if not prop.isWritable():
        raise AttributeError(f"property '{name}' of {className(obj)} object is not writable")  # R9
    if isinstance(value, OpaqueFlags):
        raise AttributeError(f"property '{name}': opaque flags cannot be written back")
    try:
        value = int(value) if prop.isEnumType() else convert(prop.typeName(), value)
        done = QObject.setProperty(obj, name, value)
    except (TypeError, ValueError) as error:
        raise AttributeError(f"property '{name}' of {className(obj)}: {error}") from error
    # A Python property whose setter keeps the value reports True as well.
    if not done and not prop.isEnumType():
        raise AttributeError(f"property '{name}' of {className(obj)} does not take {value!r}")


def value_of(prop: QtCore.QMetaProperty, obj: Any) -> Any:
    if prop.isFlagType() or prop.name() in getattr(type(obj), "FLAGS", ()):
        return OpaqueFlags()
    value = QObject.property(obj, prop.name())
    return tuple(value) if isinstance(value, list) else value  # R14
