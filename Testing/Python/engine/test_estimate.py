"""What a segmentation will take is measured, and roughly what it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import describe, make_bundle
from meddinov3 import speed
from meddinov3.description import Purpose, Sampling
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid, SliceOrientation
from meddinov3.segmentation import load_model
from meddinov3.worker import estimating
from meddinov3.worker.estimating import Estimator
from meddinov3.worker.exchange import Exchange
from meddinov3.worker.messages import Estimate, decode_request, encode_request
from workers import LONG, request, worker

SCAN = Estimate("tiny", (48, 40, 20), (1.0, 1.0, 2.0))


def never() -> bool:
    return False


@pytest.fixture
def model(tmp_path: Path) -> speed.Model:
    return load_model(str(make_bundle(tmp_path / "tiny", describe("liver", "spleen"))), "cpu")


def test_the_request_survives_the_way() -> None:
    asked = replace(SCAN, region="1,2,3,4,5,6", direction=(0.0, 1.0, 0.0) * 3)
    assert decode_request(encode_request(7, asked)) == (7, asked)


def test_the_worker_answers_near_the_truth(tmp_path: Path) -> None:
    grid = Grid((256, 256, 60), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
    bundle = make_bundle(tmp_path / "tiny", describe("liver", "spleen"))
    with Exchange(tmp_path) as exchange, worker(tmp_path) as process:
        asked = Estimate(str(bundle), grid.size, grid.spacing, device="cpu")
        told = process.result(asked, LONG)
        done = process.result(request(bundle, exchange, grid), LONG)
        again = process.result(asked, LONG)
    assert told["slices"] == 60 and told["device"] == "cpu" and "CPU" in told["name"]
    assert told["gpu_memory"] is None and told["machine_memory"] > 2**28
    computed = {"intensities", "resample", "network", "decide", "place"}
    seconds = sum(v for phase, v in done["seconds"].items() if phase in computed)
    assert seconds / 4 < told["seconds"] < seconds * 4, "within what a busy machine does"
    peak = done["report"]["peak_memory_mib"] * 2**20
    assert 0.7 * peak < told["memory"] < 1.4 * peak
    assert again["seconds"] == told["seconds"], "measured once"


def test_slices_are_measured_once_for_a_kind_of_slice(
    model: speed.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def measured(_model: object, size: object, *_rest: object, **_options: object) -> speed.Speed:
        sizes.append(size)
        return speed.Speed(0.5, 1000, 0)

    monkeypatch.setattr(estimating, "measure", measured)
    monkeypatch.setattr(estimating, "peak_memory", lambda: 900)
    estimator = Estimator()
    voxels = 48 * 40 * 20
    told = estimator.estimate(SCAN, model, never)
    assert (told["seconds"], told["memory"]) == (10.0, 1000 + 3 * voxels)
    longer = estimator.estimate(replace(SCAN, size=(48, 40, 40), voxel_bytes=4), model, never)
    assert (longer["seconds"], longer["memory"]) == (20.0, 1000 + 10 * voxels)
    assert sizes == [(40, 48)]
    estimator.estimate(replace(SCAN, mirror=True), model, never)
    assert len(sizes) == 2


def test_a_region_is_computed_with_its_margin(
    model: speed.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def measured(_model: object, size: object, *_rest: object, **_options: object) -> speed.Speed:
        sizes.append(size)
        return speed.Speed(1.0, 0, 0)

    monkeypatch.setattr(estimating, "measure", measured)
    wide = replace(SCAN, size=(200, 300, 20), region="-100,-90,-160,-140,0,10")
    told = Estimator().estimate(wide, model, never)
    assert told["slices"] == 6
    assert sizes == [(21 + 64, 11 + 64)]
    boxes = replace(model.description, purpose=Purpose(trained_on="boxes"))
    Estimator().estimate(wide, replace(model, description=boxes), never)
    assert sizes[1] == (21, 11)
    with pytest.raises(MedDINOv3Error, match="does not touch"):
        Estimator().estimate(replace(wide, region="0,1,0,1,900,901"), model, never)


@pytest.mark.parametrize("code", ["LPS", "RAS", "SLP", "PIR", "ijk"])
def test_slices_are_tried_the_way_the_model_wants_them(model: speed.Model, code: str) -> None:
    for axis in code:
        orientation = SliceOrientation(code, axis)
        sampling = Sampling(orientation=orientation)
        turned = replace(model, description=replace(model.description, sampling=sampling))
        volume = speed.blank_scan(turned, (30, 20), (0.5, 2.0), 3)
        assert orientation.view(volume.channels[0], volume.grid).shape == (3, 30, 20)
        assert orientation.spacing(volume.grid)[1:] == (0.5, 2.0)
