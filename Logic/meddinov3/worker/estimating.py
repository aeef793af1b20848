"""What a segmentation will take: seconds and memory, measured once for each kind of slice."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from meddinov3.grid import Grid
from meddinov3.inference.decision import label_type
from meddinov3.inference.device import describe_device
from meddinov3.inference.predictor import computed_box
from meddinov3.memory import machine_memory, peak_memory
from meddinov3.progress import StopQuestion
from meddinov3.region import index_box, read_region
from meddinov3.segmentation import Model
from meddinov3.speed import Speed, measure
from meddinov3.worker.messages import Estimate


class Estimator:
    """Measures, and remembers what it measured.

    Attributes:
        largest_scan: bytes of the largest scan and label map that this process has held.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Speed] = {}
        self.largest_scan = 0

    def estimate(self, request: Estimate, model: Model, stop: StopQuestion) -> dict[str, Any]:
        """Seconds and bytes for a scan, nothing of which is needed but where its voxels lie.

        The memory is what the process held while the slices were measured, beside the scan; where
        it had held more before, that peak less the largest scan, which may be too little.

        Raises:
            MedDINOv3Error: the region is none or lies outside the scan, or memory does not
                suffice for one slice.
            Cancelled: `stop` said so.
        """
        description, orientation = model.description, model.description.sampling.orientation
        grid = _grid(request)
        region = read_region(request.region) if request.region else None
        inner = index_box(region, grid, orientation)
        box = computed_box(grid, description, inner, region is not None)
        size = (box[1].stop - box[1].start, box[2].stop - box[2].start)
        spacing = orientation.spacing(grid)[1:]
        slices = inner[0].stop - inner[0].start
        key = (
            description.id, description.weights_sha256, str(model.device), model.precision,
            size, spacing, request.mirror,
        )  # fmt: skip
        if key not in self._known:
            before = peak_memory()
            speed = measure(model, size, spacing, slices, mirror=request.mirror, stop=stop)
            rose = speed.memory > before  # no scan is held while slices are measured
            constant = speed.memory if rose else max(0, before - self.largest_scan)
            self._known[key] = Speed(speed.seconds, constant, speed.gpu_memory)
        speed = self._known[key]
        on_card = model.device.type == "cuda"
        free, total = torch.cuda.mem_get_info(model.device) if on_card else (0, 0)
        return {
            "seconds": speed.seconds * slices,
            "slices": slices,
            "memory": speed.memory + scan_bytes(grid, model, request.voxel_bytes),
            "machine_memory": machine_memory(),
            "device": model.device.type,
            "name": describe_device(model.device),
            "precision": model.precision,
            "gpu_memory": speed.gpu_memory if on_card else None,
            "gpu_free": free + torch.cuda.memory_reserved(model.device) if on_card else None,
            "gpu_total": total if on_card else None,
        }


def scan_bytes(grid: Grid, model: Model, voxel_bytes: int) -> int:
    """Of a scan's channels and its label map."""
    label = np.dtype(label_type(model.description.labels)).itemsize
    voxels = int(np.prod(grid.shape, dtype=np.int64))
    return voxels * (voxel_bytes * len(model.description.channels) + label)


def _grid(request: Estimate) -> Grid:
    direction = np.array(request.direction, np.float64).reshape(3, 3)
    return Grid(request.size, request.spacing, request.origin, direction)
