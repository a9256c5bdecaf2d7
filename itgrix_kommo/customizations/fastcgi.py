"""FastCGI as far as a client of one php-cgi needs it: one request at a time, the connection kept. No IO here.

https://fastcgi-archives.github.io/FastCGI_Specification.html
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from itgrix_kommo.errors import HookError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BEGIN_REQUEST: Final = 1
END_REQUEST: Final = 3
PARAMS: Final = 4
STDIN: Final = 5
STDOUT: Final = 6
STDERR: Final = 7

_HEADER: Final = struct.Struct(">BBHHBx")
_BEGIN: Final = struct.pack(">HB5x", 1, 1)  # responder, keep the connection
_VERSION: Final = 1
_REQUEST_ID: Final = 1
_LARGEST_RECORD: Final = 0xFFF8  # a multiple of eight, so that nothing needs padding


class Record(NamedTuple):
    kind: int
    content: bytes


def request(params: Mapping[str, str], body: bytes) -> bytes:
    """The bytes of one whole request."""
    pairs = b"".join(_pair(name.encode(), value.encode()) for name, value in params.items())
    return b"".join((_record(BEGIN_REQUEST, _BEGIN), *_stream(PARAMS, pairs), *_stream(STDIN, body)))


def _record(kind: int, content: bytes) -> bytes:
    return _HEADER.pack(_VERSION, kind, _REQUEST_ID, len(content), 0) + content


def _stream(kind: int, content: bytes) -> Iterator[bytes]:
    for begin in range(0, len(content), _LARGEST_RECORD):
        yield _record(kind, content[begin : begin + _LARGEST_RECORD])
    yield _record(kind, b"")


def _pair(name: bytes, value: bytes) -> bytes:
    return _length(name) + _length(value) + name + value


def _length(text: bytes) -> bytes:
    return struct.pack(">B", len(text)) if len(text) < 0x80 else struct.pack(">L", len(text) | 0x80000000)


class Records:
    """Cuts what arrives into records, however it was cut on its way."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Record]:
        """The records that `data` completes. Raises HookError on what is no FastCGI."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            version, kind, _, length, padding = _HEADER.unpack_from(self._buffer)
            if version != _VERSION:
                raise HookError(f"PHP answered something that is no FastCGI (version {version})")
            end = _HEADER.size + length
            if len(self._buffer) < end + padding:
                return
            content = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[: end + padding]
            yield Record(kind, content)
