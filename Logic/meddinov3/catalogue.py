"""What can be pulled: the backbones of ``catalogue.json``, their places, sizes and licences.

Torch-free, and it opens no connection; :mod:`meddinov3.hub` does. Starter models ship with the
package, so :func:`meddinov3.model_store.installed_models` lists them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from meddinov3.description import BackboneDescription, JsonFile
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import NAME, installed_backbones

CATALOGUE = Path(__file__).with_name("catalogue.json")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
ENDINGS = (".pth", ".safetensors")  # of the weight files that the import knows


@dataclass(frozen=True)
class CatalogueEntry:
    """A backbone that can be pulled.

    Attributes:
        id: by which commands refer to it, and its folder's name once it is here.
        name: for people.
        purpose: what it is for.
        modality: DICOM modality it was pretrained on, or "" for natural images.
        architecture: timm's name.
        repository: ``owner/name`` on the hub.
        file: its name there.
        megabytes: about how large it is, in units of a million bytes.
        licence: of the weights, as the backbone's description will say it.
        licence_pages: where to read it.
        revision: the commit to pull; "" takes the newest and records it.
        sha256: of the file; "" trusts the hub's.
    """

    id: str
    name: str
    purpose: str
    modality: str
    architecture: str
    repository: str
    file: str
    megabytes: int
    licence: str
    licence_pages: tuple[str, ...]
    revision: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        problems = [
            (NAME.fullmatch(self.id) is None, f"{self.id!r} is no id"),
            (REPOSITORY.fullmatch(self.repository) is None, "its repository is no owner/name"),
            (path.name != self.file or path.suffix not in ENDINGS, "its file is none known here"),
            (self.megabytes < 1, "its size is not positive"),
            (not self.licence or not self.licence_pages, "it states no licence"),
            (
                not all(page.startswith("https://") for page in self.licence_pages),
                "a licence page is no https address",
            ),
            (not _empty_or(COMMIT, self.revision), "its revision is no commit"),
            (not _empty_or(SHA256, self.sha256), "its sha256 is none"),
        ]
        found = [text for wrong, text in problems if wrong]
        if found:
            raise ValueError(f"entry {self.id!r}: {', '.join(found)}")

    @property
    def page(self) -> str:
        """The model's page, where its terms are shown and accepted."""
        return f"https://huggingface.co/{self.repository}"

    @property
    def size(self) -> str:
        """The size in words."""
        if self.megabytes < 1000:
            return f"about {self.megabytes} MB"
        return f"about {self.megabytes / 1000:.1f} GB"


@dataclass(frozen=True)
class Catalogue(JsonFile):
    """The content of ``catalogue.json``."""

    file = "catalogue.json"
    remedy = "Install MedDINOv3 again."

    backbones: tuple[CatalogueEntry, ...]

    def __post_init__(self) -> None:
        ids = [entry.id for entry in self.backbones]
        if len(set(ids)) != len(ids):
            raise ValueError("two entries share an id")


def _empty_or(pattern: re.Pattern[str], text: str) -> bool:
    return not text or pattern.fullmatch(text) is not None


@cache
def catalogue() -> tuple[CatalogueEntry, ...]:
    """The backbones that can be pulled.

    Raises:
        MedDINOv3Error: the file of the package is damaged.
    """
    try:
        text = CATALOGUE.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MedDINOv3Error(
            "bad-description", f"{Catalogue.file} cannot be read: {error}.", Catalogue.remedy
        ) from error
    return Catalogue.from_json(text).backbones


def find_entry(name: str) -> CatalogueEntry | None:
    """The entry of that id, or None."""
    return next((entry for entry in catalogue() if entry.id == name), None)


def entry_of(backbone: BackboneDescription) -> CatalogueEntry | None:
    """The entry that an installed backbone was pulled from, or None."""
    if backbone.hub is None:
        return None
    source = (backbone.hub.repository, backbone.hub.file)
    return next((entry for entry in catalogue() if (entry.repository, entry.file) == source), None)


def pulled(entry: CatalogueEntry) -> list[Path]:
    """Folders of installed backbones that were made from `entry`."""
    return [
        folder
        for folder, description in installed_backbones()
        if description is not None and entry_of(description) == entry
    ]
