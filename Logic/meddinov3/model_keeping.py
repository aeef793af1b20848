"""A model of a training run kept among the user's, and the user's models renamed. Torch-free."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from meddinov3.atomic import whole_folder
from meddinov3.bundle_files import (
    BESIDE,
    NEEDED,
    check_files,
    kind_of,
    move,
    own_folder,
    set_id,
    update_description,
)
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import (
    check_name,
    installed_backbones,
    installed_models,
    read_description,
    sweep_leftovers,
    user_folder,
)


def check_new_name(name: str) -> None:
    """Refuse a name that no model can have, or that a model or backbone has.

    Raises:
        MedDINOv3Error: so it is.
    """
    check_name(name)
    taken = {model.id for model in installed_models()}
    taken |= {folder.name for folder, _ in installed_backbones()}
    if name in taken:
        raise MedDINOv3Error(
            "exists", f"There is a model '{name}' already.", "Choose another name."
        )


def keep_model(folder: Path, name: str, title: str = "") -> Path:
    """Copy a bundle or backbone among the user's, whole or not at all.

    Args:
        folder: of a training run, or from anywhere; it stays.
        name: id of the copy, new.
        title: the model's name for people; as it was if left out.

    Returns:
        The copy's folder.

    Raises:
        MedDINOv3Error: the name cannot be or is taken, the model is damaged, or the disk is full.
    """
    check_new_name(name)
    sweep_leftovers()
    check_files(folder)
    kind = kind_of(folder)
    target = user_folder() / kind / name
    with whole_folder(target) as partial:
        for file in sorted(NEEDED[kind] | BESIDE):
            if (folder / file).is_file():
                shutil.copyfile(folder / file, partial / file)
        check_files(partial)
        set_id(partial, name)
        if title.strip() and kind == "models":
            described = dataclasses.replace(read_description(partial), name=title.strip())
            update_description(partial, described)
    return target


def rename_model(name: str, new: str) -> Path:
    """Give one of the user's models or backbones another id.

    A run that is trained from it goes on, but cannot be continued later: it reads its base again.

    Returns:
        Its folder.

    Raises:
        MedDINOv3Error: it is a starter, damaged, in use, or the new name cannot be or is taken.
    """
    folder = own_folder(name)
    check_new_name(new)
    target = folder.with_name(new)
    set_id(folder, new)  # first: a listing goes by the folder, so a crash here changes no name
    try:
        move(folder, target)
    except MedDINOv3Error:
        set_id(folder, name)
        raise
    return target
