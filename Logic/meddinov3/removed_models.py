"""Models that were removed but can be had back, until the place is emptied. Torch-free."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meddinov3.bundle_files import KINDS, move, own_folder, set_id
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_keeping import check_new_name
from meddinov3.model_store import user_folder

PLACE = "removed"  # in the user's folder
TIME = "%Y%m%dT%H%M%SZ"
ENTRY = re.compile(r"(.+)@(\d{8}T\d{6}Z)")  # no model's name has an @


@dataclass(frozen=True)
class RemovedModel:
    """A model or backbone that was removed.

    Attributes:
        folder: where it lies now.
        kind: ``models`` or ``backbones``.
        name: its id before.
        when: in UTC.
    """

    folder: Path
    kind: str
    name: str
    when: datetime

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def set_aside(name: str) -> RemovedModel:
    """Remove one of the user's models or backbones so that it can be restored.

    Raises:
        MedDINOv3Error: it is a starter, in use, or there is none of that name.
    """
    folder = own_folder(name)
    kind, when = folder.parent.name, datetime.now(UTC).replace(microsecond=0)
    place = user_folder() / PLACE / kind
    while (target := place / f"{name}@{when.strftime(TIME)}").exists():
        when += timedelta(seconds=1)  # two of one name within a second
    move(folder, target)
    return RemovedModel(target, kind, name, when)


def removed_models() -> list[RemovedModel]:
    """All that can be restored, the latest first."""
    found = []
    for kind in KINDS:
        place = user_folder() / PLACE / kind
        for folder in place.iterdir() if place.is_dir() else ():
            match = ENTRY.fullmatch(folder.name)
            if match is not None and folder.is_dir():
                when = datetime.strptime(match[2], TIME).replace(tzinfo=UTC)
                found.append(RemovedModel(folder, kind, match[1], when))
    return sorted(found, key=lambda model: (model.when, model.name), reverse=True)


def restore_model(removed: RemovedModel, name: str = "") -> Path:
    """Put a removed model back.

    Args:
        removed: which.
        name: its new id; the one it had by default.

    Returns:
        Its folder.

    Raises:
        MedDINOv3Error: the name is taken by now, or it is gone.
    """
    name = name or removed.name
    if not removed.folder.is_dir():
        raise MedDINOv3Error(
            "gone", f"'{removed.name}' was deleted for good.", "Import it again if you exported it."
        )
    if name != removed.name:
        check_new_name(name)
        set_id(removed.folder, name)
    target = user_folder() / removed.kind / name
    move(removed.folder, target)
    return target


def empty_removed() -> int:
    """Delete all removed models for good; returns how many.

    Raises:
        MedDINOv3Error: a file is in use; the others are gone.
    """
    gone, kept = 0, []
    for removed in removed_models():
        shutil.rmtree(removed.folder, ignore_errors=True)
        if removed.folder.exists():
            kept.append(removed.name)
        else:
            gone += 1
    if kept:
        raise MedDINOv3Error(
            "in-use",
            f"Not everything could be deleted: {', '.join(kept)}.",
            "Close the programs that use them, then try again.",
        )
    return gone
