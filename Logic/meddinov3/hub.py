"""Pulling a backbone from the Hugging Face hub: the only code that opens a connection.

The hub names a commit and a hash for the file; the transfer goes on where an earlier one broke
off, its content is compared with the hash, it is converted, and the commit is recorded.
Afterwards nothing here needs the network.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import meddinov3
from meddinov3.catalogue import COMMIT, SHA256, CatalogueEntry
from meddinov3.description import BackboneDescription, HubFile
from meddinov3.errors import MedDINOv3Error
from meddinov3.hub_errors import Request, cannot_write, explain, failures, no_hub, offline
from meddinov3.hub_transfer import Listing, check, download
from meddinov3.model_store import check_name, sweep_leftovers, user_folder
from meddinov3.progress import ProgressCallback, StopQuestion

HUB = "https://huggingface.co"
NEWEST = "main"
GIT_BLOB = re.compile(r"[0-9a-f]{40}")  # what the hub names for files outside large storage


@dataclass(frozen=True)
class Pulled:
    """What a pull made.

    Attributes:
        folder: the backbone file.
        hub: where it came from, exactly.
        notes: what the user should know.
    """

    folder: Path
    hub: HubFile
    notes: tuple[str, ...]


def pull(
    entry: CatalogueEntry,
    name: str = "",
    *,
    revision: str = "",
    endpoint: str = "",
    report: ProgressCallback | None = None,
    stop: StopQuestion | None = None,
) -> Pulled:
    """Download a backbone, check and convert it, and put it among the user's.

    The caller has shown the licence and asked.

    Args:
        entry: what to pull.
        name: id of the backbone, new; the entry's by default.
        revision: commit, branch or tag; the entry's by default, else the newest.
        endpoint: address of the hub; ``HF_ENDPOINT`` by default, else huggingface.co. An access
            token is huggingface_hub's matter (``HF_TOKEN``, or its login).
        report, stop: see :mod:`meddinov3.progress`. What has arrived when a pull is stopped or
            breaks off is kept for the next.

    Raises:
        MedDINOv3Error: see :mod:`meddinov3.hub_errors`, or the content is not what the hub or
            the catalogue says it is, or the name is taken.
        Cancelled: `stop` said so.
    """
    name = name or entry.id
    check_name(name)
    sweep_leftovers()
    if (user_folder() / "backbones" / name).exists():
        raise MedDINOv3Error(
            "exists",
            f"There is a backbone '{name}' already.",
            f"Choose another --name, or run: meddinov3 models remove {name}",
        )
    hub = _endpoint(endpoint)
    wanted = revision or entry.revision or NEWEST
    request = _request(entry, name, hub, wanted)
    with ExitStack() as stack:
        stack.enter_context(_quiet_library())
        downloads = user_folder() / "downloads"
        stack.enter_context(_only_one(downloads, entry))
        listing = _look_up(request, hub)
        if entry.sha256 and not revision and listing.etag != entry.sha256:
            raise request.error(
                "hash-differs",
                f"{entry.repository} offers another {entry.file} than the catalogue lists.",
                "Update MedDINOv3, or ask its authors",
            )
        pinned = _request(entry, name, hub, listing.revision)
        place = downloads / entry.id
        path = download(place / listing.etag[:16] / entry.file, pinned, listing, report, stop)
        source = HubFile(
            entry.repository, entry.file, listing.revision, check(path, pinned, listing, stop)
        )
        made = _convert(path, name, source)
        shutil.rmtree(place, ignore_errors=True)
    return Pulled(made[0], source, made[1])


def moved_on(backbone: BackboneDescription, *, endpoint: str = "") -> Listing | None:
    """Ask the hub whether it has other content than a backbone was pulled from; None if not.

    Raises:
        MedDINOv3Error: the backbone was not pulled, or the hub cannot be asked.
    """
    source = backbone.hub
    if source is None:
        raise MedDINOv3Error(
            "not-pulled",
            f"The backbone '{backbone.id}' was brought by hand, so there is nothing to compare.",
            "Pull it under another --name.",
        )
    hub = _endpoint(endpoint)
    page = f"{HUB}/{source.repository}"
    url = f"{hub}/{source.repository}/resolve/{NEWEST}/{source.file}"
    request = Request(source.repository, source.file, NEWEST, page, url, backbone.id)
    with _quiet_library():
        listing = _look_up(request, hub)
    same = listing.revision == source.revision or listing.etag == source.sha256
    return None if same else listing


def _endpoint(given: str) -> str:
    # Read now: huggingface_hub reads the variable when it is imported, maybe long ago.
    hub = (given or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    parts = urlsplit(hub)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MedDINOv3Error(
            "bad-endpoint",
            f"'{hub}' is no address of a hub.",
            "Let HF_ENDPOINT name one such as https://huggingface.co, or unset it.",
        )
    return hub


def _request(entry: CatalogueEntry, name: str, hub: str, revision: str) -> Request:
    url = f"{hub}/{entry.repository}/resolve/{quote(revision, safe='')}/{entry.file}"
    return Request(entry.repository, entry.file, revision, entry.page, url, name)


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep huggingface_hub to the two requests: no bars and warnings, which are the caller's.

    With telemetry on, already its user agent asks the hub for a list.
    """
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError as error:
        raise MedDINOv3Error(
            "not-set-up", "The package huggingface_hub is missing.", "Set MedDINOv3 up first."
        ) from error
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    bars, telemetry = "huggingface_hub.http_get", constants.HF_HUB_DISABLE_TELEMETRY
    shown, verbosity = not are_progress_bars_disabled(bars), logging.get_verbosity()
    constants.HF_HUB_DISABLE_TELEMETRY = True
    disable_progress_bars(bars)
    logging.set_verbosity_error()
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = telemetry
        logging.set_verbosity(verbosity)
        if shown:
            enable_progress_bars(bars)


@contextmanager
def _only_one(downloads: Path, entry: CatalogueEntry) -> Iterator[None]:
    """Two pulls at once would write into one file."""
    from huggingface_hub.utils import WeakFileLock

    lock = downloads / f".{entry.id}.lock"
    with ExitStack() as stack:
        try:
            downloads.mkdir(parents=True, exist_ok=True)
            stack.enter_context(WeakFileLock(lock, timeout=1.0))
        except TimeoutError as error:
            raise MedDINOv3Error(
                "busy", f"'{entry.id}' is being pulled already.", "Wait until that has ended."
            ) from error
        except OSError as error:
            raise cannot_write(lock, error) from error
        yield  # the file stays: who waits for it would hold one that has no name any more


def _look_up(request: Request, hub: str) -> Listing:
    from huggingface_hub import constants, get_hf_file_metadata

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "").upper() in (
        constants.ENV_VARS_TRUE_VALUES
    ):
        raise offline(request)
    try:
        found = get_hf_file_metadata(
            request.url,
            endpoint=hub,
            library_name="meddinov3",
            library_version=meddinov3.__version__,
        )
    except failures() as error:
        raise explain(error, request, None) from error
    commit, etag = (found.commit_hash or "").lower(), (found.etag or "").lower()
    named = COMMIT.fullmatch(request.revision) is not None
    if (
        COMMIT.fullmatch(commit) is None
        or (named and commit != request.revision)
        or (SHA256.fullmatch(etag) or GIT_BLOB.fullmatch(etag)) is None
    ):
        raise no_hub(request)
    return Listing(commit, etag, found.size)


def _convert(path: Path, name: str, source: HubFile) -> tuple[Path, tuple[str, ...]]:
    from meddinov3.checkpoints.importing import import_file  # torch, seconds

    try:
        made = import_file(path, name, hub=source)
    except MedDINOv3Error as error:
        if error.code not in ("cannot-write", "exists", "bad-name"):
            shutil.rmtree(path.parent.parent, ignore_errors=True)  # it will be no better next time
        raise
    return made.folder, made.notes
