"""The worker's answers to questions on features: one encoder and its scans, kept warm."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from meddinov3.errors import MedDINOv3Error
from meddinov3.features.encoder import Encoder, default_encoder, load_encoder
from meddinov3.features.encoding import open_tokens, trained_pixels
from meddinov3.features.explorer import Explorer
from meddinov3.features.grid import feature_orientation, orientation_along
from meddinov3.features.storage import TokenStore
from meddinov3.features.tokens import TokenVolume
from meddinov3.model_store import find_installed, is_backbone
from meddinov3.progress import ProgressCallback, StopQuestion
from meddinov3.reading import read_volume
from meddinov3.region import index_box, read_region
from meddinov3.volume import Volume
from meddinov3.worker import exchange
from meddinov3.worker.messages import Encode, Explore, FeatureRequest, ForgetTokens, Prompt
from meddinov3.worker.prompt_requests import PromptRequests

KINDS = ("similarity", "colours")


@dataclass(frozen=True)
class OpenScan:
    """A scan whose features are warm.

    Attributes:
        volume: the scan.
        tokens: its features.
        explorer: looks at them.
    """

    volume: Volume
    tokens: TokenVolume
    explorer: Explorer


class FeatureRequests:
    """Keeps an encoder and encoded scans, and answers.

    ``Encode`` is answered with ``tokens`` (the handle), ``encoder`` and ``identity``, ``axis`` (of
    the (k, j, i) array along which slices lie), ``slices`` and ``tokens_grid`` (their number and
    the tokens of each), ``seconds`` it took, and ``notes``.
    """

    def __init__(self) -> None:
        self._encoder: Encoder | None = None
        self._key: tuple[object, ...] = ()
        self._store: TokenStore | None = None
        self._exchange: exchange.Exchange | None = None
        self._open: dict[str, OpenScan] = {}
        self._prompts = PromptRequests()

    def answer(
        self, request: FeatureRequest, report: ProgressCallback, stop: StopQuestion
    ) -> dict[str, Any]:
        """Perform a request.

        Raises:
            MedDINOv3Error: anything the user can mend; ``tokens-gone`` if the scan must be encoded
                anew.
            Cancelled: `stop` said so.
        """
        if isinstance(request, Encode):
            return self._encode(request, report, stop)
        if isinstance(request, Explore):
            return self._explore(request, report, stop)
        if isinstance(request, Prompt):
            return self._prompts.answer(request, self.scan(request.tokens).tokens, stop)
        assert isinstance(request, ForgetTokens)
        self._forget(request.tokens)
        return {}

    def scan(self, handle: str) -> OpenScan:
        """The scan of a handle.

        Raises:
            MedDINOv3Error: it was given up.
        """
        found = self._open.get(handle)
        if found is None:
            raise MedDINOv3Error(
                "tokens-gone",
                "The features of this scan are not in memory any more.",
                "They are computed anew when the scan is asked about again.",
            )
        return found

    def encoder(self, name: str, device: str, precision: str) -> Encoder:
        """The encoder, kept from the last request if it is the same.

        Raises:
            MedDINOv3Error: see :func:`load_encoder`.
        """
        name = name or default_encoder()
        folder = find_installed(name)
        file = "backbone.safetensors" if is_backbone(folder) else "model.safetensors"
        stat = (folder / file).stat() if (folder / file).exists() else None
        # A backbone may be fetched or trained anew under the same name.
        written = None if stat is None else (stat.st_mtime_ns, stat.st_size)
        key = (str(folder), written, device, precision)
        if self._encoder is None or key != self._key:
            self.free()
            self._encoder, self._key = load_encoder(name, device, precision), key
        return self._encoder

    def free(self) -> None:
        """Give up the encoder and all features."""
        self._prompts.free()
        self._open.clear()
        if self._store is not None:
            self._store.close()
        self._encoder, self._key = None, ()

    def close(self) -> None:
        """Give up everything, files too."""
        self.free()
        if self._exchange is not None:
            self._exchange.close()
        self._store = self._exchange = None

    def _encode(
        self, request: Encode, report: ProgressCallback, stop: StopQuestion
    ) -> dict[str, Any]:
        encoder = self.encoder(request.encoder, request.device, request.precision)
        volume = _volume(request)
        if request.axis not in (-1, 0, 1, 2):
            raise MedDINOv3Error(
                "bad-request", f"{request.axis} is no index axis.", "Give 0, 1, 2, or -1."
            )
        orientation = (
            feature_orientation(volume.grid, encoder.orientation)
            if request.axis < 0
            else orientation_along(volume.grid, request.axis)
        )
        region = read_region(request.region) if request.region else None
        box = index_box(region, volume.grid, orientation)
        tokens = open_tokens(
            volume,
            encoder,
            orientation=orientation,
            box=box,
            pixels=request.pixels or trained_pixels(encoder, volume.grid, orientation, box),
            store=self._kept(),
        )
        self._drop_given_up()
        handle = secrets.token_hex(8)
        self._open[handle] = OpenScan(volume, tokens, Explorer(tokens))
        try:
            if request.whole:
                tokens.encode(report=report, stop=stop)
        except BaseException:
            self._forget(handle)
            raise
        axis, _ = tokens.where.slice_axis
        return {
            "tokens": handle,
            "encoder": encoder.name,
            "identity": encoder.identity,
            "axis": axis,
            "slices": len(tokens.where.numbers),
            "tokens_grid": list(tokens.where.tokens),
            "notes": tokens.notes,
        }

    def _explore(
        self, request: Explore, report: ProgressCallback, stop: StopQuestion
    ) -> dict[str, Any]:
        scan = self.scan(request.tokens)
        where = scan.tokens.where
        if request.kind not in KINDS:
            raise MedDINOv3Error(
                "bad-request",
                f"'{request.kind}' is nothing to look at.",
                f"Ask for {' or '.join(KINDS)}.",
            )
        if request.point is None and (request.one_slice or request.kind == "similarity"):
            raise MedDINOv3Error("bad-request", "A point is missing.", "Place one in the scan.")
        point = np.zeros(3) if request.point is None else np.array(request.point)
        numbers = None
        if request.one_slice:
            numbers = [min(max(where.token_at(point)[0], where.numbers.start),
                           where.numbers.stop - 1)]  # fmt: skip
        if request.kind == "similarity":
            values = scan.explorer.similarity(point, numbers, report, stop)
        else:
            values = scan.explorer.colours(numbers, report, stop)
        # A slice is handed over as its part of the array, whatever way slices are counted.
        whole = np.zeros((*where.grid.shape, *values.shape[3:]), values.dtype)
        where.orientation.view(whole, where.grid)[
            where.box if numbers is None else (slice(numbers[0], numbers[0] + 1), *where.box[1:])
        ] = values
        axis, _ = where.slice_axis
        index = -1 if numbers is None else where.number_of(numbers[0])
        exchange.write_array(
            Path(request.result), whole if index < 0 else np.take(whole, index, axis)
        )
        return {"axis": axis, "index": index}

    def _kept(self) -> TokenStore:
        if self._store is None:
            # A folder that is swept at the next start, should this process be killed.
            self._exchange = exchange.Exchange()
            self._store = TokenStore(parent=self._exchange.folder)
        return self._store

    def _forget(self, handle: str) -> None:
        found = self._open.pop(handle, None)
        if found is not None and self._store is not None:
            self._store.forget(found.tokens.storage)

    def _drop_given_up(self) -> None:
        """Forget scans whose room was needed."""
        store = self._kept()
        for handle, found in list(self._open.items()):
            if not store.holds(found.tokens.storage):
                del self._open[handle]


def _volume(request: Encode) -> Volume:
    if request.file:
        return read_volume(Path(request.file))
    scan = exchange.read_scan(Path(request.scan))
    return Volume(scan.channels, scan.grid, scan.modality)
