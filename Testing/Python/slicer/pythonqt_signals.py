"""Connections as PythonQt makes them: R5, R6, R7, R15 of pythonqt.py."""

from __future__ import annotations

import traceback
import types
from collections.abc import Callable
from typing import Any

import shiboken6
from pyside import QObject, className, complain, meta_of, read
from PySide6 import QtCore

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


def signature_of(obj: Any, wanted: str) -> str | None:
    """The signal of that signature (or, without brackets, of that name); None if there is none."""
    declared = getattr(type(obj), "SIGNALS", {})
    meta = meta_of(obj)
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
    signature = signature_of(obj, str(signal).lstrip("012")) if "(" in str(signal) else None
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
        read(obj, declared).connect(receive)
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
    signature = signature_of(obj, str(signal).lstrip("012"))
    if method is not None:
        slot = getattr(slot, method.partition("(")[0])
    made = _connections.get(shiboken6.getCppPointer(obj)[0], {}).get(signature or "", [])
    gone = [entry for entry in made if slot is None or entry[0] == slot]
    for entry in gone:
        made.remove(entry)
        if isinstance(entry[1], tuple):
            read(obj, entry[1][0]).disconnect(entry[1][1])
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
            read(self._obj, declared).emit(*arguments)
            return
        name, _, kinds = self._signature.rstrip(")").partition("(")
        _overload(read(self._obj, name), kinds).emit(*arguments)

    __call__ = emit


def _overload(signal: Any, kinds: str) -> Any:
    try:
        return signal[kinds]
    except (IndexError, KeyError, TypeError):
        return signal
