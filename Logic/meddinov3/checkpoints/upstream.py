"""Key maps from upstream MedDINOv3 and DINOv3 files to our network.

Sources: the layout of ``ricklisz123/MedDINOv3-ViTB-16-CT-3M`` and of upstream's nnU-Net fork
(``dino_encoder.*``, ``up_projection.decode.*``), and timm's DINOv3 conventions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from meddinov3.errors import MedDINOv3Error
from meddinov3.network.backbone import BackboneShape, merge_input_channels
from meddinov3.network.decoder import STAGES, pack_kernel

EPS = {"meddinov3": 1e-6, "flexict": 1e-6, "dinov3": 1e-5}  # LayerNorm's; the tensors do not tell
NOT_BACKBONE = ("dino_head", "ibot")
RECOMPUTED = ("rope_embed.periods", "bias_mask", "local_cls_norm")
# timm's size by width, with a plain and with a gated (SwiGLU) feed-forward layer.
PLAIN = {192: "tiny", 384: "small", 768: "base", 1024: "large"}
GATED = {384: "small_plus", 1280: "huge_plus", 4096: "7b"}
RENAMED = (
    ("storage_tokens", "reg_token"),
    ("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2"),
    ("mlp.w1.", "mlp.fc1_g."), ("mlp.w2.", "mlp.fc1_x."), ("mlp.w3.", "mlp.fc2."),
)  # fmt: skip


def unwrap(state: Mapping[str, object]) -> dict[str, Tensor]:
    """Reach the plain DINOv3 keys of ``{"teacher": {"backbone.*": ...}}`` or of a bare dict.

    Raises:
        MedDINOv3Error: there are no backbone tensors.
    """
    inner = state.get("teacher", state)
    if isinstance(inner, Mapping) and not all(isinstance(key, str) for key in inner):
        raise no_backbone("keys that are no names")
    tensors = {
        key.removeprefix("backbone."): value
        for key, value in (inner.items() if isinstance(inner, Mapping) else ())
        if isinstance(value, Tensor) and not any(word in key for word in NOT_BACKBONE)
    }
    if "patch_embed_2D.proj.weight" in tensors:
        raise MedDINOv3Error(
            "import-first",
            "The file is a FlexiCT checkpoint, whose patches of 8 pixels must be converted.",
            "Run 'meddinov3 models import FILE --name NAME', which also keeps its licence, and use "
            "NAME.",
        )
    if "patch_embed.proj.weight" not in tensors:
        raise no_backbone("no patch_embed.proj.weight")
    return tensors


def no_backbone(reason: str) -> MedDINOv3Error:
    """The refusal of a file with other tensors."""
    return MedDINOv3Error(
        "not-a-backbone",
        f"The file holds no DINOv3 backbone ({reason}).",
        "Choose MedDINOv3's model.pth or a DINOv3 state dict.",
    )


def shape_of(
    tensors: Mapping[str, Tensor], in_channels: int = 1, origin: str = "meddinov3"
) -> BackboneShape:
    """Read width, depth, heads and registers from upstream's tensors.

    LayerNorm's epsilon follows from the `origin`, one of EPS.

    The number of heads follows from the RoPE periods: a quarter of a head's channels.

    Raises:
        MedDINOv3Error: there are no blocks.
    """
    width = tensors["patch_embed.proj.weight"].shape[0]
    blocks = {key.split(".")[1] for key in tensors if key.startswith("blocks.")}
    if not blocks or not all(number.isdecimal() for number in blocks):
        raise no_backbone("no blocks.0, blocks.1 and so on")
    depth = 1 + max(map(int, blocks))
    registers = tensors["storage_tokens"].shape[1] if "storage_tokens" in tensors else 0
    periods = tensors.get("rope_embed.periods")
    biased = "blocks.0.attn.qkv.bias" in tensors
    gated = "blocks.0.mlp.w1.weight" in tensors
    size = GATED.get(width, "huge_plus") if gated else PLAIN.get(width, "base")
    head = 4 * len(periods) if periods is not None else (128 if size == "7b" else 64)
    heads = max(1, width // head)
    # timm has the tiny size with qkv bias only (an absent one becomes zero), the 7B without.
    with_bias = (biased or size == "tiny") and size != "7b"
    name = f"vit_{size}_patch16_dinov3" + ("_qkvb" if with_bias else "")
    overrides = {
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "num_reg_tokens": registers,
    }
    return BackboneShape(name, in_channels, overrides, EPS[origin])


def backbone_weights(tensors: Mapping[str, Tensor], in_channels: int = 1) -> dict[str, Tensor]:
    """Rename plain DINOv3 tensors to those of :class:`Backbone` (``vit.*``).

    RoPE periods, bias masks and local norms are recomputed or unused; the mask token is left
    to backbone files.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if any(word in key for word in RECOMPUTED) or key == "mask_token":
            continue
        if key == "patch_embed.proj.weight" and value.shape[1] == 3:
            value = merge_input_channels(value, in_channels)
        elif key.endswith("attn.qkv.bias"):
            prefix = key.removesuffix("qkv.bias")
            query, _key, val = value.chunk(3)  # DINOv3 masks the key bias to zero
            renamed[f"vit.{prefix}q_bias"], renamed[f"vit.{prefix}v_bias"] = query, val
            continue
        for theirs, ours in RENAMED:
            key = key.replace(theirs, ours)
        renamed[f"vit.{key}"] = value
    return renamed


def from_timm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Timm's names of a DINOv3 network as Meta's, so that one path serves both.

    The separate query and value biases are joined again, the key's being zero.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.endswith("attn.v_bias"):
            continue
        if key.endswith("attn.q_bias"):
            other = tensors[key.replace("q_bias", "v_bias")]
            joined = torch.cat([value, torch.zeros_like(value), other])
            renamed[key.replace("q_bias", "qkv.bias")] = joined
            continue
        gated = "mlp.fc1_g." in key or key.replace("fc2.", "fc1_g.") in tensors
        for theirs, ours in RENAMED:
            if ours != "mlp.fc2." or gated:
                key = key.replace(ours, theirs)
        renamed[key] = value
    return renamed


def fill_absent_bias(weights: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Give a network with qkv bias zero biases where the file has none (numerically equal)."""
    for key, value in expected.items():
        if key.endswith(("q_bias", "v_bias")) and key not in weights:
            weights[key] = torch.zeros_like(value)


def decoder_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename ``up_projection.decode.*`` of upstream's nnU-Net fork to :class:`TokenDecoder`.

    Raises:
        MedDINOv3Error: a key of the decoder is unknown.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if not key.startswith("up_projection.decode."):
            continue
        stage, *rest = key.removeprefix("up_projection.decode.").split(".")
        if int(stage) == STAGES:
            renamed[f"classify.{rest[-1]}"] = value.flatten(1) if rest[-1] == "weight" else value
        elif rest[0] == "0" and len(rest) == 2:
            renamed[f"stages.{stage}.{rest[1]}"] = pack_kernel(value) if value.ndim == 4 else value
        elif rest[0] == "1" and len(rest) == 2:
            renamed[f"stages.{stage}.norm.{rest[1]}"] = value
        else:
            raise MedDINOv3Error(
                "unknown-decoder", f"The decoder tensor '{key}' is not of MedDINOv3's layout."
            )
    return renamed
