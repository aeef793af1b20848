"""The folders of models, cases, runs and logs: where, how large, and how they are emptied."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from MedDINOv3SlicerLib.problem import Problem, problemOf

PATIENCE = 1.0  # seconds that counting may take while a dialogue opens


@dataclass(frozen=True)
class Folder:
    """A folder that the settings show.

    Attributes:
        title: for people.
        paths: what belongs to it; may not exist.
        loss: a sentence on what is lost when it is emptied.
    """

    title: str
    paths: tuple[Path, ...]
    loss: str

    @property
    def place(self) -> Path:
        """The folder that is opened."""
        return self.paths[0]


def userFolders() -> tuple[Folder, ...] | Problem:
    """The folders below the user's folder, or why that is not known."""
    try:
        # Late: it needs packages that a fresh Slicer lacks.
        from meddinov3.model_store import user_folder

        home = user_folder()
    except Exception as error:
        return problemOf(error)
    return (
        Folder(
            _("Models"),
            (home / "models", home / "backbones"),
            _("Your own models and downloaded backbones are deleted; starters stay."),
        ),
        Folder(
            _("Training cases"),
            (home / "libraries",),
            _("All corrected cases are deleted and cannot be had back."),
        ),
        Folder(
            _("Training runs"),
            (home / "runs",),
            _(
                "Runs that ended are deleted, with curves and checkpoints; models that were kept"
                " stay."
            ),
        ),
        Folder(_("Logs"), (home / "logs",), _("Logs of earlier days are deleted.")),
    )


def sizeOf(folder: Folder, patience: float = PATIENCE) -> tuple[int, bool]:
    """Bytes in it, and whether that is all: counting stops after `patience` seconds."""
    end, total = time.monotonic() + patience, 0
    for path in folder.paths:
        for entry in _files(path):
            if time.monotonic() > end:
                return total, False
            with suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size
    return total, True


def clear(folder: Folder, inUse: Callable[[Path], bool]) -> Problem | None:
    """Delete what is in it; what is in use stays.

    Args:
        folder: what to empty.
        inUse: whether an entry must stay, e.g. a run that goes on.

    Returns:
        What stayed and why, None if nothing did.
    """
    stayed: list[str] = []
    details: list[str] = []
    for path in folder.paths:
        with suppress(FileNotFoundError):
            for entry in list(path.iterdir()):
                try:
                    if inUse(entry):
                        stayed.append(entry.name)
                        details.append(f"{entry}: in use")
                    elif entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry)
                    else:
                        entry.unlink()
                except OSError as error:
                    stayed.append(entry.name)
                    details.append(f"{entry}: {error}")
    if not stayed:
        return None
    return Problem(
        _("Not deleted, because it is in use or may not be deleted: {names}.").format(
            names=", ".join(stayed)
        ),
        _("Wait until it is no longer used, or stop it, and clear again."),
        "\n".join(details),
        "in-use",
    )


def _files(path: Path) -> Iterator[os.DirEntry[str]]:
    waiting = [str(path)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield entry
        except OSError:
            continue
