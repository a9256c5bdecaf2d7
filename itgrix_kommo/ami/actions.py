"""What is asked of Asterisk. Every action is checked before it is written: a line break in a value is an injection."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from itgrix_kommo.ami.headers import headers
from itgrix_kommo.errors import AmiProtocolError

Action: TypeAlias = Mapping[str, str | Sequence[str]]
"""Header names to values; a sequence is a header that is repeated. ``Action`` must be among them."""

MAX_LINE: Final = 1022
"""Bytes of one header with its name: Asterisk refuses whole actions that hold a longer line."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_BREAKS = re.compile(r"[\r\n\0]")
_VARIABLE_NAME = re.compile(r"_{0,2}[A-Za-z][A-Za-z0-9_]*")
# Asterisk takes the header Variable apart as it does an application's arguments.
_VARIABLE_SEPARATORS = re.compile(r"[,\"\\]")


@dataclass(frozen=True, slots=True)
class Reply:
    """One message of Asterisk's answer."""

    headers: Mapping[str, str | list[str]]

    @classmethod
    def read(cls, frame: bytes) -> Reply:
        return cls(headers(frame))

    def get(self, name: str) -> str:
        """The value of a header, the first one where it is repeated, empty where it is absent."""
        values = self.values(name)
        return values[0] if values else ""

    def values(self, name: str) -> list[str]:
        """All values of a header that may be repeated."""
        found = self.headers.get(name, [])
        return [found] if isinstance(found, str) else found


def check(action: Action) -> None:
    """Raise AmiProtocolError for an action that Asterisk would read as something else than what is meant."""
    name = action.get("Action")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise AmiProtocolError(f"an action of AMI needs a plain name in its header Action, not {name!r}")
    for header, values in action.items():
        if not _NAME.fullmatch(header):
            raise AmiProtocolError(f"{name}: {header!r} can't be the name of a header")
        for value in [values] if isinstance(values, str) else values:
            if _BREAKS.search(value):
                raise AmiProtocolError(
                    f"{name}: the value of {header} holds a line break or NUL, which would begin another header"
                )
            try:
                size = len(f"{header}: {value}".encode())
            except UnicodeEncodeError:
                raise AmiProtocolError(f"{name}: the value of {header} is no valid Unicode text") from None
            if size > MAX_LINE:
                raise AmiProtocolError(f"{name}: {header} has {size} bytes, Asterisk takes {MAX_LINE} at most")


def originate(
    *,
    channel: str,
    context: str,
    exten: str,
    priority: int | str = 1,
    caller_id: str = "",
    timeout_s: float = 30.0,
    variables: Mapping[str, str] | None = None,
    action_id: str = "",
) -> Action:
    """An Originate that rings `channel` and, once answered, sends it to `exten` in `context`.

    Asterisk answers at once that it is queued; how it went comes as the event OriginateResponse with the same
    `action_id`, and the channel that is born carries `variables`. Raises AmiProtocolError for a variable that would be
    taken apart.
    """
    action: dict[str, str | list[str]] = {
        "Action": "Originate",
        "Channel": channel,
        "Context": context,
        "Exten": exten,
        "Priority": str(priority),
        "Timeout": str(round(timeout_s * 1000)),
        "Async": "true",
    }
    if caller_id:
        action["CallerID"] = caller_id
    if action_id:
        action["ActionID"] = action_id
    if variables:
        for name, value in variables.items():
            if not _VARIABLE_NAME.fullmatch(name) or _VARIABLE_SEPARATORS.search(value):
                raise AmiProtocolError(
                    f"Originate: the variable {name!r} can't be set: its name must be a plain word, its value free of"
                    " commas, quotes and backslashes"
                )
        action["Variable"] = [f"{name}={value}" for name, value in variables.items()]
    return action
