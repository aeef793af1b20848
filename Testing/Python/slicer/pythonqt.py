"""PySide6 made to behave as PythonQt, in whose terms Slicer's modules are written.

Each rule is one that was seen in the running Slicer 5.12.3 or read in PythonQt's source; the
numbers in comments name them. Grow this file by such rules only:

R1 properties are values            R2 what is no property stays a method
R3 setters convert                  R4 no keyword arguments, ValueError for no overload
R5 connect by signature; an unknown one prints and returns False
R6 signal objects                   R7 surplus arguments are cut for functions and methods
R8 no new attributes                R9 slots, signals, read-only properties are not overwritten
R10 flag properties cannot be read  R11 children by name, dynamic properties, ``name``
R12 a destroyed object is false, its use a ValueError
R13 QByteArray is a wrapper with ``data()``
R14 lists come back as tuples       R15 an exception in a slot is printed, the others run

Not here, so test_pythonqt_lint.py looks for it: isinstance with Qt classes is flat there.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import shiboken6
from pyside import (
    MODULES,
    READERS,
    QObject,
    bytes_of,
    className,
    has_own,
    native_caller,
    native_class,
    read,
    remember_meta,
    write,
)
from PySide6 import QtCore, QtWidgets
from pythonqt_signals import SignalObject, connect, disconnect, receiver, signature_of
from pythonqt_values import convert, plain, property_of, set_property, value_of


class QtMethod:
    """R2, R3, R4: a C++ method, bound."""

    def __init__(self, obj: Any, name: str, call: Callable[..., Any]) -> None:
        self._obj, self.__name__, self._call = obj, name, call
        self.__self__ = obj

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        name = self.__name__
        if keywords:
            raise ValueError(f"{name}() does not take keyword arguments")
        prop = None
        if name.startswith("set") and len(arguments) == 1:
            prop = property_of(self._obj, name[3:4].lower() + name[4:])
        given = [plain(a) for a in arguments]
        try:
            if prop is not None and not prop.isEnumType():
                given = [convert(prop.typeName(), arguments[0])]
            return self._call(*self._special(name, given))
        except TypeError as error:
            if isinstance(self._call, types.MethodType) and error.__traceback__.tb_next.tb_next:
                raise  # from inside a stand-in: its own fault
            texts = [str(a) if isinstance(a, Path) else a for a in given]
            if texts != given:
                return self._call(*texts)
            raise ValueError(f"could not find matching overload for {name}: {error}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QtMethod) and (self._obj, self.__name__) == (
            other._obj,
            other.__name__,
        )

    def __hash__(self) -> int:
        return hash((id(self._obj), self.__name__))

    def _special(self, name: str, given: list[Any]) -> list[Any]:
        # findChild by a class's name; a name alone finds nothing there.
        if name in ("findChild", "findChildren") and given and isinstance(given[0], str):
            given[0] = _class_named(given[0]) or type("Unknown", (QObject,), {})
        if isinstance(self._obj, QtCore.QProcess):
            if name == "write" and isinstance(given[0], str):
                given[0] = given[0].encode()
            if name in ("start", "setArguments", "setProgram", "setWorkingDirectory"):
                given = [
                    [str(part) for part in a] if isinstance(a, list | tuple) else a for a in given
                ]
        return given


def _class_named(name: str) -> type | None:
    kinds = [QObject]
    while kinds:
        kind = kinds.pop()
        if kind.__name__ == name:
            return kind
        kinds += kind.__subclasses__()
    return None


def _get(self: Any, name: str) -> Any:
    if name.startswith("__") or native_caller():
        return _native_get(self, name)
    if not shiboken6.isValid(self):
        kind = next(k.__name__ for k in type(self).__mro__ if native_class(k))
        raise ValueError(f"Trying to read attribute '{name}' of a destroyed {kind} object")  # R12
    if has_own(self, name):
        return read(self, name)
    prop = property_of(self, name)
    if prop is not None:
        return value_of(prop, self)
    if name in ("connect", "disconnect"):
        function = connect if name == "connect" else disconnect
        return lambda *arguments: function(self, *arguments)
    if name == "className":
        return lambda: className(self)
    signature = signature_of(self, name)
    if signature is not None:
        return SignalObject(self, signature)
    try:
        found = read(self, "exec" if name == "exec_" else name)
    except AttributeError:
        return setter(self, name) or _child_or_dynamic(self, name)
    if name.startswith("_"):
        raise AttributeError(f"{className(self)}.{name}: private to the stand-in")
    if name == "value" and isinstance(self, QtCore.QSettings):
        return lambda *a: tuple(v) if isinstance(v := found(*a), list) else v  # R14
    return QtMethod(self, name, found) if callable(found) else found


def setter(self: Any, name: str) -> QtMethod | None:
    """A stand-in's property ``x`` has a ``setX`` too, as nearly all have in C++."""
    prop = property_of(self, name[3:4].lower() + name[4:]) if name.startswith("set") else None
    if prop is None or not prop.isWritable() or name in getattr(type(self), "NO_SETTER", ()):
        return None
    return QtMethod(self, name, lambda value: set_property(self, prop, value))


def _native_get(self: Any, name: str) -> Any:
    found = read(self, name)
    # Shiboken's own getattr honours these; the plain one beneath it does not.
    return QObject.property(self, name) if isinstance(found, QtCore.Property) else found


def _child_or_dynamic(self: Any, name: str) -> Any:
    if name.encode() in [bytes_of(n) for n in QObject.dynamicPropertyNames(self)]:
        value = QObject.property(self, name)
        return tuple(value) if isinstance(value, list) else value
    for child in QObject.children(self):
        if QObject.objectName(child) == name:
            return child
    raise AttributeError(f"{className(self)} has no attribute named '{name}'")


def _set(self: Any, name: str, value: Any) -> None:
    if name.startswith("__") or native_caller():
        if isinstance(getattr(type(self), name, None), QtCore.Property):
            QObject.setProperty(self, name, value)
        else:
            write(self, name, value)
        return
    prop = property_of(self, name)
    if prop is not None and not has_own(self, name):
        set_property(self, prop, value)
    elif name.encode() in [bytes_of(n) for n in QObject.dynamicPropertyNames(self)]:
        QObject.setProperty(self, name, value)
    elif native_class(type(self)):
        raise AttributeError(  # R8, R9
            f"{className(self)}.{name}: creating new attributes on C++ objects is not allowed"
        )
    elif not has_own(self, name) and hasattr(next(filter(native_class, type(self).__mro__)), name):
        raise AttributeError(f"{className(self)}.{name}: slots and signals are not overwritten")
    else:
        write(self, name, value)


def _constructor(kind: type) -> Callable[..., None]:
    original = kind.__init__

    def construct(self: Any, *arguments: Any, **keywords: Any) -> None:
        if native_caller():
            original(self, *arguments, **keywords)
            return
        if keywords:
            raise ValueError(f"{kind.__name__} does not take keyword arguments")  # R4
        try:
            original(self, *arguments)
        except TypeError as error:
            raise ValueError(f"no overload of {kind.__name__}: {error}") from error

    return construct


def _refuse_bytes(self: Any) -> Any:
    raise TypeError("a QByteArray is a wrapper: use data() or length()")


def patch() -> None:
    """Patch PySide's classes, once and for the whole process."""
    if READERS:
        return
    for module in MODULES:
        for name in dir(module):
            kind = getattr(module, name)
            if not isinstance(kind, type) or not hasattr(kind, "__init__"):
                continue
            if issubclass(kind, QObject):
                remember_meta(kind)
                own = vars(kind).get("__getattribute__")
                if own is not None or kind is QObject:
                    READERS[kind] = own or shiboken6.Shiboken.Object.__getattribute__
                kind.__getattribute__ = _get
                kind.__setattr__ = _set
            if issubclass(kind, shiboken6.Shiboken.Object) and "__init__" in vars(kind):
                kind.__init__ = _constructor(kind)
    QObject.__bool__ = lambda self: shiboken6.isValid(self)  # R12
    array = QtCore.QByteArray  # R13
    array.__bytes__ = array.__len__ = _refuse_bytes
    array.__bool__ = lambda self: False
    array.__eq__ = lambda self, other: (
        isinstance(other, array) and bytes_of(self) == bytes_of(other)
    )
    array.__ne__ = lambda self, other: not array.__eq__(self, other)
    array.__hash__ = None
    array.__str__ = lambda self: str(bytes_of(self))
    single_shot = QtCore.QTimer.singleShot
    QtCore.QTimer.singleShot = staticmethod(lambda ms, slot: single_shot(ms, receiver(slot)))


def click(widget: Any) -> None:
    """Press the left mouse button in the middle of `widget`, as a person would."""
    from PySide6.QtTest import QTest

    QTest.mouseClick(
        widget, QtCore.Qt.MouseButton.LeftButton, pos=QtWidgets.QWidget.rect(widget).center()
    )
    QtWidgets.QApplication.processEvents()
