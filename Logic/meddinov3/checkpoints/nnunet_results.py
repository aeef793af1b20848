"""A results folder of upstream's nnU-Net fork as a model that runs.

``TRAINER__PLANS__CONFIGURATION`` with plans.json, dataset.json and fold_N/checkpoint_*.pth.
Upstream itself cannot predict a file from it. Preprocessing is taken from the plans as nnU-Net
2.x defines it; slices are computed in overlapping windows, as the model was validated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from meddinov3.bundle import backbone_shape, hash_tensors
from meddinov3.checkpoints.pth import read_pth
from meddinov3.checkpoints.upstream import (
    backbone_weights,
    decoder_weights,
    fill_absent_bias,
    shape_of,
    unwrap,
)
from meddinov3.dataset_labels import DatasetLabels, in_order_of_outputs, read_labels
from meddinov3.description import Channel, ModelDescription, NetworkDescription, Purpose, Sampling
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import DIRECTIONS, SliceOrientation
from meddinov3.intensity import IntensityScheme
from meddinov3.network.backbone import LEVELS
from meddinov3.network.segmenter import Segmenter

ENCODER, DECODER = "dino_encoder.", "up_projection.decode."
WRAPPERS = ("_orig_mod.", "module.")
REORIENTING = "NibabelIOWithReorient"  # nnU-Net's only reader that turns images, to RAS


def read_results(
    folder: Path,
    name: str,
    *,
    orientation: str | None = None,
    fold: str | None = None,
    checkpoint: str = "final",
) -> tuple[ModelDescription, Segmenter]:
    """Read a results folder.

    Args:
        folder: ``TRAINER__PLANS__CONFIGURATION``.
        name: id of the model.
        orientation: code of the images that the model was trained on, e.g. ``LPS``; None takes
            arrays as stored, unless the plans tell.
        fold: e.g. ``0`` or ``all``; None takes the first there is.
        checkpoint: ``final`` or ``best``.

    Raises:
        MedDINOv3Error: a file is missing, unsafe or not understood, or tensors do not fit.
    """
    plans, dataset = _read_json(folder / "plans.json"), _read_json(folder / "dataset.json")
    path = _checkpoint(folder, fold, checkpoint)
    content = read_pth(path)
    tensors = _network_weights(content, path)
    encoder = unwrap(_below(tensors, ENCODER))
    decoder = {key: value for key, value in tensors.items() if key.startswith(DECODER)}
    _check_multiscale(encoder, decoder, path)
    try:
        configuration = _configuration(plans, folder.name.rpartition("__")[2])
        labels = in_order_of_outputs(read_labels(dataset))
        channels = _channels(plans, configuration, dataset)
        sampling = _sampling(plans, configuration, content, orientation)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise MedDINOv3Error(
            "bad-plans",
            f"plans.json or dataset.json of '{folder.name}' lacks or garbles {error}.",
            "Give the results folder as nnU-Net's fork wrote it.",
        ) from error
    description = _describe(name, folder, path, labels, channels, sampling, encoder)
    return description, _build(description, encoder, decoder, path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
        return content
    except (OSError, ValueError) as error:
        raise MedDINOv3Error(
            "no-results",
            f"'{path.parent.name}' is no results folder: {path.name} is missing or damaged "
            f"({error.__class__.__name__}).",
            "Give the folder TRAINER__PLANS__CONFIGURATION with plans.json and dataset.json.",
        ) from error


def _checkpoint(folder: Path, fold: str | None, checkpoint: str) -> Path:
    pattern = f"fold_{'*' if fold is None else fold}/checkpoint_{checkpoint}.pth"
    found = sorted(folder.glob(pattern))
    if not found:
        raise MedDINOv3Error(
            "no-checkpoint",
            f"'{folder.name}' has no {pattern}.",
            "Name another fold or checkpoint (final or best).",
        )
    return found[0]


def _network_weights(content: Any, path: Path) -> dict[str, Tensor]:
    weights = content.get("network_weights") if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping):
        raise MedDINOv3Error(
            "not-a-checkpoint", f"'{path.name}' is no nnU-Net checkpoint (no network_weights)."
        )
    plain: dict[str, Tensor] = {}
    for key, value in weights.items():
        for wrapper in WRAPPERS:
            key = key.removeprefix(wrapper)
        plain[key] = value
    return plain


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _check_multiscale(
    encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor], path: Path
) -> None:
    first = decoder.get(f"{DECODER}0.0.weight")
    width = len(encoder["patch_embed.proj.weight"])
    taken = "nothing known" if first is None else f"{first.shape[0]} channels"
    if first is None or first.shape[0] != LEVELS * width:
        raise MedDINOv3Error(
            "another-trainer",
            f"'{path.name}' is not of the multi-scale trainer: its decoder takes {taken}, not "
            f"{LEVELS * width} channels.",
            "Only meddinov3_base_primus_multiscale_Trainer and its like can be imported.",
        )


def _configuration(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits."""
    configuration = dict(plans["configurations"][name])
    while "inherits_from" in configuration:
        parent = plans["configurations"][configuration.pop("inherits_from")]
        configuration = {**parent, **configuration}
    if len(configuration["patch_size"]) != 2:
        raise ValueError(f"a two-dimensional configuration ('{name}' is not)")
    return configuration


def _channels(
    plans: dict[str, Any], configuration: dict[str, Any], dataset: dict[str, Any]
) -> tuple[Channel, ...]:
    names = dataset.get("channel_names") or dataset["modality"]
    listed = [names[key] for key in sorted(names, key=int)]
    schemes, masks = configuration["normalization_schemes"], configuration["use_mask_for_norm"]
    properties = plans.get("foreground_intensity_properties_per_channel", {})
    return tuple(
        Channel(
            name if listed.count(name) == 1 else f"{name} {n + 1}",
            _scheme(schemes[n], masks[n], properties.get(str(n), {})),
        )
        for n, name in enumerate(listed)
    )


def _scheme(name: str, masked: bool, figures: dict[str, float]) -> IntensityScheme:
    if name == "CTNormalization":
        clip = (float(figures["percentile_00_5"]), float(figures["percentile_99_5"]))
        return IntensityScheme("ct", clip, float(figures["mean"]), max(figures["std"], 1e-8))
    if name == "ZScoreNormalization":
        return IntensityScheme("zscore", mask="nonzero" if masked else "nonzero_box")
    if name == "RescaleTo01Normalization":
        return IntensityScheme("range", mask="nonzero_box")
    if name in ("NoNormalization", "RGBTo01Normalization"):
        return IntensityScheme("fixed", std=255.0 if name.startswith("RGB") else 1.0)
    raise ValueError(f"the known normalisations ('{name}' is none)")


def _sampling(
    plans: dict[str, Any],
    configuration: dict[str, Any],
    content: Mapping[str, Any],
    orientation: str | None,
) -> Sampling:
    if orientation is None and plans.get("image_reader_writer") == REORIENTING:
        orientation = "RAS"
    code = orientation or "ijk"
    # transpose_forward gives, for (slices, rows, columns), the axis of the array (k, j, i).
    slices, rows, columns = (code[2 - axis] for axis in plans["transpose_forward"])
    if orientation is not None and not set(code) <= set(DIRECTIONS):
        raise ValueError(f"an orientation ('{code}' is none)")
    spacing = configuration["spacing"]
    window = configuration["patch_size"]
    return Sampling(
        SliceOrientation(columns + rows + slices, slices),
        (float(spacing[-2]), float(spacing[-1])),
        None,
        mirror_axes=tuple(content.get("inference_allowed_mirroring_axes") or ()),
        windows=(int(window[0]), int(window[1])),
    )


def _describe(
    name: str,
    folder: Path,
    path: Path,
    labels: DatasetLabels,
    channels: tuple[Channel, ...],
    sampling: Sampling,
    encoder: Mapping[str, Tensor],
) -> ModelDescription:
    shape = shape_of(encoder, len(channels))
    outputs = len(labels.labels) + (0 if labels.regions else 1)
    is_ct = all(channel.intensity.kind == "ct" for channel in channels)
    return ModelDescription(
        id=name,
        name=name,
        network=NetworkDescription(
            shape.name,
            outputs,
            dict(shape.overrides),
            shape.norm_eps,
            "bf16",  # what upstream trained and validated with
            "nnU-Net results folder",
            hash_tensors(encoder),
        ),
        channels=channels,
        labels=labels.labels,
        sampling=sampling,
        purpose=Purpose("CT" if is_ct else ""),
        regions=labels.regions,
        ignore_label=labels.ignore,
        summary="Imported from a results folder of MedDINOv3's nnU-Net fork.",
        training={
            "imported_from": folder.name,
            "fold": path.parent.name.removeprefix("fold_"),
            "checkpoint": path.stem.removeprefix("checkpoint_"),
        },
    )


def _build(
    description: ModelDescription,
    encoder: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor],
    path: Path,
) -> Segmenter:
    network = Segmenter(backbone_shape(description), description.network.outputs)
    weights = backbone_weights(encoder, description.network_channels)
    fill_absent_bias(weights, network.backbone.state_dict())
    try:
        network.backbone.load_state_dict(weights)
        network.decoder.load_state_dict(decoder_weights(decoder))
    except (RuntimeError, ValueError) as error:
        raise MedDINOv3Error(
            "weights-do-not-fit",
            f"The weights in '{path.name}' do not fit MedDINOv3's network: "
            f"{str(error).strip().splitlines()[-1].strip()}",
            "Check that the checkpoint belongs to this dataset.json.",
        ) from error
    return network.eval().requires_grad_(False)
