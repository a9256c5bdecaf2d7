"""What a request wants of a file: all of it, parts of it, or nothing because it has it (RFC 9110, 13 and 14)."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_RANGES: Final = 16
"""A player wants one, a download manager a few; who asks for more gets the whole file."""

_RANGE: Final = re.compile(r"(\d{1,19})-(\d{0,19})|-(\d{1,19})", re.ASCII)
_ETAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\U0010ffff]*")')


class Span(NamedTuple):
    """Bytes of a file, `end` not among them."""

    begin: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.begin

    def content_range(self, size: int) -> str:
        return f"bytes {self.begin}-{self.end - 1}/{size}"


def requested(header: str | None, size: int) -> tuple[Span, ...] | None:
    """The parts of a file of `size` bytes that a Range header asks for, in its order.

    None where the whole file is the answer: no header, one that is to be ignored, or parts that repeat each other.
    () where no part lies within the file: the answer is 416.
    """
    if header is None:
        return None
    unit, _, listed = header.partition("=")
    wanted = [one.strip(" \t") for one in listed.split(",")]
    if unit.strip().lower() != "bytes" or len(wanted) > MOST_RANGES:
        return None
    spans: list[Span] = []
    for one in filter(None, wanted):
        matched = _RANGE.fullmatch(one)
        if matched is None:
            return None
        first, last, suffix = matched.groups()
        if suffix is not None:
            span = Span(max(0, size - int(suffix)), size)
        elif last and int(last) < int(first):
            return None
        else:
            span = Span(int(first), min(int(last) + 1, size) if last else size)
        if span.length > 0:
            spans.append(span)
    if not any(wanted) or sum(span.length for span in spans) > size:
        return None
    return tuple(spans)


def status(headers: Mapping[str, str], etag: str, changed_at: int) -> int:
    """200 to go on, 304 where the client has this very file, 412 where it insists on another one.

    `etag` is a strong one with its quotes, `changed_at` Unix seconds.
    """
    if (wanted := headers.get("If-Match")) is not None:
        if wanted.strip() != "*" and etag not in _strong(wanted):
            return 412
    elif (since := _date(headers.get("If-Unmodified-Since"))) is not None and changed_at > since:
        return 412
    if (known := headers.get("If-None-Match")) is not None:
        return 304 if known.strip() == "*" or etag in {tag for _, tag in _ETAG.findall(known)} else 200
    if (since := _date(headers.get("If-Modified-Since"))) is not None and changed_at <= since:
        return 304
    return 200


def still_wanted(if_range: str | None, etag: str, changed_at: int) -> bool:
    """Whether the parts asked for belong to this very file, or nobody minds."""
    if if_range is None:
        return True
    return etag in _strong(if_range) or _date(if_range) == changed_at


def multipart(spans: Sequence[Span], size: int, media_type: str, boundary: str) -> list[bytes | Span]:
    """The body of multipart/byteranges: bytes to send as they are, and spans of the file."""
    body: list[bytes | Span] = []
    for span in spans:
        head = f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {span.content_range(size)}\r\n\r\n"
        body += head.encode(), span
    return [*body, f"\r\n--{boundary}--\r\n".encode()]


def _strong(header: str) -> set[str]:
    return {tag for weak, tag in _ETAG.findall(header) if not weak}


def _date(header: str | None) -> int | None:
    if header is None:
        return None
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, IndexError):
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
