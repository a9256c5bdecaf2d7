"""Recorded AMI streams: what a live Asterisk sent, as text that a person can read and a program can replay.

Each message is preceded by a line ``@ 1763810000.123``, the Unix time of its arrival, and followed by an empty line;
within it stand its headers, one a line. Lines that begin with ``#`` between messages are remarks.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from itgrix_kommo.errors import TraceError


class Recorded(NamedTuple):
    """One message (CRLF between its headers, none at the end) and when it arrived."""

    at: float
    frame: bytes


_LONE_BREAK = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def encode(at: float, frame: bytes) -> bytes:
    """One message as it stands in a trace. A break within a value becomes a space: else it would begin a header, two of
    them a message that nobody sent.
    """
    if frame.count(b"\r") + frame.count(b"\n") != 2 * frame.count(b"\r\n"):
        frame = _LONE_BREAK.sub(b" ", frame)
    return b"@ %.6f\n%s\n\n" % (at, frame.replace(b"\r\n", b"\n"))


def read_trace(path: Path) -> Iterator[Recorded]:
    """The messages of a trace file, compressed or not, in their order. Raises TraceError, which names the line."""
    try:
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or "a damaged gzip file"
        raise TraceError(f"{path}: {why}: give the path of a recorded trace") from error
    yield from parse(text, str(path))


def parse(text: bytes, name: str) -> Iterator[Recorded]:
    """The messages in the text of a trace; `name` is what a refusal calls it."""
    at: float | None = None
    headers: list[bytes] = []
    for number, line in enumerate([*text.replace(b"\r\n", b"\n").split(b"\n"), b""], 1):
        if line.startswith(b"@ ") and not headers:
            at = _time(name, number, line)
        elif line.startswith(b"#") and not headers:
            continue
        elif line:
            if at is None:
                raise TraceError(f"{name}:{number}: a message without its time: put a line '@ <Unix time>' before it")
            headers.append(line)
        elif headers and at is not None:
            yield Recorded(at, b"\r\n".join(headers))
            headers = []


def write_trace(path: Path, recorded: Iterable[Recorded]) -> None:
    """Write messages as a trace file."""
    with path.open("wb") as file:
        for at, frame in recorded:
            file.write(encode(at, frame))


def _time(name: str, number: int, line: bytes) -> float:
    try:
        return float(line[2:])
    except ValueError as error:
        raise TraceError(f"{name}:{number}: {line[2:40]!r} is no Unix time: write it as 1763810000.123") from error
