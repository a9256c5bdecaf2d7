"""The log: one chain for our own lines and those of the libraries, to stderr, where journald picks it up.

Every line passes a mask before it is rendered: values that were registered as secrets disappear wherever they stand,
and so do values under telling keys. `configure` may be called again at any time (a reload of the configuration);
loggers made earlier follow it.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias
from urllib.parse import quote, quote_plus

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]
Output = Literal["json", "console"]

Follower: TypeAlias = Callable[[str, Mapping[str, Any]], None]
"""Is told the level and the unmasked fields of each of our own lines, whether the log's level lets it pass or not."""

MASK: Final = "[masked]"

# Libraries whose INFO or DEBUG lines are one per statement or plug-in: they would drown the calls.
_TALKATIVE: Final = ("sqlalchemy", "aiosqlite", "alembic")
# Nested deeper than this nobody reads, and an object that holds itself would never end.
_DEEPEST: Final = 8

_TELLING_KEY: Final = re.compile(
    r"(?:secrets?|passwords?|passwd|tokens?|authorization|cookie|api[_-]?key|credentials?)\Z", re.IGNORECASE
)
# Tokens nobody registered: in headers, in addresses, in JSON that a library quotes.
_TELLING_TEXT: Final = re.compile(
    r"""(?P<before>
          \bbearer[ ]+ (?=[^\s"',;]{8})
        | \bbasic[ ]+ (?=[^\s"',;]*[0-9=])
        | [?&][\w.-]*(?:secret|password|token|code)= (?=[^&\s])
        | "[\w.-]*(?:secret|password|token)"\s*:\s*" (?=[^"])
        | '[\w.-]*(?:secret|password|token)'\s*:\s*' (?=[^'])
        )
        [^\s"'&,;]+""",
    re.IGNORECASE | re.VERBOSE,
)
_URL_PASSWORD: Final = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s/:@]*:)[^\s/@]+(?=@)", re.IGNORECASE)

# What can start a new line, move the cursor or turn the writing direction in a terminal or a log viewer.
_CONTROLS: Final = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),
    0xFEFF,
)
_ESCAPED: Final = {code: chr(code).encode("unicode_escape").decode() for code in _CONTROLS}
_ESCAPED_IN_TRACEBACKS: Final = {code: text for code, text in _ESCAPED.items() if chr(code) not in "\n\t"}
_ESCAPED_IN_JSON: Final = {code: f"\\u{code:04x}" for code in _CONTROLS if code >= 0x7F}


# Most lines hold none of these words, and to look for them costs a tenth of the whole expression.
_TELLING_WORDS: Final = ("bearer", "basic", "secret", "password", "token", "code")


def _may_tell(text: str) -> bool:
    if not text.isascii():  # letters beyond ASCII may pass for one of it where case is ignored
        return True
    lower = text.lower()
    for word in _TELLING_WORDS:  # noqa: SIM110 (twice as fast as any(), for each value of each line)
        if word in lower:
            return True
    return False


@lru_cache(maxsize=1024)
def _is_telling(key: str) -> bool:
    return _TELLING_KEY.search(key) is not None


class Mask:
    """Hides secrets in what is about to be logged."""

    __slots__ = ("_any_form", "_forms")

    def __init__(self) -> None:
        self._forms: frozenset[str] = frozenset()
        self._any_form: re.Pattern[str] | None = None

    def register(self, value: str) -> None:
        """From now on `value` is hidden, also as it looks inside an address, in JSON or in a Python literal."""
        if not value:
            return
        forms = {value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], repr(value)[1:-1]}
        forms.add(json.dumps(value, ensure_ascii=False)[1:-1])
        if forms <= self._forms:
            return
        # The longest first: a secret that begins like another one must not leave its tail.
        everything = sorted(self._forms | forms, key=len, reverse=True)
        self._any_form = re.compile("|".join(map(re.escape, everything)))
        self._forms = frozenset(everything)

    def text(self, text: str) -> str:
        if self._any_form is not None:
            for form in self._forms:
                if form in text:
                    text = self._any_form.sub(MASK, text)
                    break
        if _may_tell(text):
            text = _TELLING_TEXT.sub(rf"\g<before>{MASK}", text)
        return _URL_PASSWORD.sub(rf"\g<before>{MASK}", text) if "@" in text else text

    def value(self, value: object, depth: int = 0) -> Any:
        """`value` as JSON's own types, with secrets hidden; what JSON does not know is given as its text."""
        if type(value) is str:  # nearly all of them
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            text = self.text(str(value))
            return value if text == str(value) and math.isfinite(value) else text  # JSON knows no NaN
        if depth < _DEEPEST and isinstance(value, Mapping):
            return {self.text(str(key)): self.under(str(key), inner, depth + 1) for key, inner in value.items()}
        if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
            return [self.value(inner, depth + 1) for inner in value]
        return self.text(_as_text(value))

    def under(self, key: str, value: object, depth: int = 0) -> Any:
        """`value` as it may be shown under `key`; whether a secret is set at all (None, true, false) stays visible."""
        if value is None or isinstance(value, bool) or not _is_telling(key):
            return self.value(value, depth)
        return MASK

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {key: value if key in {"level", "timestamp"} else self.under(key, value) for key, value in event.items()}


def _as_text(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="backslashreplace")
    return repr(value) if isinstance(value, BaseException) else str(value)


_mask: Final = Mask()


def register_secret(value: str) -> None:
    """Hide `value` in every log line from now on. An empty text is ignored."""
    _mask.register(value)


def masked(text: str) -> str:
    """`text` without the registered secrets: for what is shown outside the log (pages, commands)."""
    return _mask.text(text)


def printable(text: str) -> str:
    """`text` with what could steer a terminal escaped: for foreign words outside the log."""
    return text.translate(_ESCAPED)


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape what could forge a line or play with the terminal; tracebacks keep their lines, indented."""
    lines: dict[str, Any] = {}
    for key, value in event.items():
        if not isinstance(value, str):
            lines[key.translate(_ESCAPED)] = value  # containers are shown by repr(), which escapes by itself
        elif key in {"exception", "stack"}:
            lines[key] = "\n".join(f"    {line}" for line in value.translate(_ESCAPED_IN_TRACEBACKS).split("\n"))
        else:
            lines[key.translate(_ESCAPED)] = value.translate(_ESCAPED)
    return lines


def _json_line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    # JSON itself escapes only below 0x20; the others may stand inside its strings alone, where \u is their equal.
    return _encode(event).translate(_ESCAPED_IN_JSON)


_encode: Final = json.JSONEncoder(ensure_ascii=False).encode


_followers: Final[list[Follower]] = []


def follow(follower: Follower) -> Callable[[], None]:
    """Tell `follower` each line from now on; gives what ends it."""
    _followers.append(follower)
    return lambda: _followers.remove(follower)


def _tell_followers(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if _followers:
        level = "error" if method == "exception" else method
        fields = {**structlog.contextvars.get_contextvars(), **event}
        for follower in _followers:
            follower(level, fields)
    return event


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging calls it so
        # The standard one prints message and arguments, past the mask.
        error = sys.exc_info()[0]
        reason = error.__name__ if error else "unknown"
        try:
            self.stream.write(f"a line of the logger {record.name!r} could not be written: {reason}\n")
        except (OSError, ValueError):
            return  # stderr itself is gone: there is nowhere left to tell it


_shared: Final[list[Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
]
# One list for the life of the process: loggers that were used before a reload hold on to it.
_ours: Final[list[Processor]] = [
    _tell_followers,
    structlog.stdlib.filter_by_level,
    structlog.stdlib.PositionalArgumentsFormatter(),
    *_shared,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]


def configure(level: Level = "info", output: Output = "json", *, stream: TextIO | None = None) -> None:
    """Send every log line of the process to `stream` (stderr by default), from `level` on.

    `output` "json" is one object a line, "console" is for people, with colours on a terminal only.
    """
    # What no line of ours shows; the standard library's own way to not look for it.
    logging._srcfile = None  # noqa: SLF001 (documented under "Optimization" in the logging HOWTO)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    target = sys.stderr if stream is None else stream
    rendering: list[Processor]
    if output == "json":
        rendering = [_json_line]
    else:
        rendering = [
            _one_line,
            structlog.dev.ConsoleRenderer(
                colors=target.isatty(),
                sort_keys=False,
                pad_event_to=0,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ]
    handler = _Handler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _mask, *rendering],
        )
    )
    root = logging.getLogger()
    for former in [known for known in root.handlers if isinstance(known, _Handler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    structlog.configure(
        processors=_ours,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    set_level(level)


def set_level(level: Level) -> None:
    """Change the level of the running process; what a library says of its every step stays out below WARNING."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
