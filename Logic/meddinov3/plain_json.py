"""Dataclasses as JSON and back, strictly: unknown fields and wrong types are errors."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any


def to_plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON objects and lists."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: Any, value: Any) -> Any:
    """The inverse of :func:`to_plain`, following type hints; unknown fields are errors."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"{kind.__name__} must be an object")
        hints = typing.get_type_hints(kind)
        unknown = set(value) - set(hints)
        if unknown:
            raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
        return kind(**{key: from_plain(hints[key], item) for key, item in value.items()})  # type: ignore[operator]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return from_plain(next(a for a in arguments if a is not type(None)), value)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {value!r}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(from_plain(arguments[0], item) for item in value)
        if len(value) != len(arguments):
            raise TypeError(f"expected {len(arguments)} values, got {value!r}")
        return tuple(from_plain(a, item) for a, item in zip(arguments, value, strict=True))
    if origin is dict and arguments[1] is not Any:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, got {value!r}")
        return {key: from_plain(arguments[1], item) for key, item in value.items()}
    if origin is dict or kind in (Any, dict):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"expected {kind.__name__}, got {value!r}")
    return value
