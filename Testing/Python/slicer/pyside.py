"""PySide6 as it is, for what makes it behave as PythonQt: who asks, and how to read beneath."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

# Enums are ints there. Read when PySide6 is imported.
os.environ["PYSIDE6_OPTION_PYTHON_ENUM"] = "0x02"
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import shiboken6
from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets

MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtUiTools)
# Callers that are written for PySide, or are stand-ins themselves, see plain PySide.
NATIVE = {
    *("PySide6", "shiboken6", "shibokensupport", "vtkmodules"),
    *("pyside", "pythonqt", "pythonqt_values", "pythonqt_signals"),
    *("qt_widgets", "ctk_widgets", "qmrml_widgets", "segment_widgets", "slicer_app"),
}
QObject = QtCore.QObject
write = shiboken6.Shiboken.Object.__setattr__
# Shiboken's own, by class: some classes have one for names that are static and not (QFile.exists).
READERS: dict[type, Callable[[Any, str], Any]] = {}

complaints: list[str] = []  # what PythonQt would print; a fixture fails the test that made them


def read(obj: Any, name: str) -> Any:
    """Read as PySide does."""
    reader = next(READERS[k] for k in type(obj).__mro__ if k in READERS)
    return reader(obj, name)


def complain(text: str) -> None:
    """Print as PythonQt does, and keep the line for the fixture."""
    print(text, file=sys.stderr)
    complaints.append(text)


def native_class(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in NATIVE


def native_caller() -> bool:
    try:
        caller = sys._getframe(2)
    except ValueError:  # Qt itself asks, from no Python at all
        return True
    return caller.f_globals.get("__name__", "").partition(".")[0] in NATIVE


def has_own(obj: Any, name: str) -> bool:
    """Whether a Python subclass, or its instance, brings `name` itself."""
    for kind in type(obj).__mro__:
        if native_class(kind):
            return type(obj) is not kind and name in read(obj, "__dict__")
        if name in vars(kind):
            return True
    return False


def className(obj: Any) -> str:
    """The nearest C++ class, or stand-in for one."""
    return next(kind.__name__ for kind in type(obj).__mro__ if native_class(kind))


_meta_addresses: dict[type, int] = {}


def remember_meta(kind: type) -> None:
    """Note where the meta object of `kind` lies, while its wrapper is sound."""
    _meta_addresses[kind] = shiboken6.getCppPointer(kind.staticMetaObject)[0]


def meta_of_class(kind: type) -> QtCore.QMetaObject:
    """The meta object of a class.

    PySide's own wrapper of it dies with the first object that was asked for its meta object, and
    is handed out dead from then on: this one is made anew.
    """
    for base in kind.__mro__:
        if base in _meta_addresses:
            return shiboken6.wrapInstance(_meta_addresses[base], QtCore.QMetaObject)
        meta = vars(base).get("staticMetaObject")
        if meta is not None and shiboken6.isValid(meta):
            return meta
    raise TypeError(f"{kind} is no QObject")


def meta_of(obj: Any) -> QtCore.QMetaObject:
    """The meta object of an object's class."""
    return meta_of_class(type(obj))


def bytes_of(array: Any) -> bytes:
    return array if isinstance(array, bytes) else array.data()
