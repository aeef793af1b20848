"""Models and backbones in one file, to carry from machine to machine: a zip archive."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from meddinov3.atomic import whole_file, whole_folder
from meddinov3.bundle_files import (
    BESIDE,
    NEEDED,
    check_files,
    kind_of,
    move,
    own_folder,
    set_id,
)
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import BACKBONE_DESCRIPTION_FILE, sweep_leftovers, user_folder


def export_model(folder: Path, target: Path, *, tensors: bool = True) -> None:
    """Write a model or backbone as a zip archive, after checking that it is whole.

    Args:
        folder: the bundle or backbone file.
        target: ends in ``.zip``; an existing file is replaced when the new one is complete.
        tensors: check every tensor, which needs torch; else only that the weights are those it
            was described with. Whoever uses the model checks them anyway.

    Raises:
        MedDINOv3Error: it is damaged, or the file cannot be written.
    """
    if target.suffix.lower() != ".zip":
        raise MedDINOv3Error(
            "unknown-ending", f"'{target.name}' does not end in .zip.", "Choose a name that does."
        )
    kind = kind_of(folder)
    _check(folder, kind, tensors)
    with (
        whole_file(target) as partial,
        # Weights do not compress, and stored members can be read without unpacking.
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name in sorted(NEEDED[kind] | BESIDE):
            if (folder / name).is_file():
                archive.write(folder / name, f"{folder.name}/{name}")


def import_archive(path: Path, name: str, *, tensors: bool = True) -> Path:
    """Unpack an exported model or backbone among the user's.

    Args:
        path: a zip archive as :func:`export_model` writes it.
        name: id of the model or backbone, new.
        tensors: as for :func:`export_model`.

    Returns:
        Its folder.

    Raises:
        MedDINOv3Error: it is no such archive, holds anything else, or its content is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members, kind = _checked_members(archive, path.name)
            folder = user_folder() / kind / name
            folder.parent.mkdir(parents=True, exist_ok=True)
            with whole_folder(folder) as partial:
                for member in members:
                    target = partial / PurePosixPath(member.filename).name
                    with archive.open(member) as source, open(target, "wb") as stream:
                        shutil.copyfileobj(source, stream)
                _check(partial, kind, tensors)
                set_id(partial, name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise MedDINOv3Error(
            "damaged-archive",
            f"'{path.name}' is no readable zip archive: {error}.",
            "Copy or download it again.",
        ) from error
    return folder


def _check(folder: Path, kind: str, tensors: bool) -> None:
    if not tensors:
        check_files(folder)
    elif kind == "models":
        from meddinov3.bundle import read_any_bundle  # torch

        read_any_bundle(folder)
    else:
        from meddinov3.backbone_file import read_backbone

        read_backbone(folder)


def _checked_members(archive: zipfile.ZipFile, name: str) -> tuple[list[zipfile.ZipInfo], str]:
    """The members, which are files of one model or backbone and nothing else; and which kind."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    names = [PurePosixPath(member.filename) for member in members]
    found = [path.name for path in names]
    kind = "backbones" if BACKBONE_DESCRIPTION_FILE in found else "models"
    foreign = [
        path
        for path, member in zip(names, members, strict=True)
        if path.is_absolute()
        or ".." in path.parts
        or "\\" in member.filename
        or ":" in member.filename
        or stat.S_ISLNK(member.external_attr >> 16)
        or len(path.parts) > 2
        or path.name not in NEEDED[kind] | BESIDE
    ]
    if foreign:
        raise MedDINOv3Error(
            "foreign-archive",
            f"'{name}' holds more than a model ('{foreign[0]}') and was not unpacked.",
            "Get the archive from 'meddinov3 models export', or unpack it yourself and look.",
        )
    if not set(found) >= NEEDED[kind] or len(set(found)) != len(found):
        raise MedDINOv3Error(
            "foreign-archive",
            f"'{name}' is no exported model: it needs {' and '.join(sorted(NEEDED[kind]))}, once "
            "each.",
            "Get the archive from 'meddinov3 models export'.",
        )
    return members, kind


def remove_model(name: str) -> Path:
    """Remove one of the user's models or backbones; returns where it was.

    Raises:
        MedDINOv3Error: it is a starter, in use, or there is none of that name.
    """
    sweep_leftovers()
    folder = own_folder(name)
    gone = folder.with_name(f".removed.{folder.name}")
    shutil.rmtree(gone, ignore_errors=True)
    move(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
    return folder
