"""A first mask without any training: what is like the clicked places, and near them.

Each voxel is told its likeness to the tokens under positive and under negative points, all levels
of the backbone alike, and to their intensities, which have the scan's own sharpness. What tells
the structure from its surroundings is found in the region itself: the threshold that splits the
likeness there into two classes (N. Otsu, IEEE Trans. SMC 9, 1979). Where a point still lies on the
wrong side, its surroundings are lifted or lowered until it does not (kernel interpolation of the
residuals). As a training-free query of tokens it follows 3DSAM-adapter's point features (arXiv
2306.13465) and DINOv3's dense similarity.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from meddinov3.features.prompts import PlacedPrompts
from meddinov3.features.tokens import TokenVolume
from meddinov3.network.backbone import LEVELS
from meddinov3.region import IndexBox

FloatMap = np.ndarray
P = dict(smooth=0.7, tok=1.0, inten=1.0, reach=0.5, margin=0.5, mix="prod", neg=0.5, local=1.0)


class Likeness:
    """Masks by likeness for one scan.

    Args:
        tokens: of the scan.
    """

    def __init__(self, tokens: TokenVolume) -> None:
        self._tokens = tokens
        self._pictures: dict[int, np.ndarray] = {}

    def __call__(self, region: IndexBox, placed: PlacedPrompts) -> np.ndarray:
        """The mask, boolean (S, rows, columns) of `region`.

        Args:
            region: in the oriented scan, inside the encoded box.
            placed: the points, at least one positive.
        """
        where = self._tokens.where
        spacing = np.array(where.orientation.spacing(where.grid))
        clicks = np.concatenate([placed.inside, placed.outside])
        sign = np.r_[np.ones(len(placed.inside)), -np.ones(len(placed.outside))]
        corner = np.array([part.start for part in region])
        image = self._image(region)
        cos = self._cosines(region, clicks)  # (n, S, R, C)
        scale = max(float(image.std()), 1e-6)
        near = clicks - corner
        levels, widths = [], []
        for number, place in enumerate(clicks):
            local = self._around(place, spacing)
            levels.append(np.median(local))
            widths.append(np.clip(1.5 * local.std(), 0.15 * scale, 0.6 * scale))
        def like(index):
            out = None
            for n in index:
                d = (image - levels[n]) / widths[n]
                one = P["tok"] * cos[n] - P["inten"] * np.minimum(d * d, 9) / 9
                out = one if out is None else np.maximum(out, one)
            return out
        pos = np.flatnonzero(sign > 0); neg = np.flatnonzero(sign < 0)
        score = like(pos)
        if len(neg):
            score = score - P["neg"] * like(neg)
        t, spread = otsu(score)
        score = (score - t) / spread
        # residuals
        axes = np.meshgrid(*(np.arange(n) for n in score.shape), indexing="ij")
        inside = ((near >= 0) & (near < score.shape)).all(1)
        pts, sg = near[inside], sign[inside]
        cur = np.array([score[tuple(p)] for p in pts])
        want = np.where(sg > 0, np.maximum(cur, P["margin"]), np.minimum(cur, -P["margin"]))
        mm = pts * spacing
        D = np.linalg.norm(mm[:, None] - mm[None], axis=-1)
        ell = P["reach"] * self._reach(D, sg, spacing, score.shape)
        K = np.exp(-0.5 * (D / np.sqrt(ell[:, None] * ell[None])) ** 2)
        alpha = np.linalg.solve(K + 1e-3 * np.eye(len(K)), want - cur)
        for a, p, l in zip(alpha, pts, ell):
            d2 = sum(((ax - c) * s) ** 2 for ax, c, s in zip(axes, p, spacing))
            score = score + a * np.exp(-0.5 * d2 / l**2)
        return score > 0

    def _reach(self, D, sg, spacing, shape):
        size = np.min(np.array(shape) * spacing) / 3
        out = np.full(len(sg), size)
        for n in range(len(sg)):
            other = D[n][sg != sg[n]]
            if len(other):
                out[n] = min(out[n], max(other.min(), spacing.max()))
        return out

    def _around(self, place, spacing):
        box = self._tokens.where.box
        r = np.maximum(1, np.round(2.0 * spacing.min() / spacing)).astype(int)
        reg = tuple(slice(max(b.start, p - q), min(b.stop, p + q + 1)) for b, p, q in zip(box, place, r))
        return self._image(reg, 0)

    def _image(self, region, smooth=None):
        first = self._tokens.where.box
        rows, columns = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(region[1:], first[1:]))
        planes = []
        for number in range(region[0].start, region[0].stop):
            if number not in self._pictures:
                self._pictures[number] = self._tokens.pictures([number])[0, 0].cpu().numpy()
            planes.append(self._pictures[number][rows, columns])
        image = np.stack(planes)
        s = P["smooth"] if smooth is None else smooth
        if s:
            sp = np.array(self._tokens.where.orientation.spacing(self._tokens.where.grid))
            image = ndimage.gaussian_filter(image, s * sp.min() / sp)
        return image

    def _cosines(self, region, clicks):
        where, mean = self._tokens.where, self._tokens.mean()
        examples = torch.stack([self._example(c) for c in clicks]) - mean
        examples = F.normalize(examples.unflatten(1, (LEVELS, -1)), dim=-1)
        rows, columns = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(region[1:], where.box[1:]))
        found = []
        for number in range(region[0].start, region[0].stop):
            t = F.normalize((self._tokens.slices([number])[0] - mean).unflatten(-1, (LEVELS, -1)), dim=-1)
            c = torch.einsum("rcld,nld->nrc", t, examples) / LEVELS
            found.append(where.to_slice(c[None])[0, :, rows, columns].cpu().numpy())
        return np.stack(found, 1)

    def _example(self, c):
        where = self._tokens.where
        t = self._tokens.slices([int(c[0])])[0]
        pos = []
        for axis in (0, 1):
            v = (c[axis + 1] - where.box[axis + 1].start + 0.5) / where.plane[axis] * where.size[axis] / 16 - 0.5
            pos.append(min(max(v, 0), where.tokens[axis] - 1))
        r0, c0 = int(pos[0]), int(pos[1])
        r1, c1 = min(r0 + 1, where.tokens[0] - 1), min(c0 + 1, where.tokens[1] - 1)
        fr, fc = pos[0] - r0, pos[1] - c0
        return (t[r0, c0] * (1 - fr) * (1 - fc) + t[r1, c0] * fr * (1 - fc) + t[r0, c1] * (1 - fr) * fc + t[r1, c1] * fr * fc)


def otsu(score):
    v = score.ravel()
    h, e = np.histogram(v, 128)
    m = (e[:-1] + e[1:]) / 2
    w = np.cumsum(h) / h.sum(); mu = np.cumsum(h * m) / h.sum()
    with np.errstate(all="ignore"):
        b = (mu[-1] * w - mu) ** 2 / (w * (1 - w))
    k = int(np.nanargmax(b))
    t = e[k + 1]
    hi, lo = v[v > t].mean(), v[v <= t].mean()
    return t, max((hi - lo) / 2, 1e-6)
