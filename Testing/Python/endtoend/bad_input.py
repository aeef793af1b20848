"""Bad input by name: each function makes it in a folder and returns the arguments of segment."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from conftest import DATA, describe, make_bundle
from meddinov3.bundle import sha256
from meddinov3.description import Purpose
from safetensors.torch import load_file, save_file

SCAN = DATA / "msd_hippocampus_mr" / "images" / "hippocampus_091.nii.gz"
Arguments = list[object]
CASES: dict[str, Callable[[Path], Arguments]] = {}


def case(name: str) -> Callable[[Callable[[Path], Arguments]], Callable[[Path], Arguments]]:
    """Register a function that makes bad input in a folder and returns the arguments."""

    def register(make: Callable[[Path], Arguments]) -> Callable[[Path], Arguments]:
        CASES[name] = make
        return make

    return register


def written(path: Path, content: bytes) -> Arguments:
    path.write_bytes(content)
    return [path]


def image_at(path: Path, array: np.ndarray, vector: bool = False) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(path))
    return path


def nrrd(folder: Path, directions: str) -> Arguments:
    """A NRRD file of 4 x 4 x 4 bytes with the given space directions."""
    head = (
        "NRRD0005\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 4 4 4\n"
        f"space directions: {directions}\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    return written(folder / "scan.nrrd", head.encode() + bytes(64))


@case("missing file")
def _missing(folder: Path) -> Arguments:
    return [folder / "scan.nii.gz"]


@case("empty file")
def _empty(folder: Path) -> Arguments:
    return written(folder / "scan.nii.gz", b"")


@case("truncated gzip")
def _truncated(folder: Path) -> Arguments:
    return written(folder / "scan.nii.gz", SCAN.read_bytes()[:30000])


@case("truncated file")
def _truncated_plain(folder: Path) -> Arguments:
    return written(folder / "scan.nii", gzip.decompress(SCAN.read_bytes())[:30000])


@case("truncated MHA")
def _truncated_mha(folder: Path) -> Arguments:
    path = image_at(folder / "scan.mha", np.zeros((8, 8, 8), np.int16))
    return written(path, path.read_bytes()[:-100])


@case("no image")
def _no_image(folder: Path) -> Arguments:
    return written(folder / "letter.docx", b"Dear colleague")


@case("no image in spite of its name")
def _text(folder: Path) -> Arguments:
    return written(folder / "scan.nrrd", b"Dear colleague")


@case("two dimensions")
def _flat(folder: Path) -> Arguments:
    return [image_at(folder / "scan.nrrd", np.zeros((9, 8), np.int16))]


@case("four dimensions")
def _series(folder: Path) -> Arguments:
    image = sitk.JoinSeries([sitk.Image(4, 5, 6, sitk.sitkInt16)] * 3)
    sitk.WriteImage(image, str(folder / "scan.nrrd"))
    return [folder / "scan.nrrd"]


@case("colour")
def _colour(folder: Path) -> Arguments:
    return [image_at(folder / "scan.nrrd", np.zeros((4, 5, 6, 3), np.uint8), vector=True)]


@case("single DICOM file")
def _dicom(folder: Path) -> Arguments:
    return written(folder / "IM0001.dcm", b"\0" * 128 + b"DICM")


@case("folder without DICOM")
def _folder(folder: Path) -> Arguments:
    (folder / "series").mkdir()
    return [folder / "series"]


@case("spacing zero")
def _zero(folder: Path) -> Arguments:
    return nrrd(folder, "(0,0,0) (0,1,0) (0,0,1)")


@case("axes in one plane")
def _singular(folder: Path) -> Arguments:
    return nrrd(folder, "(1,0,0) (0,1,0) (1,1,0)")


def with_spacing(folder: Path, spacing: float) -> Arguments:
    content = bytearray(gzip.decompress(SCAN.read_bytes()))
    struct.pack_into("<f", content, 80, spacing)
    return written(folder / "scan.nii", bytes(content))


@case("NIfTI spacing zero")
def _nifti_zero(folder: Path) -> Arguments:
    return with_spacing(folder, 0.0)


@case("spacing negative")
def _negative(folder: Path) -> Arguments:
    return with_spacing(folder, -1.0)


@case("spacing not a number")
def _not_a_number(folder: Path) -> Arguments:
    return with_spacing(folder, float("nan"))


@case("sheared axes")
def _sheared(folder: Path) -> Arguments:
    content = bytearray(gzip.decompress(SCAN.read_bytes()))
    struct.pack_into("<2h", content, 252, 0, 1)
    struct.pack_into("<12f", content, 280, 1, 0.5, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    return written(folder / "scan.nii", bytes(content))


@case("mostly no numbers")
def _nan(folder: Path) -> Arguments:
    array = np.full((6, 8, 8), np.nan, np.float32)
    array[0] = 1
    return [image_at(folder / "scan.nrrd", array)]


@case("empty region")
def _region(folder: Path) -> Arguments:
    return [SCAN, "--roi", image_at(folder / "roi.nrrd", np.zeros((3, 3, 3), np.uint8))]


@case("region outside")
def _outside(folder: Path) -> Arguments:
    return [SCAN, "--roi=900,920,900,920,900,920"]


@case("region that is none")
def _no_region(folder: Path) -> Arguments:
    return [SCAN, "--roi", "1,2,3"]


@case("region without whole numbers")
def _fractions(folder: Path) -> Arguments:
    return [SCAN, "--roi", image_at(folder / "roi.nrrd", np.full((3, 3, 3), 0.5))]


@case("unknown label")
def _label(folder: Path) -> Arguments:
    return [SCAN, "--labels", "spleen"]


@case("wrong channels")
def _channels(folder: Path) -> Arguments:
    return [SCAN, "--channel", f"T2={SCAN}"]


@case("scan too large for the model")
def _large(folder: Path) -> Arguments:
    purpose = Purpose("MR", "hippocampus", "boxes", (15.0, 20.0, 20.0))
    return [SCAN, "-m", make_bundle(folder / "boxes", describe("a", purpose=purpose))]


@case("model folder missing")
def _no_model(folder: Path) -> Arguments:
    return [SCAN, "-m", "nowhere"]


def altered(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Arguments:
    """A bundle whose weights were changed and described anew."""
    bundle = make_bundle(folder / "changed", describe("a"))
    weights = load_file(bundle / "model.safetensors")
    change(weights)
    save_file(weights, bundle / "model.safetensors")
    content = json.loads((bundle / "model.json").read_text())
    content["weights_sha256"] = sha256(bundle / "model.safetensors")
    (bundle / "model.json").write_text(json.dumps(content))
    return [SCAN, "-m", bundle]


@case("weights altered")
def _flipped(folder: Path) -> Arguments:
    bundle = make_bundle(folder / "changed", describe("a"))
    content = bytearray((bundle / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (bundle / "model.safetensors").write_bytes(content)
    return [SCAN, "-m", bundle]


@case("weights missing")
def _no_weights(folder: Path) -> Arguments:
    bundle = make_bundle(folder / "changed", describe("a"))
    (bundle / "model.safetensors").unlink()
    return [SCAN, "-m", bundle]


@case("weights of wrong shape")
def _shape(folder: Path) -> Arguments:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["decoder.classify.bias"] = torch.zeros(7)

    return altered(folder, change)


@case("weights not finite")
def _infinite(folder: Path) -> Arguments:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["decoder.classify.bias"][0] = float("inf")

    return altered(folder, change)


@case("model of a later format")
def _later(folder: Path) -> Arguments:
    bundle = make_bundle(folder / "changed", describe("a"))
    content = json.loads((bundle / "model.json").read_text())
    (bundle / "model.json").write_text(json.dumps({**content, "format": 9}))
    return [SCAN, "-m", bundle]


@case("model.json damaged")
def _garbled(folder: Path) -> Arguments:
    bundle = make_bundle(folder / "changed", describe("a"))
    (bundle / "model.json").write_text('{"format": 1, "id": ')
    return [SCAN, "-m", bundle]


@case("output is the input")
def _same(folder: Path) -> Arguments:
    copy = folder / "scan.nii.gz"
    shutil.copy(SCAN, copy)
    return [copy, "-o", copy]


@case("output is a file")
def _file(folder: Path) -> Arguments:
    (folder / "results").write_text("a file")
    return [SCAN, "-o", folder / "results"]


@case("output below a file")
def _below(folder: Path) -> Arguments:
    (folder / "results").write_text("a file")
    return [SCAN, "-o", folder / "results" / "deep"]


@case("output of unknown kind")
def _kind(folder: Path) -> Arguments:
    return [SCAN, "-o", folder / "mask.mhd"]


@case("DICOM SEG of a scan that is none")
def _seg(folder: Path) -> Arguments:
    return [SCAN, "-o", folder / "mask.dcm"]


@case("plain NIfTI beside the output")
def _twin(folder: Path) -> Arguments:
    (folder / "mask.nii").write_bytes(b"another scan")
    return [SCAN, "-o", folder / "mask.nii.gz"]


@case("disk full")
def _full(folder: Path) -> Arguments:
    return [SCAN]
