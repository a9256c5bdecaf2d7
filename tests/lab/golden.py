"""Golden traces: scenes as the PBX told them, pruned to what the daemon reads, kept with the tests.

What is left out changes nothing: messages that the daemon's sieve drops, headers without which the same event is
decoded, and, for they are a third of all, that by which no call is ever judged: a channel's context and its other side,
steps of the dialplan that lead nowhere, bridges that nobody is in yet, the kind of one that is left. Bridges have short
names. Remarks on top say which Asterisk it was and whom the truth calls CLIENT and CLIENT2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from itgrix_kommo.ami.decode import decode
from itgrix_kommo.ami.wanted import VARIABLES, sieve
from itgrix_kommo.calls.events import BridgeCreate, Event, Newexten, OriginateResponse, VarSet
from itgrix_kommo.calls.leg import PLACE_OF_APPLICATION
from itgrix_kommo.storage.trace import Recorded, encode, read_trace

__all__ = ["GOLDEN", "Golden", "prune", "read_golden", "write_golden"]

GOLDEN = Path(__file__).parent.parent / "traces"
"""One directory for each Asterisk, one file for each scene."""

_CLIENTS = "# clients: "
_UNUSED = re.compile(rb"\w*(Context|ConnectedLineNum|ConnectedLineName): ")
_UNUSED_AT_END = re.compile(_UNUSED.pattern + rb"|Bridge(Type|Technology|Creator): ")
_HOME = re.compile(rb"/lab/pbx-\d+-\d+/")
_BRIDGE = re.compile(rb"(Uniqueid: [0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


class Golden(NamedTuple):
    """A trace as it is kept: the fresh clients' numbers, and the events in their order."""

    clients: tuple[str, ...]
    events: tuple[Event, ...]


def prune(recorded: Iterable[Recorded]) -> Iterator[Recorded]:
    """What the daemon reads of a recorded stream, and nothing that tells one lab's folder from another's."""
    for at, frame in recorded:
        if sieve([frame]) and (pruned := _essence(frame)):
            yield Recorded(at, _BRIDGE.sub(rb"\1", _HOME.sub(b"/lab/pbx/", pruned)))


def _essence(frame: bytes) -> bytes | None:
    """The frame without the headers that nobody misses; None for an event that nobody misses."""
    unused = _UNUSED_AT_END if frame.startswith((b"Event: BridgeLeave", b"Event: BridgeDestroy")) else _UNUSED
    headers = [header for header in frame.split(b"\r\n") if not unused.match(header)]
    whole = decode(b"\r\n".join(headers), 0.0)
    if whole is None or not _tells(whole):
        return None
    for header in headers[1:]:
        fewer = [one for one in headers if one is not header]
        if decode(b"\r\n".join(fewer), 0.0) == whole:
            headers = fewer
    return b"\r\n".join(headers)


def _tells(event: Event) -> bool:
    if isinstance(event, VarSet):
        return event.variable in VARIABLES
    if isinstance(event, Newexten):
        return event.application.lower() in PLACE_OF_APPLICATION
    return not isinstance(event, BridgeCreate | OriginateResponse)


def write_golden(path: Path, recorded: Iterable[Recorded], *, asterisk: str, clients: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    remarks = f"# Asterisk {asterisk}, pruned\n{_CLIENTS}{' '.join(clients)}\n\n".encode()
    path.write_bytes(remarks + b"".join(encode(at, frame) for at, frame in prune(recorded)))


def read_golden(path: Path) -> Golden:
    remarks = [line for line in path.read_text("utf-8", "replace").splitlines()[:2] if line.startswith(_CLIENTS)]
    decoded = (decode(frame, at) for at, frame in read_trace(path))
    events = tuple(event for event in decoded if event is not None)
    return Golden(tuple(remarks[0].removeprefix(_CLIENTS).split()), events)
