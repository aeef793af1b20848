"""From a scan to its tokens.

>>> encoder = load_encoder("hippocampus-mr-tiny", device="cpu")
>>> tokens = open_tokens(read_volume("scan.nii.gz"), encoder)
>>> tokens.slices([10]).shape  # (1, token rows, token columns, 4 * width)
"""

from __future__ import annotations

from dataclasses import replace

from meddinov3.description import Sampling
from meddinov3.errors import MedDINOv3Error
from meddinov3.features.encoder import Encoder
from meddinov3.features.grid import FeatureGrid, feature_orientation, network_pixels
from meddinov3.features.storage import InMemory, TokenStorage, TokenStore
from meddinov3.features.tokens import TokenVolume
from meddinov3.grid import Grid, SliceOrientation
from meddinov3.inference.slices import SliceSource
from meddinov3.network.backbone import PATCH
from meddinov3.region import IndexBox, index_box
from meddinov3.volume import Volume

PIXELS = 512
MOST_PIXELS = 4096
MOST_TRAINED = 1024  # a finer look needs a box


def open_tokens(
    volume: Volume,
    encoder: Encoder,
    *,
    orientation: SliceOrientation | None = None,
    box: IndexBox | None = None,
    pixels: int = PIXELS,
    store: TokenStore | None = None,
) -> TokenVolume:
    """Lay out the tokens of a scan; none is computed yet.

    Args:
        volume: the scan; its arrays are viewed, never copied.
        encoder: from :func:`meddinov3.features.encoder.load_encoder`.
        orientation: plane of the slices; the scan's finest if spacings differ much, else the
            backbone's own, else axial.
        box: part of the oriented scan (slices, rows, columns); all of it by default. Intensities
            are fitted to the whole scan.
        pixels: of the network along the longer side of a slice, see
            :func:`meddinov3.features.grid.network_pixels`.
        store: budgets; in memory without limit if None.

    Raises:
        MedDINOv3Error: `pixels` makes no sense, most of the scan is no finite number, or tokens
            fit nowhere.
    """
    if not PATCH <= pixels <= MOST_PIXELS:
        raise MedDINOv3Error(
            "bad-pixels",
            f"Slices of {pixels} pixels cannot be encoded.",
            f"Give {PATCH} to {MOST_PIXELS}.",
        )
    chosen = orientation or feature_orientation(volume.grid, encoder.orientation)
    whole = index_box(None, volume.grid, chosen)
    part = whole if box is None else box
    channels = list(volume.channels[: encoder.channels])
    channels += [channels[0]] * (encoder.channels - len(channels))
    source = SliceSource(
        replace(volume, channels=tuple(channels)),
        [encoder.scheme_for(volume.modality)] * encoder.channels,
        Sampling(chosen, slice_offsets=encoder.offsets),
        part,
        whole,
    )
    size = network_pixels(source.size, chosen.spacing(volume.grid)[1:], pixels)
    where = FeatureGrid(volume.grid, chosen, part, size)
    storage: TokenStorage = InMemory()
    if store is not None:
        shape = (*where.tokens, encoder.token_width)
        storage = store.open(len(where.numbers), shape, encoder.device)
    return TokenVolume(source, where, encoder, storage)


def trained_pixels(
    encoder: Encoder, grid: Grid, orientation: SliceOrientation, box: IndexBox
) -> int:
    """Network pixels along the longer side of a box that are as large as in training.

    Args:
        encoder: one that knows its spacing; others take :data:`PIXELS`.
        grid: the scan's.
        orientation: of the slices.
        box: (slices, rows, columns) of the oriented scan.
    """
    if encoder.spacing is None:
        return PIXELS
    extents = (
        (part.stop - part.start) * mm
        for part, mm in zip(box[1:], orientation.spacing(grid)[1:], strict=True)
    )
    longest = float(max(extents))
    return min(max(round(longest / min(encoder.spacing)), PATCH), MOST_TRAINED)
