"""Which models are here: the starters that ship with the package and the user's own.

Torch-free: listing reads ``model.json`` files only.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from meddinov3.description import BackboneDescription, ModelDescription
from meddinov3.errors import MedDINOv3Error

DESCRIPTION_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"
BACKBONE_DESCRIPTION_FILE = "backbone.json"
BACKBONE_WEIGHTS_FILE = "backbone.safetensors"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")  # of a model or backbone: a folder's on any system
RESERVED = re.compile(r"con|prn|aux|nul|(com|lpt)[1-9]")  # by Windows, with any ending
LEFTOVER = re.compile(r"\.[0-9a-f]{8}\.partial|\.removed\..+")
DAY = 24 * 60 * 60  # seconds
FOLDER = "MedDINOv3"
STARTERS = Path(__file__).parent / "starters"


def user_folder() -> Path:
    """Where models, backbones, libraries and logs live; ``MEDDINOV3_HOME`` overrides it."""
    override = os.environ.get("MEDDINOV3_HOME")
    if override:
        return Path(override).expanduser()
    try:
        import platformdirs  # not part of Slicer; comes with the set-up
    except ModuleNotFoundError:
        return _data_folder() / FOLDER
    return Path(platformdirs.user_data_dir(FOLDER, appauthor=False))


def _data_folder() -> Path:
    """Where programs keep a user's data on this system, as platformdirs finds it."""
    home = Path.home()
    if sys.platform == "win32":
        place = os.environ.get("LOCALAPPDATA", "")
        return Path(place) if Path(place).is_absolute() else home / "AppData" / "Local"
    place = os.environ.get("XDG_DATA_HOME", "")
    if Path(place).is_absolute():
        return Path(place)
    if sys.platform == "darwin":
        return home / "Library" / "Application Support"
    return home / ".local" / "share"


def check_name(name: str) -> None:
    """Refuse what cannot be the id of a model or backbone.

    Raises:
        MedDINOv3Error: the name is none.
    """
    reserved = RESERVED.fullmatch(name.partition(".")[0]) is not None
    if NAME.fullmatch(name) is None or name.endswith(".") or reserved:
        raise MedDINOv3Error(
            "bad-name",
            f"'{name}' is no name for a model.",
            "Use lower-case letters, digits, dots, dashes and underscores, no dot at the end and "
            "none of the names that Windows keeps for devices (con, nul, com1).",
        )


def sweep_leftovers() -> None:
    """Delete what killed pulls, imports and removals left among the user's models.

    Folders younger than a day may still be written.
    """
    for kind in ("models", "backbones"):
        parent = user_folder() / kind
        for path in parent.iterdir() if parent.is_dir() else ():
            with suppress(OSError):
                old = time.time() - path.lstat().st_mtime > DAY
                if LEFTOVER.fullmatch(path.name) and old and path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)  # which refuses links


@dataclass(frozen=True)
class InstalledModel:
    """A model found on this machine.

    Attributes:
        folder: its bundle.
        description: what it is, or None if it cannot be read.
        problem: why it cannot be read, else "".
        starter: whether it ships with the package.
    """

    folder: Path
    description: ModelDescription | None
    problem: str = ""
    starter: bool = False

    @property
    def id(self) -> str:
        """The folder's name, by which commands refer to the model."""
        return self.folder.name

    @property
    def takes_clicks(self) -> bool:
        """Whether it is a click model, which segments nothing by itself."""
        return self.description is not None and self.description.prompts is not None


def read_description(folder: Path) -> ModelDescription:
    """Read a bundle's ``model.json``.

    Raises:
        MedDINOv3Error: there is none, or it cannot be understood.
    """
    path = folder / DESCRIPTION_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MedDINOv3Error(
            "no-model",
            f"'{folder}' is no model: it has no readable {DESCRIPTION_FILE}.",
            "Give the folder that holds model.json and model.safetensors.",
        ) from error
    return ModelDescription.from_json(text)


def refuse_click_model(description: ModelDescription) -> None:
    """Refuse a model that answers points where one is needed that segments by itself.

    Raises:
        MedDINOv3Error: `description` is of a click model.
    """
    if description.prompts is not None:
        raise MedDINOv3Error(
            "click-model",
            f"'{description.name}' is a click model: it segments what points and boxes mean, and "
            "nothing by itself.",
            "Use it with points, or choose another model.",
        )


def read_backbone_description(folder: Path) -> BackboneDescription:
    """Read a backbone's ``backbone.json``.

    Raises:
        MedDINOv3Error: there is none, or it cannot be understood.
    """
    try:
        text = (folder / BACKBONE_DESCRIPTION_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MedDINOv3Error(
            "no-backbone",
            f"'{folder}' is no backbone: it has no readable {BACKBONE_DESCRIPTION_FILE}.",
            f"Give the folder that holds {BACKBONE_DESCRIPTION_FILE} and {BACKBONE_WEIGHTS_FILE}.",
        ) from error
    return BackboneDescription.from_json(text)


def installed_models() -> list[InstalledModel]:
    """All models, the user's first; a user's model hides a starter of the same id."""
    places = [(user_folder() / "models", False), (STARTERS, True)]
    found: dict[str, InstalledModel] = {}
    for parent, starter in places:
        folders = sorted(parent.glob(f"*/{DESCRIPTION_FILE}")) if parent.is_dir() else []
        for folder in (path.parent for path in folders):
            if folder.name.startswith(".") or folder.name in found:
                continue
            try:
                entry = InstalledModel(folder, read_description(folder), "", starter)
            except MedDINOv3Error as error:
                entry = InstalledModel(folder, None, str(error), starter)
            found[folder.name] = entry
    return list(found.values())


def find_backbone(name: str) -> Path | None:
    """The folder of a backbone file by id or path; None if there is none."""
    if (Path(name) / BACKBONE_DESCRIPTION_FILE).is_file():
        return Path(name)
    folder = user_folder() / "backbones" / name
    return folder if (folder / BACKBONE_DESCRIPTION_FILE).is_file() else None


def installed_backbones() -> list[tuple[Path, BackboneDescription | None]]:
    """Backbones in the user's folder; None for one that cannot be read."""
    found: list[tuple[Path, BackboneDescription | None]] = []
    for path in sorted((user_folder() / "backbones").glob(f"*/{BACKBONE_DESCRIPTION_FILE}")):
        if path.parent.name.startswith("."):
            continue
        try:
            found.append((path.parent, read_backbone_description(path.parent)))
        except MedDINOv3Error:
            found.append((path.parent, None))
    return found


def find_model(name: str | None) -> Path:
    """The bundle for a model id or a folder; for None the only one that segments by itself.

    Raises:
        MedDINOv3Error: no such model, or None although there are several.
    """
    models = [model for model in installed_models() if name or not model.takes_clicks]
    listed = ", ".join(model.id for model in models) or "none"
    if name is None:
        if len(models) == 1:
            return models[0].folder
        if not models:
            raise MedDINOv3Error(
                "no-model", "No model is installed.", "Give a model's folder with --model."
            )
        raise MedDINOv3Error(
            "which-model",
            f"{len(models)} models are installed ({listed}).",
            "Say which one with --model.",
        )
    for model in models:
        if model.id == name:
            return model.folder
    if Path(name).is_dir():
        return Path(name)
    raise MedDINOv3Error(
        "no-model",
        f"There is no model '{name}'.",
        f"Installed: {listed}. A folder with model.json works too.",
    )


def find_installed(name: str) -> Path:
    """The folder of a model or, if there is none of that name, of a backbone.

    Raises:
        MedDINOv3Error: neither is here.
    """
    if not any(model.id == name for model in installed_models()):
        backbone = find_backbone(name)
        if backbone is not None:
            return backbone
    return find_model(name)


def is_backbone(folder: Path) -> bool:
    """Whether a folder holds a backbone file rather than a model bundle."""
    return (folder / BACKBONE_DESCRIPTION_FILE).is_file()
