"""What fine-tuning starts from: random weights, a backbone, or another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meddinov3.backbone_file import read_backbone
from meddinov3.bundle import hash_tensors, read_any_bundle
from meddinov3.catalogue import find_entry
from meddinov3.checkpoints.pth import read_pth
from meddinov3.checkpoints.upstream import (
    backbone_weights,
    fill_absent_bias,
    shape_of,
    unwrap,
)
from meddinov3.description import NetworkDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import find_backbone, find_model, read_description
from meddinov3.network.backbone import merge_input_channels
from meddinov3.network.prompt_segmenter import PromptSegmenter
from meddinov3.network.segmenter import Segmenter, first_member
from torch import Tensor

SCRATCH = "scratch:"
LAST_LAYER = "classify."
KERNEL = "vit.patch_embed.proj.weight"
RATES = {"scratch": 3e-4, "dinov3": 1e-4, "meddinov3": 3e-5, "own": 3e-5}
SCRATCH_LAYER_SCALE = 1.0  # DINOv3's 1e-5 suits long pretraining, not a short run from nothing


@dataclass(frozen=True)
class Base:
    """A starting point.

    Attributes:
        network: description; `outputs` is set by the dataset.
        weights: backbone tensors, empty for random ones.
        decoder: decoder tensors.
        labels: names that the decoder's last layer stands for, in its order.
        channels: input channels that `weights` has, or None.
        backbone_rate: peak learning rate of the backbone.
        layer_scale: initial LayerScale of a random network.
        warmup: share of the run.
        licence, attribution: of the weights; a model trained from them inherits both.
        spacing: in-plane (rows, columns) in mm that a model was trained with, or None.
    """

    network: NetworkDescription
    weights: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor]
    labels: tuple[str, ...]
    channels: int | None
    backbone_rate: float
    layer_scale: float = 1e-5
    warmup: float = 0.02
    licence: str = ""
    attribution: str = ""
    spacing: tuple[float, float] | None = None

    def spacing_for(self, labels: Sequence[str]) -> tuple[float, float] | None:
        """The pixels that the base knows these structures in; None if it does not know them."""
        known = {name.lower() for name in self.labels}
        return self.spacing if known.issuperset(name.lower() for name in labels) else None

    def load_into(self, network: Segmenter | PromptSegmenter, labels: Sequence[str]) -> list[str]:
        """Copy the weights; the last layer only if it stands for the same `labels`.

        Returns:
            What was left out, in words.

        Raises:
            MedDINOv3Error: the backbone's shapes do not fit.
        """
        if not self.weights:
            return []
        notes = []
        weights = dict(self.weights)
        expected = network.backbone.state_dict()
        fill_absent_bias(weights, expected)
        wrong = [k for k in expected if k not in weights or weights[k].shape != expected[k].shape]
        if wrong or set(weights) - set(expected):
            raise MedDINOv3Error(
                "base-does-not-fit",
                f"The base's backbone does not fit ({(wrong or sorted(weights))[0]}).",
                "Choose a base with the same number of input channels and the same --context.",
            )
        network.backbone.load_state_dict(weights)
        own, same = network.decoder.state_dict(), self.labels == tuple(labels)
        fitting = {
            key: value
            for key, value in self.decoder.items()
            if key in own
            and own[key].shape == value.shape
            and (same or not key.startswith(LAST_LAYER))
        }
        if self.decoder and not fitting:
            notes.append("the decoder starts anew: the base's is of another kind")
        elif len(fitting) < len(self.decoder):
            notes.append("the last layer of the decoder starts anew: the labels differ")
        network.decoder.load_state_dict(fitting, strict=False)
        return notes


def base_offsets(name: str) -> tuple[float, ...]:
    """The slice context that a base was trained with; (0,) where it had none.

    Args:
        name: see :func:`read_base`.

    Raises:
        MedDINOv3Error: it is named like a model and there is none.
    """
    if name.startswith(SCRATCH) or Path(name).suffix == ".pth" or find_backbone(name):
        return (0.0,)
    return read_description(_model(name)).sampling.slice_offsets


def read_base(name: str, in_channels: int) -> Base:
    """Understand ``--base``.

    Args:
        name: ``scratch:TIMM_NAME``, a ``.pth`` file of MedDINOv3 or DINOv3, a backbone file (id
            or folder), or a model.
        in_channels: input channels of the network to be trained.

    Raises:
        MedDINOv3Error: none of these, or it cannot be read.
    """
    if name.startswith(SCRATCH):
        described = NetworkDescription(name.removeprefix(SCRATCH), 2)
        return Base(described, {}, {}, (), None, RATES["scratch"], SCRATCH_LAYER_SCALE, 0.05)
    path = Path(name)
    if path.suffix == ".pth":
        return _from_pth(path, in_channels)
    backbone = find_backbone(name)
    if backbone is not None:
        return _from_backbone_file(backbone, in_channels)
    description, whole = read_any_bundle(_model(name))
    network = whole if isinstance(whole, PromptSegmenter) else first_member(whole)
    weights = network.backbone.state_dict()
    described = NetworkDescription(
        description.network.backbone, 2, description.network.overrides,
        description.network.norm_eps, description.network.rope_precision,
        f"model {description.id}", hash_tensors(weights),
    )  # fmt: skip
    return Base(
        described,
        weights,
        network.decoder.state_dict(),
        tuple(label.name for label in description.labels),
        description.network_channels,
        RATES["own"],
        licence=description.licence,
        attribution=description.attribution,
        spacing=description.sampling.spacing,
    )


def _model(name: str) -> Path:
    """As :func:`find_model`; says how to get a backbone of the catalogue that is not here."""
    try:
        return find_model(name)
    except MedDINOv3Error as error:
        entry = find_entry(name)
        if entry is None:
            raise
        raise MedDINOv3Error(
            "not-pulled",
            f"The backbone '{name}' is not on this machine ({entry.size}, {entry.licence}).",
            f"Get it with: meddinov3 models pull {name}",
        ) from error


def _from_pth(path: Path, in_channels: int) -> Base:
    content = read_pth(path)
    tensors = unwrap(content)
    origin = "meddinov3" if "teacher" in content else "dinov3"
    shape = shape_of(tensors, in_channels, origin)
    described = NetworkDescription(
        shape.name, 2, shape.overrides, shape.norm_eps, shape.rope_precision,
        path.name, hash_tensors(tensors),
    )  # fmt: skip
    weights = backbone_weights(tensors, in_channels)
    return Base(described, weights, {}, (), in_channels, RATES[origin])


def _from_backbone_file(path: Path, in_channels: int) -> Base:
    read = read_backbone(path)
    description, weights = read.description, dict(read.weights)
    described = NetworkDescription(
        description.backbone, 2, dict(description.overrides), description.norm_eps,
        description.rope_precision, f"backbone {description.id}", hash_tensors(weights),
    )  # fmt: skip
    if description.in_channels != in_channels:
        weights[KERNEL] = merge_input_channels(weights[KERNEL], in_channels)
    rate = RATES.get(description.origin, RATES["own"])
    return Base(
        described, weights, {}, (), in_channels, rate,
        licence=description.licence, attribution=description.attribution,
    )  # fmt: skip
