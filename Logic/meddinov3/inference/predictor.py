"""The way through a scan: slices in batches, network, decision on the scan's grid.

Nothing of the size classes x volume ever exists: logits live for one batch of slices and
are decided at once into the label map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from meddinov3.description import ModelDescription
from meddinov3.grid import Grid
from meddinov3.inference import plane
from meddinov3.inference.decision import decide, label_type
from meddinov3.inference.device import autocast
from meddinov3.inference.ladder import MemoryLadder, too_large
from meddinov3.inference.slices import SliceSource
from meddinov3.inference.windows import by_windows
from meddinov3.labels import Label, choose
from meddinov3.network.backbone import PATCH
from meddinov3.progress import ProgressCallback, Steps, StopQuestion, Stopwatch
from meddinov3.region import IndexBox, Region, index_box, patient_points
from meddinov3.volume import Volume

# Network input (B, C, H, W), tokens decoded at a time -> logits (B, K, H, W).
SliceNetwork = Callable[[Tensor, int | None], Tensor]

TOKENS_DECODED = {"cpu": 128}  # stays in a core's cache: a fifth faster than all at once
TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 32768, "mps": 4096}
MARGIN_PIXELS = 32
# Bounds on what depends on the scan's pixels rather than the network's: values in float32.
VALUES_READ, VALUES_DECIDED = 2**23, 2**24


@dataclass(frozen=True)
class Prediction:
    """A label map and how it came about.

    Attributes:
        label_map: (k, j, i) on the scan's grid.
        labels: those that were asked for.
        notes: what the user should know, e.g. that memory ran out.
        seconds: by phase.
    """

    label_map: np.ndarray
    labels: tuple[Label, ...]
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def predict(
    volume: Volume,
    description: ModelDescription,
    network: SliceNetwork,
    device: torch.device,
    *,
    precision: str = "fp32",
    region: Region | None = None,
    labels: list[str] | None = None,
    mirror: bool = False,
    batch: int | None = None,
    report: ProgressCallback | None = None,
    stop: StopQuestion | None = None,
) -> Prediction:
    """Segment a scan.

    Args:
        volume: as many channels as the model has.
        description: the model's.
        network: on `device`, in evaluation mode.
        device, precision: where and how to compute.
        region: only here; everything else is background.
        labels: names or values wanted, all by default.
        mirror: average over the mirrorings that the model allows.
        batch: slices at a time; chosen by the device if None, halved when memory runs out.
        report, stop: progress and the question whether to stop, asked between batches.

    Raises:
        MedDINOv3Error: unknown label, region outside the scan, or not enough memory.
        Cancelled: `stop` said so.
    """
    sampling = description.sampling
    watch = Stopwatch()
    watch.enter("intensities")
    keep = choose(description.labels, labels)
    inner = index_box(region, volume.grid, sampling.orientation)
    source = _source(volume, description, inner, region is not None)
    size = plane.network_size(
        source.size, sampling.orientation.spacing(volume.grid)[1:], sampling.spacing
    )
    computed = sampling.windows or size
    padded = (-(-computed[0] // PATCH), -(-computed[1] // PATCH))
    tokens = padded[0] * padded[1]
    pixels = source.size[0] * source.size[1]
    readable = VALUES_READ // (pixels * description.network_channels)
    at_once = batch or max(1, min(TOKENS_AT_ONCE[device.type] // tokens, readable))
    together = max(1, VALUES_DECIDED // (pixels * description.network.outputs))
    ladder = MemoryLadder(device, at_once, TOKENS_DECODED.get(device.type))
    axes = sampling.mirror_axes if mirror else ()
    label_map = np.zeros(volume.grid.shape, dtype=label_type(description.labels))
    target = sampling.orientation.view(label_map, volume.grid)
    rows, columns = (
        slice(inner[axis].start - source.box[axis].start, inner[axis].stop - source.box[axis].start)
        for axis in (1, 2)
    )

    def logits_of(slices: Tensor) -> Tensor:
        if sampling.windows is None:
            return _mirrored(network, slices, axes, ladder.chunk)
        return by_windows(
            lambda part: _mirrored(network, part, axes, ladder.chunk), slices, sampling.windows
        )

    def decided(numbers: range) -> np.ndarray:
        watch.enter("resample")
        slices = plane.to_network(source.batch(numbers, device), size)
        watch.enter("network")
        with torch.inference_mode(), autocast(device, precision):
            logits = logits_of(slices)
            _wait(device)
        watch.enter("decide")
        values = [
            decide(
                plane.to_scan(part, source.size)[..., rows, columns],
                description.labels,
                description.regions,
                keep,
            )
            for part in torch.split(logits, together)
        ]
        return torch.cat(values).cpu().numpy()

    def single(shape: tuple[int, int]) -> Tensor:
        with torch.inference_mode(), autocast(device, precision):
            return network(torch.zeros(1, description.network_channels, *shape, device=device),
                           ladder.chunk)  # fmt: skip

    steps = Steps("segmenting", inner[0].stop - inner[0].start, report, stop)
    position = inner[0].start
    while position < inner[0].stop:
        steps.check()
        numbers = range(position, min(position + ladder.batch, inner[0].stop))
        try:
            values = ladder.attempt(lambda numbers=numbers: decided(numbers), tokens)  # type: ignore[misc]
        except MemoryError:
            values = None
            spacing = sampling.spacing or sampling.orientation.spacing(volume.grid)[1:]
            raise too_large(computed, spacing, device, single) from None
        if values is None:
            continue
        watch.enter("place")
        for number, plane_values in zip(numbers, values, strict=True):
            if region is not None:
                points = patient_points(volume.grid, sampling.orientation, inner, number)
                plane_values = np.where(region.contains(points), plane_values, 0)
            target[number, inner[1], inner[2]] = plane_values
        position = numbers.stop
        steps.advance(len(numbers))
    watch.enter("")
    return Prediction(label_map, keep, [*source.notes, *ladder.notes], watch.seconds)


def _source(
    volume: Volume, description: ModelDescription, inner: IndexBox, has_region: bool
) -> SliceSource:
    """Slices of the region; intensities are fitted to the whole scan unless boxes were trained."""
    box = computed_box(volume.grid, description, inner, has_region)
    boxes = has_region and description.purpose.trained_on == "boxes"
    orientation = description.sampling.orientation
    return SliceSource(
        volume,
        description.schemes,
        description.sampling,
        box,
        inner if boxes else index_box(None, volume.grid, orientation),
    )


def computed_box(
    grid: Grid, description: ModelDescription, inner: IndexBox, has_region: bool
) -> IndexBox:
    """What is computed of a scan for the box `inner` of (slices, rows, columns).

    A region has a margin of context unless the model was trained on boxes.
    """
    orientation, sampling = description.sampling.orientation, description.sampling
    whole = index_box(None, grid, orientation)
    if not has_region or description.purpose.trained_on == "boxes":
        return inner if has_region else whole
    spacing = orientation.spacing(grid)[1:]
    wanted = sampling.spacing or spacing
    margins = [round(MARGIN_PIXELS * w / s) for w, s in zip(wanted, spacing, strict=True)]
    rows, columns = (
        slice(max(0, part.start - margin), min(limit.stop, part.stop + margin))
        for part, limit, margin in zip(inner[1:], whole[1:], margins, strict=True)
    )
    return (whole[0], rows, columns)  # context slices may lie outside the region


def _mirrored(
    network: SliceNetwork, slices: Tensor, axes: tuple[int, ...], chunk: int | None
) -> Tensor:
    """Mean logits over all combinations of mirroring along in-plane `axes`."""
    combinations: list[tuple[int, ...]] = [()]
    for axis in axes:
        combinations += [(*done, axis - 2) for done in combinations]
    total: Tensor | None = None
    for dimensions in combinations:
        logits = network(slices.flip(dimensions), chunk).flip(dimensions)
        total = logits if total is None else total + logits
    assert total is not None
    return total / len(combinations)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":  # so that time is booked to the phase that spent it
        torch.cuda.synchronize(device)
