"""The models on this computer as the panels need them: read, kept, renamed, carried, removed.

Knows no qt. The engine is imported late, as it needs packages that a fresh Slicer lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from MedDINOv3SlicerLib.signal import Signal

if TYPE_CHECKING:
    from meddinov3.description import ModelDescription
    from meddinov3.removed_models import RemovedModel


@dataclass(frozen=True)
class ModelEntry:
    """A model or backbone on this computer.

    Attributes:
        id, title, summary: see ``ModelDescription``.
        backbone: whether it is one to train from, and cannot segment.
        labels: names of the structures.
        purpose: modality and body part.
        scores: as the description has them.
        training: the record of how it was made.
        licence, source: of the weights; where they came from.
        bytes: on disk.
        starter: ships with MedDINOv3 and cannot be changed.
        problem: why it cannot be used, or "".
    """

    id: str
    folder: Path
    title: str = ""
    summary: str = ""
    backbone: bool = False
    labels: tuple[str, ...] = ()
    purpose: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    bytes: int = 0
    starter: bool = False
    problem: str = ""

    @property
    def meanDice(self) -> float | None:
        """Of held-out cases, or None if it was never scored."""
        value = self.scores.get("mean_dice")
        return float(value) if isinstance(value, (int, float)) else None


@dataclass(frozen=True)
class Base:
    """What fine-tuning can start from.

    Attributes:
        id: for ``--base``; of the catalogue's entry if it is not here yet.
        title: for people.
        what: one or two sentences: what it is, licence.
        here: False if it must be downloaded first.
        size, licence, pages: of the download.
    """

    id: str
    title: str
    what: str
    here: bool = True
    size: str = ""
    licence: str = ""
    pages: tuple[str, ...] = ()


class ModelShelf:
    """All that can be done with models. Methods may raise MedDINOv3Error or ImportError.

    ``changed()`` is emitted after each change.
    """

    def __init__(self) -> None:
        self.changed = Signal()

    def entries(self) -> Sequence[ModelEntry]:
        """Models, the user's first, then backbones."""
        from meddinov3.model_store import installed_backbones, installed_models

        found = []
        for model in installed_models():
            if model.description is None:
                entry = ModelEntry(
                    model.id, model.folder, problem=model.problem, starter=model.starter
                )
            else:
                entry = _entry(model.folder, model.description, model.starter)
            found.append(entry)
        for folder, described in installed_backbones():
            if described is None:
                problem = _("its description cannot be read")
                found.append(ModelEntry(folder.name, folder, backbone=True, problem=problem))
                continue
            source = described.hub.repository if described.hub else described.source
            found.append(ModelEntry(
                folder.name, folder, described.name, backbone=True, purpose=described.modality,
                training=described.training, licence=described.licence, source=source,
                bytes=_size(folder),
            ))  # fmt: skip
        return found

    def bases(self) -> Sequence[Base]:
        """Models and backbones that are here, then those that can be downloaded."""
        from meddinov3.catalogue import catalogue

        entries = [entry for entry in self.entries() if not entry.problem]
        here = {entry.id for entry in entries if entry.backbone}
        found = [
            Base(
                entry.id,
                (_("{title} (backbone)") if entry.backbone else _("{title} (model)")).format(
                    title=entry.title or entry.id
                ),
                " ".join(filter(None, (
                    _("Finds {names}.").format(names=", ".join(entry.labels))
                    if entry.labels else _("Knows scans, but no structure yet."),
                    _("Licence: {licence}.").format(licence=entry.licence) if entry.licence else "",
                ))),
            )
            for entry in entries
        ]  # fmt: skip
        found += [
            Base(
                entry.id,
                _("{title} (to download)").format(title=entry.name),
                _("Not here yet: {size}. For: {purpose}. Licence: {licence}.").format(
                    size=entry.size, purpose=entry.purpose, licence=entry.licence
                ),
                False, entry.size, entry.licence, entry.licence_pages,
            )
            for entry in catalogue()
            if entry.id not in here
        ]  # fmt: skip
        return found

    def keep(self, folder: Path, name: str, title: str = "") -> Path:
        """Copy a training's model, or a model's folder, among the user's."""
        from meddinov3.model_keeping import keep_model

        return self._told(keep_model(folder, name, title))

    def rename(self, name: str, new: str) -> Path:
        """Give a model another id."""
        from meddinov3.model_keeping import rename_model

        return self._told(rename_model(name, new))

    def exportTo(self, folder: Path, target: Path) -> None:
        """Write a model as a .zip file."""
        from meddinov3.model_archive import export_model

        export_model(folder, target, tensors=False)

    def importFrom(self, path: Path) -> Path:
        """Add a .zip that was exported, or a model's folder, under the name it has, or a free one.

        Raises:
            MedDINOv3Error: also for what only the command line imports.
        """
        from meddinov3.errors import MedDINOv3Error
        from meddinov3.model_archive import import_archive
        from meddinov3.model_store import DESCRIPTION_FILE, is_backbone

        if path.suffix.lower() == ".zip" and path.is_file():
            return self._told(import_archive(path, self._free(path.stem), tensors=False))
        if (path / DESCRIPTION_FILE).is_file() or is_backbone(path):
            return self.keep(path, self._free(path.name))
        raise MedDINOv3Error(
            "no-model",
            _("'{name}' is neither an exported model (.zip) nor a model's folder.").format(
                name=path.name
            ),
            _("Results of nnU-Net and .pth files: meddinov3 models import PATH --name NAME."),
        )

    def remove(self, name: str) -> None:
        """Take a model out of the list; it can be restored."""
        from meddinov3.removed_models import set_aside

        self._told(set_aside(name))

    def removed(self) -> Sequence[RemovedModel]:
        """What can be restored, the latest first."""
        from meddinov3.removed_models import removed_models

        return removed_models()

    def restore(self, removed: RemovedModel) -> Path:
        """Put a model back; under a free name if its own is taken by now."""
        from meddinov3.removed_models import restore_model

        starters = {entry.id for entry in self.entries() if entry.starter}
        free = removed.name if removed.name in starters else self._free(removed.name)
        return self._told(restore_model(removed, free))

    def emptyRemoved(self) -> int:
        """Delete all removed models for good."""
        from meddinov3.removed_models import empty_removed

        return self._told(empty_removed())

    def _told(self, result: Any) -> Any:
        self.changed.emit()
        return result

    def _free(self, wanted: str) -> str:
        """A name that is possible and not taken."""
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in wanted)
        plain = plain.lower().strip("._-") or "model"
        taken, number, name = {entry.id for entry in self.entries()}, 2, plain
        while name in taken:
            name, number = f"{plain}-{number}", number + 1
        return name


def _entry(folder: Path, described: ModelDescription, starter: bool) -> ModelEntry:
    made_for = described.purpose
    return ModelEntry(
        folder.name, folder, described.name, described.summary,
        labels=tuple(label.name for label in described.labels),
        purpose=" ".join(filter(None, (made_for.modality, made_for.body_part))),
        scores=described.scores, training=described.training, licence=described.licence,
        source=described.network.backbone_source, bytes=_size(folder), starter=starter,
    )  # fmt: skip


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
