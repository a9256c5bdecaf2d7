"""Reads what a customization returned: the changed data, a cancellation, or what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from pydantic import BaseModel, ValidationError

from itgrix_kommo.customizations.catalogue import CATALOGUE, field_words
from itgrix_kommo.customizations.values import named
from itgrix_kommo.errors import HookError

if TYPE_CHECKING:
    from itgrix_kommo.config import Hook
    from itgrix_kommo.customizations.catalogue import HookSpec

LARGEST_ANSWER: Final = 1024 * 1024
"""Bytes of JSON; the largest bodies that Kommo takes are far smaller."""

DEEPEST: Final = 64
"""Objects and lists within each other; Kommo's own bodies have six."""

_NEVER_SENT: Final = ("call_full", "call_stage")
"""Files often return `$params` itself: what only describes the call is no part of the request."""

_QUOTED: Final = 200


@dataclass(frozen=True, slots=True)
class Data:
    """What goes on instead of the input."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The request that the customization stands before is not to be made."""


@dataclass(frozen=True, slots=True)
class Failed:
    words: str
    timed_out: bool = False


Answer: TypeAlias = Data | Cancelled | Failed


def decode(body: bytes) -> object:
    """What a customization's JSON says. Raises HookError where it is none, too large, or more than JSON can hold."""
    if len(body) > LARGEST_ANSWER:
        raise HookError(f"the answer is larger than {LARGEST_ANSWER} bytes: return the changed data alone")
    if not body.strip():
        raise HookError('no answer: print one JSON object such as {"state": "success", "data": {…}}')
    try:
        text = body.decode("utf-8")
        answer: object = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        json.dumps(answer, ensure_ascii=False).encode()  # JSON can name halves of characters that no text can hold
    except UnicodeError:
        raise HookError("the answer is no valid UTF-8: convert texts of other encodings first") from None
    except RecursionError:
        raise HookError(f"the answer is nested deeper than {DEEPEST} levels") from None
    except ValueError as error:
        raise HookError(f"the answer is no JSON: {error}: print nothing besides it") from None
    if _deeper_than(answer, DEEPEST):
        raise HookError(f"the answer is nested deeper than {DEEPEST} levels")
    return answer


def read_answer(hook: Hook, params: Mapping[str, Any], raw: object) -> Answer:
    """Judge `raw`, the decoded answer of `hook` to `params`. Changes neither, raises nothing."""
    spec = CATALOGUE[hook]
    try:
        data = _data(spec, raw)
        if data is None or (spec.empty_text and data.get(spec.empty_text) == ""):
            return Cancelled()
        kept = {key: value for key, value in data.items() if key not in _NEVER_SENT}
        output = spec.output.model_validate(_refilled(spec.output, kept, params), context=params)
    except HookError as error:
        return Failed(str(error))
    except ValidationError as error:
        return Failed("; ".join(field_words(error, "data")))
    return Data(output.model_dump(by_alias=True, exclude_unset=True) if spec.keys else {})


def _data(spec: HookSpec, raw: object) -> Mapping[str, Any] | None:
    """The `data` in the envelope; None if it is empty and that means something. Raises HookError."""
    if not isinstance(raw, Mapping):
        raise HookError(f"it returned {named(raw)}, not an object: return {{'state': 'success', 'data': …}}")
    if raw.get("state") != "success":
        raise HookError(_other_state(raw))
    if not spec.keys:
        return {}
    if "data" not in raw:
        raise HookError("data: missing: return what it was given, changed or not; to cancel, return empty data")
    data = raw["data"]
    if isinstance(data, Mapping) and set(data) == {"params"}:  # as files of old versions wrap it
        data = data["params"]
    if data is None or data in ({}, []):
        if spec.cancels is None:
            raise HookError("data: empty, and this customization can't cancel anything")
        return None
    if not isinstance(data, Mapping):
        raise HookError(f"data: {named(data)} where an object is wanted")
    return data


def _refilled(model: type[BaseModel], data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`data` without nulls, and with what `model` requires taken from `given` where it is missing."""
    found = {key: value for key, value in data.items() if value is not None}
    for name, field in model.model_fields.items():
        key = field.alias or name
        inner, of_given = field.annotation, given.get(key)
        if key not in found:
            if field.is_required() and of_given is not None:
                found[key] = of_given
        elif (
            isinstance(inner, type)
            and issubclass(inner, BaseModel)
            and (found[key] == [] or isinstance(found[key], Mapping))
        ):
            found[key] = _refilled(inner, found[key] or {}, of_given if isinstance(of_given, Mapping) else {})
    return found


def _other_state(raw: Mapping[str, Any]) -> str:
    if "state" not in raw:
        return "state: missing: return {'state': 'success', 'data': …}"
    said = next((raw[key] for key in ("message", "error", "data") if isinstance(raw.get(key), str)), "")
    state = raw["state"] if isinstance(raw["state"], str) else named(raw["state"])
    return f"state: {state[:_QUOTED]!r}, not 'success'{f': {said[:_QUOTED]}' if said else ''}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _deeper_than(value: object, depth: int) -> bool:
    """Whether containers stand more than `depth` deep within each other."""
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(inner, dict | list) for inner in level)
