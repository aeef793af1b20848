"""A small Hugging Face hub on this machine, which can also misbehave."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download
from meddinov3.catalogue import CatalogueEntry
from meddinov3.errors import MedDINOv3Error
from meddinov3.hub import pull

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "89abcdef0123456789abcdef0123456789abcdef"
CHUNK = 10_000  # bytes; huggingface_hub's own is 10 MB, more than the files here
VARIABLES = ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@contextmanager
def library_alone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """huggingface_hub without whoever runs this: no token, no proxy, no waiting between tries."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda _: None))
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@dataclass
class Asked:
    """One request as it came in."""

    method: str
    path: str
    range: str
    token: str
    agent: str


@dataclass
class Hub:
    """Serves one file of one repository, as ``resolve`` does with a redirect to large storage.

    Attributes:
        repository, file, content: what it has.
        commit: what its branch ``main`` points to.
        refuse: (status, X-Error-Code) for every ``resolve``, instead of the file.
        cut: bytes of the content after which the connection breaks, as often as `cuts` says.
        refuse_after_cut: status of every later transfer, so that no retry helps.
        flip: position of a byte to change on its way, or None.
        ignores_ranges: always send the whole.
        small: a file kept in git itself: its hash is that of a git blob, and no redirect.
        portal: answer everything with a page, as a network's login does.
        asked: every request.
    """

    repository: str
    file: str
    content: bytes
    commit: str = COMMIT
    refuse: tuple[int, str] | None = None
    cut: int = 0
    cuts: int = 0
    refuse_after_cut: int = 0
    flip: int | None = None
    ignores_ranges: bool = False
    small: bool = False
    portal: bool = False
    asked: list[Asked] = field(default_factory=list)
    server: Any = None

    def __enter__(self) -> Hub:
        handler = type("HubHandler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the door: later connections are refused."""
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    @classmethod
    def holding(cls, repository: str, path: Path) -> Hub:
        return cls(repository, path.name, path.read_bytes())

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def etag(self) -> str:
        if self.small:
            return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()
        return hashlib.sha256(self.content).hexdigest()

    @property
    def transfers(self) -> list[Asked]:
        """Requests for content, at large storage (or here, if small)."""
        start = f"/{self.repository}/resolve" if self.small else "/storage/"
        return [a for a in self.asked if a.method == "GET" and a.path.startswith(start)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        names = ("Range", "Authorization", "User-Agent")
        hub.asked.append(Asked(self.command, path, *(self.headers.get(n, "") for n in names)))
        if hub.portal:
            return self.send(200, {"Content-Type": "text/html"}, b"<h1>Log in</h1>")
        if path == f"/storage/{hub.etag}":
            return self.send_content({})
        start = f"/{hub.repository}/resolve/"
        if hub.refuse is not None:
            status, code = hub.refuse
            return self.send(status, {"X-Error-Code": code} if code else {}, b"no")
        if not path.startswith(start):
            return self.send(404, {"X-Error-Code": "RepoNotFound"}, b"no")
        revision, _, file = path.removeprefix(start).partition("/")
        if revision not in ("main", COMMIT, hub.commit):
            return self.send(404, {"X-Error-Code": "RevisionNotFound"}, b"no")
        if file != hub.file:
            return self.send(404, {"X-Error-Code": "EntryNotFound"}, b"no")
        commit = {"X-Repo-Commit": hub.commit if revision == "main" else revision}
        if hub.small:
            return self.send_content({**commit, "ETag": f'"{hub.etag}"'})
        self.send(
            302,
            {
                **commit,
                "X-Linked-Etag": f'"{hub.etag}"',
                "X-Linked-Size": str(len(hub.content)),
                # Another name for this machine, as a CDN is another host than the hub.
                "Location": f"http://localhost:{self.server.server_address[1]}/storage/{hub.etag}",  # type: ignore[attr-defined]
            },
        )

    def send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_content(self, headers: dict[str, str]) -> None:
        hub = self.hub
        if hub.refuse_after_cut and not hub.cuts and self.command == "GET" and not hub.small:
            return self.send(hub.refuse_after_cut, {}, b"later")
        body = bytearray(hub.content)
        if hub.flip is not None:
            body[hub.flip] ^= 1
        asked, start = self.headers.get("Range"), 0
        if asked and not hub.ignores_ranges:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers = {**headers, "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        part = bytes(body[start:])
        self.send_response(206 if "Content-Range" in headers else 200)
        for name, value in {
            "Content-Length": str(len(part)), "Accept-Ranges": "bytes", **headers
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if hub.cuts:
            hub.cuts -= 1
            self.wfile.write(part[: max(hub.cut - start, 0)])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(part)


def fetch(entry: CatalogueEntry, hub: Hub, name: str = "", **options: object) -> Path:
    return pull(entry, name, endpoint=hub.address, **options).folder  # type: ignore[arg-type]


def refusal(entry: CatalogueEntry, hub: Hub, **options: object) -> MedDINOv3Error:
    with pytest.raises(MedDINOv3Error) as caught:
        fetch(entry, hub, **options)
    assert not caught.value.message.endswith("..")
    return caught.value


def left(home: Path) -> list[Path]:
    """Files of downloads that remain, but for locks."""
    files = (path for path in (home / "downloads").rglob("*") if path.is_file())
    return sorted(path for path in files if path.suffix != ".lock")


def kept_bytes(home: Path) -> int:
    (part,) = left(home)
    assert part.name == "model.pth.incomplete"
    return part.stat().st_size
