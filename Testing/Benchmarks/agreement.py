"""How far our network is from the published code on the same weights.

    python Testing/Benchmarks/agreement.py

Weights and expected numbers lie in Testing/Data/reference_checkpoints.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from meddinov3.checkpoints.pth import read_pth
from meddinov3.checkpoints.upstream import backbone_weights, decoder_weights, shape_of, unwrap
from meddinov3.network.segmenter import Segmenter

REFERENCE = Path(__file__).resolve().parents[1] / "Data" / "reference_checkpoints"
RESULTS = "meddinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d"


def main() -> None:
    """Print the largest difference of features and logits."""
    expected = np.load(REFERENCE / "expected.npz")
    tensors = unwrap(read_pth(REFERENCE / "model.pth"))
    results = read_pth(REFERENCE / RESULTS / "fold_0" / "checkpoint_final.pth")
    slices = torch.from_numpy(expected["x"])
    print("| RoPE | features | logits | logits, 7 tokens at a time |")
    print("|---|---|---|---|")
    for precision in ("fp32", "bf16"):
        shape = dataclasses.replace(shape_of(tensors), rope_precision=precision)
        network = Segmenter(shape, outputs=3).eval()
        network.backbone.load_state_dict(backbone_weights(tensors))
        network.decoder.load_state_dict(decoder_weights(results["network_weights"]))
        with torch.inference_mode():
            features = network.backbone(slices).transpose(1, 2).reshape(2, -1, 4, 6).numpy()
            logits, chunked = network(slices).numpy(), network(slices, 7).numpy()
        wanted = expected[f"logits_rope_{precision}"]
        differences = (
            np.abs(features - expected[f"features_rope_{precision}"]).max(),
            np.abs(logits - wanted).max(),
            np.abs(chunked - wanted).max(),
        )
        print(f"| {precision} | {' | '.join(f'{d:.1e}' for d in differences)} |")


if __name__ == "__main__":
    main()
