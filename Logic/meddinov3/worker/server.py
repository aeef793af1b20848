"""The worker: takes requests one after another and answers with events.

Everything is computed on the thread that calls :meth:`Worker.serve`; another reads requests, so
that cancelling works at any time, a third writes events.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import torch

from meddinov3.catalogue import find_entry
from meddinov3.errors import Cancelled, MedDINOv3Error
from meddinov3.hub import pull
from meddinov3.inference.cleanup import Cleanup
from meddinov3.inference.device import (
    choose_device,
    choose_precision,
    describe_device,
    free_cached_memory,
    try_device,
)
from meddinov3.model_store import find_model, read_description
from meddinov3.progress import Progress, ProgressCallback, StopQuestion
from meddinov3.segmentation import Model, load_model, read_scan, segment
from meddinov3.volume import Volume
from meddinov3.worker import exchange
from meddinov3.worker.estimating import Estimator, scan_bytes
from meddinov3.worker.event_writer import EventWriter
from meddinov3.worker.failures import FINAL, explain
from meddinov3.worker.feature_requests import FeatureRequests
from meddinov3.worker.messages import (
    LONGEST_LINE,
    Cancel,
    Estimate,
    Event,
    FeatureRequest,
    FreeMemory,
    Inspect,
    Load,
    Pull,
    Request,
    Segment,
    Stop,
    decode_request,
    failure,
)

GRACE = 3.0  # seconds for the computation to end by itself when nobody listens any more
WRITING = 60.0  # seconds that a file being written may take more
BETWEEN = 0.1  # seconds between progress events


class Worker:
    """Answers requests until stdin closes or it is told to stop.

    Args:
        requests: the real stdin.
        events: the real stdout, unbuffered.
    """

    def __init__(self, requests: BinaryIO, events: BinaryIO) -> None:
        self._requests = requests
        self._out = EventWriter(events, self._end)
        self._waiting: queue.SimpleQueue[tuple[int, Request] | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._ending = threading.Event()
        self._keeping = threading.Lock()  # held while files are written
        self._model: Model | None = None
        self._key: tuple[object, ...] = ()
        self._estimator = Estimator()
        self._features = FeatureRequests()

    def serve(self, ready: dict[str, Any]) -> int:
        """Work until the end; returns the process's exit code.

        Args:
            ready: fields of the event that says so.
        """
        self._out.send(Event("ready", None, ready))
        threading.Thread(target=self._read_all, name="requests", daemon=True).start()
        while (item := self._waiting.get()) is not None:
            event = self._answer(*item)
            self._out.send(event)
            if event.kind == "failed" and event.body["code"] in FINAL:
                break
        self._features.close()
        self._out.drain(GRACE)
        return 0

    def _read_all(self) -> None:
        try:
            self._read_requests()
        finally:
            self._end()

    def _read_requests(self) -> None:
        while line := self._requests.readline(LONGEST_LINE):
            try:
                number, request = decode_request(line)
            except MedDINOv3Error as error:
                self._out.send(failure(_number(line), error))
                continue
            if isinstance(request, Stop):
                break
            if isinstance(request, Cancel):
                self._cancelled.add(request.target)
            else:
                self._waiting.put((number, request))

    def _end(self) -> None:
        """Let the running request stop, or end without it; a file being written is completed."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._waiting.put(None)

        def insist() -> None:
            time.sleep(GRACE)
            self._keeping.acquire(timeout=WRITING)
            os._exit(0)

        threading.Thread(target=insist, name="end", daemon=True).start()

    def _answer(self, number: int, request: Request) -> Event:
        def stop() -> bool:
            return self._ending.is_set() or number in self._cancelled

        start = time.perf_counter()
        try:
            if stop():
                raise Cancelled
            event = Event("done", number, {"result": self._perform(number, request, stop)})
        except Cancelled:
            event = Event("cancelled", number)
        except Exception as error:  # whatever it is, the user reads a sentence
            reason = explain(error)
            event = failure(number, reason, _told(error, reason))
            _log(event.body["details"])
        self._cancelled.discard(number)
        gc.collect()
        told = f"{type(request).__name__} {number}: {event.kind}"
        _log(f"{told}, {time.perf_counter() - start:.2f} s")
        return event

    def _perform(self, number: int, request: Request, stop: StopQuestion) -> dict[str, Any]:
        if isinstance(request, Load):
            model, seconds = self._loaded(request.model, request.device, request.precision)
            return {"model": model.description.id, "seconds": seconds}
        if isinstance(request, Segment):
            return self._segment(number, request, stop)
        if isinstance(request, Inspect):
            return inspect(request.device)
        if isinstance(request, Estimate):
            self._tell(number, Progress("load model", 0, 0))
            model, _ = self._loaded(request.model, request.device, request.precision)
            return self._estimator.estimate(request, model, stop)
        if isinstance(request, FeatureRequest):
            self._tell(number, Progress("load backbone", 0, 0))
            return self._features.answer(request, self._reporter(number), stop)
        if isinstance(request, Pull):
            return self._pull(number, request, stop)
        assert isinstance(request, FreeMemory)
        device = self._model.device if self._model else torch.device("cpu")
        self._forget()
        self._features.free()
        gc.collect()
        free_cached_memory(device)
        return {}

    def _loaded(self, name: str, device: str, precision: str) -> tuple[Model, float]:
        """The model, kept from the last request if it is the same, and the seconds it took."""
        start = time.perf_counter()
        folder = find_model(name)
        # A model may be trained or imported anew under the same name.
        key = (str(folder), read_description(folder), device, precision)
        if self._model is None or key != self._key:
            self._forget()
            self._model, self._key = load_model(str(folder), device, precision), key
        return self._model, time.perf_counter() - start

    def _forget(self) -> None:
        self._model, self._key = None, ()

    def _segment(self, number: int, request: Segment, stop: StopQuestion) -> dict[str, Any]:
        self._tell(number, Progress("load model", 0, 0))
        model, loading = self._loaded(request.model, request.device, request.precision)
        self._tell(number, Progress("read scan", 0, 0))
        start = time.perf_counter()
        volume = _volume(request, model)
        reading = time.perf_counter() - start
        held = scan_bytes(volume.grid, model, volume.channels[0].itemsize)
        self._estimator.largest_scan = max(self._estimator.largest_scan, held)
        result = segment(
            volume,
            model,
            region=request.region or None,
            labels=request.labels,
            mirror=request.mirror,
            cleanup=Cleanup(request.largest, request.fill_holes, request.minimum_ml),
            batch=request.batch,
            report=self._reporter(number),
            stop=stop,
        )
        del volume
        self._tell(number, Progress("write", 0, 0))
        with self._keeping:
            if stop():
                raise Cancelled
            start = time.perf_counter()
            if request.result:
                exchange.write_label_map(Path(request.result), result.label_map)
            result.seconds["hand over"] = time.perf_counter() - start
            for path in request.outputs:
                result.save(path)
        result.seconds = {"load model": loading, **result.seconds, "read": reading}
        return {
            "labels": [label.value for label in result.labels],
            "notes": result.notes,
            "seconds": result.seconds,
            "report": result.report(),
        }

    def _pull(self, number: int, request: Pull, stop: StopQuestion) -> dict[str, Any]:
        entry = find_entry(request.entry)
        if entry is None:
            raise MedDINOv3Error(
                "no-entry",
                f"The catalogue has no '{request.entry}'.",
                "Choose one that 'meddinov3 models list' shows.",
            )
        with self._keeping:  # what is being converted is completed
            made = pull(entry, request.name, report=self._reporter(number), stop=stop)
        return {"backbone": made.folder.name, "notes": list(made.notes)}

    def _reporter(self, number: int) -> ProgressCallback:
        """Progress of a request, no more often than anybody can see."""
        last = [0.0]

        def report(progress: Progress) -> None:
            now = time.monotonic()
            if now - last[0] >= BETWEEN or progress.done == progress.total:
                last[0] = now
                self._tell(number, progress)

        return report

    def _tell(self, number: int, progress: Progress) -> None:
        self._out.send(Event("progress", number, asdict(progress)))


def _told(error: Exception, reason: MedDINOv3Error) -> str:
    """Where an error came from, without its own words if they may name a file of a patient."""
    where = "".join(traceback.format_tb(error.__traceback__))
    known = isinstance(error, (MedDINOv3Error, OSError))
    return f"{where}{reason.code if known else f'{type(error).__name__}: {error}'}"


def _log(text: str) -> None:
    with suppress(OSError, ValueError):  # a full disk must not end the work
        print(text, file=sys.stderr, flush=True)


def _volume(request: Segment, model: Model) -> Volume:
    if request.scan:
        scan = exchange.read_scan(Path(request.scan))
        return Volume(scan.channels, scan.grid, scan.modality)
    return read_scan(None, request.files, model.description, request.series)


def inspect(device: str) -> dict[str, Any]:
    """Compute something on a device and say what it is.

    Raises:
        MedDINOv3Error: it is not here, or cannot compute.
    """
    chosen = choose_device(device)
    try_device(chosen)
    free, total = torch.cuda.mem_get_info(chosen) if chosen.type == "cuda" else (None, None)
    return {
        "device": chosen.type,
        "name": describe_device(chosen),
        "precision": choose_precision("auto", chosen),
        "memory_free": free,
        "memory_total": total,
    }


def _number(line: bytes) -> int:
    """The id of a request that could not be understood otherwise; 0 if that cannot be told."""
    try:
        number = json.loads(line)["id"]
    except (ValueError, TypeError, KeyError):
        return 0
    return number if type(number) is int else 0
