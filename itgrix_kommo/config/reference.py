"""The configuration explained: its JSON schema, its tables for the README, and the file to begin with."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from itgrix_kommo.config.loading import PLACEHOLDER
from itgrix_kommo.config.problems import model_in
from itgrix_kommo.config.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_STARTING: Final[dict[str, Any]] = {
    "ami": {
        "host": "127.0.0.1",
        "port": 5038,
        "username": f"{PLACEHOLDER} the user in Asterisk's manager.conf",
        "secret": f"{PLACEHOLDER} that user's secret",
    },
    "kommo": {
        "base_url": f"{PLACEHOLDER} your account's address, such as https://acme.kommo.com",
        "access_token": f"{PLACEHOLDER} the integration's long-lived token",
    },
    "employees": [
        {
            "user_id": f"{PLACEHOLDER} the user's id in Kommo, a number",
            "extension": f"{PLACEHOLDER} the user's extension, such as 101",
            "numbers": [],
        }
    ],
    "numbers": {"trunks": []},
    "business": {"create_contacts": True, "create_leads": "no_open_lead", "unsorted": False, "default_user_id": None},
    "recordings": {"directories": ["/var/spool/asterisk/monitor"], "public_url": None},
    "http": {"host": "127.0.0.1", "port": 8077},
    "language": "en",
}


def starting() -> dict[str, Any]:
    """What a new config.json begins with, yours to change."""
    return deepcopy(_STARTING)


def starting_file() -> str:
    """The text of a new config.json; `load` refuses it until its placeholders are filled in, naming each."""
    return json.dumps(_STARTING, indent=2, ensure_ascii=False) + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of config.json, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "itgrix-kommo: config.json",
    }


def explained_keys(model: type[BaseModel] = Config, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key as (path, default as JSON or "required", description); `[]` in a path stands for each list entry."""
    for name, field in model.model_fields.items():
        here = f"{path}{name}"
        inner = model_in(field.annotation)
        listed = isinstance(field.default, tuple)
        shown = "object" if inner and not listed and field.default is not None else _default(field)
        yield here, shown, field.description or ""
        if inner:
            yield from explained_keys(inner, f"{here}[]." if listed else f"{here}.")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return json.dumps(value, default=str, ensure_ascii=False)


def tables() -> str:
    """The README's tables: one for each top-level key."""
    lines: list[str] = []
    for key, default, description in explained_keys():
        if "." not in key:
            opening = f"\n### `{key}`\n\n{description}"
            lines += [opening if default in {"object", "required"} else f"{opening} Default: `{default}`."]
            lines += ["", "| key | default | meaning |", "|---|---|---|"] if key != "language" else []
            continue
        shown = default if default in {"required", "object"} else f"`{default}`"
        lines.append(f"| `{key}` | {shown} | {description} |")
    return "\n".join(lines).strip() + "\n"
