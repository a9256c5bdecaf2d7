"""From what a validation found to lines a person can act upon: `JSON path: what is wrong: what to do`.

Nothing that stands in the file as text is repeated, for it may be a secret in the wrong place; only keys, numbers and
the words that belong there are.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel, ValidationError

from itgrix_kommo.config.values import json_type, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic_core import ErrorDetails

Place = tuple[str | int, ...]

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,59}", re.ASCII)
_LONGEST_KEY: Final = 40  # characters shown of a key that is none of ours
_WANTED: Final = {
    "string_type": "text",
    "string_unicode": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "mapping_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def written(place: Sequence[str | int]) -> str:
    """The place as a JSON path, such as `numbers.replacements[0].pattern`."""
    path = ""
    for step in place:
        if isinstance(step, int):
            path += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            path += f".{step}" if path else step
        else:
            shown = step if len(step) <= _LONGEST_KEY else step[:_LONGEST_KEY] + "…"
            path += f"[{json.dumps(shown)}]"
    return path or "the file"


def explained(error: ValidationError, root: type[BaseModel]) -> Iterator[tuple[Place, str]]:
    """Each problem as its place and `what is wrong: what to do`."""
    for detail in error.errors(include_url=False):
        # "[key]" is pydantic's way to say that a mapping's key, not its value, is meant.
        place = tuple(step for step in detail["loc"] if step != "[key]")
        context: Mapping[str, Any] = detail.get("ctx", {})
        if detail["type"] == "refusals":
            for below, problem, remedy in context["problems"]:
                yield place + below, f"{problem}: {remedy}"
        else:
            yield place, _explanation(detail, place, context, root)


def _explanation(detail: ErrorDetails, place: Place, context: Mapping[str, Any], root: type[BaseModel]) -> str:
    match detail["type"]:
        case "refused":
            problem, remedy = context["problem"], context["remedy"]
        case "missing":
            problem, remedy = "missing", f"add it ({meaning(root, place)})"
        case "extra_forbidden":
            known = list(section(root, place[:-1]).model_fields)
            meant = nearest(place[-1], known)
            problem, remedy = "unknown key", f'did you mean "{meant}"?' if meant else f"known here are {_listed(known)}"
        case "literal_error":
            known = re.findall(r"'([^']*)'", str(context["expected"]))
            meant = nearest(detail["input"], known)
            problem = "not one of the values known here"
            remedy = f'did you mean "{meant}"?' if meant else f"give {_listed(known, 'or')}"
        case "string_too_short":
            problem, remedy = "empty", "give some text"
        case "string_too_long":
            problem, remedy = "too long", f"give {context['max_length']} characters at most"
        case kind if wanted := _WANTED.get(kind):
            problem, remedy = f"{json_type(detail['input'])} where {wanted} is wanted", f"give {wanted}"
        case kind:
            problem, remedy = f"not accepted ({kind})", "see the README's chapter on the configuration"
    return f"{problem}: {remedy}"


def section(root: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel]:
    """The model that describes the object at `place` of a `root`."""
    model = root
    for step in place:
        field = model.model_fields.get(step) if isinstance(step, str) else None
        if field is not None and (inner := model_in(field.annotation)):
            model = inner
    return model


def meaning(root: type[BaseModel], place: Sequence[str | int]) -> str:
    """What the key at `place` is for, without the full stop; "" for what is no key of ours."""
    field = section(root, place[:-1]).model_fields.get(str(place[-1])) if place else None
    return (field.description or "").removesuffix(".") if field else ""


def model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := model_in(inner))), None)


def _listed(words: list[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
