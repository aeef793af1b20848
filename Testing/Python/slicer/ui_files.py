"""What Designer files name, against the code that loads them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pythonqt_lint import dotted
from pythonqt_signals import signature_of

# Kinds that do their work without code: captions with their text, lines, and boxes around others.
QUIET = {"Line"}


class UiFile:
    """A .ui file: its named widgets, and which of them code has to use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        root = ElementTree.parse(path).getroot().find("widget")
        assert root is not None, f"{path.name} holds no widget"
        self.named: set[str] = set()
        self.to_use: set[str] = set()
        for element in root.iter("widget"):
            name = element.get("name", "")
            self.named.add(name)
            if element is not root and not _quiet(element):
                self.to_use.add(name)
        # Layouts and actions are children by name as well.
        self.named |= {e.get("name", "") for k in ("layout", "action") for e in root.iter(k)}


def _quiet(element: Any) -> bool:
    kind = element.get("class")
    texts = [p.findtext("string") for p in element.findall("property") if p.get("name") == "text"]
    holds_others = next(element.iter("layout"), None) is not None
    return kind in QUIET or holds_others or (kind == "QLabel" and any(texts))


class Code:
    """A Python file; `loads` names the .ui files it works on, its own and those handed to it."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self.texts = {
            node.value
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        self.loads = {m[1] for text in self.texts if (m := re.search(r"UI/(\w+\.ui)$", text))}
        nodes = list(ast.walk(self.tree))
        self.classes = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
        self.hands_to = {
            node.func.id
            for node in nodes
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and any(_is_ui(argument) for argument in node.args)
        }

    def attributes(self) -> set[str]:
        """Names read as ``...ui.NAME``."""
        return {
            node.attr
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Attribute) and _is_ui(node.value)
        }

    def uses(self, name: str) -> bool:
        """Whether `name` is an attribute of ``ui``, a text, or made by an f-string of texts."""
        if name in self.attributes() or name in self.texts:
            return True
        for node in ast.walk(self.tree):
            if isinstance(node, ast.JoinedStr) and len(node.values) > 1:
                parts = [
                    re.escape(str(p.value)) if isinstance(p, ast.Constant) else r"(\w+)"
                    for p in node.values
                ]
                found = re.fullmatch("".join(parts), name)
                if found and all(group in self.texts for group in found.groups()):
                    return True
        return False

    def connections(self) -> Iterator[tuple[str, str]]:
        """Widget names and signals of ``ui.NAME.connect("signal(...)", ...)``."""
        for node in ast.walk(self.tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "connect"
                and isinstance(node.func.value, ast.Attribute)
                and _is_ui(node.func.value.value)
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                yield node.func.value.attr, str(node.args[0].value)


def _is_ui(node: ast.AST) -> bool:
    return dotted(node).rpartition(".")[2].lstrip("_") == "ui"


def read_codes(folder: Path) -> dict[Path, Code]:
    """Every Python file below; a class that is handed ``ui`` works on what the giver loads."""
    found = {p: Code(p.read_text(encoding="utf-8")) for p in sorted(folder.rglob("*.py"))}
    return join(found)


def join(codes: dict[Path, Code]) -> dict[Path, Code]:
    """Hand on what is loaded, as often as it is handed on."""
    for _ in codes:
        before = sum(len(code.loads) for code in codes.values())
        for giver in codes.values():
            for taker in codes.values():
                if giver.hands_to & taker.classes:
                    taker.loads |= giver.loads
        if before == sum(len(code.loads) for code in codes.values()):
            break
    return codes


def unused(file: UiFile, codes: list[Code]) -> list[str]:
    """Named widgets that no code which loads the file uses."""
    loaders = [code for code in codes if file.path.name in code.loads]
    return sorted(n for n in file.to_use if not any(code.uses(n) for code in loaders))


def misnamed(code: Code, files: list[UiFile]) -> list[str]:
    """Attributes of ``ui`` that no file which the code loads has."""
    loaded = [file for file in files if file.path.name in code.loads]
    if not loaded:
        return []
    return sorted(code.attributes() - set().union(*(file.named for file in loaded)))


def unknown_signals(code: Code, widgets: dict[str, Any]) -> list[str]:
    """``NAME.signal`` for signals that the named widget lacks."""
    return [
        f"{name}.{signal}"
        for name, signal in code.connections()
        if name in widgets and (signature_of(widgets[name], signal) is None or "(" not in signal)
    ]
