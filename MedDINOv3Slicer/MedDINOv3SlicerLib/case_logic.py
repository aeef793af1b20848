"""Training cases: joins the scene and the case libraries for the panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import slicer
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import user_folder
from slicer.i18n import tr as _

from MedDINOv3SlicerLib.panels.cases_needs import SceneFacts
from MedDINOv3SlicerLib.recent_libraries import RecentLibraries
from MedDINOv3SlicerLib.scene.case import SceneCase, caseFrom, openCase
from MedDINOv3SlicerLib.scene.parameters import Parameters
from MedDINOv3SlicerLib.scene.segmentations import labelsOf
from MedDINOv3SlicerLib.scene.volumes import modalityOf
from MedDINOv3SlicerLib.signal import Signal

if TYPE_CHECKING:
    from meddinov3.cases.library import Library
    from meddinov3.labels import Label

Node = Any


class CaseLogic:
    """What :class:`CasesPanel` asks for.

    Attributes:
        notes: what should be known about the case that was added or replaced last.
        reopened: emitted with the volumes and the segmentation of a case that was opened.
    """

    def __init__(self, scene: Node, recent: RecentLibraries) -> None:
        self._scene, self._recent = scene, recent
        self.notes: tuple[str, ...] = ()
        self.reopened = Signal()

    @property
    def _parameters(self) -> Parameters:
        return Parameters.of(self._scene)

    def recentLibraries(self) -> Sequence[Path]:
        return self._recent.folders()

    def librariesFolder(self) -> Path:
        return user_folder() / "libraries"

    def openLibrary(self, folder: Path) -> Library:
        from meddinov3.cases.library import Library

        return self._remembered(Library.open(folder))

    def createLibrary(
        self, folder: Path, name: str, channels: Sequence[str], labels: Sequence[Label]
    ) -> Library:
        from meddinov3.cases.library import Library

        return self._remembered(Library.create(folder, name, channels, labels))

    def sceneFacts(self) -> SceneFacts:
        parameters = self._parameters
        volumes, segmentation = self._volumes(), parameters.corrected
        if not volumes:
            return SceneFacts(problem=_("No scan is chosen under Segment."))
        if segmentation is None:
            return SceneFacts(problem=_("No segmentation is chosen under Correct."))
        owner = self._owner(segmentation)
        if owner is not None and owner not in volumes:
            return SceneFacts(
                problem=_(
                    "'{segmentation}' belongs to '{scan}'; choose that scan under Segment."
                ).format(segmentation=segmentation.GetName(), scan=owner.GetName())
            )
        labels = labelsOf(segmentation)
        if not labels:
            return SceneFacts(problem=_("The segmentation has no segments."))
        return SceneFacts(
            tuple(node.GetName() for node in volumes),
            segmentation.GetName(),
            labels,
            tuple(modalityOf(node) or _("Scan") for node in volumes),
        )

    def addCase(self, library: Library, mapping: Mapping[str, str], allowEmpty: bool) -> str:
        case = self._case()
        added = library.add(
            case.channels, case.grid, case.labelMap, case.labels, mapping=mapping,
            provenance=case.provenance, status=case.status, allow_empty=allowEmpty,
        )  # fmt: skip
        self._parameters.caseId = added
        return added

    def replaceCase(
        self, library: Library, caseId: str, mapping: Mapping[str, str], allowEmpty: bool
    ) -> None:
        case, before = self._case(), library.case(caseId).status
        library.replace(
            caseId, case.channels, case.grid, case.labelMap, case.labels, mapping=mapping,
            provenance=case.provenance, allow_empty=allowEmpty,
        )  # fmt: skip
        if before not in ("excluded", case.status):  # who excluded a case did not mean its drawing
            library.set_status(caseId, case.status)

    def reopenCase(self, library: Library, caseId: str) -> None:
        volumes, segmentation = openCase(self._scene, library, caseId)
        parameters = self._parameters
        parameters.volumes, parameters.corrected = volumes, segmentation
        parameters.correctedScan = volumes[0]
        parameters.caseId = caseId
        slicer.util.setSliceViewerLayers(background=volumes[0], fit=True)
        self.reopened.emit(volumes, segmentation)

    def _case(self) -> SceneCase:
        """Scan and segmentation as a case.

        Raises:
            MedDINOv3Error: there is none, or one belongs to another scan.
        """
        facts = self.sceneFacts()
        if facts.problem:
            raise MedDINOv3Error("no-case", facts.problem, _("Then add it again."))
        case = caseFrom(self._volumes(), self._parameters.corrected)
        self.notes = case.notes
        return case

    def _owner(self, segmentation: Node) -> Node | None:
        """The scan that a segmentation was made for, as far as that is known."""
        if self._parameters.correctedScan is not None:
            return self._parameters.correctedScan
        role = segmentation.GetReferenceImageGeometryReferenceRole()
        node = segmentation.GetNodeReference(role)
        return node if node is not None and node.IsA("vtkMRMLScalarVolumeNode") else None

    def _volumes(self) -> tuple[Node, ...]:
        chosen = self._parameters.volumes
        return tuple(node for node in chosen if node is not None) if all(chosen) else ()

    def _remembered(self, library: Library) -> Library:
        self._recent.remember(library.folder)
        self._parameters.library = str(library.folder)
        return library
