"""The configuration as a whole, and what about it is allowed but deserves a word."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, Field, PrivateAttr, SecretStr

from itgrix_kommo.config.links import (
    Ami,
    Http,
    Kommo,
    Listener,
    Logging,
    Node,
    PbxDatabase,
    Recordings,
    Section,
    Storage,
)
from itgrix_kommo.config.rules import Business, Customizations, Employees, Numbers, Originate
from itgrix_kommo.config.secrets import SecretSources
from itgrix_kommo.config.values import LOOPBACK_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHORTEST_SECRET: Final = 8  # characters; less is guessed in no time, and hiding it garbles the log


class Config(Section):
    """Everything in config.json, checked, with secrets resolved."""

    ami: Ami = Field(description="The link to Asterisk.")
    kommo: Kommo = Field(description="The Kommo account.")
    node: Node = Field(default=Node(), description="This PBX among others.")
    employees: Employees = Field(
        default=(), description="Who has which number; Kommo knows no telephone numbers of its users."
    )
    numbers: Numbers = Field(default=Numbers(), description="How numbers are read.")
    business: Business = Field(default=Business(), description="What calls become in Kommo.")
    customizations: Customizations = Field(
        default=Customizations(), description="Your own programs at 13 points of a call."
    )
    recordings: Recordings = Field(default=Recordings(), description="Recordings and their links.")
    language: Literal["en", "es", "pt", "ru"] = Field(
        default="en", description="Language of the texts written to Kommo: en, es, pt or ru."
    )
    originate: Originate = Field(default=Originate(), description="Click-to-call.")
    http: Http = Field(default=Http(), description="The daemon's HTTP face.")
    database: PbxDatabase | None = Field(
        default=None, description="The PBX's own database, from which missed time is filled up; null means it can't be."
    )
    storage: Storage = Field(default=Storage(), description="Where the daemon keeps its own data.")
    logging: Logging = Field(default=Logging(), description="The log, on stderr.")

    _noticed: tuple[str, ...] = PrivateAttr(default=())

    def model_post_init(self, context: Any, /) -> None:
        if isinstance(context, SecretSources):
            self._noticed = tuple(context.warnings())

    def warnings(self) -> list[str]:
        """What works but should be known, one line each: `path: what is wrong: what to do`."""
        found = list(self._noticed)
        for path, secret in _secrets(self):
            if len(secret) < _SHORTEST_SECRET:
                found.append(
                    f"{path}: less than {_SHORTEST_SECRET} characters are soon guessed: choose a longer secret"
                )
        if not self.ami.tls and not _is_loopback(self.ami.host):
            found.append("ami.tls: off, so the manager's secret crosses the network: turn it on, or use loopback")
        if self.kommo.base_url.startswith("http:"):
            found.append("kommo.base_url: unencrypted, which only a sandbox is: give https://… for a real account")
        if not self.employees:
            found.append("employees: empty, so no call finds its employee: list user_id and extension of each")
        if self.recordings.enabled and self.recordings.public_url is None:
            found.append("recordings.public_url: not given, so calls get no link: give the daemon's public address")
        elif self.recordings.enabled and str(self.recordings.public_url).startswith("http:"):
            found.append("recordings.public_url: unencrypted, so others can listen: give an https:// address")
        if _is_plain(self.http):
            found.append("http.tls_certificate: none, so passwords cross the network: give one, or use loopback")
        if self.http.public and _is_plain(self.http.public):
            found.append("http.public.tls_certificate: none, so tokens cross the network: give one, or use loopback")
        return found


def _is_plain(listener: Listener) -> bool:
    return listener.tls_certificate is None and not _is_loopback(listener.host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES


def _secrets(value: Any, path: str = "") -> Iterator[tuple[str, SecretStr]]:
    if isinstance(value, SecretStr):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name), f"{path}.{name}".lstrip("."))
