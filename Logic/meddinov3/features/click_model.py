"""A trained click model at work: its decoder on cached tokens, in a part of a scan.

What does not depend on prompts, squeezed tokens and intensities, is kept slice by slice, so that a
later click costs the decoder's last layers only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from meddinov3.bundle import hash_tensors, read_prompt_bundle
from meddinov3.description import ModelDescription, PromptDescription
from meddinov3.errors import MedDINOv3Error
from meddinov3.features.encoder import Encoder
from meddinov3.features.encoding import open_tokens, trained_pixels
from meddinov3.features.grid import FeatureGrid
from meddinov3.features.prompts import PlacedPrompts
from meddinov3.features.storage import TokenStore
from meddinov3.features.tokens import TokenVolume
from meddinov3.inference.device import autocast, choose_device, choose_precision
from meddinov3.model_store import find_model
from meddinov3.network.backbone import PATCH
from meddinov3.network.prompt_decoder import PromptDecoder, neighbouring
from meddinov3.network.prompt_maps import Stack, StackPrompts, draw_prompts
from meddinov3.network.prompt_segmenter import PromptSegmenter
from meddinov3.region import IndexBox, index_box
from meddinov3.volume import Volume

MARGIN = 1  # tokens around a region
FINE_PIXELS = 1_500_000  # decoded at a time


@dataclass(frozen=True, eq=False)
class ClickModel:
    """A click model ready to answer.

    Attributes:
        description: what it is.
        decoder: on the encoder's device, in evaluation mode.
        encoder: the backbone whose tokens it understands.
    """

    description: ModelDescription
    decoder: PromptDecoder
    encoder: Encoder

    @property
    def prompts(self) -> PromptDescription:
        """How it takes prompts."""
        assert self.description.prompts is not None
        return self.description.prompts


def load_click_model(name: str, device: str = "auto", precision: str = "auto") -> ClickModel:
    """Load a click model by id or folder.

    Raises:
        MedDINOv3Error: no such model, it is no click model, or the device is not here.
    """
    chosen = choose_device(device)
    description, network = read_prompt_bundle(find_model(name), chosen)
    return wrap_click_model(description, network, chosen, choose_precision(precision, chosen))


def wrap_click_model(
    description: ModelDescription, network: PromptSegmenter, device: torch.device, precision: str
) -> ClickModel:
    """A click model of a network in memory, on `device` and in evaluation mode."""
    backbone, sampling = network.backbone, description.sampling
    encoder = Encoder(
        backbone, device, precision, description.id, hash_tensors(backbone.state_dict()),
        sampling.spacing, description.channels[0].intensity,
        None if sampling.orientation.as_stored else sampling.orientation, sampling.slice_offsets,
        len(description.channels),
    )  # fmt: skip
    return ClickModel(description, network.decoder, encoder)


def open_click_tokens(
    volume: Volume, model: ClickModel, box: IndexBox | None = None, store: TokenStore | None = None
) -> TokenVolume:
    """The tokens of a scan as a click model was trained on them: its plane, its pixels.

    Args:
        volume: the scan.
        model: its encoder is used.
        box: part of the oriented scan (slices, rows, columns).
        store: see :func:`meddinov3.features.encoding.open_tokens`.
    """
    orientation = model.description.sampling.orientation
    part = index_box(None, volume.grid, orientation) if box is None else box
    pixels = trained_pixels(model.encoder, volume.grid, orientation, part)
    return open_tokens(
        volume, model.encoder, orientation=orientation, box=part, pixels=pixels, store=store
    )


class ClickDecoder:
    """Answers for one scan; keeps what later answers need again.

    Args:
        tokens: of the scan.
        model: trained on this backbone.

    Raises:
        MedDINOv3Error: the tokens are another backbone's.
    """

    def __init__(self, tokens: TokenVolume, model: ClickModel) -> None:
        if tokens.encoder.identity != model.encoder.identity:
            raise MedDINOv3Error(
                "another-backbone",
                f"The features were computed by '{tokens.encoder.name}'; the click model "
                f"'{model.description.id}' does not understand them.",
                "Compute the features with the click model's own backbone, or use none.",
            )
        self._tokens, self._model = tokens, model
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(
        self,
        region: IndexBox,
        placed: PlacedPrompts,
        box: np.ndarray | None,
        previous: np.ndarray | None,
    ) -> np.ndarray:
        """The mask, boolean (S, rows, columns) of `region`.

        Args:
            region: in the oriented scan, inside the encoded box.
            placed: the points.
            box: boolean (S, rows, columns) of the encoded box, or None.
            previous: the same of the mask so far.
        """
        where, prompts = self._tokens.where, self._model.prompts
        work = _Work.around(region, where, prompts.cells)
        spacing = where.slice_spacing
        step = max(1, round(prompts.slice_spacing / spacing))
        reach = (prompts.depth + 1) * step
        together = max(2 * reach, FINE_PIXELS // (work.fine[0] * work.fine[1]))
        device = self._tokens.encoder.device
        points = [work.millimetres(places, spacing).to(device) for places in
                  (placed.positive, placed.negative)]  # fmt: skip
        with torch.inference_mode():
            examples = [self._examples(places) for places in (placed.positive, placed.negative)]
            found = []
            for first in range(region[0].start, region[0].stop, together):
                last = min(first + together, region[0].stop)
                low, high = max(region[0].start, first - reach), min(region[0].stop, last + reach)
                numbers = range(low, high)
                stack = work.stack(numbers, spacing, device)
                masks = [
                    None if mask is None else work.to_fine(
                        torch.from_numpy(mask[low - where.box[0].start : high - where.box[0].start])
                        .to(device).float()[:, None])[:, 0]
                    for mask in (box, previous)
                ]  # fmt: skip
                asked = StackPrompts(points[0], points[1], masks[0], masks[1])
                fine, coarse = draw_prompts(stack, asked, prompts.near, prompts.far)
                kept = [self._slice(number) for number in numbers]
                embedded = torch.stack([tokens[work.tokens] for tokens, _ in kept])
                picture = work.to_fine(torch.stack([image for _, image in kept]))
                decoder = self._model.decoder
                coarse = torch.cat([coarse, decoder.likeness(embedded, examples)], dim=1)
                neighbours = neighbouring(len(numbers), step)
                with autocast(device, self._tokens.encoder.precision):
                    logits = decoder(
                        embedded, picture, fine, coarse,
                        (neighbours[0].to(device), neighbours[1].to(device)),
                    )  # fmt: skip
                logits = work.to_voxels(logits.float()[first - low : last - low])[:, 0]
                found.append((logits > 0).cpu().numpy())
        return np.concatenate(found)

    def _slice(self, number: int) -> tuple[Tensor, Tensor]:
        """Squeezed tokens (rows, columns, width) and intensities of a slice of the box."""
        if number not in self._kept:
            tokens = self._tokens.slices([number])[0]
            with autocast(tokens.device, self._tokens.encoder.precision):
                embedded = self._model.decoder.embed(tokens).float()
            self._kept[number] = (embedded, self._tokens.pictures([number])[0])
        return self._kept[number]

    def _examples(self, places: np.ndarray) -> Tensor:
        """Squeezed tokens (n, width) under points (n, 3) in oriented indices."""
        where = self._tokens.where
        found = []
        for place in places:
            number = int(np.clip(np.floor(place[0] + 0.5), where.box[0].start,
                                 where.box[0].stop - 1))  # fmt: skip
            row, column = (
                min(int((place[axis] - where.box[axis].start + 0.5) * pixels / count / PATCH),
                    tokens - 1)
                for axis, pixels, count, tokens in zip(
                    (1, 2), where.size, where.plane, where.tokens, strict=True
                )
            )  # fmt: skip
            found.append(self._slice(number)[0][max(row, 0), max(column, 0)])
        width = self._model.prompts.width
        device = self._tokens.encoder.device
        return torch.stack(found) if found else torch.zeros(0, width, device=device)


@dataclass(frozen=True, eq=False)
class _Work:
    """Token-aligned work area of a region: fine pixels, and the ways to and from voxels.

    Attributes:
        where: the lattice.
        region: in the oriented scan.
        low, high: first token and the one behind the last, (rows, columns).
        cells: fine pixels along a token's edge.
    """

    where: FeatureGrid
    region: IndexBox
    low: tuple[int, int]
    high: tuple[int, int]
    cells: int

    @classmethod
    def around(cls, region: IndexBox, where: FeatureGrid, cells: int) -> _Work:
        low, high = [], []
        for axis in (0, 1):
            part, scale = region[axis + 1], where.size[axis] / where.plane[axis] / PATCH
            first = (part.start - where.box[axis + 1].start) * scale
            last = (part.stop - where.box[axis + 1].start) * scale
            low.append(max(0, int(np.floor(first + 1e-9)) - MARGIN))
            high.append(min(where.tokens[axis], int(np.ceil(last - 1e-9)) + MARGIN))
        return cls(where, region, (low[0], low[1]), (high[0], high[1]), cells)

    @property
    def tokens(self) -> tuple[slice, slice]:
        return (slice(self.low[0], self.high[0]), slice(self.low[1], self.high[1]))

    @property
    def fine(self) -> tuple[int, int]:
        rows, columns = ((b - a) * self.cells for a, b in zip(self.low, self.high, strict=True))
        return (rows, columns)

    def stack(self, numbers: range, spacing: float, device: torch.device) -> Stack:
        rows, columns = (mm / self.cells for mm in self.where.token_spacing)
        count = (self.high[0] - self.low[0], self.high[1] - self.low[1])
        slices = torch.tensor([number * spacing for number in numbers], device=device)
        return Stack(slices.float(), count, self.cells, (rows, columns))

    def millimetres(self, places: np.ndarray, spacing: float) -> Tensor:
        """Oriented indices (n, 3) in the frame of :meth:`stack`."""
        found = np.empty((len(places), 3), dtype=np.float32)
        found[:, 0] = places[:, 0] * spacing
        for axis in (0, 1):
            voxel = places[:, axis + 1] - self.where.box[axis + 1].start + 0.5
            token = voxel * self.where.size[axis] / self.where.plane[axis] / PATCH - self.low[axis]
            found[:, axis + 1] = token * self.where.token_spacing[axis]
        return torch.from_numpy(found)

    def to_fine(self, maps: Tensor) -> Tensor:
        """(B, C, rows, columns) of the encoded box to fine pixels; zero beyond the box."""
        rows, columns = (self._read(axis).to(maps) for axis in (0, 1))
        return rows @ maps @ columns.T

    def to_voxels(self, maps: Tensor) -> Tensor:
        """(B, C, fine rows, fine columns) to the region's voxels."""
        rows, columns = (self._write(axis).to(maps) for axis in (0, 1))
        return rows @ maps @ columns.T

    def _fold(self, axis: int) -> float:
        """Voxels to a fine pixel."""
        return self.where.plane[axis] / self.where.size[axis] * PATCH / self.cells

    def _read(self, axis: int) -> Tensor:
        fold, count = self._fold(axis), self.where.plane[axis]
        fine = torch.arange(self.fine[axis], dtype=torch.float64)
        place = (self.low[axis] * self.cells + fine + 0.5) * fold - 0.5
        weights = _triangles(place, count, max(1.0, fold))
        return weights * ((place >= -0.5) & (place <= count - 0.5))[:, None]

    def _write(self, axis: int) -> Tensor:
        fold, part = self._fold(axis), self.region[axis + 1]
        voxel = torch.arange(part.start, part.stop, dtype=torch.float64)
        place = (voxel - self.where.box[axis + 1].start + 0.5) / fold - 0.5
        place = place - self.low[axis] * self.cells
        return _triangles(place, self.fine[axis], max(1.0, 1 / fold))


def _triangles(place: Tensor, count: int, half: float) -> Tensor:
    """Weights (n, count) that interpolate linearly, over `half` pixels to each side."""
    place = place.clamp(0, count - 1)
    distance = (place[:, None] - torch.arange(count, dtype=torch.float64)[None]).abs()
    weights = (1 - distance / half).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
