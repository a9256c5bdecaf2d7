"""The kinds of value in a customization's answer, read kindly: as PHP writes what its author meant.

`'5'` is a number, `0` and `''` are no, `[]` is an empty object, and a list with a hole in it (PHP's `unset`) is a list.
What was meant can't be guessed of anything else: it is refused in words that don't repeat the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from pydantic import ValidationInfo

T = TypeVar("T")

_LARGEST_WHOLE: Final = 2**53 - 1
"""Beyond it JSON numbers lose digits in half of the world's programs."""

_WHOLE: Final = re.compile(r"\s*\+?[0-9]{1,16}\s*", re.ASCII)
_PHONE: Final = re.compile(r"(?=.*[0-9])[0-9+*#(). /-]{1,32}", re.ASCII)
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FLAGS: Final = {"": False, "0": False, "false": False, "1": True, "true": True}


def named(value: object) -> str:
    """What a person calls this kind of value."""
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (bool, "true or false"),
        ((int, float), "a number"),
        (str, "text"),
        ((list, tuple), "a list"),
        (Mapping, "an object"),
    )
    return "null" if value is None else next((name for kind, name in kinds if isinstance(value, kind)), "something")


def refusal(words: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{words}", {"words": words})


def _whole(value: object) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise refusal(f"{named(value)} where a whole number is wanted")
    if not 0 <= value <= _LARGEST_WHOLE:
        raise refusal(f"a number from 0 to {_LARGEST_WHOLE} is wanted")
    return value


def _flag(value: object) -> bool:
    if isinstance(value, int | float) and value in {0, 1}:
        return bool(value)
    if isinstance(value, str) and (word := value.strip().lower()) in _FLAGS:
        return _FLAGS[word]
    raise refusal(f"{named(value)} where true or false is wanted")


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refusal(f"{named(value)} where text is wanted")
    return str(value)


def _filled(value: str) -> str:
    if not value.strip():
        raise refusal("empty text")
    return value


def _one_line(value: str) -> str:
    if _CONTROLS.search(value):
        raise refusal("control characters, such as a line break")
    return value


def _phone(value: str, info: ValidationInfo) -> str:
    """What came in may go out again, whatever it was; a hook that leaves an odd caller as he is has not failed."""
    unchanged = isinstance(info.context, Mapping) and value == info.context.get("phone")
    if value and not unchanged and not _PHONE.fullmatch(value):
        raise refusal("no phone number: digits and + * # ( ) . / - are wanted, 32 at most")
    return value


def as_list(value: object) -> object:
    if isinstance(value, Mapping) and all(isinstance(key, str) and key.isdecimal() for key in value):
        return [value[key] for key in sorted(value, key=int)]
    if not isinstance(value, list):
        raise refusal(f"{named(value)} where a list is wanted")
    return value


def as_object(value: object) -> object:
    if value == []:
        return {}
    if not isinstance(value, Mapping):
        raise refusal(f"{named(value)} where an object is wanted")
    return value


def _tag(value: object) -> object:
    return value if isinstance(value, Mapping) else _text(value)


def _status(value: int) -> int:
    if not 1 <= value <= 7:
        raise refusal("a call status from 1 to 7 is wanted")
    return value


Whole: TypeAlias = Annotated[int, BeforeValidator(_whole)]
CallStatus: TypeAlias = Annotated[Whole, AfterValidator(_status)]
Flag: TypeAlias = Annotated[bool, BeforeValidator(_flag)]
Text: TypeAlias = Annotated[str, BeforeValidator(_text)]
FilledText: TypeAlias = Annotated[Text, AfterValidator(_filled)]
Line: TypeAlias = Annotated[Text, AfterValidator(_one_line)]
"""Text that goes to Asterisk, where a line break would begin a header of its own."""
FilledLine: TypeAlias = Annotated[Line, AfterValidator(_filled)]
Phone: TypeAlias = Annotated[Text, AfterValidator(_phone)]
FilledPhone: TypeAlias = Annotated[Phone, AfterValidator(_filled)]
ListOf = Annotated[list[T], BeforeValidator(as_list)]
ObjectOf = Annotated[T, BeforeValidator(as_object)]
Fields: TypeAlias = Annotated[dict[str, Any], BeforeValidator(as_object)]
"""An object of any keys."""
Tag: TypeAlias = Annotated[str | dict[str, Any], BeforeValidator(_tag)]
"""Just the name, or Kommo's own form ``{"name": …}``."""
