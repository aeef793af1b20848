"""The worker keeps a scan's features and answers questions on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from meddinov3.errors import MedDINOv3Error
from meddinov3.features.encoder import load_encoder
from meddinov3.features.encoding import open_tokens
from meddinov3.features.explorer import Explorer
from meddinov3.features.storage import TokenStore
from meddinov3.grid import Grid
from meddinov3.volume import Volume
from meddinov3.worker.exchange import Exchange, read_array, write_scan
from meddinov3.worker.feature_requests import FeatureRequests
from meddinov3.worker.messages import Encode, Explore, ForgetTokens, FreeMemory
from meddinov3.worker.process import WorkerProcess
from workers import LONG, scan_array, tiny, worker

# Stored feet first and right to left, so that an axis forgotten anywhere shows.
GRID = Grid((48, 40, 6), (1.0, 1.0, 2.0), (-20.0, 5.0, 7.5), np.diag([-1.0, 1.0, -1.0]))
POINT = tuple(float(mm) for mm in GRID.to_patient(np.array([30.0, 12.0, 4.0])))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny(tmp_path)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with Exchange(tmp_path) as made:
        yield made


def encode(bundle: Path, exchange: Exchange, **fields: object) -> Encode:
    scan = exchange.new("scan")
    write_scan(scan, [scan_array(GRID)], GRID, "MR")
    return Encode(str(scan), encoder=str(bundle), device="cpu", pixels=96, **fields)  # type: ignore[arg-type]


def answers(features: FeatureRequests, request: object) -> dict[str, object]:
    return features.answer(request, lambda progress: None, lambda: False)  # type: ignore[arg-type]


def expected_likeness(bundle: Path) -> np.ndarray:
    volume = Volume((scan_array(GRID),), GRID, "MR")
    tokens = open_tokens(volume, load_encoder(str(bundle), "cpu"), pixels=96)
    values = Explorer(tokens).similarity(np.array(POINT))
    whole = np.zeros(GRID.shape, np.int8)
    tokens.where.orientation.view(whole, GRID)[:] = values
    return whole


def test_a_warm_scan_is_explored_in_another_process(
    tmp_path: Path, bundle: Path, exchange: Exchange
) -> None:
    expected = expected_likeness(bundle)
    with worker(tmp_path) as running:
        assert isinstance(running, WorkerProcess)
        made = running.result(encode(bundle, exchange), LONG)
        assert (made["axis"], made["slices"], made["tokens_grid"]) == (0, 6, [5, 6])
        handle, result = made["tokens"], exchange.new("likeness")
        running.result(Explore(handle, str(result), point=POINT), LONG)
        found = read_array(result)
        assert np.array_equal(found, expected) and found[4, 12, 30] > 50
        one = exchange.new("one")
        asked = Explore(handle, str(one), point=POINT, one_slice=True)
        told = running.result(asked, LONG)
        assert told == {"axis": 0, "index": 4}
        assert np.array_equal(read_array(one), expected[4])
        colours = exchange.new("colours")
        running.result(Explore(handle, str(colours), "colours"), LONG)
        assert read_array(colours).shape == (6, 40, 48, 3)
        running.result(FreeMemory(), LONG)
        with pytest.raises(MedDINOv3Error, match="not in memory") as gone:
            running.result(asked, LONG)
        assert gone.value.code == "tokens-gone"


def test_a_region_leaves_the_rest_empty_and_a_plane_can_be_asked_for(
    bundle: Path, exchange: Exchange
) -> None:
    features = FeatureRequests()
    corners = GRID.to_patient(np.array([[20.0, 10.0, 0.0], [35.0, 30.0, 5.0]]))
    corners *= (-1, -1, 1)  # regions are told in Slicer's RAS
    low, high = corners.min(0) - 0.1, corners.max(0) + 0.1
    region = ",".join(f"{mm:.1f}" for mm in np.stack([low, high], 1).ravel())
    made = answers(features, encode(bundle, exchange, region=region, axis=1))
    assert made["axis"] == 1 and made["slices"] == 21
    result = exchange.new("likeness")
    answers(features, Explore(str(made["tokens"]), str(result), point=POINT))
    found = read_array(result)
    assert found[:, 10:31, 20:36].any() and not found[:, :10].any() and not found[..., :20].any()
    features.close()


def test_scans_that_were_forgotten_or_gave_way_are_gone(bundle: Path, exchange: Exchange) -> None:
    features = FeatureRequests()
    first, second = (str(answers(features, encode(bundle, exchange))["tokens"]) for _ in range(2))
    answers(features, ForgetTokens(first))
    answers(features, ForgetTokens("never seen"))
    features.scan(second)
    with pytest.raises(MedDINOv3Error, match="not in memory"):
        features.scan(first)
    size = 6 * 30 * 4 * 32 * 2
    features._store = TokenStore(size, 0)
    third = str(answers(features, encode(bundle, exchange))["tokens"])
    fourth = str(answers(features, encode(bundle, exchange))["tokens"])
    with pytest.raises(MedDINOv3Error, match="not in memory"):
        features.scan(third)
    features.scan(fourth)
    features.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "beauty"}, "nothing to look at"),
        ({"point": None}, "point is missing"),
        ({"kind": "colours", "point": None, "one_slice": True}, "point is missing"),
        ({"point": (900.0, 0.0, 0.0)}, "outside"),
    ],
)
def test_questions_without_sense_are_refused(
    bundle: Path, exchange: Exchange, change: dict[str, object], said: str
) -> None:
    features = FeatureRequests()
    handle = str(answers(features, encode(bundle, exchange, whole=False))["tokens"])
    request = dataclasses.replace(
        Explore(handle, str(exchange.new("likeness")), point=POINT),
        **change,  # type: ignore[arg-type]
    )
    with pytest.raises(MedDINOv3Error, match=said):
        answers(features, request)
    features.close()


def test_a_bad_plane_is_refused_and_nothing_stays_open(bundle: Path, exchange: Exchange) -> None:
    features = FeatureRequests()
    with pytest.raises(MedDINOv3Error, match="no index axis"):
        answers(features, encode(bundle, exchange, axis=3))
    assert not features._open
