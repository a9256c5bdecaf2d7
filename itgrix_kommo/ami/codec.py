"""From bytes to frames: one AMI message each, without the blank line that ends it.

Pure: no sockets, no clock. However the bytes are cut into chunks, the frames are the same; memory is bounded by one
message, and time is linear in what was received, also where a message never ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from itgrix_kommo.ami.wanted import sieve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_MESSAGE: Final = 1 << 20
"""Bytes of one message. The longest ones of Asterisk carry a variable of some kilobytes."""

MAX_LINE: Final = 1 << 16
"""Bytes of one header; Asterisk's own buffers end far below."""

MAX_BANNER: Final = 256
"""Bytes of the line that greets us."""

_END = b"\r\n\r\n"
_BANNER = b"Asterisk Call Manager"


class Codec:
    """Cuts one connection's bytes into frames and keeps those that `keep` passes.

    `version` is the banner's (``Asterisk Call Manager/5.0.1``), None until it came or where there is none (a trace).
    `fault` tells in words why this stream can't be read on; from then on nothing more comes out of it.
    """

    __slots__ = ("_greeted", "_keep", "_max_line", "_max_message", "_partial", "fault", "messages", "version")

    def __init__(
        self,
        *,
        keep: Callable[[Iterable[bytes]], list[bytes]] = sieve,
        max_message: int = MAX_MESSAGE,
        max_line: int = MAX_LINE,
    ) -> None:
        self.version: str | None = None
        self.fault: str | None = None
        self.messages = 0
        self._keep = keep
        self._max_message = max_message
        self._max_line = min(max_line, max_message)
        self._partial = bytearray()
        self._greeted = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The frames that `chunk` completes."""
        if self.fault is not None:
            return []
        partial = self._partial
        # The end of a message may straddle two chunks; what lies before it has been searched already.
        searched = max(0, len(partial) - len(_END) + 1)
        partial += chunk
        if not self._greeted:
            if len(partial) < MAX_BANNER and b"\n" not in partial:
                return []
            self._greet()
            searched = 0
        pieces: list[bytes] = []
        if partial.find(_END, searched) >= 0:
            pieces = bytes(partial).split(_END)
            self._partial = bytearray(pieces.pop())
        # Up to three bytes of an end may already be there.
        if len(self._partial) >= self._max_message + len(_END):
            self._give_up(f"a message of more than {self._max_message} bytes")
        if not pieces:
            return []
        if max(map(len, pieces)) > self._max_line:
            pieces = self._within_bounds(pieces)
        self.messages += len(pieces)
        # Some events of Asterisk end with a blank line too many, which then precedes the next one.
        return self._keep([piece.lstrip(b"\r\n") if piece.startswith(b"\r\n") else piece for piece in pieces if piece])

    def close(self) -> bool:
        """The connection is over; True where it broke off within a message, which is lost."""
        truncated = bool(self._partial.strip(b"\r\n")) and self.fault is None
        self._partial = bytearray()
        return truncated

    def _greet(self) -> None:
        self._greeted = True
        line, end, _ = bytes(self._partial[:MAX_BANNER]).partition(b"\n")
        if end and line.startswith(_BANNER):
            self.version = line.rpartition(b"/")[2].strip().decode("ascii", "replace")
            del self._partial[: len(line) + 1]

    def _within_bounds(self, pieces: list[bytes]) -> list[bytes]:
        for number, piece in enumerate(pieces):
            if len(piece) > self._max_message:
                self._give_up(f"a message of more than {self._max_message} bytes")
                return pieces[:number]
            if max(map(len, piece.split(b"\r\n"))) > self._max_line:
                self._give_up(f"a line of more than {self._max_line} bytes")
                return pieces[:number]
        return pieces

    def _give_up(self, why: str) -> None:
        self.fault = why
        self._partial = bytearray()
