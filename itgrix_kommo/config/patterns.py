"""Number patterns as Asterisk writes them, and replacements as Go writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Final

import re2
from pydantic import BeforeValidator, InstanceOf, PlainSerializer, WithJsonSchema

from itgrix_kommo.config.values import json_type, refusal

_LONGEST_PATTERN: Final = 80  # characters, as Asterisk's own extensions
_CLASSES: Final = {"X": "[0-9]", "Z": "[1-9]", "N": "[2-9]"}
_NUMBER_TOKEN: Final = re.compile(
    r"(?P<digit>[0-9+*#])|(?P<class>[XZNxzn])|\[(?P<set>(?:[0-9]-[0-9]|[0-9*#])+)\]|(?P<rest>[.!])\Z", re.ASCII
)
_NUMBER_REMEDY: Final = "use digits, +, *, #, X (0-9), Z (1-9), N (2-9), sets such as [1-5], and . or ! at the end"


@dataclass(frozen=True, slots=True)
class NumberPattern:
    """Which numbers are meant, in Asterisk's notation: `X` 0-9, `Z` 1-9, `N` 2-9, `[1-58]` any of these; at the end
    `.` stands for one or more characters, `!` for any number of them. A number without these means itself.
    """

    text: str
    _expression: re.Pattern[str] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> NumberPattern:
        """Raises PydanticCustomError, a ValueError, where `text` is no such pattern."""
        if not text or len(text) > _LONGEST_PATTERN:
            raise refusal(f"a number pattern has 1 to {_LONGEST_PATTERN} characters", _NUMBER_REMEDY)
        at = int(text.startswith("_"))
        expression = ""
        while at < len(text):
            token = _NUMBER_TOKEN.match(text, at)
            if token is None:
                raise refusal(f"character {at + 1} has no meaning in a number pattern", _NUMBER_REMEDY)
            if token["digit"]:
                expression += re.escape(token["digit"])
            elif token["class"]:
                expression += _CLASSES[token["class"].upper()]
            elif token["set"]:
                if any(low > high for low, high in re.findall(r"([0-9])-([0-9])", token["set"])):
                    raise refusal(f"the set at character {at + 1} has a range that runs backwards", _NUMBER_REMEDY)
                expression += f"[{token['set']}]"
            else:
                expression += ".+" if token["rest"] == "." else ".*"
            at = token.end()
        if not expression:
            raise refusal("the number pattern is empty", _NUMBER_REMEDY)
        return cls(text, re.compile(expression, re.ASCII))

    def matches(self, number: str) -> bool:
        """Whether the whole `number` is meant."""
        return self._expression.fullmatch(number) is not None

    def __str__(self) -> str:
        return self.text


def _number_pattern(value: object) -> object:
    if isinstance(value, NumberPattern):
        return value
    if not isinstance(value, str):
        raise refusal(f"{json_type(value)} where a number pattern is wanted", "give text such as +7800XXXXXXX")
    return NumberPattern.parse(value)


Pattern = Annotated[
    InstanceOf[NumberPattern],
    BeforeValidator(_number_pattern),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": _LONGEST_PATTERN}),
]


_REFERENCE: Final = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>\w+)\}|(?P<bare>\w+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Substitution:
    """A regular expression and what takes the place of each of its matches, both in Go's dialect (RE2: no input makes
    it slow). `$1` or `${1}` is the first group, `${name}` a named one, `$$` a dollar sign.
    """

    _expression: Any  # google-re2 ships no types
    _pieces: tuple[str | int, ...]

    def apply(self, text: str) -> str:
        """`text` with all matches replaced; groups that took no part count as empty."""
        return str(
            self._expression.sub(
                lambda match: "".join(
                    piece if isinstance(piece, str) else match.group(piece) or "" for piece in self._pieces
                ),
                text,
            )
        )


def expression(pattern: str) -> Any:
    """The compiled RE2 expression; refuses what RE2 can't do, look-around above all."""
    options = re2.Options()
    options.log_errors = False  # it would write to stderr itself
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        if re.search(r"\(\?<?[=!]", pattern):
            raise refusal(
                "look-ahead and look-behind do not exist in Go's dialect (RE2)",
                "match the surroundings too and put them back with $1",
            ) from None
        if re.search(r"\\[1-9]", pattern):
            raise refusal(
                "references back to a group do not exist in Go's dialect (RE2)", "write the alternatives out"
            ) from None
        words = error.args[0] if error.args else ""
        reason = (words.decode(errors="replace") if isinstance(words, bytes) else str(words)).partition(":")[0]
        raise refusal(
            f"no regular expression of Go's dialect (RE2 says: {reason})", "correct it, a backslash written twice"
        ) from None


@lru_cache(maxsize=256)
def substitution(pattern: str, template: str) -> Substitution:
    """Compile one rule; refuses a template that names no group of `pattern`."""
    compiled = expression(pattern)
    if re.search(r"\\[0-9]", template):
        raise refusal("a group written as \\1", "write $1, as Go does")
    pieces: list[str | int] = []
    end = 0
    for reference in _REFERENCE.finditer(template):
        pieces += [template[end : reference.start()], _referred(reference, compiled)]
        end = reference.end()
    return Substitution(compiled, (*pieces, template[end:]))


def _referred(reference: re.Match[str], compiled: Any) -> str | int:
    if reference["dollar"]:
        return "$"
    name = reference["braced"] or reference["bare"]
    if not name:
        raise refusal("a lone $", "write $$ for a dollar sign, $1 or ${1} for a group")
    if name.isdecimal():
        if int(name) > compiled.groups:
            raise refusal(
                f"${name} is no group of the pattern", f"it has {compiled.groups}, and $0 for the whole match"
            )
        return int(name)
    if name in compiled.groupindex:
        return int(compiled.groupindex[name])
    if name[0].isdecimal():
        number = re.match(r"[0-9]+", name)
        raise refusal(
            "Go reads letters and digits after $1 as part of the group's name",
            f"write ${{{number[0] if number else 1}}} with braces",
        )
    raise refusal("a named group that the pattern does not have", "write (?P<name>…) there, or use $1")
