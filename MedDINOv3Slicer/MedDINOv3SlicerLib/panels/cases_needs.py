"""What the panel of training cases asks of the rest of the module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meddinov3.cases.library import Library
    from meddinov3.labels import Label


@dataclass(frozen=True)
class SceneFacts:
    """What could be added now.

    Attributes:
        scans: names of the chosen volumes, one a channel.
        segmentation: name of the chosen segmentation.
        labels: its structures.
        channels: what the channels would be called in a new library, e.g. ``CT``.
        problem: why nothing can be added, a sentence; "" if it can.
    """

    scans: tuple[str, ...] = ()
    segmentation: str = ""
    labels: tuple[Label, ...] = ()
    channels: tuple[str, ...] = ()
    problem: str = ""


class CasesLogic(Protocol):
    """What the panel asks for. All may raise MedDINOv3Error or ImportError.

    ``notes`` is what should be known about the case that was added or replaced last.
    """

    notes: tuple[str, ...]

    def recentLibraries(self) -> Sequence[Path]:
        """Folders that still are libraries, the latest first."""

    def librariesFolder(self) -> Path:
        """Where new ones are put unless another folder is chosen."""

    def openLibrary(self, folder: Path) -> Library:
        """Open a library and remember it as the latest."""

    def createLibrary(
        self, folder: Path, name: str, channels: Sequence[str], labels: Sequence[Label]
    ) -> Library:
        """Make a library and remember it."""

    def sceneFacts(self) -> SceneFacts:
        """The scan and the segmentation that are chosen; quick, no voxel is touched."""

    def addCase(self, library: Library, mapping: Mapping[str, str], allowEmpty: bool) -> str:
        """Add them with provenance; returns the case's id."""

    def replaceCase(
        self, library: Library, caseId: str, mapping: Mapping[str, str], allowEmpty: bool
    ) -> None:
        """Put them in a case's place."""

    def reopenCase(self, library: Library, caseId: str) -> None:
        """Load a case's scan and segmentation into the scene and choose them."""
