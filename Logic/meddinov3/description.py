"""What a model is: everything beside the weights, as it stands in ``model.json``.

Torch-free, so that Slicer can list models in a moment.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any

from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import SliceOrientation
from meddinov3.intensity import IntensityScheme
from meddinov3.labels import Label

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
    """

    backbone: str
    outputs: int
    overrides: dict[str, int] = field(default_factory=dict)
    norm_eps: float = 1e-6
    rope_precision: str = "fp32"
    backbone_source: str = "random initialisation"
    backbone_hash: str = ""


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
    """

    orientation: SliceOrientation = field(default_factory=SliceOrientation)
    spacing: tuple[float, float] | None = None
    patch: tuple[int, int] | None = None
    slice_offsets: tuple[float, ...] = (0.0,)
    mirror_axes: tuple[int, ...] = ()

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

    def __post_init__(self) -> None:
        if self.trained_on not in ("boxes", "scans"):
            raise MedDINOv3Error(
                "bad-description", f"trained_on is 'boxes' or 'scans', not {self.trained_on!r}."
            )


@dataclass(frozen=True)
class ModelDescription:
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
    """

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

    def __post_init__(self) -> None:
        expected = len(self.labels) + (0 if self.regions else 1)
        values = [label.value for label in self.labels]
        names = [label.name for label in self.labels]
        problems = [
            (self.network.outputs != expected, f"{self.network.outputs} outputs for {expected}"),
            (len(set(names)) != len(names), "two labels share a name"),
            (any(v < 1 or v > 65535 for v in values), "label values lie outside 1 to 65535"),
            (not self.regions and len(set(values)) != len(values), "two labels share a value"),
            (not self.channels, "there are no input channels"),
            (not self.labels, "there are no labels"),
        ]
        found = [text for wrong, text in problems if wrong]
        if found:
            raise MedDINOv3Error(
                "bad-description",
                f"Model '{self.id}' contradicts itself: {'; '.join(found)}.",
                "Get the model again from where it came.",
            )

    @property
    def network_channels(self) -> int:
        """Input channels of the network: scan channels times slice offsets."""
        return len(self.channels) * len(self.sampling.slice_offsets)

    def to_json(self) -> str:
        """The text of ``model.json``."""
        content = {"format": FORMAT, **_plain(self)}
        return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelDescription:
        """Read ``model.json`` of this or an older format.

        Raises:
            MedDINOv3Error: not JSON, a later format, or fields missing or unknown.
        """
        try:
            content = json.loads(text)
            version = content.pop("format")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise MedDINOv3Error(
                "bad-description",
                "model.json is damaged: it is no JSON object with a 'format'.",
                "Get the model again from where it came.",
            ) from error
        if not isinstance(version, int) or version > FORMAT or version < 1:
            raise MedDINOv3Error(
                "later-format",
                f"model.json has format {version}; this version reads up to {FORMAT}.",
                "Update MedDINOv3.",
            )
        try:
            description: ModelDescription = _rebuild(cls, content)
        except (TypeError, ValueError, KeyError) as error:
            raise MedDINOv3Error(
                "bad-description",
                f"model.json does not describe a model: {error}.",
                "Get the model again from where it came.",
            ) from error
        return description


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as JSON objects and lists."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _rebuild(kind: Any, value: Any) -> Any:
    """The inverse of :func:`_plain`, following type hints; unknown fields are errors."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"{kind.__name__} must be an object")
        hints = typing.get_type_hints(kind)
        unknown = set(value) - set(hints)
        if unknown:
            raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
        return kind(**{key: _rebuild(hints[key], item) for key, item in value.items()})  # type: ignore[operator]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _rebuild(next(a for a in arguments if a is not type(None)), value)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {value!r}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_rebuild(arguments[0], item) for item in value)
        if len(value) != len(arguments):
            raise TypeError(f"expected {len(arguments)} values, got {value!r}")
        return tuple(_rebuild(a, item) for a, item in zip(arguments, value, strict=True))
    if origin is dict and arguments[1] is not Any:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, got {value!r}")
        return {key: _rebuild(arguments[1], item) for key, item in value.items()}
    if origin is dict or kind in (Any, dict):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"expected {kind.__name__}, got {value!r}")
    return value
