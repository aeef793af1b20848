"""Backbone files: ``backbone.safetensors`` and ``backbone.json`` in one folder.

Like a model bundle without decoder, and with the mask token that pretraining needs.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from meddinov3.atomic import whole_folder
from meddinov3.bundle import check_finite, load_weights, save_weights, sha256
from meddinov3.description import BackboneDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_store import (
    BACKBONE_DESCRIPTION_FILE,
    BACKBONE_WEIGHTS_FILE,
    read_backbone_description,
)
from meddinov3.network.backbone import Backbone, BackboneShape

MASK_TOKEN = "mask_token"


@dataclass(frozen=True)
class BackboneWeights:
    """A backbone as it was read.

    Attributes:
        description: what it is.
        weights: tensors named as in :class:`Backbone` (``vit.*``), float32.
        mask_token: (1, D), or None.
    """

    description: BackboneDescription
    weights: Mapping[str, Tensor]
    mask_token: Tensor | None


def shape_of_file(description: BackboneDescription) -> BackboneShape:
    """The architecture that a backbone file's weights belong to."""
    return BackboneShape(
        description.backbone,
        description.in_channels,
        dict(description.overrides),
        description.norm_eps,
        description.rope_precision,
    )


def write_backbone(
    folder: Path,
    description: BackboneDescription,
    weights: Mapping[str, Tensor],
    mask_token: Tensor | None = None,
) -> BackboneDescription:
    """Write a new backbone file in float32, whole or not at all.

    Args:
        folder: must not exist yet; its name becomes the id.
        description: the weights' hash is filled in.
        weights: tensors of :class:`Backbone` (``vit.*``), complete.
        mask_token: (1, D), or None.

    Returns:
        The description as written.

    Raises:
        MedDINOv3Error: the folder exists or cannot be written, or the weights are not finite or
            not those of the architecture.
    """
    stored = {key: value.detach().cpu().float().contiguous() for key, value in weights.items()}
    _check_shapes(description, stored)
    if mask_token is not None:
        stored[MASK_TOKEN] = mask_token.detach().cpu().float().reshape(1, -1).contiguous()
    check_finite(stored, folder.name)
    with whole_folder(folder) as partial:
        save_weights(stored, partial / BACKBONE_WEIGHTS_FILE)
        description = dataclasses.replace(
            description,
            id=folder.name,
            has_mask_token=mask_token is not None,
            weights_sha256=sha256(partial / BACKBONE_WEIGHTS_FILE),
        )
        text = description.to_json()
        (partial / BACKBONE_DESCRIPTION_FILE).write_text(text, encoding="utf-8", newline="\n")
        shutil.copymode(partial / BACKBONE_DESCRIPTION_FILE, partial / BACKBONE_WEIGHTS_FILE)
    return description


def read_backbone(folder: Path) -> BackboneWeights:
    """Read a backbone file, checking hash, names, shapes and finiteness.

    Raises:
        MedDINOv3Error: a file is missing or was altered, or tensors do not fit.
    """
    description = read_backbone_description(folder)
    weights = load_weights(
        folder / BACKBONE_WEIGHTS_FILE, description.weights_sha256, description.id
    )
    check_finite(weights, description.id)
    mask_token = weights.pop(MASK_TOKEN, None)
    if (mask_token is not None) != description.has_mask_token:
        raise _does_not_fit(description, MASK_TOKEN)
    _check_shapes(description, weights)
    return BackboneWeights(description, weights, mask_token)


def _check_shapes(description: BackboneDescription, weights: Mapping[str, Tensor]) -> None:
    try:
        network = Backbone(shape_of_file(description))
    except MedDINOv3Error:
        raise
    except Exception as error:  # whatever timm objects to is the file's fault
        raise MedDINOv3Error(
            "bad-description",
            f"The backbone that '{description.id}' describes cannot be built: {error}.",
            "Get the backbone again from where it came.",
        ) from error
    expected = {key: value.shape for key, value in network.state_dict().items()}
    given = {key: value.shape for key, value in weights.items()}
    if expected != given:
        raise _does_not_fit(description, min(set(expected.items()) ^ set(given.items()))[0])


def _does_not_fit(description: BackboneDescription, tensor: str) -> MedDINOv3Error:
    return MedDINOv3Error(
        "weights-do-not-fit",
        f"The weights of backbone '{description.id}' are not those it describes ({tensor}).",
        "Get the backbone again from where it came.",
    )
