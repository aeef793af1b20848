"""Checkpoints of a run: whole or not at all, the newest two, checked when read.

A checkpoint is a folder ``checkpoints/000120`` with tensors (safetensors) and facts (JSON). It is
written under another name, brought to the disk, then renamed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meddinov3.atomic import replace
from meddinov3.bundle import sha256
from meddinov3.errors import MedDINOv3Error
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FOLDER, TENSORS, FACTS = "checkpoints", "state.safetensors", "state.json"
KEPT = 2
PARTIAL = ".tmp"


@dataclass(frozen=True)
class Checkpoint:
    """What was stored.

    Attributes:
        step: steps that were done.
        tensors: by name.
        facts: JSON.
    """

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write_checkpoint(
    run: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> Path:
    """Store the state after `step` steps.

    Returns:
        The checkpoint's folder.

    Raises:
        MedDINOv3Error: the disk is full; earlier checkpoints are untouched.
    """
    place = run / FOLDER
    target, partial = place / f"{step:06d}", place / f"{step:06d}{PARTIAL}"
    try:
        place.mkdir(exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        # A tensor that shares memory with another, or is no block, cannot be stored as it is.
        stored = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        save_file(stored, partial / TENSORS)
        digest, stamp = sha256(partial / TENSORS), _stamp(partial / TENSORS)
        content = {"step": step, "sha256": digest, "stamp": stamp, **facts}
        (partial / FACTS).write_text(json.dumps(content) + "\n", encoding="utf-8", newline="\n")
        for path in (partial / TENSORS, partial / FACTS):
            _to_disk(path)
        _folder_to_disk(partial)
        if target.exists():  # a run went back and came here again
            shutil.rmtree(target)
        replace(partial, target)
        _folder_to_disk(place)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise MedDINOv3Error(
            "checkpoint-not-written",
            f"A checkpoint could not be written: {getattr(error, 'strerror', None) or error}.",
            "Free space on the disk, then continue with --resume: the last checkpoint is whole.",
        ) from error
    _prune(place, step)
    return target


def _prune(place: Path, written: int) -> None:
    """Keep the newest that are whole; a damaged one is of no use and takes nobody's place."""
    kept = 1
    for step in reversed(_steps(place)):
        if step == written:
            continue
        if kept < KEPT and _is_whole(place / f"{step:06d}", step):
            kept += 1
        else:
            shutil.rmtree(place / f"{step:06d}", ignore_errors=True)


def _is_whole(folder: Path, step: int) -> bool:
    """Whether a checkpoint is as it was written; its content is read if its file has changed."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if facts["step"] != step:
            return False
        tensors = folder / TENSORS
        return bool(facts["stamp"] == _stamp(tensors) or facts["sha256"] == sha256(tensors))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _stamp(path: Path) -> list[int]:
    """Size in bytes and time of change in ns."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def read_newest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and what was found to be damaged, in words."""
    place = run / FOLDER
    notes: list[str] = []
    for step in reversed(_steps(place)):
        folder = place / f"{step:06d}"
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            if facts.pop("step") != step or facts.pop("sha256") != sha256(folder / TENSORS):
                raise ValueError("its content was altered")
            del facts["stamp"]
            return Checkpoint(step, load_file(folder / TENSORS), facts), notes
        except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
            notes.append(f"checkpoint {step} is damaged and passed over ({error})")
    return None, notes


def remove_checkpoints(run: Path) -> None:
    """When the model is there, they are of no more use."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)


def _steps(place: Path) -> list[int]:
    """Steps of the checkpoints in a folder, lowest first; unfinished ones left out."""
    found = place.iterdir() if place.is_dir() else ()
    return sorted(int(path.name) for path in found if path.name.isdecimal())


def _to_disk(path: Path) -> None:
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def _folder_to_disk(path: Path) -> None:
    if sys.platform == "win32":  # folders cannot be opened there; NTFS logs renames itself
        return
    number = os.open(path, os.O_RDONLY)
    with suppress(OSError):  # some network file systems refuse
        os.fsync(number)
    os.close(number)
