"""Model bundles on disk: ``model.safetensors`` and ``model.json`` in one folder."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from meddinov3.atomic import whole_folder
from meddinov3.bundle_files import sha256, update_description
from meddinov3.description import ModelDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import (
    DESCRIPTION_FILE,
    WEIGHTS_FILE,
    read_description,
    refuse_click_model,
)
from meddinov3.network.backbone import BackboneShape
from meddinov3.network.prompt_segmenter import PromptSegmenter
from meddinov3.network.segmenter import Ensemble, SegmentationNetwork, Segmenter

__all__ = [
    "backbone_shape", "check_finite", "hash_tensors", "load_weights", "read_any_bundle",
    "read_bundle", "read_prompt_bundle", "save_weights", "sha256", "update_description",
    "write_bundle",
]  # fmt: skip


def backbone_shape(description: ModelDescription) -> BackboneShape:
    """The backbone that a description asks for."""
    network = description.network
    return BackboneShape(
        network.backbone,
        description.network_channels,
        dict(network.overrides),
        network.norm_eps,
        network.rope_precision,
        description.sampling.rope_grid,
    )


def write_bundle(
    folder: Path,
    description: ModelDescription,
    network: SegmentationNetwork | PromptSegmenter,
    half: bool = True,
) -> ModelDescription:
    """Write a new bundle, whole or not at all.

    Args:
        folder: must not exist yet.
        description: its weights hash is filled in.
        network: weights to store.
        half: store float16, half the size; values beyond its range are refused.

    Returns:
        The description as written.

    Raises:
        MedDINOv3Error: the folder exists or cannot be written, or a weight is not finite.
    """
    weights = {}
    for key, value in network.state_dict().items():
        value = value.detach().cpu()
        weights[key] = (value.half() if half else value).contiguous()
    check_finite(weights, description.id)
    with whole_folder(folder) as partial:
        save_weights(weights, partial / WEIGHTS_FILE)
        digest = sha256(partial / WEIGHTS_FILE)
        description = dataclasses.replace(description, id=folder.name, weights_sha256=digest)
        text = description.to_json()
        (partial / DESCRIPTION_FILE).write_text(text, encoding="utf-8", newline="\n")
        # safetensors writes for the owner only; a group shares its models.
        shutil.copymode(partial / DESCRIPTION_FILE, partial / WEIGHTS_FILE)
    return description


def read_bundle(
    folder: Path, device: torch.device | str = "cpu"
) -> tuple[ModelDescription, SegmentationNetwork]:
    """Read a bundle, checking the weights' hash, names, shapes and finiteness.

    Returns:
        The description and the network in fp32, in evaluation mode, on `device`.

    Raises:
        MedDINOv3Error: a file is missing or was altered, tensors do not fit, or it is a click
            model.
    """
    refuse_click_model(read_description(folder))
    description, network = read_any_bundle(folder, device)
    assert not isinstance(network, PromptSegmenter)
    return description, network


def read_prompt_bundle(
    folder: Path, device: torch.device | str = "cpu"
) -> tuple[ModelDescription, PromptSegmenter]:
    """As :func:`read_bundle`, for a click model.

    Raises:
        MedDINOv3Error: as there, or it is no click model.
    """
    described = read_description(folder)
    if described.prompts is None:
        raise MedDINOv3Error(
            "no-click-model",
            f"'{described.name}' is no click model: it segments by itself.",
            "Choose a model trained with 'meddinov3 finetune --prompts', or none: points then work "
            "by likeness.",
        )
    description, network = read_any_bundle(folder, device)
    assert isinstance(network, PromptSegmenter)
    return description, network


def read_any_bundle(
    folder: Path, device: torch.device | str = "cpu"
) -> tuple[ModelDescription, SegmentationNetwork | PromptSegmenter]:
    """As :func:`read_bundle`, whatever kind of model it is."""
    description = read_description(folder)
    weights = load_weights(folder / WEIGHTS_FILE, description.weights_sha256, description.id)
    network = _build(description)
    _load_strictly(network, weights, description.id)
    check_finite(weights, description.id)
    return description, network.float().eval().requires_grad_(False).to(device)


def load_weights(path: Path, expected_sha256: str, name: str) -> dict[str, Tensor]:
    """Read a safetensors file that must be the one it is described as.

    Raises:
        MedDINOv3Error: it is missing, was altered, or is damaged.
    """
    remedy = "Get the model again from where it came."
    if not path.is_file():
        raise MedDINOv3Error("weights-missing", f"Model '{name}' has no {path.name}.", remedy)
    if sha256(path) != expected_sha256:
        raise MedDINOv3Error(
            "weights-altered",
            f"The weights of '{name}' are not those it was described with.",
            remedy,
        )
    try:
        weights: dict[str, Tensor] = load_file(path)
        return weights
    except (SafetensorError, OSError) as error:
        raise MedDINOv3Error(
            "weights-damaged", f"The weights of '{name}' cannot be read: {error}.", remedy
        ) from error


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file.

    Raises:
        MedDINOv3Error: it cannot be written; safetensors raises no OSError for a full disk.
    """
    try:
        save_file(dict(weights), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise MedDINOv3Error(
            "cannot-write",
            f"The weights could not be written to '{path.parent.parent}': {error}.",
            "Check free space and permissions, or choose another folder.",
        ) from error


def _build(description: ModelDescription) -> SegmentationNetwork | PromptSegmenter:
    """The network, still with random weights; whatever timm objects to is the file's fault."""
    shape, network = backbone_shape(description), description.network
    try:
        if description.prompts is not None:
            return PromptSegmenter(shape, len(description.channels), description.prompts)
        if network.members == 1:
            return Segmenter(shape, network.outputs)
        return Ensemble(Segmenter(shape, network.outputs) for _ in range(network.members))
    except MedDINOv3Error:
        raise
    except Exception as error:
        raise MedDINOv3Error(
            "bad-description",
            f"The network that '{description.id}' describes cannot be built: {error}.",
            "Get the model again from where it came.",
        ) from error


def _load_strictly(network: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    expected = {key: value.shape for key, value in network.state_dict().items()}
    given = {key: value.shape for key, value in weights.items()}
    if expected != given:
        wrong = sorted(set(expected.items()) ^ set(given.items()))[:3]
        listed = ", ".join(f"{key} {tuple(shape)}" for key, shape in wrong)
        raise MedDINOv3Error(
            "weights-do-not-fit",
            f"The weights of '{name}' do not fit the network it describes ({listed} ...).",
            "Get the model again from where it came.",
        )
    network.load_state_dict(weights)


def check_finite(weights: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights that are not finite, or have left float16's range.

    Raises:
        MedDINOv3Error: naming the first such tensor.
    """
    bad = [key for key, value in weights.items() if not torch.isfinite(value).all()]
    if bad:
        raise MedDINOv3Error(
            "weights-not-finite",
            f"Weights of '{name}' are not finite ({bad[0]}).",
            "Get the model again, or train it again with a smaller learning rate.",
        )


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hexadecimal SHA-256 of named tensors, whatever file they came in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
