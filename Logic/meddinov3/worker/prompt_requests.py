"""The worker's answers to points and boxes, on scans whose features are warm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from meddinov3.errors import MedDINOv3Error
from meddinov3.features.click_model import ClickModel, load_click_model
from meddinov3.features.prompting import PromptSession
from meddinov3.features.prompts import Prompts
from meddinov3.features.tokens import TokenVolume
from meddinov3.model_store import WEIGHTS_FILE, find_model
from meddinov3.progress import StopQuestion
from meddinov3.region import BoxRegion, read_region
from meddinov3.worker import exchange
from meddinov3.worker.messages import Prompt


class PromptRequests:
    """Keeps the click model and the session of the scan that is worked on."""

    def __init__(self) -> None:
        self._model: ClickModel | None = None
        self._model_key: tuple[object, ...] = ()
        self._session: PromptSession | None = None
        self._session_key: tuple[object, ...] = ()

    def free(self) -> None:
        """Give everything up."""
        self._model = self._session = None
        self._model_key, self._session_key = (), ()

    def answer(self, request: Prompt, tokens: TokenVolume, stop: StopQuestion) -> dict[str, Any]:
        """Perform a request; ``voxels`` says how large the mask is, ``model`` what answered.

        Args:
            request: names the scan by its handle.
            tokens: of that scan.
            stop: asked while the mask is looked for.

        Raises:
            MedDINOv3Error: anything the user can mend.
            Cancelled: `stop` said so.
        """
        grid = tokens.where.grid
        region = read_region(request.box) if request.box else None
        if region is not None and not isinstance(region, BoxRegion):
            raise MedDINOv3Error(
                "bad-region", "A label map is no box.", "Give six or fifteen numbers, or an ROI."
            )
        previous = None
        if request.previous:
            previous = exchange.read_label_map(Path(request.previous), grid)
        prompts = Prompts(
            np.array(request.positive, dtype=np.float64).reshape(-1, 3),
            np.array(request.negative, dtype=np.float64).reshape(-1, 3),
            region,
            previous,
        )
        mask = self._warm(request, tokens).answer(prompts, stop)
        exchange.write_label_map(Path(request.result), mask.astype(np.uint8))
        return {"voxels": int(mask.sum()), "model": request.model}

    def _warm(self, request: Prompt, tokens: TokenVolume) -> PromptSession:
        model: ClickModel | None = None
        key: tuple[object, ...] = ()
        if request.model:
            folder = find_model(request.model)
            weights = folder / WEIGHTS_FILE
            # A model may be trained anew under the same name.
            written = weights.stat().st_mtime_ns if weights.is_file() else 0
            encoder = tokens.encoder
            key = (str(folder), written, str(encoder.device), encoder.precision)
            if self._model is None or key != self._model_key:
                self.free()
                self._model = load_click_model(str(folder), str(encoder.device), encoder.precision)
                self._model_key = key
            model = self._model
        session_key = (request.tokens, *key)
        if self._session is None or session_key != self._session_key:
            self._session, self._session_key = PromptSession(tokens, model), session_key
        return self._session
