"""What of the vendor's own config.json can be taken over into ours.

Publicly known of that file are only its place, `database.column_name_aliases`, and that `process_record_file_path` has
its time-out there. The rest goes by the names that such settings commonly have; each value found must be one that our
own configuration accepts, and what was not taken over is named, so that a person can do it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from sqlalchemy.engine import URL

from itgrix_kommo.config.loading import parse, read
from itgrix_kommo.config.problems import Place, written
from itgrix_kommo.config.reference import starting
from itgrix_kommo.config.settings import Config
from itgrix_kommo.errors import ConfigError

_HOST: Final = frozenset({"host", "hostname", "server", "address", "ip"})
_USER: Final = frozenset({"user", "username", "login", "name"})
_SECRET: Final = frozenset({"secret", "password", "pass", "passwd"})
_ASTERISK: Final = frozenset({"ami", "asterisk", "manager"})
_WEB: Final = frozenset({"http", "web", "server", "api"})
_DRIVERS: Final = {"postgres": "postgresql+asyncpg", "pgsql": "postgresql+asyncpg", "postgresql": "postgresql+asyncpg"}


class _Rule(NamedTuple):
    """A leaf named `names` whose object is named `within` is our `ours`."""

    ours: Place
    within: frozenset[str]
    names: frozenset[str]


_RULES: Final = (
    _Rule(("ami", "host"), _ASTERISK, _HOST),
    _Rule(("ami", "port"), _ASTERISK, frozenset({"port"})),
    _Rule(("ami", "username"), _ASTERISK, _USER),
    _Rule(("ami", "secret"), _ASTERISK, _SECRET),
    _Rule(("http", "port"), _WEB | {""}, frozenset({"port"})),
    _Rule(("http", "admin", "login"), frozenset({"admin"}), _USER),
    _Rule(("http", "admin", "password"), frozenset({"admin"}), _SECRET),
    _Rule(("logging", "level"), frozenset({"log", "logging", "logger"}), frozenset({"level"})),
    _Rule(("database", "cel_table"), frozenset({"database"}), frozenset({"cel_table", "cel"})),
    _Rule(("database", "cdr_table"), frozenset({"database"}), frozenset({"cdr_table", "cdr"})),
)
_TIMED_HOOK: Final = "process_record_file_path"


@dataclass(frozen=True, slots=True)
class Imported:
    """`text` is the new config.json; `taken` are (their place, ours), `left` the places nothing is known to do with."""

    text: str
    taken: tuple[tuple[str, str], ...]
    left: tuple[str, ...]


def imported(path: Path) -> Imported:
    """Our configuration, begun with what the vendor's file says. Raises ConfigError where it is no such file."""
    content, _ = read(path)
    document = parse(content, str(path))
    if not _is_theirs(document):
        raise ConfigError(
            f"{path}: this is no configuration of the vendor's connector, which has a `database` told in parts and no "
            "`kommo`: begin a new one with `itgrix-kommo config init`"
        )
    ours = starting()
    leaves = dict(_leaves(document))
    taken: dict[Place, Place] = {}
    for place, value in leaves.items():
        for target in _targets(place):
            if target not in taken.values() and _is_accepted(target, value):
                _plant(ours, target, value)
                taken[place] = target
    database = document["database"]
    if url := _database_url(database):
        _plant(ours, ("database", "url"), url)
        known = (*_HOST, *_USER, *_SECRET, "port", "type", "driver", "database", "db", "dbname")
        taken |= {("database", key): ("database", "url") for key in database if key.lower() in known}
    else:
        ours.pop("database", None)
        taken = {place: target for place, target in taken.items() if target[0] != "database"}
    left = [written(place) for place in leaves if place not in taken]
    shown = [(written(place), written(target)) for place, target in taken.items()]
    return Imported(json.dumps(ours, indent=2, ensure_ascii=False) + "\n", tuple(shown), tuple(left))


def _is_theirs(document: object) -> bool:
    """Kinder than `looks_like_vendors`: here a person says that it is."""
    database = document.get("database") if isinstance(document, dict) and "kommo" not in document else None
    return isinstance(database, dict) and bool(database) and "url" not in database


def _leaves(node: object, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(node, Mapping) and node:
        for key, child in node.items():
            yield from _leaves(child, (*place, key))
    elif isinstance(node, list) and node:
        for number, child in enumerate(node):
            yield from _leaves(child, (*place, number))
    else:
        yield place, node


def _targets(place: Place) -> Iterator[Place]:
    names = [str(step).lower() for step in place]
    name, within = names[-1], names[-2] if len(names) > 1 else ""
    for rule in _RULES:
        if name in rule.names and within in rule.within:
            yield rule.ours
    if place[:2] == ("database", "column_name_aliases") and len(place) == 3:
        yield place
    if _TIMED_HOOK in names and (name == _TIMED_HOOK or "timeout" in name):
        yield "customizations", "timeouts", _TIMED_HOOK


def _is_accepted(target: Place, value: object) -> bool:
    """Whether our configuration takes this value in this place."""
    tried: dict[str, Any] = {}
    _plant(tried, target, value)
    try:
        Config.model_validate(tried)
    except ValidationError as error:
        return not any(detail["loc"][: len(target)] == target for detail in error.errors(include_url=False))
    return True


def _plant(tree: dict[str, Any], place: Place, value: object) -> None:
    for step in place[:-1]:
        tree = tree.setdefault(str(step), {})
    tree[str(place[-1])] = value


def _database_url(database: Mapping[str, Any]) -> str:
    """An address of the PBX's database made of its parts; empty where they are not all there or make no address."""

    def part(*names: str) -> Any:
        return next((value for key, value in database.items() if key.lower() in names and value), None)

    host, port, name = part(*_HOST), part("port"), part("database", "db", "dbname")
    user, password = part("user", "username", "login"), part(*_SECRET)
    texts = (host, name, user)
    if not all(isinstance(text, str) for text in texts) or not isinstance(password, str | None):
        return ""
    kind = str(part("type", "driver") or "mysql").lower()
    try:
        url = URL.create(
            _DRIVERS.get(kind, "mysql+asyncmy"), user, password, host, int(port) if port else None, name
        ).render_as_string(hide_password=False)
    except (TypeError, ValueError):
        return ""
    return url if _is_accepted(("database", "url"), url) else ""
