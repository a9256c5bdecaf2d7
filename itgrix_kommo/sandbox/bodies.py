"""What Kommo accepts in a request body: types strictly, keys exactly, references to what exists.

A refusal is worded as Kommo's validator words it. Keys whose names Kommo does not document are not expected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from .problems import ApiError, ItemError, ItemsRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .account import Account

LARGEST_BATCH = 250
_DETAILS = {
    "NotSupportedChoice": "The value you selected is not a valid choice.",
    "NotNullable": "This value should not be null.",
    "NotBlank": "This value should not be blank.",
    "FieldMissing": "This field is missing.",
    "FieldNotExpected": "This field was not expected.",
}
_WANTED = {kind: kind for kind in ("int", "string", "bool", "float")} | {
    "list": "array",
    "dict": "object",
    "model": "object",
}
B = TypeVar("B", bound="Body")


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    def faults(self, account: Account) -> Iterator[ItemError]:
        """What the types can't tell: references that hang on other keys. Called once the types are right."""
        del account
        yield from ()

    def given(self, *names: str) -> dict[str, Any]:
        """Of these attributes, the ones that the request named."""
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}


def fault(code: str, path: str, wanted: str = "") -> ItemError:
    """A finding of `Body.faults`; `wanted` is the type that was expected, for InvalidType."""
    return ItemError(code, path, _DETAILS.get(code) or f"This value should be of type {wanted}.")


def refusal(code: str, detail: str | None = None) -> PydanticCustomError:
    return PydanticCustomError(code, detail or _DETAILS[code])


def _user(value: int, info: ValidationInfo) -> int:
    if not (info.context and info.context.is_user(value)):
        raise refusal("NotSupportedChoice")
    return value


def _author(value: int, info: ValidationInfo) -> int:
    return value if value == 0 else _user(value, info)


def _callee(value: object) -> int | str:
    """A Kommo user's id, or the number or name of someone else; a numeric string is a name."""
    if value is None:
        raise refusal("NotNullable")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise refusal("InvalidType", "This value should be of type int or string.")
    return value


def _scalar(value: object) -> str | int | float | bool:
    if value is None:
        raise refusal("NotNullable")
    if not isinstance(value, str | int | float):
        raise refusal("InvalidType", "This value should be of type string.")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise refusal("NotBlank")
    return value


UserId = Annotated[int, AfterValidator(_user)]
AuthorId = Annotated[int, AfterValidator(_author)]
Callee = Annotated[int | str, PlainValidator(_callee)]
Scalar = Annotated[str | int | float | bool, PlainValidator(_scalar)]
Text = Annotated[str, AfterValidator(_not_blank)]
UnixTime = Annotated[int, Field(ge=0, lt=2**32)]
Duration = Annotated[int, Field(ge=0, lt=2**31)]


def parse_items(raw: object, model: type[B], account: Account, *, largest: int = LARGEST_BATCH) -> list[B]:
    """An array of items, or ApiError; `request_id` of a faulty item is its own, or its index."""
    if not isinstance(raw, list):
        raise ItemsRefused([("0", [ItemError("InvalidType", "", "This value should be of type array.")])])
    if not raw:
        raise ApiError(400)
    if len(raw) > largest:
        raise ApiError(422, f"Limit {largest} per page")
    checked = [_check(entry, model, account) for entry in raw]
    faulty = [(request_id(raw[index], index), errors) for index, (_, errors) in enumerate(checked) if errors]
    if faulty:
        raise ItemsRefused(faulty)
    return [item for item, _ in checked if item is not None]


def parse_object(raw: object, model: type[B], account: Account) -> B:
    """One object, or ApiError; its `request_id`, if any, stands in for the index."""
    item, errors = _check(raw, model, account)
    if item is None or errors:
        raise ItemsRefused([(request_id(raw, 0), errors)])
    return item


def _check(raw: object, model: type[B], account: Account) -> tuple[B | None, list[ItemError]]:
    try:
        item = model.model_validate(raw, context=account)
    except ValidationError as failure:
        return None, [_item_error(error) for error in failure.errors(include_url=False)]
    return item, list(item.faults(account))


def request_id(item: object, index: int) -> str:
    """What the answer echoes: the item's own `request_id`, else its index."""
    given = item.get("request_id") if isinstance(item, dict) else getattr(item, "request_id", "")
    return given if isinstance(given, str) and given else str(index)


def _item_error(error: ErrorDetails) -> ItemError:
    path = ".".join(str(step) for step in error["loc"])
    kind = error["type"]
    if kind in _DETAILS or kind == "InvalidType":
        return ItemError(kind, path, error["msg"])
    if kind == "missing":
        code = "FieldMissing"
    elif kind == "extra_forbidden":
        code = "FieldNotExpected"
    elif kind == "too_short":
        code = "NotBlank"
    elif error["input"] is None:
        code = "NotNullable"
    elif kind.removesuffix("_type") in _WANTED:
        return ItemError("InvalidType", path, f"This value should be of type {_WANTED[kind.removesuffix('_type')]}.")
    else:
        code = "NotSupportedChoice"
    return ItemError(code, path, _DETAILS[code])
