"""What is to be segmented."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from MedDINOv3SlicerLib.jobs.scene_access import Node


@dataclass(frozen=True, eq=False)
class SegmentOrder:
    """Volumes of the scene.

    Attributes:
        volumes: a volume node for each channel of the model, in its order.
        model: id or folder.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        roi: segment only inside this markups ROI.
        labels: names of the structures wanted; None for all.
        full: average over mirrored copies: slower, a little better.
        into: segmentation that gets the segments; None makes one.
        name: of a new segmentation; "" chooses.
        show3d: make the surfaces.
    """

    volumes: tuple[Node, ...]
    model: str
    device: str = "auto"
    roi: Node | None = None
    labels: tuple[str, ...] | None = None
    full: bool = False
    into: Node | None = None
    name: str = ""
    show3d: bool = False

    @property
    def title(self) -> str:
        """Of the scan, for lists."""
        return str(self.volumes[0].GetName()) if self.volumes else ""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Without which there is nothing to do."""
        return self.volumes if self.into is None else (*self.volumes, self.into)


@dataclass(frozen=True)
class FileOrder:
    """Files on disk; the scene is not touched.

    Attributes:
        files: file or DICOM folder by channel name.
        outputs: files to write, by their endings.
        model, device, labels, full: as for :class:`SegmentOrder`.
        series: which DICOM series of a folder, counted from 1.
    """

    files: dict[str, Path]
    outputs: tuple[Path, ...]
    model: str
    device: str = "auto"
    labels: tuple[str, ...] | None = None
    full: bool = False
    series: int | None = field(default=None)

    @property
    def title(self) -> str:
        """Of the scan, for lists."""
        return next(iter(self.files.values())).name if self.files else ""
