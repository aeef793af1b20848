"""What went wrong on the way to the Hugging Face hub, and how to bring the file by hand."""

from __future__ import annotations

import errno
import ssl
from dataclasses import dataclass
from pathlib import Path

from meddinov3.errors import MedDINOv3Error

NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
BUSY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Request:
    """What was asked of the hub.

    Attributes:
        repository, file, revision: see :class:`~meddinov3.description.HubFile`.
        page: the repository's page, for people.
        url: where the file can be downloaded with a browser.
        name: id that the backbone is to have.
    """

    repository: str
    file: str
    revision: str
    page: str
    url: str
    name: str

    @property
    def by_hand(self) -> str:
        """How to do without a connection from this computer."""
        return (
            f"by hand: download {self.url} with a browser on another computer, bring the file "
            f"here, and run: meddinov3 models import {self.file} --name {self.name}"
        )

    def error(self, code: str, message: str, remedy: str) -> MedDINOv3Error:
        """An error whose remedy ends with the way by hand."""
        return MedDINOv3Error(code, message, f"{remedy}; or {self.by_hand}")


def offline(request: Request) -> MedDINOv3Error:
    """The user has forbidden connections."""
    return request.error(
        "offline",
        "Nothing was pulled: HF_HUB_OFFLINE forbids connections.",
        "Unset the environment variable HF_HUB_OFFLINE",
    )


def no_hub(request: Request) -> MedDINOv3Error:
    """Something answered that is not the hub: a login page of a network, a wrong mirror."""
    return request.error(
        "not-a-hub",
        f"What answered at {request.url} is no Hugging Face hub: it names no commit or no hash.",
        "Check HF_ENDPOINT, proxy and firewall",
    )


def no_space(request: Request, needed: str, place: str) -> MedDINOv3Error:
    """The disk is too full."""
    return request.error(
        "no-space",
        f"There is too little space for {request.file} in '{place}': {needed}.",
        "Free some, or let MEDDINOV3_HOME name a folder on another disk",
    )


def cannot_write(path: Path, error: OSError) -> MedDINOv3Error:
    """The disk, not the network."""
    return MedDINOv3Error(
        "cannot-write",
        f"'{path}' could not be written: {error.strerror or error}.",
        "Check permissions, or let MEDDINOV3_HOME name another folder.",
    )


def failures() -> tuple[type[Exception], ...]:
    """What huggingface_hub and the HTTP library below it raise."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its base is the root of httpx' exceptions, or requests', which are OSErrors.
    return (*HfHubHTTPError.__bases__, OSError)


def explain(error: Exception, request: Request, kept: int | None) -> MedDINOv3Error:
    """The user's words for an exception of huggingface_hub or of the HTTP library below it.

    Args:
        error: what was raised. Which HTTP library is below depends on the version of
            huggingface_hub, so its exceptions are known by what they wrap.
        request: what was asked.
        kept: bytes on the disk from which the next pull goes on; None before the transfer.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return _explain_answer(error, int(status), request, kept or 0)
    if _wraps(error, ssl.SSLError, "SSLError") or "CERTIFICATE_VERIFY" in str(error):
        return request.error(
            "tls",
            f"No secure connection to the hub: {_reason(error)}.",
            "Ask who runs your network; a proxy that inspects traffic needs its certificate in "
            "SSL_CERT_FILE",
        )
    if _wraps(error, None, "ProxyError"):
        return _proxy(request, _reason(error))
    if kept is not None:
        return request.error(
            "cut-off",
            f"The transfer of {request.file} broke off ({_reason(error)}); "
            f"{kept / 1e6:.1f} MB are kept.",
            "Pull again, which goes on from there",
        )
    return request.error(
        "no-network",
        f"The hub cannot be reached: {_reason(error)}.",
        "Check the connection, and HTTPS_PROXY if your network has a proxy",
    )


def _explain_answer(error: Exception, status: int, request: Request, kept: int) -> MedDINOv3Error:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError) or status == 403:
        return request.error(
            "gated",
            f"{request.repository} is open only to those who accepted its terms ({status}).",
            f"Accept them on {request.page}, then give your access token in HF_TOKEN",
        )
    if status == 401:
        return request.error(
            "not-authorised",
            f"The hub does not open {request.repository} without a valid access token (401): it is "
            "gated or private, the token is wrong or expired, or there is no such repository.",
            f"Look at {request.page}, and give a token in HF_TOKEN, or none",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return request.error(
            "no-revision",
            f"{request.repository} has no revision '{request.revision}' (404).",
            f"See {request.page}/commits/main, or leave --revision out",
        )
    if isinstance(error, errors.EntryNotFoundError):
        return request.error(
            "no-file",
            f"{request.repository} has no file {request.file} at revision '{request.revision}' "
            "(404).",
            f"Look at {request.page}/tree/main; if it has moved, update MedDINOv3",
        )
    if status == 404:
        return request.error(
            "no-repository",
            f"The hub has no repository {request.repository} (404).",
            f"Look at {request.page}; if it has moved, update MedDINOv3",
        )
    if status == 407:
        return _proxy(request, "it asks for a password (407)")
    if status in BUSY:
        rest = f"; {kept / 1e6:.1f} MB are kept" if kept else ""
        return request.error(
            "hub-busy",
            f"The hub is busy or out of order ({status}){rest}.",
            "Pull again in a while",
        )
    return request.error(
        "hub-refused", f"The hub refused the request ({status}).", f"Look at {request.page}"
    )


def _proxy(request: Request, reason: str) -> MedDINOv3Error:
    return request.error(
        "proxy",
        f"The proxy between here and the hub refuses: {reason}.",
        "Check HTTPS_PROXY, with user and password if it wants them",
    )


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def _wraps(error: BaseException, kind: type[BaseException] | None, name: str) -> bool:
    return any(
        (kind is not None and isinstance(link, kind)) or type(link).__name__ == name
        for link in _chain(error)
    )


def _reason(error: BaseException) -> str:
    """The innermost text, in one line."""
    texts = [" ".join(str(link).split()) for link in _chain(error)]
    return next((text for text in reversed(texts) if text), type(error).__name__).rstrip(".")
