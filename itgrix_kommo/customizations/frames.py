"""What passes between the daemon and the host of its customizations.

A frame is one byte of kind, ``>L`` length and that many bytes; a connection is one worker. The daemon names the kind of
files it is to run (`KIND`), then gives it one job after another (`JOB`: the file's path, a line break, the payload).
The host tells what is printed while it is (`OUTPUT`, `ERRORS`), at the end how much that was in all if it was more
(`PRINTED_IN_ALL`), and then one of `ANSWER`, `FAILURE` and `WORKER_GONE`, which is a failure that ended the worker. It
replies to `KIND` as to a job. Whoever hangs up ends the job.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Final, NamedTuple

from itgrix_kommo.customizations.answer import LARGEST_ANSWER
from itgrix_kommo.errors import HookError

KIND: Final = b"k"
JOB: Final = b"j"
OUTPUT: Final = b"o"
ERRORS: Final = b"e"
PRINTED_IN_ALL: Final = b"p"
ANSWER: Final = b"A"
FAILURE: Final = b"F"
WORKER_GONE: Final = b"G"

LARGEST_JOB: Final = 16 * LARGEST_ANSWER
"""Bytes of a job: a payload that grows beyond this is no call."""

PRINTED: Final = struct.Struct(">QQ")
"""How many bytes were printed to either stream."""

_HEAD: Final = struct.Struct(">cL")


class Frame(NamedTuple):
    kind: bytes
    body: bytes


def encoded(kind: bytes, body: bytes = b"") -> bytes:
    return _HEAD.pack(kind, len(body)) + body


async def read(reader: asyncio.StreamReader, *, largest: int) -> Frame:
    """The next one. Raises IncompleteReadError or ConnectionError at the end, HookError where it is none."""
    kind, length = _HEAD.unpack(await reader.readexactly(_HEAD.size))
    if length > largest:
        raise HookError(f"{length} bytes at once, where {largest} are the most: is something else listening there?")
    return Frame(kind, await reader.readexactly(length))
