"""Every transfer syntax that can be written here holds the same voxels; others are named.

JPEG and JPEG 2000 are encoded by GDCM (through SimpleITK), JPEG-LS by pyjpegls, RLE by pydicom.
Nothing here encodes High-Throughput JPEG 2000 (which GDCM decodes), JPEG XL or 12-bit JPEG.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import INTERCEPT, write_series
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.reading import read_volume
from meddinov3.volume import Volume
from multiframe_file import multiframe
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

GRID = Grid((16, 12, 4), (0.7, 0.9, 2.5), (-10.0, 20.0, 30.0), np.eye(3))
ARRAY = np.random.default_rng(0).integers(-1024, 3000, GRID.shape).astype(np.int16)
Change = Callable[[pydicom.FileDataset], None]


def write(data: pydicom.FileDataset, path: Path) -> None:
    """Write in the byte order that the transfer syntax says."""
    syntax = data.file_meta.TransferSyntaxUID
    plain = pydicom.Dataset({element.tag: element for element in data})
    plain.file_meta = data.file_meta
    pydicom.dcmwrite(
        path, plain, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )  # fmt: skip


def uncompressed(syntax: pydicom.uid.UID) -> Change:
    def change(data: pydicom.FileDataset) -> None:
        data.file_meta.TransferSyntaxUID = syntax
        if not syntax.is_little_endian:
            data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
            data["PixelData"].VR = "OW"

    return change


def encoded(syntax: pydicom.uid.UID) -> Change:
    def change(data: pydicom.FileDataset) -> None:
        data.compress(syntax, generate_instance_uid=False)

    return change


def by_gdcm(compressor: str, syntax: pydicom.uid.UID, folder: Path) -> Change:
    """Encode stored values with GDCM and put its frames into the data set."""

    def change(data: pydicom.FileDataset) -> None:
        frames = []
        for plane in data.pixel_array.reshape(-1, data.Rows, data.Columns):
            writer = sitk.ImageFileWriter()
            writer.SetImageIO("GDCMImageIO")
            writer.UseCompressionOn()
            writer.SetCompressor(compressor)
            writer.SetFileName(str(folder / "encoded.dcm"))
            writer.Execute(sitk.GetImageFromArray(plane.astype(np.uint16)[None]))
            content = pydicom.dcmread(folder / "encoded.dcm")
            assert content.file_meta.TransferSyntaxUID in (
                syntax,
                JPEGLosslessSV1,
                JPEG2000Lossless,
            )
            frames += generate_frames(content.PixelData, number_of_frames=1)
        (folder / "encoded.dcm").unlink()
        data.PixelData = encapsulate(frames)
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = syntax

    return change


@pytest.fixture
def changes(tmp_path: Path) -> dict[str, Change]:
    return {
        "implicit": uncompressed(ImplicitVRLittleEndian),
        "big endian": uncompressed(ExplicitVRBigEndian),
        "deflated": uncompressed(DeflatedExplicitVRLittleEndian),
        "RLE": encoded(RLELossless),
        "JPEG-LS": encoded(JPEGLSLossless),
        "JPEG lossless SV1": by_gdcm("JPEG", JPEGLosslessSV1, tmp_path),
        "JPEG lossless": by_gdcm("JPEG", JPEGLossless, tmp_path),  # SV1 is one of its predictors
        "JPEG 2000 lossless": by_gdcm("JPEG2000", JPEG2000Lossless, tmp_path),
        "JPEG 2000": by_gdcm("JPEG2000", JPEG2000, tmp_path),
    }


NAMES = (
    "implicit", "big endian", "deflated", "RLE", "JPEG-LS", "JPEG lossless SV1", "JPEG lossless",
    "JPEG 2000 lossless", "JPEG 2000",
)  # fmt: skip


def check(volume: Volume) -> None:
    np.testing.assert_array_equal(volume.channels[0], ARRAY)
    assert volume.grid.same_as(GRID, tolerance=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_slices(tmp_path: Path, changes: dict[str, Change], name: str) -> None:
    for file in write_series(tmp_path / "series", ARRAY, GRID):
        data = pydicom.dcmread(file)
        changes[name](data)
        write(data, file)
    check(read_volume(tmp_path / "series"))


@pytest.mark.parametrize("name", NAMES)
def test_frames(tmp_path: Path, changes: dict[str, Change], name: str) -> None:
    data = multiframe(ARRAY.astype(int) - INTERCEPT, GRID, (2, 0, 3, 1))
    changes[name](data)
    (tmp_path / "scan").mkdir()
    write(data, tmp_path / "scan" / "IM1")
    check(read_volume(tmp_path / "scan" / "IM1"))
    check(read_volume(tmp_path / "scan"))


def test_lossy_jpeg_gives_what_the_decoder_gives(tmp_path: Path) -> None:
    """Eight bits a voxel, encoded by Pillow."""
    planes = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (4, 12, 1))
    expected = []
    for file, plane in zip(write_series(tmp_path / "s", ARRAY, GRID), planes, strict=True):
        data = pydicom.dcmread(file)
        stream = io.BytesIO()
        Image.fromarray(plane).save(stream, "JPEG", quality=90)
        expected.append(np.asarray(Image.open(stream)))
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit = 7
        data.PixelData = encapsulate([stream.getvalue()])
        data["PixelData"].VR = "OB"
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        write(data, file)
    found = read_volume(tmp_path / "s").channels[0]
    np.testing.assert_allclose(found, np.array(expected, int) + INTERCEPT, atol=1)


def relabelled(file: Path, uid: str) -> None:
    """Damage to the letter: the file says that its voxels are stored as `uid`."""
    data = pydicom.dcmread(file)
    data.PixelData = encapsulate([b"no codec's stream"])
    data["PixelData"].VR = "OB"
    data.file_meta.TransferSyntaxUID = HTJ2K
    write(data, file)
    old, new = (text.encode().ljust(24, b"\0") for text in (str(HTJ2K), uid))
    file.write_bytes(file.read_bytes().replace(old, new))
    assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == uid


@pytest.mark.parametrize(
    ("uid", "words"),
    [
        (str(HTJ2K), "High-Throughput JPEG 2000 Image Compression"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL (Lossless)"),
        (str(MPEG2MPML), "MPEG2 Main Profile / Main Level"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
@pytest.mark.parametrize("frames", [False, True])
def test_unknown_compression_is_named_with_the_remedy(
    tmp_path: Path, uid: str, words: str, frames: bool
) -> None:
    if frames:
        data = multiframe(ARRAY.astype(int) - INTERCEPT, GRID)
        data.save_as(tmp_path / "scan.dcm", enforce_file_format=True)
        files = [tmp_path / "scan.dcm"]
    else:
        files = write_series(tmp_path / "series", ARRAY, GRID)
    for file in files:
        relabelled(file, uid)
    with pytest.raises(MedDINOv3Error) as caught:
        read_volume(tmp_path)
    assert caught.value.code == "unknown-compression"
    assert f"'{words}'" in caught.value.message
    assert "gdcmconv --raw" in caught.value.remedy


def test_one_slice_compressed_otherwise_is_read_too(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", ARRAY, GRID)
    data = pydicom.dcmread(files[2])
    encoded(RLELossless)(data)
    write(data, files[2])
    check(read_volume(tmp_path / "series"))
