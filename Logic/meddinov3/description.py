"""What a model is: everything beside the weights, as it stands in ``model.json``.

Torch-free, so that Slicer can list models in a moment.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Self

from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import SliceOrientation
from meddinov3.intensity import IntensityScheme
from meddinov3.labels import Label
from meddinov3.plain_json import from_plain, to_plain

FORMAT = 1


@dataclass(frozen=True)
class NetworkDescription:
    """How to rebuild the network.

    Attributes:
        backbone: timm architecture.
        overrides: timm arguments that differ from it.
        norm_eps: LayerNorm epsilon.
        rope_precision: ``fp32`` or ``bf16``.
        outputs: channels of the logits.
        backbone_source: where the backbone's weights came from, in words.
        backbone_hash: SHA-256 of the backbone tensors that training started from, or "".
        members: networks whose logits are averaged; more than one is an ensemble.
    """

    backbone: str
    outputs: int
    overrides: dict[str, int] = field(default_factory=dict)
    norm_eps: float = 1e-6
    rope_precision: str = "fp32"
    backbone_source: str = "random initialisation"
    backbone_hash: str = ""
    members: int = 1


@dataclass(frozen=True)
class Channel:
    """One input channel: its name and how it is normalised."""

    name: str
    intensity: IntensityScheme


@dataclass(frozen=True)
class Sampling:
    """How a scan becomes slices for the network.

    Attributes:
        orientation: which way slices lie.
        spacing: (rows, columns) in mm that slices are resampled to; None leaves them.
        patch: (rows, columns) in pixels of the training patch; the RoPE coordinate is 1 at
            its edge. None uses DINOv3's own rule, every grid spanning [-1, 1].
        slice_offsets: where along the slice axis, in mm from the slice, the input channels
            are taken; (0,) is plain 2D, (-2, 0, 2) adds context. The nearest slice is used,
            the first or last beyond the scan's ends. Channels of one offset lie together.
        mirror_axes: in-plane axes (0 rows, 1 columns) that may be mirrored at test time.
        windows: (rows, columns) in pixels of overlapping windows that a slice is cut into, as
            models imported from nnU-Net were validated; None computes whole slices.
    """

    orientation: SliceOrientation = field(default_factory=SliceOrientation)
    spacing: tuple[float, float] | None = None
    patch: tuple[int, int] | None = None
    slice_offsets: tuple[float, ...] = (0.0,)
    mirror_axes: tuple[int, ...] = ()
    windows: tuple[int, int] | None = None

    def problems(self) -> list[tuple[bool, str]]:
        """What could be wrong, and whether it is."""
        numbers = (*(self.spacing or ()), *self.slice_offsets)
        return [
            (not all(map(math.isfinite, numbers)), "spacing or offsets are no finite numbers"),
            (any(mm <= 0 for mm in self.spacing or ()), f"spacing is {self.spacing}"),
            (any(n < 1 for n in self.patch or ()), f"patch is {self.patch}"),
            (any(n < 1 for n in self.windows or ()), f"windows are {self.windows}"),
            (not self.slice_offsets, "there are no slice offsets"),
            (
                len(set(self.mirror_axes)) != len(self.mirror_axes)
                or not set(self.mirror_axes) <= {0, 1},
                f"mirror_axes are {self.mirror_axes}",
            ),
        ]

    @property
    def rope_grid(self) -> tuple[float, float] | None:
        """Tokens that span [-1, 1] along (rows, columns)."""
        return None if self.patch is None else (self.patch[0] / 16, self.patch[1] / 16)


@dataclass(frozen=True)
class Purpose:
    """What the model was made for, so that a scan far outside it is noticed.

    Attributes:
        modality: DICOM modality, ``CT`` or ``MR``; "" if mixed.
        body_part: in words.
        trained_on: ``boxes`` (crops around the structure: a larger scan needs a region) or
            ``scans``.
        extent: median extent in mm of the training images along (slices, rows, columns).
    """

    modality: str = ""
    body_part: str = ""
    trained_on: str = "scans"
    extent: tuple[float, float, float] | None = None

    def problems(self) -> list[tuple[bool, str]]:
        """What could be wrong, and whether it is."""
        extent = self.extent or ()
        return [
            (self.trained_on not in ("boxes", "scans"), f"trained_on is {self.trained_on!r}"),
            (not all(math.isfinite(mm) and mm > 0 for mm in extent), f"extent is {extent}"),
        ]


@dataclass(frozen=True)
class PromptDescription:
    """How a click model takes points, a box and an earlier mask; it finds whatever is meant.

    Attributes:
        width: channels of a token inside the decoder.
        depth: blocks that mix neighbouring tokens.
        cells: fine pixels along the edge of a token; prompts and intensities act on these.
        slice_spacing: mm between the slices that are mixed.
        near, far: radii in mm of the two discs that a click draws.
        clicks: most clicks on one structure that it was trained, and should be used, with.
    """

    width: int = 64
    depth: int = 3
    cells: int = 4
    slice_spacing: float = 1.0
    near: float = 3.0
    far: float = 24.0
    clicks: int = 10

    def problems(self) -> list[tuple[bool, str]]:
        """What could be wrong, and whether it is."""
        lengths = (self.slice_spacing, self.near, self.far)
        return [
            (self.cells not in (1, 2, 4, 8, 16), f"{self.cells} cells a token"),
            (not 1 <= self.width <= 4096 or self.width % 4 > 0, f"decoder width {self.width}"),
            (not 0 <= self.depth <= 64, f"{self.depth} blocks"),
            (self.clicks < 1, f"{self.clicks} clicks"),
            (not all(math.isfinite(mm) and mm > 0 for mm in lengths), f"lengths are {lengths}"),
        ]


class JsonFile:
    """A dataclass that stands in a JSON file, with the format's version."""

    file = ""  # not annotated, so that neither is a field
    remedy = "Get the model again from where it came."

    def to_json(self) -> str:
        """The file's text."""
        content = {"format": FORMAT, **to_plain(self)}
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a file of this or an older format.

        Raises:
            MedDINOv3Error: not JSON, a later format, or fields missing or unknown.
        """
        try:
            content = json.loads(text, parse_constant=_not_finite)
            version = content.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise MedDINOv3Error(
                "bad-description",
                f"{cls.file} is damaged: it is no JSON object with a 'format', or holds no finite "
                "numbers.",
                cls.remedy,
            ) from error
        if not isinstance(version, int) or version > FORMAT or version < 1:
            raise MedDINOv3Error(
                "later-format",
                f"{cls.file} has format {version}; this version reads up to {FORMAT}.",
                "Update MedDINOv3.",
            )
        try:
            description: Self = from_plain(cls, content)
        except (TypeError, ValueError, KeyError) as error:
            raise MedDINOv3Error(
                "bad-description",
                f"{cls.file} does not describe what it should: {error}.",
                cls.remedy,
            ) from error
        return description


def _not_finite(name: str) -> float:
    raise ValueError(f"{name} is no finite number")


@dataclass(frozen=True)
class ModelDescription(JsonFile):
    """The content of ``model.json``.

    Attributes:
        id: folder name, lower case, no spaces.
        name, summary: for people.
        licence: of the weights (SPDX or in words).
        attribution: who and what to cite.
        network, sampling, purpose: see there.
        channels: input channels in order.
        labels: structures in the order of the logits (classes, after background) or of the
            regions, which is the order they are written in.
        regions: True if each output is a region decided by itself (sigmoid above 0.5),
            False if outputs are background and labels that exclude each other.
        ignore_label: voxel value left out of training, or None.
        training: record of how it was made (free form; no paths, no patient data).
        scores: figures on held-out cases (free form).
        weights_sha256: of ``model.safetensors``.
        prompts: of a click model, which segments what points and boxes mean instead of
            `labels`; None for a model that segments by itself.
    """

    file = "model.json"

    id: str
    name: str
    network: NetworkDescription
    channels: tuple[Channel, ...]
    labels: tuple[Label, ...]
    sampling: Sampling = field(default_factory=Sampling)
    purpose: Purpose = field(default_factory=Purpose)
    regions: bool = False
    ignore_label: int | None = None
    summary: str = ""
    licence: str = ""
    attribution: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    prompts: PromptDescription | None = None

    def __post_init__(self) -> None:
        expected = len(self.labels) + (0 if self.regions else 1)
        values = [label.value for label in self.labels]
        names = [label.name for label in self.labels]
        problems = [
            (self.network.outputs != expected, f"{self.network.outputs} outputs for {expected}"),
            (len(set(names)) != len(names), "two labels share a name"),
            (any(v < 1 or v > 65535 for v in values), "label values lie outside 1 to 65535"),
            (len(set(values)) != len(values), "two labels share a value"),
            (not self.channels, "there are no input channels"),
            (not self.labels, "there are no labels"),
            (any(not 0 <= c <= 255 for v in self.labels for c in v.colour), "no such colour"),
            (not 1 <= self.network.members <= 100, f"{self.network.members} networks"),
            (not 0 < self.network.norm_eps < 1, f"norm_eps is {self.network.norm_eps}"),
            *self.sampling.problems(),
            *self.purpose.problems(),
            *(self.prompts.problems() if self.prompts else []),
            (self.prompts is not None and (self.network.outputs != 1 or not self.regions),
             "a click model has one output"),
            (self.prompts is not None and self.network.members > 1, "click models do not join"),
        ]  # fmt: skip
        found = [text for wrong, text in problems if wrong]
        if found:
            raise MedDINOv3Error(
                "bad-description",
                f"Model '{self.id}' contradicts itself: {'; '.join(found)}.",
                "Get the model again from where it came.",
            )

    @property
    def schemes(self) -> list[IntensityScheme]:
        """How each channel is normalised."""
        return [channel.intensity for channel in self.channels]

    @property
    def network_channels(self) -> int:
        """Input channels of the network: scan channels times slice offsets."""
        return len(self.channels) * len(self.sampling.slice_offsets)


@dataclass(frozen=True)
class HubFile:
    """The file on the Hugging Face hub that a backbone was made from, known exactly.

    Attributes:
        repository: ``owner/name``.
        file: its name there.
        revision: commit (40 hexadecimal digits), never a branch.
        sha256: of the file as it was downloaded.
    """

    repository: str
    file: str
    revision: str
    sha256: str


@dataclass(frozen=True)
class BackboneDescription(JsonFile):
    """The content of ``backbone.json``: a backbone without decoder, to train from.

    Attributes:
        id: folder name.
        name: for people.
        backbone: timm architecture.
        in_channels: of the patch kernel, 3 as DINOv3 ships it.
        overrides: timm arguments that differ from the architecture's.
        norm_eps: LayerNorm epsilon.
        rope_precision: ``fp32`` or ``bf16``.
        origin: ``meddinov3``, ``dinov3``, ``flexict`` or ``own``; fine-tuning's rate follows.
        source: where the weights came from, in words.
        modality: DICOM modality it was pretrained on, or "".
        licence, attribution: of the weights.
        has_mask_token: whether pretraining can go on from it.
        training: record of how it was made (free form; no paths, no patient data).
        weights_sha256: of ``backbone.safetensors``.
        hub: what was pulled, or None for a file brought by hand.
    """

    file = "backbone.json"

    id: str
    name: str
    backbone: str
    in_channels: int = 3
    overrides: dict[str, int] = field(default_factory=dict)
    norm_eps: float = 1e-6
    rope_precision: str = "fp32"
    origin: str = "own"
    source: str = ""
    modality: str = ""
    licence: str = ""
    attribution: str = ""
    has_mask_token: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    hub: HubFile | None = None
