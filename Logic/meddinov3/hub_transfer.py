"""Bringing one file from the hub, from where an earlier transfer broke off, and checking it.

The transfer is ``http_get`` of huggingface_hub, not its ``hf_hub_download``: since version 1.18
that one begins again after every break, and it never looks at the content. It is plain HTTP:
Xet's protocol does not go on from a partial file either.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import meddinov3
from meddinov3.errors import Cancelled
from meddinov3.hub_errors import NO_SPACE, Request, cannot_write, explain, failures, no_space
from meddinov3.progress import Progress, ProgressCallback, Steps, StopQuestion

CHUNK = 8 << 20
MARGIN = 64 << 20  # bytes of the disk that are left free
MILLION = 1_000_000
INCOMPLETE = ".incomplete"


@dataclass(frozen=True)
class Listing:
    """What the hub says of a file.

    Attributes:
        revision: the commit that was meant.
        etag: SHA-256 of the content, or its git blob hash (SHA-1).
        size: bytes, or None if it does not say.
    """

    revision: str
    etag: str
    size: int | None


def download(
    target: Path,
    request: Request,
    listing: Listing,
    report: ProgressCallback | None,
    stop: StopQuestion | None,
) -> Path:
    """Bring the whole file to `target`, going on from what an earlier transfer left there.

    Args:
        target: in a folder of its own, named after the content; the folder above is this file's.
        request, listing: what was asked, at the commit, and what the hub says of it.
        report, stop: see :mod:`meddinov3.progress`.

    Returns:
        `target`.

    Raises:
        MedDINOv3Error: see :mod:`meddinov3.hub_errors`; what has arrived is kept.
        Cancelled: `stop` said so; what has arrived is kept.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    part = target.with_name(target.name + INCOMPLETE)
    size = listing.size
    try:
        _forget_others(target.parent)
        if target.is_file():
            os.replace(target, part)
        kept = part.stat().st_size if part.is_file() else 0
        if size is not None and kept > size:
            part.unlink()
            kept = 0
        _check_space(target.parent, request, size or 0, kept)
        with open(part, "ab") as stream:
            sink = _Sink(stream, request, kept, size or 0, report, stop)
            headers = build_hf_headers(
                library_name="meddinov3",
                library_version=meddinov3.__version__,
                headers={"Accept-Encoding": "identity"},  # a range is one of the file's bytes
            )
            if size is None or kept < size:
                try:
                    http_get(
                        request.url,
                        sink,  # type: ignore[arg-type]
                        resume_size=kept,
                        headers=headers,
                        expected_size=size,
                    )
                except failures() as error:
                    raise explain(error, request, sink.tell()) from error
        os.replace(part, target)
    except OSError as error:
        raise cannot_write(part, error) from error
    return target


def _forget_others(folder: Path) -> None:
    """Make the place of this content; what was left of other content will never be completed."""
    if folder.parent.is_dir():
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)


def _check_space(folder: Path, request: Request, size: int, kept: int) -> None:
    needed = 2 * size - kept + MARGIN  # the file, and what it is converted to
    free = shutil.disk_usage(folder).free
    if free < needed:
        text = f"{needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free"
        raise no_space(request, text, str(folder.parent.parent))


class _Sink:
    """The file that ``http_get`` writes to; counts, and asks whether to go on."""

    def __init__(
        self,
        stream: BinaryIO,
        request: Request,
        kept: int,
        size: int,
        report: ProgressCallback | None,
        stop: StopQuestion | None,
    ) -> None:
        self._stream, self._request, self._kept, self._size = stream, request, kept, size
        self._report, self._stop = report, stop
        self._start = time.perf_counter()

    def write(self, chunk: bytes) -> int:
        if self._stop is not None and self._stop():
            raise Cancelled("cancelled during the download")
        try:
            self._stream.write(chunk)
            self._stream.flush()
        except OSError as error:  # not the network's
            if error.errno in NO_SPACE:
                place = str(Path(self._stream.name).parent)
                raise no_space(self._request, "the disk is full", place) from error
            raise cannot_write(Path(self._stream.name), error) from error
        if self._report is not None:
            done = self._stream.tell()
            seconds = time.perf_counter() - self._start
            left = seconds / (done - self._kept) * (self._size - done) if self._size else None
            self._report(Progress("downloading, MB", done // MILLION, self._size // MILLION, left))
        return len(chunk)

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, position: int) -> int:
        self._kept = min(self._kept, position)
        return self._stream.seek(position)

    def truncate(self) -> int:
        return self._stream.truncate()


def check(path: Path, request: Request, listing: Listing, stop: StopQuestion | None) -> str:
    """Compare the content with the hub's hash.

    Returns:
        Its SHA-256.

    Raises:
        MedDINOv3Error: they differ; the file was removed.
    """
    size = path.stat().st_size
    sha256, blob = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode())
    steps = Steps("checking", -(-size // CHUNK), None, stop)
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            steps.check()
            sha256.update(chunk)
            blob.update(chunk)
    if listing.etag not in (sha256.hexdigest(), blob.hexdigest()):
        shutil.rmtree(path.parent.parent, ignore_errors=True)
        raise request.error(
            "hash-differs",
            f"What arrived is not {request.file} as the hub lists it (its SHA-256 differs), and "
            "was removed.",
            "Pull again; if it happens twice, something on the way changes it",
        )
    return sha256.hexdigest()
