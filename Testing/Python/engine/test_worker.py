"""The worker as a process: warm, and unharmed by what goes wrong around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, describe, make_bundle, random_grid
from meddinov3.errors import MedDINOv3Error
from meddinov3.grid import Grid
from meddinov3.progress import Progress
from meddinov3.segmentation import load_model, segment
from meddinov3.volume import Volume
from meddinov3.worker.client import Listener
from meddinov3.worker.exchange import Exchange, read_label_map, write_scan
from meddinov3.worker.messages import FreeMemory, Inspect, Load, Segment, encode_request
from meddinov3.worker.process import WorkerProcess, worker_command

LONG = 120.0  # seconds; nothing here takes more than a few, but machines are busy
GRID = Grid((48, 40, 6), (1.0, 1.0, 2.0), (-20.0, 5.0, 7.5), np.diag([-1.0, 1.0, 1.0]))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "tiny", describe("liver", "spleen"))


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with Exchange(tmp_path) as opened:
        yield opened


def scan_array(grid: Grid = GRID) -> np.ndarray:
    return np.random.default_rng(3).integers(-100, 400, grid.shape).astype(np.int16)


def request(bundle: Path, exchange: Exchange, grid: Grid = GRID, **fields: object) -> Segment:
    """A request to segment a scan that was handed over."""
    scan = exchange.new("scan")
    write_scan(scan, [scan_array(grid)], grid, "MR")
    return Segment(
        str(bundle), device="cpu", scan=str(scan), result=str(exchange.new("result")), **fields
    )


def environment() -> dict[str, str]:
    parts = (ROOT / "Logic", ROOT / "training")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, parts))}


def misbehaving(tmp_path: Path, body: str) -> list[str]:
    """A worker in which `body` runs before each segmentation."""
    script = tmp_path / "misbehaving.py"
    script.write_text(
        "import ctypes, os, subprocess, sys, time\n"
        "from meddinov3.worker import __main__ as entry, server\n"
        "real = server.segment\n"
        "def segment(scan, model, **options):\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "\n    return real(scan, model, **options)\n"
        "server.segment = segment\n"
        "os._exit(entry.main())\n"
    )
    return [sys.executable, str(script)]


def worker(tmp_path: Path, body: str | None = None) -> WorkerProcess:
    command = worker_command() if body is None else misbehaving(tmp_path, body)
    return WorkerProcess(tmp_path / "worker.log", command, environment())


def wait_until_ready(process: WorkerProcess) -> None:
    end = time.monotonic() + LONG
    while process.client.ready is None:
        assert time.monotonic() < end and process.client.failure is None
        time.sleep(0.05)


def log_of(tmp_path: Path) -> str:
    return (tmp_path / "worker.log").read_text("utf-8", "replace")


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


class TestDeath:
    def test_a_crash_is_told_and_the_next_worker_works(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        with worker(tmp_path, "ctypes.string_at(0)") as process:
            job = process.wait(process.ask(request(bundle, exchange)), LONG)
            assert job.state == "failed" and job.error is not None
            assert job.error.code == "worker-died" and job.error.remedy
            assert "Segmentation fault" in job.details or sys.platform == "win32"
            with pytest.raises(MedDINOv3Error):
                process.ask(Inspect("cpu"))
        with worker(tmp_path) as process:
            process.result(request(bundle, exchange), LONG)

    def test_a_kill_is_told(self, tmp_path: Path, bundle: Path, exchange: Exchange) -> None:
        with worker(tmp_path, "time.sleep(600)") as process:
            jobs = [process.ask(request(bundle, exchange)) for _ in range(3)]
            process.kill()
            states = [process.wait(job, LONG).state for job in jobs]
            assert states == ["failed"] * 3
            codes = {job.error.code for job in jobs if job.error}
            assert codes == {"worker-killed" if sys.platform != "win32" else "worker-died"}

    def test_a_package_that_is_missing_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "timm.py").write_text("raise ImportError('No module named timm')")
        parts = {"PYTHONPATH": os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])}
        process = WorkerProcess(tmp_path / "log", worker_command(), {**environment(), **parts})
        with process, pytest.raises(MedDINOv3Error) as caught:
            process.result(Inspect("cpu"), LONG)
        assert caught.value.code == "not-set-up" and "timm" in caught.value.message

    def test_a_program_that_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(MedDINOv3Error) as caught:
            WorkerProcess(tmp_path / "log", worker_command(str(tmp_path / "python")))
        assert caught.value.code == "worker-not-started"

    def test_an_exception_that_nobody_foresaw_is_a_sentence(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        with worker(tmp_path, "raise ZeroDivisionError('by nought')") as process:
            job = process.wait(process.ask(request(bundle, exchange)), LONG)
            assert job.error is not None and job.error.code == "internal"
            assert "ZeroDivisionError" in job.details
            process.result(Inspect("cpu"), LONG)

    def test_a_failed_gpu_ends_the_process_after_saying_so(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        body = "raise RuntimeError('CUDA error: unspecified launch failure')"
        with worker(tmp_path, body) as process:
            first, second = (process.ask(request(bundle, exchange)) for _ in range(2))
            process.wait(second, LONG)
        assert first.error is not None and first.error.code == "gpu-failed"
        assert second.state == "failed"


class TestNoise:
    def test_what_libraries_and_children_print_goes_to_the_log(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        body = r"""
        print("from print")
        os.write(1, b"from descriptor\n")
        sys.__stdout__.write("from the old stdout\n")
        sys.__stdout__.flush()
        child = "import sys; print('from a child', repr(sys.stdin.read()))"
        subprocess.run([sys.executable, "-c", child], check=True, timeout=60)
        """
        with worker(tmp_path, body) as process:
            process.result(request(bundle, exchange), LONG)
        for text in ("print", "descriptor", "the old stdout", "a child ''"):
            assert f"from {text}" in log_of(tmp_path)

    def test_ten_megabytes_of_log_and_a_slow_reader(
        self, tmp_path: Path, bundle: Path, exchange: Exchange
    ) -> None:
        """Nobody reads events until the segmentation is there; the log is no pipe."""
        body = """
        for line in range(100_000):
            print("x" * 104)
        for step in range(3000):  # more than a pipe holds, without and with coalescing
            options["report"](server.Progress("phase", 1, 1))
            server.last_worker._out.send(server.Event("remark", None, {"text": "y" * 100}))
        """
        command = misbehaving(tmp_path, body)
        script = Path(command[1])
        text = script.read_text().replace(
            "server.segment = segment",
            "server.segment = segment\n"
            "begin = server.Worker.__init__\n"
            "def init(self, *a):\n"
            "    begin(self, *a)\n"
            "    server.last_worker = self\n"
            "server.Worker.__init__ = init",
        )
        script.write_text(text)
        asked = request(bundle, exchange)
        result = Path(asked.result) / "label_map.npy"
        with (
            open(tmp_path / "worker.log", "wb") as log,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
            ) as process,
        ):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(encode_request(1, asked))
            process.stdin.flush()
            end = time.monotonic() + LONG
            while not result.is_file() and time.monotonic() < end:
                time.sleep(0.1)
            assert result.is_file(), "a reader that waits must not hold the work up"
            events = []
            for line in process.stdout:
                events.append(json.loads(line))
                if events[-1]["event"] in ("done", "failed"):
                    break
            process.stdin.close()
            assert process.wait(LONG) == 0
        assert events[-1]["event"] == "done", events[-1]
        assert sum(e["event"] == "remark" for e in events) == 3000
        assert len(log_of(tmp_path)) > 10_000_000
