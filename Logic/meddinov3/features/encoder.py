"""A frozen backbone and how scans become its input, whatever file it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from meddinov3.backbone_file import read_backbone, shape_of_file
from meddinov3.bundle import hash_tensors, read_any_bundle
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import SliceOrientation
from meddinov3.inference.device import choose_device, choose_precision
from meddinov3.intensity import IntensityScheme
from meddinov3.model_store import (
    find_backbone,
    find_model,
    installed_backbones,
    installed_models,
)
from meddinov3.network.backbone import LEVELS, Backbone, BackboneShape, merge_input_channels
from meddinov3.network.prompt_segmenter import PromptSegmenter
from meddinov3.network.segmenter import first_member

KERNEL = "vit.patch_embed.proj.weight"


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen backbone.

    Attributes:
        backbone: in evaluation mode on `device`, weights in fp32.
        device, precision: where and how it computes.
        name: id of the model or backbone file it came from.
        identity: SHA-256 of its tensors; what an index or a cache belongs to.
        spacing: (rows, columns) in mm that it was trained with, or None.
        scheme: of the first channel's intensities, or None to go by the modality.
        orientation: in which it saw slices, or None.
        offsets: where along the slice axis input channels are taken, in mm from the slice.
        channels: images that each slice consists of; a scan with fewer repeats its first.
    """

    backbone: Backbone
    device: torch.device
    precision: str
    name: str
    identity: str
    spacing: tuple[float, float] | None = None
    scheme: IntensityScheme | None = None
    orientation: SliceOrientation | None = None
    offsets: tuple[float, ...] = (0.0,)
    channels: int = 1

    @property
    def width(self) -> int:
        """Channels of one level; tokens have four levels."""
        return self.backbone.width

    @property
    def token_width(self) -> int:
        """Channels of a token."""
        return LEVELS * self.backbone.width

    def scheme_for(self, modality: str) -> IntensityScheme:
        """How a scan of a DICOM modality is normalised.

        Hounsfield units mean the same in every CT; everything else is standardised by itself,
        also where the backbone knew CT only.
        """
        if modality == "CT":
            own = self.scheme if self.scheme is not None and self.scheme.kind == "ct" else None
            return own or IntensityScheme.meddinov3_ct()
        fixed = self.scheme is None or self.scheme.kind in ("ct", "fixed")
        return IntensityScheme("zscore") if fixed or self.scheme is None else self.scheme


def wrap_backbone(
    backbone: Backbone,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    name: str = "",
) -> Encoder:
    """An encoder of a backbone in memory; its input channels are taken as offsets of nothing.

    Args:
        backbone: frozen and moved to `device` by this.
        device, precision, name: see :class:`Encoder`.
    """
    device = torch.device(device)
    backbone = backbone.eval().requires_grad_(False).to(device)
    identity = hash_tensors(backbone.state_dict())
    channels = backbone.shape.in_channels
    return Encoder(backbone, device, precision, name, identity, channels=channels)


def load_encoder(name: str = "", device: str = "auto", precision: str = "auto") -> Encoder:
    """Load the backbone of a backbone file or of a model.

    Args:
        name: id or folder; "" takes the best here: a backbone file, else a model of the user's,
            else the starter.
        device, precision: as on the command line.

    Raises:
        MedDINOv3Error: there is none of this name, it cannot be read, or the device is not here.
    """
    chosen = choose_device(device)
    computes = choose_precision(precision, chosen)
    name = name or default_encoder()
    folder = find_backbone(name)
    if folder is not None:
        return _of_backbone(folder, chosen, computes)
    return _of_model(find_model(name), chosen, computes)


def default_encoder() -> str:
    """Id of the backbone that is used if none is named: the widest backbone file, else a model.

    Raises:
        MedDINOv3Error: there is nothing at all.
    """
    backbones = [(path, found) for path, found in installed_backbones() if found is not None]
    if backbones:
        files = {path.name: (path / "backbone.safetensors") for path, _ in backbones}
        return max(files, key=lambda key: files[key].stat().st_size if files[key].exists() else 0)
    models = [model for model in installed_models() if model.description is not None]
    if not models:
        raise MedDINOv3Error(
            "no-backbone",
            "There is neither a backbone nor a model on this computer.",
            "Get one with 'meddinov3 models pull', or import one.",
        )
    return models[0].id


def _of_backbone(folder: Path, device: torch.device, precision: str) -> Encoder:
    read = read_backbone(folder)
    shape, weights = shape_of_file(read.description), dict(read.weights)
    # One grey channel equals the same repeated in all of them.
    shape = BackboneShape(shape.name, 1, shape.overrides, shape.norm_eps, shape.rope_precision)
    weights[KERNEL] = merge_input_channels(weights[KERNEL], 1)
    backbone = Backbone(shape)
    backbone.load_state_dict(weights)
    backbone = backbone.float().eval().requires_grad_(False).to(device)
    return Encoder(backbone, device, precision, folder.name, hash_tensors(weights))


def _of_model(folder: Path, device: torch.device, precision: str) -> Encoder:
    description, network = read_any_bundle(folder)
    if not isinstance(network, PromptSegmenter):
        network = first_member(network)
    backbone = network.backbone
    identity = hash_tensors(backbone.state_dict())
    sampling = description.sampling
    return Encoder(
        backbone.to(device),
        device,
        precision,
        description.id,
        identity,
        sampling.spacing,
        description.channels[0].intensity,
        None if sampling.orientation.as_stored else sampling.orientation,
        sampling.slice_offsets,
        len(description.channels),
    )
