"""Models and backbones as files on disk: whether they are whole, and what they are called.

Torch-free, so that Slicer can keep, rename and carry models; tensors are looked into when a model
is used (:mod:`meddinov3.bundle`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from meddinov3.atomic import whole_file
from meddinov3.description import JsonFile, ModelDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import (
    BACKBONE_DESCRIPTION_FILE,
    BACKBONE_WEIGHTS_FILE,
    DESCRIPTION_FILE,
    STARTERS,
    WEIGHTS_FILE,
    is_backbone,
    read_backbone_description,
    read_description,
    user_folder,
)

KINDS = ("models", "backbones")  # folders in the user's
# By the kind of folder that they belong into.
NEEDED = {
    "models": {DESCRIPTION_FILE, WEIGHTS_FILE},
    "backbones": {BACKBONE_DESCRIPTION_FILE, BACKBONE_WEIGHTS_FILE},
}
BESIDE = {"LICENSE.md", "README.md"}


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def kind_of(folder: Path) -> str:
    """``models`` or ``backbones``."""
    return "backbones" if is_backbone(folder) else "models"


def check_files(folder: Path) -> None:
    """Refuse a model or backbone whose weights are not those it was described with.

    Raises:
        MedDINOv3Error: a file is missing, damaged or was altered.
    """
    if is_backbone(folder):
        described = read_backbone_description(folder)
        weights, digest = folder / BACKBONE_WEIGHTS_FILE, described.weights_sha256
    else:
        model = read_description(folder)
        weights, digest = folder / WEIGHTS_FILE, model.weights_sha256
    remedy = "Get the model again from where it came."
    if not weights.is_file():
        raise MedDINOv3Error(
            "weights-missing", f"Model '{folder.name}' has no {weights.name}.", remedy
        )
    if sha256(weights) != digest:
        raise MedDINOv3Error(
            "weights-altered",
            f"The weights of '{folder.name}' are not those it was described with.",
            remedy,
        )


def update_description(folder: Path, description: ModelDescription) -> None:
    """Replace the ``model.json`` of a bundle, for example to add scores; the weights stay.

    Raises:
        MedDINOv3Error: it cannot be written.
    """
    _write(folder / DESCRIPTION_FILE, description)


def set_id(folder: Path, name: str) -> None:
    """Write another id into the description of a model or backbone.

    Raises:
        MedDINOv3Error: it cannot be read or written.
    """
    if is_backbone(folder):
        backbone = read_backbone_description(folder)
        _write(folder / BACKBONE_DESCRIPTION_FILE, dataclasses.replace(backbone, id=name))
    else:
        update_description(folder, dataclasses.replace(read_description(folder), id=name))


def own_folder(name: str) -> Path:
    """The folder of one of the user's models or backbones, readable or not.

    Raises:
        MedDINOv3Error: it is a starter, or there is none of that name.
    """
    # Any folder's name may have been given by hand; a path is no name.
    is_name = Path(name).name == name and not name.startswith(".") and name != ""
    for kind in KINDS if is_name else ():
        if (user_folder() / kind / name).is_dir():
            return user_folder() / kind / name
    if is_name and (STARTERS / name).is_dir():
        raise MedDINOv3Error(
            "starter",
            f"'{name}' ships with MedDINOv3 and cannot be removed or renamed.",
            "Leave it.",
        )
    raise MedDINOv3Error(
        "no-model",
        f"You have no model or backbone '{name}'.",
        "'meddinov3 models list' shows what there is.",
    )


def move(folder: Path, target: Path) -> None:
    """Rename a model's folder at once, so that nothing half-moved is ever listed.

    Raises:
        MedDINOv3Error: the target exists, or a file is in use.
    """
    if target.exists():  # Windows would refuse, others might replace an empty one
        raise MedDINOv3Error(
            "exists", f"'{target.name}' exists already.", "Choose another name or remove it first."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
    except OSError as error:  # Windows keeps the folders of open files
        raise MedDINOv3Error(
            "in-use",
            f"'{folder.name}' cannot be moved or removed: {error.strerror or error}.",
            "Close Slicer or stop the training that uses it, then try again.",
        ) from error


def _write(path: Path, description: JsonFile) -> None:
    with whole_file(path) as partial:
        partial.write_text(description.to_json(), encoding="utf-8", newline="\n")
