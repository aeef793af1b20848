"""KiTS23: kidneys, tumours and cysts on CT, as overlapping regions."""

from __future__ import annotations

import re

from meddinov3_training.recipes.recipe import Recipe, Release, Score

KITS23 = Recipe(
    id="kits23",
    title="KiTS23: kidney with its masses, masses (tumours and cysts), tumours on CT",
    page="https://github.com/neheller/kits23 (challenge: https://kits-challenge.org/kits23)",
    download="clone the repository, install it (pip install -e .) and run kits23_download_data: "
    "the clone holds the label maps, the command fetches the scans",
    size="489 scans, some tens of GB",
    access="nobody has to register",
    licence="CC BY-NC-SA 4.0",
    reference="Heller et al., The KiTS21 Challenge: Automatic segmentation of kidneys, renal "
    "tumors, and renal cysts in corticomedullary-phase CT, arXiv:2307.01984",
    channel="CT",
    # Values: 1 kidney, 2 tumour, 3 cyst. The challenge scores regions, and so does nnU-Net.
    labels=(("kidney", (1, 2, 3)), ("masses", (2, 3)), ("tumor", (2,))),
    regions_class_order=(1, 3, 2),
    release=Release(
        structure=(
            "kits23/dataset/\n"
            "  case_00000/imaging.nii.gz  case_00000/segmentation.nii.gz\n"
            "  case_00001/ ...  (489 cases; instances/ is left out)"
        ),
        image=re.compile(r"(?:.*/)?case_(\d{5})/imaging\.nii\.gz"),
        label=re.compile(r"(?:.*/)?case_(\d{5})/segmentation\.nii\.gz"),
        case=r"case_\1",
        ending=".nii.gz",
        cases=489,
    ),
    compared_with="489 cases, as here",
    table_2=(
        Score("nnU-Net 2D", 69.15, 64.85),
        Score("SegFormer", 57.73, 47.65),
        Score("Dino U-Net (B)", 59.77, 51.05),
        Score("MedDINOv3", 70.68, 62.67),
    ),
)
