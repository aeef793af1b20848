"""A first mask without any training: what is like the clicked places, and near them.

Each voxel is told how much it is like each click: by the cosine of its token, all levels of the
backbone alike, and by its intensity, which has the scan's own sharpness. How far a click reaches is
read from the scan: the radius at which what is inside is most unlike the shell around it (scale
selection, T. Lindeberg, IJCV 30, 1998). Clicks are then interpolated by kernels of that reach times
the likeness, +1 at positive and -1 at negative ones, and less than nothing far from all of them (a
Gaussian process with that prior), so that every further click is obeyed at once. As a query of
tokens without training it follows 3DSAM-adapter's point features (arXiv 2306.13465).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from meddinov3.features.prompts import PlacedPrompts
from meddinov3.features.tokens import TokenVolume
from meddinov3.network.backbone import LEVELS, PATCH
from meddinov3.region import IndexBox

SMOOTHED = 0.7  # voxels of the finest axis, before intensities are compared
SHARPNESS = (0.2, 0.7)  # bounds of a click's intensity range, in deviations of the region
INTENSITY = 0.5  # weight of intensities, where that of tokens is 1
REACHES = tuple(3.0 * 1.2**n for n in range(20))  # mm, tried
SHELL = 1.4  # outer radius of the shell, in reaches
LARGER = 0.15  # preference of larger reaches, as a power of theirs
WIDTH = 0.8  # of the kernel, in reaches
NEAREST = 0.7  # of the distance to a click that contradicts it
PRIOR = -0.5  # what is believed far from every click
SLACK = 1e-2  # that keeps the equations solvable where clicks lie together
FEWEST = 20  # voxels that a mean is taken of
ENCIRCLED = 3.0  # voxels around a click whose intensities are its own


class Likeness:
    """Masks by likeness for one scan; keeps what later answers need again.

    Args:
        tokens: of the scan.
    """

    def __init__(self, tokens: TokenVolume) -> None:
        self._tokens = tokens
        self._pictures: dict[int, np.ndarray] = {}
        self._spacing = np.array(tokens.where.orientation.spacing(tokens.where.grid))

    def __call__(self, region: IndexBox, placed: PlacedPrompts) -> np.ndarray:
        """The mask, boolean (S, rows, columns) of `region`.

        Args:
            region: in the oriented scan, inside the encoded box; holds the positive points.
            placed: the points; negative ones beyond the region are of no account. Without a
                positive one the middle of the region stands for it.
        """
        inside, corner = placed.inside, np.array([part.start for part in region])
        if not len(inside):
            inside = np.array([[(part.start + part.stop - 1) // 2 for part in region]])
        end = np.array([part.stop for part in region])
        far = ((placed.outside < corner) | (placed.outside >= end)).any(axis=1)
        outside = placed.outside[~far]
        clicks = np.concatenate([inside, outside])
        signs = np.concatenate([np.ones(len(inside)), -np.ones(len(outside))])
        like = self._like(region, clicks)
        distance = self._distances(clicks - corner, like.shape[1:])
        positive = len(inside)
        reach = _reach(like[:positive].max(axis=0), distance[:positive].min(axis=0))
        widths = self._widths(clicks, signs, WIDTH * reach)
        kernels = np.exp(-0.5 * (distance / widths[:, None, None, None]) ** 2) * like
        places = [tuple(place) for place in clicks - corner]
        among = np.array([[kernel[place] for place in places] for kernel in kernels])
        weights = np.linalg.solve(among.T + SLACK * np.eye(len(places)), signs - PRIOR)
        found: np.ndarray = np.tensordot(weights, kernels, 1) + PRIOR > 0
        return found

    def _widths(self, clicks: np.ndarray, signs: np.ndarray, most: float) -> np.ndarray:
        """Each click's kernel width (n,) in mm: it does not reach past those that contradict it."""
        places = clicks * self._spacing
        apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
        apart = np.where(signs[:, None] == signs[None], np.inf, apart)
        nearest = NEAREST * apart.min(axis=1)
        return np.asarray(np.clip(nearest, self._spacing.max(), most))

    def _like(self, region: IndexBox, clicks: np.ndarray) -> np.ndarray:
        """Likeness (n, S, rows, columns) of a region's voxels to voxels (n, 3), at most 1."""
        image = self._image(region)
        blurred = ndimage.gaussian_filter(image, SMOOTHED * self._spacing.min() / self._spacing)
        deviation = max(float(blurred.std()), 1e-6)
        cosines = self._cosines(region, clicks)
        likes = []
        for cosine, click in zip(cosines, clicks, strict=True):
            own = self._image(self._around(click))
            low, high = (share * deviation for share in SHARPNESS)
            apart = (blurred - np.median(own)) / np.clip(2 * own.std(), low, high)
            likes.append(np.exp(cosine - 1 - INTENSITY * np.minimum(apart**2 / 2, 4)))
        return np.stack(likes)

    def _around(self, click: np.ndarray) -> IndexBox:
        """The few voxels around a voxel, as wide in mm along every axis as there are voxels."""
        reach = np.floor(ENCIRCLED / 2 * self._spacing.min() / self._spacing + 0.5).astype(int)
        slices, rows, columns = (
            slice(max(part.start, int(place - more)), min(part.stop, int(place + more) + 1))
            for part, place, more in zip(self._tokens.where.box, click, reach, strict=True)
        )
        return (slices, rows, columns)

    def _distances(self, places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Distance in mm (n, S, rows, columns) of a region's voxels to places (n, 3) in it."""
        axes = np.ogrid[tuple(slice(count) for count in shape)]
        return np.stack([
            np.sqrt(sum(
                ((axis - at) * mm) ** 2
                for axis, at, mm in zip(axes, place, self._spacing, strict=True)
            ))
            for place in places
        ])  # fmt: skip

    def _image(self, region: IndexBox) -> np.ndarray:
        """Normalised intensities (S, rows, columns) of the first channel."""
        box = self._tokens.where.box
        _, rows, columns = (
            slice(part.start - limit.start, part.stop - limit.start)
            for part, limit in zip(region, box, strict=True)
        )
        planes = []
        for number in range(region[0].start, region[0].stop):
            if number not in self._pictures:
                self._pictures[number] = self._tokens.pictures([number])[0, 0].cpu().numpy()
            planes.append(self._pictures[number][rows, columns])
        return np.stack(planes)

    def _cosines(self, region: IndexBox, clicks: np.ndarray) -> np.ndarray:
        """Mean cosine of the levels (n, S, rows, columns), both tokens less the mean token."""
        where, mean = self._tokens.where, self._tokens.mean()
        examples = torch.stack([self._token_at(click) for click in clicks]) - mean
        examples = F.normalize(torch.unflatten(examples, 1, (LEVELS, -1)), dim=-1)
        _, rows, columns = (
            slice(part.start - limit.start, part.stop - limit.start)
            for part, limit in zip(region, where.box, strict=True)
        )
        found = []
        for number in range(region[0].start, region[0].stop):
            tokens = torch.unflatten(self._tokens.slices([number])[0] - mean, -1, (LEVELS, -1))
            cosines = torch.einsum("rcld,nld->nrc", F.normalize(tokens, dim=-1), examples) / LEVELS
            found.append(where.to_slice(cosines[None])[0, :, rows, columns].cpu().numpy())
        return np.stack(found, axis=1)

    def _token_at(self, click: np.ndarray) -> torch.Tensor:
        """The token (W,) at the centre of a voxel, interpolated in its slice."""
        where = self._tokens.where
        tokens = self._tokens.slices([int(click[0])])[0]
        for axis in (0, 1):
            voxel = click[axis + 1] - where.box[axis + 1].start + 0.5
            place = voxel / where.plane[axis] * where.size[axis] / PATCH - 0.5
            place = min(max(place, 0.0), where.tokens[axis] - 1.0)
            low = int(place)
            high = min(low + 1, where.tokens[axis] - 1)
            tokens = torch.lerp(tokens[low], tokens[high], float(place - low))
        return tokens


def _reach(like: np.ndarray, distance: np.ndarray) -> float:
    """The radius (mm) around the positive clicks that is most unlike the shell outside it.

    Args:
        like: likeness to the most like positive click.
        distance: to the nearest positive click, mm.
    """
    best, chosen = -np.inf, REACHES[0]
    for reach in REACHES:
        inner, shell = distance <= reach, (distance > reach) & (distance <= SHELL * reach)
        if inner.sum() < FEWEST or shell.sum() < FEWEST:
            continue
        contrast = float(like[inner].mean() - like[shell].mean()) * reach**LARGER
        if contrast > best:
            best, chosen = contrast, reach
    return chosen
