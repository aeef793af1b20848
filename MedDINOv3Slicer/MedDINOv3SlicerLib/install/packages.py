"""Which Python packages are asked for, and which of them are not here. Imports none of them."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

SEGMENTING = "segmenting"
TRAINING = "training"
LISTS = {
    SEGMENTING: ("requirements.txt",),
    TRAINING: ("requirements.txt", "requirements-training.txt"),
}
TORCH = Requirement("torch>=2.6")
TORCHVISION = Requirement("torchvision>=0.21")  # comes with torch, of the same build
# Slicer's own, and torch, which the PyTorch extension chooses for the graphics card.
PROTECTED = (
    *("SimpleITK", "numpy", "scipy", "vtk", "pydicom", "requests", "pillow", "packaging"),
    *("torch", "torchvision", "torchaudio", "triton"),
)
# Declared by batchgeneratorsv2, never imported by what is used here, and large.
LEFT_OUT = ("batchgenerators",)
ALONE = ("batchgeneratorsv2",)  # so installed without what it declares; the rest of it is listed

VersionOf = Callable[[str], str | None]
RequiresOf = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Missing:
    """What has to be installed.

    Attributes:
        torch: whether PyTorch is among it.
        packages: requirements, in pip's words.
    """

    torch: bool = False
    packages: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.torch or bool(self.packages)


def readLists(files: Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    """The requirements in these files, in order, without comments.

    Raises:
        OSError: a file cannot be read.
    """
    lines = [
        line.partition("#")[0].strip()
        for file in files
        for line in Path(file).read_text(encoding="utf-8").splitlines()
    ]
    return tuple(line for line in lines if line)


def installedVersion(name: str) -> str | None:
    """The version of an installed package by its metadata; None if it is not here."""
    try:
        return importlib.metadata.version(name) or None  # half removed, it may have none
    except importlib.metadata.PackageNotFoundError:
        return None


def declaredRequirements(name: str) -> Sequence[str]:
    """What an installed package says that it needs."""
    try:
        return importlib.metadata.requires(name) or ()
    except importlib.metadata.PackageNotFoundError:
        return ()


def findMissing(
    asked: Iterable[str],
    versionOf: VersionOf = installedVersion,
    requiresOf: RequiresOf = declaredRequirements,
) -> Missing:
    """Compare with what is installed, and with what that needs in turn.

    An installation that was broken off leaves packages without theirs, so one that is here is
    looked into. Protected packages are taken as they are.
    """
    passed = {canonicalize_name(name) for name in (*PROTECTED, *LEFT_OUT)}
    seen = set(passed)
    found: list[str] = []
    waiting = [Requirement(line) for line in asked]
    while waiting:
        requirement = waiting.pop(0)
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if name in seen or not applies:
            continue
        seen.add(name)
        if _satisfies(versionOf(requirement.name), requirement):
            waiting += _parsed(requiresOf(requirement.name))
        else:
            found.append(f"{requirement.name}{requirement.specifier}")
    torch = not all(_satisfies(versionOf(r.name), r) for r in (TORCH, TORCHVISION))
    return Missing(torch, tuple(found))


def versions(asked: Iterable[str], versionOf: VersionOf = installedVersion) -> dict[str, str]:
    """Installed versions of torch and of what is asked for, "" for what is not here."""
    names = ["torch", "torchvision", *(Requirement(line).name for line in asked)]
    return {name: versionOf(name) or "" for name in dict.fromkeys(names)}


def _satisfies(version: str | None, requirement: Requirement) -> bool:
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _parsed(lines: Iterable[str]) -> list[Requirement]:
    found = []
    for line in lines:
        try:
            found.append(Requirement(line))
        except InvalidRequirement:
            continue  # old packages declare what today's rules do not allow
    return found
