"""What is said between a client and the worker: one JSON object a line, both ways.

A request is ``{"id": 7, "do": "segment", ...}`` with the fields of one of the classes below; an
event is ``{"event": "progress", "id": 7, ...}``. Events are

* ``starting``: the process runs; ``protocol`` is stated;
* ``ready``: everything is imported; ``device`` in words, ``versions``;
* ``progress``: ``phase``, ``done``, ``total``, ``seconds_left``;
* ``done``: ``result``;
* ``cancelled``;
* ``failed``: ``code``, ``message``, ``remedy``, ``details``; ``id`` is null if the process cannot
  go on, and 0 if a line could not be understood at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from meddinov3.errors import MedDINOv3Error
from meddinov3.plain_json import from_plain, to_plain

PROTOCOL = 1
LONGEST_LINE = 4 * 2**20  # bytes; a request is some hundred


@dataclass(frozen=True)
class Load:
    """Have a model ready; a later request for the same costs no start-up.

    Attributes:
        model: id or folder.
        device, precision: as on the command line.
    """

    model: str
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class Segment:
    """Segment one scan.

    Attributes:
        model, device, precision: as for :class:`Load`.
        scan: folder from :func:`meddinov3.worker.exchange.write_scan`, or "".
        files: files or DICOM folders by channel name, instead of `scan`.
        series: which DICOM series of a folder.
        result: new folder for the label map, or "".
        outputs: files to write the segmentation to.
        region: as ``--roi``, or "".
        labels: names or values; None for all.
        mirror: average over mirrored copies.
        largest, fill_holes, minimum_ml: clean-up.
        batch: slices at a time; None chooses.
    """

    model: str
    device: str = "auto"
    precision: str = "auto"
    scan: str = ""
    files: dict[str, str] = field(default_factory=dict)
    series: int | None = None
    result: str = ""
    outputs: tuple[str, ...] = ()
    region: str = ""
    labels: tuple[str, ...] | None = None
    mirror: bool = False
    largest: bool = False
    fill_holes: bool = False
    minimum_ml: float = 0.0
    batch: int | None = None


@dataclass(frozen=True)
class Inspect:
    """What a device is, after a computation was really tried on it."""

    device: str = "auto"


@dataclass(frozen=True)
class Estimate:
    """What a segmentation would take, from a few slices that are really computed.

    Attributes:
        model, device, precision, region, mirror: as for :class:`Segment`.
        size, spacing, origin, direction: of the scan's grid, `direction` row by row.
        voxel_bytes: of one channel.
    """

    model: str
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    device: str = "auto"
    precision: str = "auto"
    region: str = ""
    mirror: bool = False
    voxel_bytes: int = 2


@dataclass(frozen=True)
class Encode:
    """Have the features of a scan ready; later requests name them by the answer's ``tokens``.

    The answer says how they lie, see :class:`meddinov3.worker.feature_requests.FeatureRequests`.
    A scan is given up when others need its room, on :class:`FreeMemory` and with the worker: a
    later request then fails with ``tokens-gone``.

    Attributes:
        scan: folder from :func:`meddinov3.worker.exchange.write_scan`, or "".
        file: a scan's file or DICOM folder, instead of `scan`.
        encoder: id or folder of a backbone or model; "" takes the best here.
        device, precision: as for :class:`Load`.
        region: as ``--roi``: the box that holds it is encoded; "" for all.
        axis: index axis (0 i, 1 j, 2 k) along which slices lie; -1 chooses.
        pixels: of the network along the longer side of a slice; 0 as the encoder was trained.
        whole: encode every slice now, rather than when it is asked for.
    """

    scan: str = ""
    file: str = ""
    encoder: str = ""
    device: str = "auto"
    precision: str = "auto"
    region: str = ""
    axis: int = -1
    pixels: int = 512
    whole: bool = True


@dataclass(frozen=True)
class Explore:
    """Look at features.

    The result is an array (k, j, i) on the scan's grid, or, of one slice, that slice of it: int8
    per cent of likeness, or uint8 colours (..., 3).

    Attributes:
        tokens: from :class:`Encode`.
        result: new folder for :func:`meddinov3.worker.exchange.write_array`.
        kind: ``similarity`` to `point`, or ``colours``.
        point: LPS, mm.
        one_slice: only the slice through `point`; the answer says which.
    """

    tokens: str
    result: str
    kind: str = "similarity"
    point: tuple[float, float, float] | None = None
    one_slice: bool = False


@dataclass(frozen=True)
class Prompt:
    """Segment what points and a box mean; everything that is asked stands in the request.

    The result is a label map (k, j, i) on the scan's grid, 1 inside.

    Attributes:
        tokens: from :class:`Encode`, which was told the click model as `encoder`, and ``pixels=0``,
            if `model` is one.
        result: new folder for :func:`meddinov3.worker.exchange.write_label_map`.
        positive, negative: points, LPS, mm.
        box: as ``--roi``, or "".
        previous: folder of the mask so far, as `result`, or "" for none.
        model: id or folder of a click model; "" answers by likeness.
    """

    tokens: str
    result: str
    positive: tuple[tuple[float, float, float], ...] = ()
    negative: tuple[tuple[float, float, float], ...] = ()
    box: str = ""
    previous: str = ""
    model: str = ""


@dataclass(frozen=True)
class ForgetTokens:
    """Give up the features of a scan that is not worked on any more."""

    tokens: str


@dataclass(frozen=True)
class Pull:
    """Download a backbone of the catalogue; the user was shown its licence and agreed.

    Attributes:
        entry: its id in the catalogue.
        name: id of the backbone, new; the entry's by default.
    """

    entry: str
    name: str = ""


@dataclass(frozen=True)
class FreeMemory:
    """Give up the loaded model and memory held for reuse, e.g. before training."""


@dataclass(frozen=True)
class Cancel:
    """Stop a request, running or waiting; it answers with ``cancelled``."""

    target: int


@dataclass(frozen=True)
class Stop:
    """Cancel everything and end."""


FeatureRequest = Encode | Explore | Prompt | ForgetTokens
Request = Load | Segment | Inspect | Estimate | FeatureRequest | Pull | FreeMemory | Cancel | Stop
VERBS: dict[str, type[Request]] = {
    "load": Load,
    "segment": Segment,
    "inspect": Inspect,
    "estimate": Estimate,
    "encode": Encode,
    "explore": Explore,
    "prompt": Prompt,
    "forget": ForgetTokens,
    "pull": Pull,
    "free": FreeMemory,
    "cancel": Cancel,
    "stop": Stop,
}
NAMES = {kind: verb for verb, kind in VERBS.items()}


@dataclass(frozen=True)
class Event:
    """Something the worker says.

    Attributes:
        kind: ``progress``, ``done`` ... (see the module).
        id: of the request it belongs to.
        body: its further fields.
    """

    kind: str
    id: int | None = None
    body: dict[str, Any] = field(default_factory=dict)


def encode_request(number: int, request: Request) -> bytes:
    """One line for the worker's stdin."""
    return _line({"id": number, "do": NAMES[type(request)], **to_plain(request)})


def decode_request(line: bytes) -> tuple[int, Request]:
    """Understand a request.

    Raises:
        MedDINOv3Error: no JSON object, an unknown verb or field, or a wrong type.
    """
    try:
        fields = json.loads(line)
        number, verb = fields.pop("id"), fields.pop("do")
        if type(number) is not int:
            raise TypeError("the id must be a whole number")
        return number, from_plain(VERBS[verb], fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MedDINOv3Error(
            "bad-request",
            f"The worker was asked something it does not understand ({error}).",
            "The module and the worker may be of different versions: restart Slicer.",
        ) from error


def encode_event(event: Event) -> bytes:
    """One line of the worker's stdout."""
    return _line({"event": event.kind, "id": event.id, **event.body})


def decode_event(line: bytes) -> Event | None:
    """Understand an event; None for a line that is none."""
    try:
        fields = json.loads(line)
        return Event(fields.pop("event"), fields.pop("id"), fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def failure(number: int | None, error: MedDINOv3Error, details: str = "") -> Event:
    """The event that a request failed."""
    body = {
        "code": error.code,
        "message": error.message,
        "remedy": error.remedy,
        "details": details,
    }
    return Event("failed", number, body)


class Lines:
    """Puts whole lines together from pieces as they arrive."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines completed by `piece`, without their ends."""
        self._rest += piece
        *lines, rest = self._rest.split(b"\n")
        self._rest = bytearray(rest)
        yield from map(bytes, lines)


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=True).encode() + b"\n"
