"""Points and boxes on a scan whose tokens are there: a mask at once, better with each click.

>>> model = load_click_model("my-click-model", device="cpu")  # or None: by likeness alone
>>> session = PromptSession(open_click_tokens(volume, model), model)
>>> mask = session.answer(Prompts(positive=np.array([[12.0, -30.5, 80.0]])))
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from meddinov3.errors import MedDINOv3Error
from meddinov3.features.click_model import ClickDecoder, ClickModel
from meddinov3.features.prompts import PlacedPrompts, Prompts, place_prompts
from meddinov3.features.similarity_mask import Likeness
from meddinov3.features.tokens import TokenVolume
from meddinov3.features.work_region import first_region, grow
from meddinov3.progress import StopQuestion
from meddinov3.region import IndexBox, patient_points


class PromptSession:
    """Answers prompts on one scan.

    Args:
        tokens: of the scan.
        model: trained on the same backbone; None answers by likeness of features, without any
            training.

    Raises:
        MedDINOv3Error: the tokens are not those of the model's backbone.
    """

    def __init__(self, tokens: TokenVolume, model: ClickModel | None = None) -> None:
        self._tokens = tokens
        self._decoder = None if model is None else ClickDecoder(tokens, model)
        self._likeness = Likeness(tokens)

    def answer(self, prompts: Prompts, stop: StopQuestion | None = None) -> np.ndarray:
        """The mask of what is meant, boolean (k, j, i) on the scan's grid.

        It is a function of the scan and the prompts: fewer prompts give again what they gave
        before. Positive points are inside, negative ones outside, nothing is outside the box, and
        every part is connected to a positive point.

        Args:
            prompts: with at least one positive point or a box.
            stop: asked before the mask is looked for further out.

        Raises:
            MedDINOv3Error: the prompts make no sense on this scan.
            Cancelled: `stop` said so.
        """
        where = self._tokens.where
        if prompts.previous is not None and prompts.previous.shape != where.grid.shape:
            raise MedDINOv3Error(
                "wrong-shape",
                "The mask so far is not on the scan's grid.",
                "Start the structure anew.",
            )
        placed = place_prompts(prompts, where)
        previous = None
        if prompts.previous is not None:
            previous = where.orientation.view(prompts.previous, where.grid)[where.box] != 0
        start = first_region(prompts, placed, where)
        box = self._box_mask(prompts, start)

        def solve(region: IndexBox) -> np.ndarray:
            if self._decoder is not None:
                mask = self._decoder(region, placed, box, previous)
            else:
                mask = self._likeness(region, placed)
            return self._settled(mask, region, placed, box)

        region, mask = grow(start, where, solve, prompts.box is not None, stop)
        whole = np.zeros(where.grid.shape, dtype=bool)
        where.orientation.view(whole, where.grid)[region] = mask
        return whole

    def _settled(
        self, mask: np.ndarray, region: IndexBox, placed: PlacedPrompts, box: np.ndarray | None
    ) -> np.ndarray:
        """The mask with every promise kept."""
        corner = np.array([part.start for part in region])
        inside, outside = (
            [tuple(place) for place in places - corner
             if ((place >= 0) & (place < mask.shape)).all()]
            for places in (placed.inside, placed.outside)
        )  # fmt: skip
        if box is not None:
            start = [part.start for part in self._tokens.where.box]
            part = tuple(slice(a.start - s, a.stop - s) for a, s in zip(region, start, strict=True))
            mask = mask & box[part]
        for place in outside:
            mask[place] = False
        for place in inside:
            mask[place] = True
        parts, count = ndimage.label(mask)
        if inside:
            wanted = {int(parts[place]) for place in inside}
        elif count:
            wanted = {int(np.bincount(parts.ravel())[1:].argmax()) + 1}
        else:
            wanted = set()
        return np.isin(parts, sorted(wanted))

    def _box_mask(self, prompts: Prompts, region: IndexBox) -> np.ndarray | None:
        """Voxels of the encoded box that lie in the user's box, boolean (S, rows, columns).

        Args:
            prompts: with the box.
            region: which holds all of it that lies in the encoded box.
        """
        if prompts.box is None:
            return None
        where = self._tokens.where
        mask = np.zeros([part.stop - part.start for part in where.box], dtype=bool)
        corner = [part.start for part in where.box]
        _, rows, columns = (
            slice(part.start - start, part.stop - start)
            for part, start in zip(region, corner, strict=True)
        )
        for number in range(region[0].start, region[0].stop):
            points = patient_points(where.grid, where.orientation, region, number)
            mask[number - corner[0], rows, columns] = prompts.box.contains(points)
        return mask
