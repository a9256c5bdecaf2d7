"""PHP's bracket notation, which Kommo uses in query strings, form bodies and webhooks: `filter[id][]=1`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)\Z")
_STEP = re.compile(r"\[([^\[\]]*)\]")
_LONGEST_NUMBER = 18  # digits
_DEEPEST = 8  # Kommo's own keys go six deep; a hostile key must not build a tower


def parse(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Nested dicts of strings; `a[]=x` numbers itself, so lists come as `{"0": "x"}`: `listed` reads both."""
    tree: dict[str, Any] = {}
    for key, value in pairs:
        match = _KEY.match(key)
        steps = [match[1], *_STEP.findall(match[2])] if match else [key]
        if len(steps) > _DEEPEST:
            continue
        _plant(tree, steps, value)
    return tree


def _plant(tree: dict[str, Any], steps: Sequence[str], value: str) -> None:
    node = tree
    for step in steps[:-1]:
        child = node.setdefault(step or str(len(node)), {})
        if not isinstance(child, dict):
            return  # `a=1&a[b]=2`: as in PHP, what can't be nested is lost
        node = child
    node[steps[-1] or str(len(node))] = value


def listed(value: object) -> list[str]:
    """The strings under a filter, whether it came as `=1`, `[]=1` or `[0]=1`; empty when absent."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [item for item in value.values() if isinstance(item, str)]
    return []


def whole(value: object) -> int | None:
    """A number as query strings write ids and times; None for all else, and for what no id can be."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _LONGEST_NUMBER:
        return int(value)
    return None


def flatten(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The inverse of `parse`, in order; lists are numbered, None becomes an empty string, booleans 1 and 0."""
    return [pair for key, value in tree.items() for pair in _flat(key, value)]


def _flat(key: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for step, child in value.items():
            yield from _flat(f"{key}[{step}]", child)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, child in enumerate(value):
            yield from _flat(f"{key}[{number}]", child)
    elif isinstance(value, bool):
        yield key, str(int(value))
    else:
        yield key, "" if value is None else str(value)
