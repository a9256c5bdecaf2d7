"""From the file to a checked configuration, or to the whole list of what is wrong with it."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from itgrix_kommo.config.problems import Place, explained, meaning, written
from itgrix_kommo.config.secrets import SecretSources
from itgrix_kommo.config.settings import Config
from itgrix_kommo.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LARGEST: Final = 1024 * 1024  # bytes; a thousand employees take some 100 KiB
_DEEPEST: Final = 16  # levels; ours has five
_LONGEST_NUMBER: Final = 19  # digits, as in 64 bits
_UNWANTED: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
PLACEHOLDER: Final = "FILL IN"  # how the starting file marks what only a person knows


def load(path: Path) -> Config:
    """The configuration in `path`, its secrets read.

    Raises ConfigError that names every problem found, one a line.
    """
    content, mode = read(path)
    document = parse(content, str(path))
    if looks_like_vendors(document):
        raise ConfigError(
            f"{path}: this is the configuration of the vendor's own connector: "
            "`itgrix-kommo config import` keeps a copy and writes ours, with what can be taken over"
        )
    sources = SecretSources(
        home=path.absolute().parent / "secrets", readable_file=str(path) if mode & stat.S_IROTH else None
    )
    unusable = {place: text for place, value in _values(document) if (text := _unusable(place, value))}
    problems = [*_repeated(document), *unusable.items()]
    try:
        config = Config.model_validate(document, context=sources)
    except ValidationError as error:
        for place, text in explained(error, Config):
            # A placeholder is no address either: the first reason is the one to act upon.
            if not any(place[: len(known)] == known for known in unusable):
                problems.append((place, text))
    else:
        if not problems:
            return config
    raise ConfigError("\n".join(f"{written(place)}: {text}" for place, text in problems))


def looks_like_vendors(document: object) -> bool:
    """Whether this is the vendor's own config.json: neither of our two required objects, but a database of theirs."""
    if not isinstance(document, dict) or "ami" in document or "kommo" in document:
        return False
    database = document.get("database")
    return isinstance(database, dict) and bool(database) and "url" not in database


def read(path: Path) -> tuple[bytes, int]:
    """The file's bytes and its mode. Raises ConfigError that tells why it can't be read."""
    try:
        # Without O_NONBLOCK a named pipe would hold up the start until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{path}: no regular file: give the path of config.json")
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file: write one with `itgrix-kommo config init`") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a directory: give the path of config.json in it") from None
    except PermissionError:
        raise ConfigError(f"{path}: may not be read by this user: chown or chmod it for the service") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no usable path"
        raise ConfigError(f"{path}: can't be read ({reason}): check path and disk") from None
    if len(content) > _LARGEST:
        raise ConfigError(f"{path}: larger than 1 MiB: this can't be the configuration")
    return content, mode


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys stood in it more than once."""

    repeated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Unusable:
    """What Python's JSON reader would let pass, in place of the value."""

    problem: str


def parse(content: bytes, name: str) -> Any:
    """The JSON in `content`; objects remember repeated keys. Raises ConfigError with line, column and remedy."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{name}: written as UTF-16: save it as UTF-8")
    if content.startswith(b"\xef\xbb\xbf"):
        raise ConfigError(f"{name}: begins with a byte order mark: save it as UTF-8 without BOM")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}: line {line}: not UTF-8: save the file as UTF-8") from None
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=lambda word: _Unusable(f"{word} is no JSON"),
            parse_int=_whole_number,
            parse_float=_number,
        )
    except json.JSONDecodeError as error:
        problem, remedy = _broken(text, error)
        raise ConfigError(f"{name}: line {error.lineno}, column {error.colno}: {problem}: {remedy}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested without end: this can't be the configuration") from None


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) < len(pairs):
        found.repeated = frozenset(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
    return found


def _whole_number(digits: str) -> int | _Unusable:
    return int(digits) if len(digits) <= _LONGEST_NUMBER else _Unusable("a number of too many digits")


def _number(digits: str) -> float | _Unusable:
    value = float(digits)
    return value if math.isfinite(value) else _Unusable("a number too large")


_BY_OPENING: Final = (
    ("//", "a comment", "take it away, JSON has none"),
    ("/*", "a comment", "take it away, JSON has none"),
    ("#", "a comment", "take it away, JSON has none"),
    ("'", "single quotes", 'use "'),
)
_BY_MESSAGE: Final = (
    ("trailing comma", "a comma without a successor", "take the comma away"),
    ("control character", "text runs on to the next line", 'close it with " or write \\n'),
    ("Unterminated string", "text that never ends", 'close it with "'),
    ("Invalid \\", "a backslash that means nothing", "write it twice: \\\\"),
    ("Extra data", "something after the end", "check the braces, one may close too early"),
    ("',' delimiter", "a comma is missing before this", "put one after the previous value"),
    ("':' delimiter", "a colon is missing after the key", "put one"),
    ("property name", "a key without quotes", 'write it as "key"'),
)


def _broken(text: str, error: json.JSONDecodeError) -> tuple[str, str]:
    """What is wrong and what to do; the text there is not shown, since it may be a secret."""
    before, rest = text[: error.pos].rstrip(), text[error.pos :]
    if not text.strip():
        return "the file is empty", "write one with `itgrix-kommo config init`"
    if not rest.strip():
        return "the file ends too early", "close the open brackets and braces, or restore the rest of it"
    if before.endswith(",") and rest[0] in "}]":
        return "a comma without a successor", "take the comma away"
    reasons = [(problem, remedy) for opening, problem, remedy in _BY_OPENING if rest.startswith(opening)]
    reasons += [(problem, remedy) for words, problem, remedy in _BY_MESSAGE if words in error.msg]
    return reasons[0] if reasons else ("no JSON value", "give text in quotes, a number, true, false, null, [] or {}")


def _values(document: object) -> Iterator[tuple[Place, object]]:
    """Every value of the document and its place, in the file's order; what is nested too deeply is not entered."""
    ahead: list[tuple[Place, object]] = [((), document)]
    while ahead:
        place, value = ahead.pop()
        yield place, value
        if isinstance(value, dict | list) and len(place) < _DEEPEST:
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            ahead += [((*place, step), below) for step, below in inner][::-1]


def _repeated(document: object) -> Iterator[tuple[Place, str]]:
    for place, value in _values(document):
        if isinstance(value, _Object):
            for key in sorted(value.repeated):
                yield (*place, key), "stands here twice: keep one of them"


def _unusable(place: Place, value: object) -> str | None:
    """What is wrong with a value wherever it stands, before anything is known of its meaning."""
    if isinstance(value, _Unusable):
        return f"{value.problem}: give a number"
    if isinstance(value, dict | list) and len(place) >= _DEEPEST:
        return "nested too deeply: see the README's chapter on the configuration"
    if not isinstance(value, str):
        return None
    if value.startswith(PLACEHOLDER) or value in {"…", "..."}:
        hint = meaning(Config, place)
        return f"not filled in yet: fill in {written(place)}" + (f" ({hint})" if hint else "")
    return "line breaks or control characters: give plain text in one line" if _UNWANTED.search(value) else None
