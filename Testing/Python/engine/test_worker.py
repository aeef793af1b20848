"""The worker as a process: warm, and unharmed by what goes wrong around it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import describe, make_bundle, random_grid
from hub_server import Hub, library_alone
from meddinov3.bundle import update_description
from meddinov3.catalogue import find_entry
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid, SliceOrientation
from meddinov3.model_store import read_description
from meddinov3.progress import Progress
from meddinov3.segmentation import load_model, segment
from meddinov3.volume import Volume
from meddinov3.worker.client import Listener
from meddinov3.worker.exchange import Exchange, read_label_map
from meddinov3.worker.messages import FreeMemory, Inspect, Load, Pull, Segment, encode_request
from meddinov3.worker.process import WorkerProcess, worker_command
from workers import (
    GRID,
    LONG,
    environment,
    log_of,
    request,
    scan_array,
    tiny,
    wait_until_ready,
    worker,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny(tmp_path)


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with Exchange(tmp_path) as opened:
        yield opened


def test_segments_as_python_does_and_the_second_costs_no_start_up(
    tmp_path: Path, bundle: Path, exchange: Exchange
) -> None:
    oblique = random_grid(5, oblique=True)
    with worker(tmp_path) as process:
        heard: list[Progress] = []
        first = request(bundle, exchange, oblique, labels=("spleen",), mirror=True)
        job = process.wait(process.ask(first, Listener(progress=heard.append)), LONG)
        assert job.state == "done", job.details
        assert job.result is not None
        model = load_model(str(bundle), "cpu")
        scan = Volume((scan_array(oblique),), oblique, "MR")
        expected = segment(scan, model, labels=["spleen"], mirror=True)
        found = read_label_map(Path(first.result), oblique)
        np.testing.assert_array_equal(found, expected.label_map)
        assert found.any() and job.result["labels"] == [2]
        assert job.result["notes"] == expected.notes
        assert {"read scan", "write"} < {event.phase for event in heard}
        assert heard[-2].done == heard[-2].total > 0

        second = process.result(request(bundle, exchange), LONG)
        assert job.result["seconds"]["load model"] > 3 * second["seconds"]["load model"]
        process.result(FreeMemory(), LONG)
        third = process.result(request(bundle, exchange), LONG)
        assert third["seconds"]["load model"] > second["seconds"]["load model"]
        ready = process.client.ready
    assert ready is not None and ready["device"] in ("cpu", "cuda", "mps")
    assert process.client.failure is not None, "closed"
    assert str(tmp_path) not in log_of(tmp_path), "file names may hold patients' names"


def test_a_model_trained_anew_under_its_name_is_loaded_anew(
    tmp_path: Path, bundle: Path, exchange: Exchange
) -> None:
    with worker(tmp_path) as process:
        results = []
        for seed in (0, 1):
            if seed:
                bundle.rename(tmp_path / "old")
                make_bundle(bundle, describe("liver", "spleen"), seed)
            asked = request(bundle, exchange)
            process.result(asked, LONG)
            results.append(read_label_map(Path(asked.result), GRID))
    assert (results[0] != results[1]).any()


def test_a_model_described_anew_is_loaded_anew(
    tmp_path: Path, bundle: Path, exchange: Exchange
) -> None:
    """As when a results folder is imported again with its orientation."""
    with worker(tmp_path) as process:
        first = request(bundle, exchange)
        process.result(first, LONG)
        description = read_description(bundle)
        turned = dataclasses.replace(description.sampling, orientation=SliceOrientation("RAS", "S"))
        update_description(bundle, dataclasses.replace(description, sampling=turned))
        second = request(bundle, exchange)
        process.result(second, LONG)
    results = [read_label_map(Path(asked.result), GRID) for asked in (first, second)]
    assert (results[0] != results[1]).any()


def test_a_failure_names_no_file_in_the_log(tmp_path: Path, bundle: Path) -> None:
    with worker(tmp_path) as process:
        asked = Segment(str(bundle), "cpu", files={"MR": str(tmp_path / "MUELLER_ANNA.nii")})
        job = process.wait(process.ask(asked), LONG)
    assert job.error is not None and "MUELLER" in job.error.message, "the user may know"
    assert "MUELLER" not in log_of(tmp_path) + job.details
    assert "file-missing" in log_of(tmp_path)


def test_files_in_and_files_out(tmp_path: Path, bundle: Path, data: Path) -> None:
    scan = next(iter(sorted((data / "msd_hippocampus_mr/images").rglob("*.nii.gz"))))
    output = tmp_path / "out" / "case.seg.nrrd"
    with worker(tmp_path) as process:
        process.result(
            Segment(str(bundle), "cpu", files={"MR": str(scan)}, outputs=(str(output),)), LONG
        )
    assert output.is_file()
    assert [p.name for p in output.parent.iterdir()] == ["case.seg.nrrd"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "no such model"}, "no-model"),
        ({"device": "cuda:77"}, "no-device"),
        ({"labels": ("kidney",)}, "unknown-label"),
        ({"region": "0,1,2"}, "bad-region"),
        ({"scan": "", "files": {"MR": "gone.nii"}}, "file-missing"),
        ({"scan": "", "files": {"CT": "gone.nii"}}, "wrong-channels"),
        ({"scan": "nowhere"}, "no-scan"),
    ],
)
def test_what_the_user_can_mend(
    shared_worker: WorkerProcess,
    bundle: Path,
    exchange: Exchange,
    fields: dict[str, object],
    code: str,
) -> None:
    good = request(bundle, exchange)
    bad = Segment(**{**good.__dict__, **fields})
    with pytest.raises(MedDINOv3Error) as caught:
        shared_worker.result(bad, LONG)
    assert caught.value.code == code
    assert caught.value.remedy
    assert not Path(good.result).exists()
    shared_worker.result(Load(str(bundle), "cpu"), LONG)  # and it goes on


@pytest.fixture(scope="module")
def shared_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """One for all tests that leave it as it was."""
    with worker(tmp_path_factory.mktemp("worker")) as process:
        yield process


def test_altered_weights_are_refused(shared_worker: WorkerProcess, bundle: Path) -> None:
    weights = bundle / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(MedDINOv3Error) as caught:
        shared_worker.result(Load(str(bundle), "cpu"), LONG)
    assert caught.value.code == "weights-altered"


def test_inspects_the_device_by_computing(shared_worker: WorkerProcess) -> None:
    found = shared_worker.result(Inspect("cpu"), LONG)
    assert found["device"] == "cpu" and "threads" in found["name"]


def test_lines_that_are_no_requests_are_answered_and_harm_nothing(
    tmp_path: Path, bundle: Path
) -> None:
    good = encode_request(9, Load(str(bundle), "cpu"))
    lines = [
        b"hello\n",
        b"[]\n",
        b"\xff\xfe\n",
        b'{"id": 4, "do": "dance"}\n',
        b'{"id": 5, "do": "load", "model": 7}\n',
        b'{"id": 6, "do": "load", "model": "m", "colour": "red"}\n',
        b'{"id": true, "do": "free"}\n',
        b"x" * (5 * 2**20) + b"\n",
        good,
    ]
    with (
        open(tmp_path / "log", "wb") as log,
        subprocess.Popen(
            worker_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(),
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        process.stdin.writelines(lines)
        process.stdin.flush()
        events = [json.loads(process.stdout.readline()) for _ in range(12)]
        process.stdin.close()
        assert process.wait(LONG) == 0
    assert [e["event"] for e in events[:2]] == ["starting", "ready"]
    refused = events[2:-1]
    assert {e["code"] for e in refused} == {"bad-request"}
    assert [e["id"] for e in refused][:7] == [0, 0, 0, 4, 5, 6, 0]
    assert (events[-1]["event"], events[-1]["id"]) == ("done", 9)


def test_pulls_with_progress_and_names_what_the_network_did(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    entry = find_entry("meddinov3-ct")
    assert entry is not None
    with (
        library_alone(monkeypatch, tmp_path),
        Hub.holding(entry.repository, data / "reference_checkpoints/model.pth") as hub,
    ):
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        with worker(tmp_path) as process:
            heard: list[Progress] = []
            job = process.ask(Pull("meddinov3-ct"), Listener(progress=heard.append))
            result = process.wait(job, LONG).result
            assert result is not None and result["backbone"] == "meddinov3-ct"
            assert "DINOv3 License" in result["notes"][0]
            assert heard[-1].phase.startswith("downloading")
            assert (own_home / "backbones/meddinov3-ct/backbone.json").is_file()
            hub.refuse = (403, "GatedRepo")
            with pytest.raises(MedDINOv3Error) as caught:
                process.result(Pull("meddinov3-ct", "another"), LONG)
            assert "models import" in caught.value.remedy
            with pytest.raises(MedDINOv3Error) as caught:
                process.result(Pull("nothing of the kind"), LONG)
            assert caught.value.code == "no-entry"


class TestCancel:
    SLOW = """
    for step in range(600):
        if options["stop"]():
            raise server.Cancelled
        time.sleep(0.1)
    """

    def test_running_and_waiting_requests(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        with worker(tmp_path, self.SLOW) as process:
            running, waiting = (process.ask(request(bundle, exchange)) for _ in range(2))
            wait_until_ready(process)
            process.cancel(waiting)
            process.cancel(running)
            assert process.wait(running, LONG).state == "cancelled"
            assert process.wait(waiting, LONG).state == "cancelled"
            assert process.result(Inspect("cpu"), LONG)["device"] == "cpu"
            assert not list(exchange.folder.glob("*result*"))
            process.cancel(running)  # too late, and no matter

    def test_between_slices_of_a_real_scan(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        long = Grid((320, 320, 400), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
        with worker(tmp_path) as process:
            seen: list[Progress] = []
            listener = Listener(progress=seen.append)
            job = process.ask(request(bundle, exchange, long, batch=1), listener)
            while not any(p.total > 0 for p in seen):
                time.sleep(0.02)
            process.cancel(job)
            assert process.wait(job, LONG).state == "cancelled"
            assert max(p.done for p in seen) < 400

    def test_closing_stdin_ends_even_a_computation_that_does_not_listen(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        process = worker(tmp_path, "time.sleep(600)")
        job = process.ask(request(bundle, exchange))
        wait_until_ready(process)
        start = time.monotonic()
        assert process.close() == 0
        assert time.monotonic() - start < 15
        assert job.state == "failed"
