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

import os
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
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
    *("pythonqt", "qt_widgets", "ctk_widgets", "qmrml_widgets", "segment_widgets", "slicer_app"),
}
QObject = QtCore.QObject
_write = shiboken6.Shiboken.Object.__setattr__
# Shiboken's own, by class: some classes have one for names that are static and not (QFile.exists).
_readers: dict[type, Callable[[Any, str], Any]] = {}

complaints: list[str] = []  # what PythonQt would print; a fixture fails the test that made them


def _read(obj: Any, name: str) -> Any:
    """Read as PySide does."""
    reader = next(_readers[k] for k in type(obj).__mro__ if k in _readers)
    return reader(obj, name)


def complain(text: str) -> None:
    """Print as PythonQt does, and keep the line for the fixture."""
    print(text, file=sys.stderr)
    complaints.append(text)


def _native_class(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in NATIVE


def _native_caller() -> bool:
    try:
        caller = sys._getframe(2)
    except ValueError:  # Qt itself asks, from no Python at all
        return True
    return caller.f_globals.get("__name__", "").partition(".")[0] in NATIVE


def _own(obj: Any, name: str) -> bool:
    """Whether a Python subclass, or its instance, brings `name` itself."""
    for kind in type(obj).__mro__:
        if _native_class(kind):
            return type(obj) is not kind and name in _read(obj, "__dict__")
        if name in vars(kind):
            return True
    return False


def _property(obj: Any, name: str) -> QtCore.QMetaProperty | None:
    meta = QObject.metaObject(obj)
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


def _plain(value: Any) -> Any:
    """A numpy scalar as Python's; anything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and not value.shape else value


def convert(kind: str, value: Any) -> Any:
    """R3: what a setter makes of `value` for a C++ type; TypeError if nothing."""
    value = _plain(value)
    if kind == "QString":
        return str(value)
    if kind == "bool":
        return bool(value)
    if kind in ("int", "uint", "double", "float") and isinstance(value, str | bytes | type(None)):
        raise TypeError(f"{value!r} is no {kind}")
    if kind in ("int", "uint"):
        return int(value)
    return float(value) if kind in ("double", "float") else value


def _set_property(obj: Any, prop: QtCore.QMetaProperty, value: Any) -> None:
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


def _value(prop: QtCore.QMetaProperty, obj: Any) -> Any:
    if prop.isFlagType() or prop.name() in getattr(type(obj), "FLAGS", ()):
        return OpaqueFlags()
    value = QObject.property(obj, prop.name())
    return tuple(value) if isinstance(value, list) else value  # R14


def className(obj: Any) -> str:
    """The nearest C++ class, or stand-in for one."""
    return next(kind.__name__ for kind in type(obj).__mro__ if _native_class(kind))


# --- signals ---------------------------------------------------------------------------------

_connections: dict[int, dict[str, list[tuple[Any, Any]]]] = {}


def receiver(slot: Callable[..., Any]) -> Callable[..., None]:
    """R7, R15: a slot with surplus arguments cut where PythonQt cuts them."""
    code = None
    if isinstance(slot, types.FunctionType | types.MethodType):
        code = getattr(slot, "__func__", slot).__code__  # a decorator's own, as PythonQt sees it
    room = None
    if code is not None and not code.co_flags & 0x04:
        room = code.co_argcount - isinstance(slot, types.MethodType)

    def receive(*arguments: Any) -> None:
        try:
            slot(*arguments[:room])
        except Exception:
            complain(traceback.format_exc())

    return receive


def _signature(obj: Any, wanted: str) -> str | None:
    """The signal of that signature (or, without brackets, of that name); None if there is none."""
    declared = getattr(type(obj), "SIGNALS", {})
    meta = QObject.metaObject(obj)
    found = [
        meta.method(i).methodSignature().data().decode()
        for i in range(meta.methodCount())
        if meta.method(i).methodType() == QtCore.QMetaMethod.MethodType.Signal
    ]
    known = [*declared, *(s for s in found if "PyObject" not in s)]
    if "(" not in wanted:
        return next((s for s in known if s.partition("(")[0] == wanted), None)
    normal = QtCore.QMetaObject.normalizedSignature(wanted)
    normal = normal.data().decode() if hasattr(normal, "data") else str(normal)
    return normal if normal in known else None


def connect(obj: Any, signal: str, slot: Any, method: str | None = None) -> bool:
    """R5. `signal` by full signature."""
    signature = _signature(obj, str(signal).lstrip("012")) if "(" in str(signal) else None
    if signature is None:
        complain(f"QObject::connect: no signal {signal} on {className(obj)}")
        return False
    if method is not None:
        slot = getattr(slot, method.partition("(")[0])
    if not callable(slot):
        complain(f"QObject::connect: {signal} on {className(obj)}: {slot!r} cannot be called")
        return False
    receive = receiver(slot)
    declared = getattr(type(obj), "SIGNALS", {}).get(signature)
    if declared:
        _read(obj, declared).connect(receive)
        handle: Any = (declared, receive)
    else:
        handle = QObject.connect(obj, QtCore.SIGNAL(signature), receive)
    key = shiboken6.getCppPointer(obj)[0]
    if key not in _connections:
        _connections[key] = {}
        QObject.connect(obj, QtCore.SIGNAL("destroyed()"), lambda: _connections.pop(key, None))
    _connections[key].setdefault(signature, []).append((slot, handle))
    return True


def disconnect(obj: Any, signal: str, slot: Any = None, method: str | None = None) -> bool:
    """Undo `connect`; False if there was no such connection."""
    signature = _signature(obj, str(signal).lstrip("012"))
    if method is not None:
        slot = getattr(slot, method.partition("(")[0])
    made = _connections.get(shiboken6.getCppPointer(obj)[0], {}).get(signature or "", [])
    gone = [entry for entry in made if slot is None or entry[0] == slot]
    for entry in gone:
        made.remove(entry)
        if isinstance(entry[1], tuple):
            _read(obj, entry[1][0]).disconnect(entry[1][1])
        else:
            QObject.disconnect(entry[1])
    return bool(gone)


class SignalObject:
    """R6: ``w.clicked``, with connect, disconnect, emit, and emitted by calling it."""

    def __init__(self, obj: Any, signature: str) -> None:
        self._obj, self._signature = obj, signature

    def connect(self, slot: Any) -> bool:
        return connect(self._obj, self._signature, slot)

    def disconnect(self, slot: Any = None) -> bool:
        return disconnect(self._obj, self._signature, slot)

    def emit(self, *arguments: Any) -> None:
        declared = getattr(type(self._obj), "SIGNALS", {}).get(self._signature)
        if declared:
            _read(self._obj, declared).emit(*arguments)
            return
        name, _, kinds = self._signature.rstrip(")").partition("(")
        _overload(_read(self._obj, name), kinds).emit(*arguments)

    __call__ = emit


def _overload(signal: Any, kinds: str) -> Any:
    try:
        return signal[kinds]
    except (IndexError, KeyError, TypeError):
        return signal


# --- methods ---------------------------------------------------------------------------------


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
            prop = _property(self._obj, name[3:4].lower() + name[4:])
        given = [_plain(a) for a in arguments]
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
    if name.startswith("__") or _native_caller():
        return _native_get(self, name)
    if not shiboken6.isValid(self):
        kind = next(k.__name__ for k in type(self).__mro__ if _native_class(k))
        raise ValueError(f"Trying to read attribute '{name}' of a destroyed {kind} object")  # R12
    if _own(self, name):
        return _read(self, name)
    prop = _property(self, name)
    if prop is not None:
        return _value(prop, self)
    if name in ("connect", "disconnect"):
        function = connect if name == "connect" else disconnect
        return lambda *arguments: function(self, *arguments)
    if name == "className":
        return lambda: className(self)
    signature = _signature(self, name)
    if signature is not None:
        return SignalObject(self, signature)
    try:
        found = _read(self, "exec" if name == "exec_" else name)
    except AttributeError:
        return _setter(self, name) or _child_or_dynamic(self, name)
    if name.startswith("_"):
        raise AttributeError(f"{className(self)}.{name}: private to the stand-in")
    if name == "value" and isinstance(self, QtCore.QSettings):
        return lambda *a: tuple(v) if isinstance(v := found(*a), list) else v  # R14
    return QtMethod(self, name, found) if callable(found) else found


def _setter(self: Any, name: str) -> QtMethod | None:
    """A stand-in's property ``x`` has a ``setX`` too, as nearly all have in C++."""
    prop = _property(self, name[3:4].lower() + name[4:]) if name.startswith("set") else None
    if prop is None or not prop.isWritable() or name in getattr(type(self), "NO_SETTER", ()):
        return None
    return QtMethod(self, name, lambda value: _set_property(self, prop, value))


def _native_get(self: Any, name: str) -> Any:
    found = _read(self, name)
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


def bytes_of(array: Any) -> bytes:
    return array if isinstance(array, bytes) else array.data()


def _set(self: Any, name: str, value: Any) -> None:
    if name.startswith("__") or _native_caller():
        if isinstance(getattr(type(self), name, None), QtCore.Property):
            QObject.setProperty(self, name, value)
        else:
            _write(self, name, value)
        return
    prop = _property(self, name)
    if prop is not None and not _own(self, name):
        _set_property(self, prop, value)
    elif name.encode() in [bytes_of(n) for n in QObject.dynamicPropertyNames(self)]:
        QObject.setProperty(self, name, value)
    elif _native_class(type(self)):
        raise AttributeError(  # R8, R9
            f"{className(self)}.{name}: creating new attributes on C++ objects is not allowed"
        )
    elif not _own(self, name) and hasattr(next(filter(_native_class, type(self).__mro__)), name):
        raise AttributeError(f"{className(self)}.{name}: slots and signals are not overwritten")
    else:
        _write(self, name, value)


def _constructor(kind: type) -> Callable[..., None]:
    original = kind.__init__

    def construct(self: Any, *arguments: Any, **keywords: Any) -> None:
        if _native_caller():
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
    if _readers:
        return
    for module in MODULES:
        for name in dir(module):
            kind = getattr(module, name)
            if not isinstance(kind, type) or not hasattr(kind, "__init__"):
                continue
            if issubclass(kind, QObject):
                own = vars(kind).get("__getattribute__")
                if own is not None or kind is QObject:
                    _readers[kind] = own or shiboken6.Shiboken.Object.__getattribute__
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
