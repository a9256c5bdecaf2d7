"""What a message's headers say, as text fit for the tracker.

Texts are UTF-8; a line that is not is read as Windows-1251 where most of its letters lie beyond ASCII (Cyrillic), else
as Latin-1 (Spanish, Portuguese). Control characters become spaces. Absent headers are empty, malformed numbers zero:
nothing here raises, for whoever calls may put anything into a caller's name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from itgrix_kommo.calls.events import Bridge, Channel

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_DIGITS: Final = 11
"""Of a number in a header: causes, states and reasons are short."""

_CONTROLS = bytes(byte if byte in b"\r\n" or (byte >= 0x20 and byte != 0x7F) else 0x20 for byte in range(256))
_LONE_BREAK = re.compile(r"\r(?!\n)|(?<!\r)\n")
_ESCAPED = re.compile(r"\\([abfnrtv\\'\"?])")
_ASCII_LETTERS = re.compile(rb"[A-Za-z]")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_UNKNOWN = "<unknown>"


def headers(frame: bytes) -> dict[str, str | list[str]]:
    """Every header of a message, a list where it is repeated (``Variable``, ``Output``), also the empty ones."""
    found: dict[str, str | list[str]] = {}
    for line in text_of(frame).split("\r\n"):
        name, _, value = _LONE_BREAK.sub(" ", line).partition(":")
        value = value.removeprefix(" ")
        earlier = found.get(name)
        if earlier is None:
            found[name] = value
        elif isinstance(earlier, list):
            earlier.append(value)
        else:
            found[name] = [earlier, value]
    return found


def text_of(frame: bytes) -> str:
    """The whole message as text, its headers still apart by CR LF."""
    frame = frame.translate(_CONTROLS)
    try:
        return frame.decode()
    except UnicodeDecodeError:
        return "\r\n".join(map(_line, frame.split(b"\r\n")))


def _line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        _, _, value = line.partition(b": ")
        cyrillic = len(_BEYOND_ASCII.findall(value)) > len(_ASCII_LETTERS.findall(value))
        return line.decode("cp1251" if cyrillic else "latin-1", "replace")


def value_of(text: str, name: str) -> str:
    """What header `name` says, the first one where it is repeated, empty where there is none."""
    mark = f"\r\n{name}: "
    begin = text.find(mark)
    if begin < 0:
        return ""
    begin += len(mark)
    end = text.find("\r\n", begin)
    value = text[begin:] if end < 0 else text[begin:end]
    # A line break that ends no header is part of a value somebody made up.
    return _LONE_BREAK.sub(" ", value) if "\r" in value or "\n" in value else value


def integer(digits: str) -> int:
    """A count, cause or state; zero for what is none."""
    # isascii, because isdigit is also true of what int() does not read, such as superscripts.
    return int(digits) if digits.isdigit() and digits.isascii() and len(digits) <= MAX_DIGITS else 0


def known(value: str) -> str:
    """Empty for what Asterisk does not know."""
    return "" if value == _UNKNOWN else value


def unescape(value: str) -> str:
    """Undo Asterisk's ``ast_escape_c``; escaped control characters become spaces."""
    if "\\" not in value:
        return value
    return _ESCAPED.sub(lambda found: " " if found[1] in "abfnrtv" else found[1], value)


class _Block:
    """Headers that Asterisk always writes together and in this order, under a prefix: a channel, a bridge.

    One expression reads them all, three times as fast as one by one; where it fails, one by one is how they are read.
    Names in brackets are passed over.
    """

    __slots__ = ("_names", "_together")

    def __init__(self, prefix: str, *names: str) -> None:
        self._names = [prefix + name for name in names if not name.startswith("[")]
        lines = (
            f"\r\n{prefix}{name[1:-1]}: [^\r\n]*" if name.startswith("[") else f"\r\n{prefix}{name}: ([^\r\n]*)"
            for name in names
        )
        self._together = re.compile("".join(lines) + r"(?=\r\n|\Z)")

    def values(self, text: str) -> Iterable[str]:
        found = self._together.search(text)
        return found.groups() if found else [value_of(text, name) for name in self._names]

    def is_in(self, text: str) -> bool:
        return f"\r\n{self._names[0]}: " in text


class ChannelBlock(_Block):
    __slots__ = ()

    def __init__(self, prefix: str = "") -> None:
        super().__init__(
            prefix,
            "Channel",
            "ChannelState",
            "[ChannelStateDesc]",
            "CallerIDNum",
            "CallerIDName",
            "ConnectedLineNum",
            "ConnectedLineName",
            "[Language]",
            "[AccountCode]",
            "Context",
            "Exten",
            "[Priority]",
            "Uniqueid",
            "Linkedid",
        )

    def read(self, text: str) -> Channel:
        name, state, caller, caller_name, connected, connected_name, context, exten, uniqueid, linkedid = self.values(
            text
        )
        return Channel(
            name,
            uniqueid,
            linkedid,
            integer(state),
            known(caller),
            unescape(known(caller_name)),
            known(connected),
            unescape(known(connected_name)),
            context,
            exten,
        )

    def read_if_any(self, text: str) -> Channel | None:
        return self.read(text) if self.is_in(text) else None


class BridgeBlock(_Block):
    __slots__ = ()

    def __init__(self, prefix: str = "") -> None:
        super().__init__(prefix, "BridgeUniqueid", "BridgeType", "BridgeTechnology", "BridgeCreator")

    def read(self, text: str) -> Bridge:
        unique, kind, technology, creator = self.values(text)
        return Bridge(unique, kind, technology, known(creator))
