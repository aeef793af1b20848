"""Other people's files into the user's folder: converted once, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from meddinov3.backbone_file import write_backbone
from meddinov3.bundle import write_bundle
from meddinov3.checkpoints.flexict import as_dinov3, is_flexict
from meddinov3.checkpoints.nnunet_results import read_results
from meddinov3.checkpoints.pth import read_pth
from meddinov3.checkpoints.upstream import (
    backbone_weights,
    fill_absent_bias,
    from_timm_names,
    no_backbone,
    shape_of,
    unwrap,
)
from meddinov3.description import BackboneDescription, HubFile
from meddinov3.errors import MedDINOv3Error
from meddinov3.model_archive import import_archive
from meddinov3.model_store import check_name, is_backbone, sweep_leftovers, user_folder
from meddinov3.network.backbone import Backbone


@dataclass(frozen=True)
class Origin:
    """What an origin's own pages say of its weights.

    Meta's licence binds what is derived from its weights.
    """

    modality: str
    licence: str
    citation: str
    note: str = ""


ORIGINS = {
    "meddinov3": Origin(
        "CT",
        "Apache-2.0; derived from DINOv3 (DINOv3 License)",
        "Li et al., arXiv:2509.02379; Simeoni et al., arXiv:2508.10104",
    ),
    "dinov3": Origin("", "DINOv3 License", "Simeoni et al., arXiv:2508.10104"),
    "flexict": Origin(
        "CT",
        "CC BY-NC-ND 4.0",
        "Li et al., arXiv:2605.21906",
        "FlexiCT's path for slices, its patches of 8 pixels resampled to 16; the licence forbids "
        "commercial use, and passing on what is derived from it, a fine-tuned model perhaps",
    ),
}


@dataclass(frozen=True)
class Imported:
    """What an import made.

    Attributes:
        folder: a model bundle or a backbone file.
        is_model: whether it can segment; a backbone is to train from.
        notes: what the user should know.
    """

    folder: Path
    is_model: bool
    notes: tuple[str, ...] = ()


def import_file(
    path: Path,
    name: str,
    *,
    orientation: str | None = None,
    fold: str | None = None,
    checkpoint: str = "final",
    hub: HubFile | None = None,
) -> Imported:
    """Convert a weight file or a results folder and put it among the user's models.

    Args:
        path: MedDINOv3's ``model.pth``, a DINOv3 state dict (``.pth`` or ``.safetensors``, with
            Meta's or timm's names), FlexiCT's checkpoint, a results folder of MedDINOv3's nnU-Net
            fork, or an exported model (``.zip``).
        name: id of the model or backbone, new.
        orientation, fold, checkpoint: of a results folder, see
            :func:`~meddinov3.checkpoints.nnunet_results.read_results`.
        hub: where a weight file was pulled from, to be recorded.

    Raises:
        MedDINOv3Error: nothing of the kind, unsafe, not fitting, or the name is taken.
    """
    check_name(name)
    sweep_leftovers()
    if path.suffix.lower() == ".zip" and path.is_file():
        folder = import_archive(path, name)
        return Imported(folder, not is_backbone(folder))
    if path.is_dir():
        return _import_results(path, name, orientation, fold, checkpoint)
    return _import_backbone(path, name, hub)


def _import_results(
    path: Path, name: str, orientation: str | None, fold: str | None, checkpoint: str
) -> Imported:
    description, network = read_results(
        path, name, orientation=orientation, fold=fold, checkpoint=checkpoint
    )
    folder = user_folder() / "models" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(folder, description, network, half=False)
    notes = [f"fold {description.training['fold']}, checkpoint {checkpoint}"]
    if description.sampling.orientation.as_stored:
        notes.append(
            "nnU-Net does not say how its training images were stored; scans stored another way "
            "round will be segmented wrongly, left for right perhaps. Import again with "
            "--orientation if you know it (most CT in NIfTI: LAS or RAS; from DICOM: LPS)"
        )
    return Imported(folder, True, tuple(notes))


def _import_backbone(path: Path, name: str, hub: HubFile | None) -> Imported:
    tensors, origin = _read_tensors(path)
    if tensors["patch_embed.proj.weight"].ndim != 4:
        raise no_backbone("patch_embed.proj.weight is no kernel of a slice")
    try:
        if origin == "timm":
            tensors, origin = from_timm_names(tensors), "dinov3"
        shape = shape_of(tensors, tensors["patch_embed.proj.weight"].shape[1], origin)
        network = Backbone(shape)
        weights = _renamed(tensors, shape.in_channels)
    except MedDINOv3Error:
        raise
    except Exception as error:  # tensors of other shapes, at which timm breaks anywhere
        raise no_backbone(str(error) or type(error).__name__) from error
    fill_absent_bias(weights, network.state_dict())
    about = ORIGINS[origin]
    description = BackboneDescription(
        name,
        name,
        shape.name,
        shape.in_channels,
        dict(shape.overrides),
        shape.norm_eps,
        "fp32",
        origin,
        path.name,
        about.modality,
        about.licence,
        about.citation,
        hub=hub,
    )
    folder = user_folder() / "backbones" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_backbone(folder, description, weights, tensors.get("mask_token"))
    notes = [f"{shape.name}, licence: {description.licence}", *filter(None, [about.note])]
    if "mask_token" not in tensors:
        notes.append("it has no mask token: pretraining would start with a new one")
    return Imported(folder, False, tuple(notes))


def _renamed(tensors: Mapping[str, Tensor], in_channels: int) -> dict[str, Tensor]:
    """As :func:`backbone_weights`, the patch kernel as it is."""
    weights = backbone_weights(tensors, in_channels)
    weights["vit.patch_embed.proj.weight"] = tensors["patch_embed.proj.weight"]
    return weights


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Plain tensors, and whose they are: one of ORIGINS, or ``timm`` by its names."""
    if path.suffix.lower() == ".safetensors":
        if not path.is_file():
            raise MedDINOv3Error("file-missing", f"There is no file '{path}'.", "Check the path.")
        try:
            content: Mapping[str, object] = load_file(path)
        except (SafetensorError, OSError) as error:
            raise MedDINOv3Error(
                "damaged-checkpoint",
                f"'{path.name}' is no readable safetensors file: {error}.",
                "Download or copy it again.",
            ) from error
    elif path.suffix.lower() in (".pth", ".pt", ".bin"):
        content = read_pth(path)
    else:
        raise MedDINOv3Error(
            "unknown-weights",
            f"'{path.name}' is no kind of weight file known here.",
            "Give a .pth or .safetensors file, a results folder, or an exported model (.zip).",
        )
    if not isinstance(content, Mapping):
        raise MedDINOv3Error("not-a-backbone", f"'{path.name}' holds no named tensors.")
    if not all(isinstance(key, str) for key in content):
        raise no_backbone("keys that are no names")
    if is_flexict(content):
        return unwrap(as_dinov3(content)), "flexict"
    tensors = unwrap(content)
    if any(key.endswith("gamma_1") or key == "reg_token" for key in tensors):
        return tensors, "timm"
    return tensors, "meddinov3" if "teacher" in content else "dinov3"
