"""Orders: from a scan in the scene to segments in the scene, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import DATA, describe, make_bundle
from jobs_bed import LONG, Heard, MadeUpAccess, add_volume, environment
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.worker.exchange import Exchange

pytest_plugins = ("jobs_bed",)
STARTER = "hippocampus-mr-tiny"
SAMPLE = DATA / "msd_hippocampus_mr" / "images" / "hippocampus_091.nii.gz"


def sample() -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(SAMPLE)).astype(np.float32)


class Bed:
    """A scene, a worker that the tests share, and what orders come to."""

    def __init__(self, jobs: SimpleNamespace, worker: Any, tiny: Path, folder: Path) -> None:
        self.jobs, self.app, self.folder = jobs, jobs.app, folder
        self.tiny, self.worker = str(tiny), worker
        self.access = MadeUpAccess(jobs.app)
        self.exchanges: list[Exchange] = []
        self.segmenting = jobs.segmenting.Segmenting(
            jobs.app.scene, worker, self.access, self.exchange
        )

    def exchange(self) -> Exchange:
        self.exchanges.append(Exchange(self.folder))
        return self.exchanges[-1]

    def order(self, *volumes: Any, model: str = "", **options: Any) -> Any:
        order = self.jobs.orders.SegmentOrder
        return order(volumes or (self.scan(),), model or self.tiny, "cpu", **options)

    def scan(self, shape: tuple[int, int, int] = (6, 40, 48)) -> Any:
        array = np.random.default_rng(1).integers(0, 500, shape).astype(np.int16)
        return add_volume(self.app, array)

    def start(self, order: Any) -> tuple[Any, Heard]:
        job = self.segmenting.start(order)
        return job, Heard(job)

    def end(self, heard: Heard) -> tuple[str, Any]:
        self.app.wait_until(lambda: heard.ends, LONG)
        self.app.app.processEvents()
        (end,) = heard.ends
        return end

    def left(self) -> list[str]:
        """What lies in the private folder."""
        return [p.name for e in self.exchanges for p in e.folder.iterdir() if p.name != "in-use"]


@pytest.fixture(scope="module")
def worker(jobs: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    made = jobs.worker.Worker(lambda: sys.executable, environment, log)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("model") / "tiny", describe("liver", "spleen"))


@pytest.fixture
def bed(
    slicer_app: Any, jobs: SimpleNamespace, worker: Any, tiny: Path, tmp_path: Path
) -> Iterator[Bed]:
    made = Bed(jobs, worker, tiny, tmp_path)
    yield made
    made.segmenting.close()
    assert not any(e.folder.exists() for e in made.exchanges)


def test_a_scan_becomes_segments(bed: Bed) -> None:
    volume = add_volume(bed.app, sample())
    volume.SetSpacing(1, 1, 1)
    job, heard = bed.start(bed.order(volume, model=STARTER, name="Result"))
    assert job.open and not heard.ends, "nothing is told before start has returned"
    kind, node = bed.end(heard)
    assert kind == "finished" and job.state == "finished" and job.result is node
    ((placed, label_map, labels, options),) = bed.access.placed
    assert placed is node and bed.app.scene.IsNodePresent(node)
    assert label_map.shape == sample().shape and set(np.unique(label_map)) == {0, 1, 2}
    assert [label.name for label in labels] == ["anterior hippocampus", "posterior hippocampus"]
    assert options["proposedBy"] == STARTER and len(options["weightsSha256"]) == 64
    assert options["name"] == "Result" and options["into"] is None
    phases = {progress.phase for progress in heard.progress}
    assert {"load model", "segmenting"} <= phases
    assert heard.progress[-1].done <= heard.progress[-1].total or not heard.progress[-1].total
    assert job.report["model"] == STARTER and ": done" in job.log
    assert bed.left() == [] and not bed.segmenting.busy


def test_scripts_wait_for_the_result(bed: Bed) -> None:
    into = bed.app.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    order = bed.order(into=into, labels=("spleen",), full=True)
    assert bed.segmenting.segment(order, timeout=LONG) is into
    ((_, label_map, labels, _),) = bed.access.placed
    assert [label.name for label in labels] == ["spleen"] and set(np.unique(label_map)) <= {0, 2}


def test_scripts_get_an_exception(bed: Bed) -> None:
    with pytest.raises(MedDINOv3Error) as caught:
        bed.segmenting.segment(bed.order(model="none"))
    assert caught.value.code == "no-model" and "--model" not in str(caught.value)
    with pytest.raises(MedDINOv3Error) as caught:
        bed.segmenting.segment(bed.order(bed.scan((400, 256, 256))), timeout=0.5)
    assert caught.value.code == "too-slow" and bed.access.placed == []


def test_a_region_is_handed_on(bed: Bed) -> None:
    roi = bed.app.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    roi.SetDescription("10,20,-30,-10,8,12")
    bed.segmenting.segment(bed.order(roi=roi), timeout=LONG)
    label_map = bed.access.placed[0][1]
    inside = np.zeros(label_map.shape, bool)
    inside[1:3, 4:17, 0:11] = True  # (k, j, i): z 8-12 of 7.5 + 2 k, y 10-30 of 5 + 1.5 j ...
    assert label_map.any() and not label_map[~inside].any()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("no volume", "no-scan"),
        ("too many volumes", "wrong-channels"),
        ("no numbers", "no-numbers"),
        ("no label", "unknown-label"),
        ("region outside", "empty-region"),
        ("no device", "no-device"),
        ("no room", "disk-full"),
        ("no package", "not-set-up"),
        ("placing fails", "unexpected"),
    ],
)
def test_every_failure_says_what_and_what_to_do(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, fault: str, code: str
) -> None:
    order = bed.order()
    if fault == "no volume":
        order = bed.order(bed.app.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode"))
    elif fault == "too many volumes":
        order = bed.order(bed.scan(), bed.scan())
    elif fault == "no numbers":
        order = bed.order(add_volume(bed.app, np.full((6, 40, 48), np.nan, np.float32)))
    elif fault == "no label":
        order = bed.order(labels=("nose",))
    elif fault == "region outside":
        roi = bed.app.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
        roi.SetDescription("900,901,0,1,0,1")
        order = bed.order(roi=roi)
    elif fault == "no device":
        order = bed.jobs.orders.SegmentOrder((bed.scan(),), bed.tiny, "cuda:77")
    elif fault == "no room":
        usage = SimpleNamespace(total=1, used=1, free=1)
        monkeypatch.setattr("meddinov3.worker.exchange.shutil.disk_usage", lambda _place: usage)
    elif fault == "no package":

        def missing() -> None:
            raise ModuleNotFoundError("No module named 'filelock'", name="filelock")

        bed.segmenting._newExchange = missing
    elif fault == "placing fails":
        bed.access.broken = RuntimeError("vtk is tired")
    job, heard = bed.start(order)
    kind, problem = bed.end(heard)
    assert (kind, problem.code) == ("failed", code)
    assert problem.what and problem.remedy and "--" not in problem.remedy
    assert job.problem is problem and bed.left() == [] and bed.access.placed == []
    if fault == "no package":
        assert "filelock" in problem.what


def test_some_voxels_without_number_are_told_as_a_note(bed: Bed) -> None:
    array = np.random.default_rng(1).normal(100, 20, (6, 40, 48)).astype(np.float32)
    array[2, 3, 4] = np.nan
    job, heard = bed.start(bed.order(add_volume(bed.app, array)))
    assert bed.end(heard)[0] == "finished"
    assert any("no numbers" in note for note in job.notes)


@pytest.mark.parametrize(
    ("how", "stage"),
    [
        ("cancel", "before"), ("cancel", "starting"), ("cancel", "segmenting"),
        ("remove scan", "before"), ("remove scan", "segmenting"),
        ("remove target", "segmenting"), ("close scene", "before"), ("close scene", "starting"),
        ("close scene", "segmenting"),
    ],
)  # fmt: skip
def test_whatever_ends_it_nothing_is_placed(bed: Bed, stage: str, how: str) -> None:
    volume = bed.scan((300, 128, 128))
    into = bed.app.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    if stage == "starting":
        bed.worker.close()
    else:  # warm, so that it is quickly there
        bed.segmenting.segment(bed.order(), timeout=LONG)
        bed.access.placed.clear()
    job, heard = bed.start(bed.order(volume, into=into))
    if stage == "starting":
        bed.app.wait_until(lambda: bed.worker.state == "starting", LONG)
    elif stage == "segmenting":
        steps = lambda: [p for p in heard.progress if p.phase == "segmenting"]  # noqa: E731
        bed.app.wait_until(steps, LONG)
    if how == "cancel":
        job.cancel()
    elif how == "close scene":
        bed.app.scene.Clear(0)
    else:
        bed.app.scene.RemoveNode(volume if how == "remove scan" else into)
    assert heard.ends == [("cancelled", None)] and job.state == "cancelled"
    assert not bed.segmenting.busy
    job.cancel()
    _, heard_again = bed.start(bed.order())
    assert bed.end(heard_again)[0] == "finished", "the worker is of use afterwards"
    assert len(bed.access.placed) == 1 and len(heard.ends) == 1
    assert bed.left() == []


def test_a_cancelled_script_is_told(bed: Bed) -> None:
    bed.jobs.app.qt.QTimer.singleShot(50, lambda: bed.app.scene.Clear(0))
    with pytest.raises(Cancelled):
        bed.segmenting.segment(bed.order(bed.scan((300, 128, 128))))


def test_a_scan_that_was_moved_meanwhile_gets_no_segments(bed: Bed) -> None:
    volume = bed.scan()
    job, heard = bed.start(bed.order(volume))
    job.progressed.connect(lambda _progress: volume.SetOrigin(1, 2, 3))
    kind, problem = bed.end(heard)
    assert (kind, problem.code) == ("failed", "scan-changed")
    assert bed.access.placed == []


def test_a_worker_that_dies_takes_nothing_along(bed: Bed) -> None:
    bed.segmenting.segment(bed.order(), timeout=LONG)
    _, heard = bed.start(bed.order(bed.scan((300, 128, 128))))
    bed.app.wait_until(lambda: [p for p in heard.progress if p.phase == "segmenting"], LONG)
    os.kill(bed.worker._client.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    kind, problem = bed.end(heard)
    assert kind == "failed" and problem.code in ("worker-killed", "worker-died")
    assert "ended" in problem.what and problem.remedy and problem.details
    assert bed.left() == []
    assert bed.segmenting.segment(bed.order(), timeout=LONG)


def test_a_worker_that_does_not_listen_is_ended(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bed.jobs.segmenting, "PATIENCE", 50)
    bed.worker.close()
    job, heard = bed.start(bed.order())
    bed.app.wait_until(lambda: bed.worker.state == "starting", LONG)  # imports hear nothing
    job.cancel()
    bed.app.wait_until(lambda: not bed.worker.running, LONG)
    assert heard.ends == [("cancelled", None)] and bed.left() == []


def test_an_estimate_behind_it_keeps_no_deaf_worker_alive(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bed.jobs.segmenting, "PATIENCE", 50)
    bed.worker.close()
    job, _heard = bed.start(bed.order())
    bed.app.wait_until(lambda: bed.worker.state == "starting", LONG)
    job.cancel()
    told: list[Any] = []
    bed.segmenting.estimate(bed.order(), told.append)  # the panel does, after each cancel
    bed.app.wait_until(lambda: not bed.worker.running or told, LONG)
    assert not bed.worker.running and "ended" in told[0].what


def test_what_waits_behind_a_cancelled_order_is_done(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bed.jobs.segmenting, "PATIENCE", 50)
    bed.worker.close()
    job, _heard = bed.start(bed.order())
    bed.app.wait_until(lambda: bed.worker.state == "starting", LONG)
    job.cancel()
    told: list[int] = []
    bed.segmenting.freeMemory(lambda: told.append(1))  # as a download, or a training, asks
    bed.app.wait_until(lambda: told, LONG)
    assert bed.worker.running and "FreeMemory 3: done" in bed.worker.logText()


def test_memory_is_given_up_when_asked(bed: Bed) -> None:
    told: list[str] = []
    bed.worker.close()
    bed.segmenting.freeMemory(lambda: told.append("nothing runs"))
    assert told == ["nothing runs"] and not bed.worker.running
    bed.segmenting.segment(bed.order(), timeout=LONG)
    bed.segmenting.freeMemory(lambda: told.append("free"))
    bed.app.wait_until(lambda: len(told) == 2, LONG)
    assert "FreeMemory 2: done" in bed.worker.logText()


def test_files_are_segmented_without_the_scene(bed: Bed) -> None:
    target = bed.folder / "out" / "one.seg.nrrd"
    target.parent.mkdir()
    order = bed.jobs.orders.FileOrder({"MRI": SAMPLE}, (target,), STARTER, "cpu")
    assert bed.segmenting.segment(order, timeout=LONG) == [target]
    assert sitk.ReadImage(target).GetSize() == sitk.ReadImage(SAMPLE).GetSize()
    assert bed.access.placed == []


def test_an_estimate_comes_before_the_order(bed: Bed) -> None:
    told: list[Any] = []
    bed.segmenting.estimate(bed.order(bed.scan((60, 128, 128))), told.append)
    bed.app.wait_until(lambda: told, LONG)
    (estimate,) = told
    assert estimate.slices == 60 and 0 < estimate.seconds < LONG
    assert 2**27 < estimate.memory < 2**32 and estimate.warning == ""
    assert "CPU" in estimate.text and "GiB" in estimate.text
    bed.segmenting.estimate(bed.order(model="none"), told.append)
    bed.app.wait_until(lambda: len(told) == 2, LONG)
    assert told[1].code == "no-model" and told[1].what and told[1].remedy


def test_a_question_is_dropped_for_a_later_one(bed: Bed) -> None:
    first, second = [], []
    bed.segmenting.estimate(bed.order(), first.append)
    bed.segmenting.estimate(bed.order(bed.scan((9, 40, 48))), second.append)
    bed.app.wait_until(lambda: second, LONG)
    assert first == [] and second[0].slices == 9


def test_what_may_go_wrong_is_said_beforehand(jobs: SimpleNamespace) -> None:
    estimate = jobs.forecast.Estimate
    assert "region" in estimate(5, 9, 15 * 2**30, 16 * 2**30, "cpu", "CPU").warning
    card = estimate(5, 9, 2**30, 16 * 2**30, "cuda", "RTX", 6 * 2**30, 4 * 2**30)
    assert "4.0 GiB free" in card.warning


def test_a_device_is_what_it_computes(bed: Bed) -> None:
    told: list[Any] = []
    bed.segmenting.inspect("cpu", told.append)
    bed.segmenting.inspect("cuda:77", told.append)
    bed.app.wait_until(lambda: len(told) == 2, LONG)
    assert told[0].device == "cpu" and "CPU" in told[0].text and told[0].precision == "fp32"
    assert told[1].code == "no-device"


def test_advice_while_a_training_runs(bed: Bed) -> None:
    assert bed.segmenting.advice(False) == ""
    assert "memory that the training leaves" in bed.segmenting.advice(True)
    assert "processor" in bed.segmenting.advice(True, "cpu")
