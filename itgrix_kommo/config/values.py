"""The kinds of value that settings are made of, each with a refusal a person can act upon.

A refusal never repeats text from the file: what stands in the wrong place may be a secret. Numbers are repeated.
"""

from __future__ import annotations

import ipaddress
import re
import string
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, available_timezones

import phonenumbers
from pydantic import AfterValidator, BeforeValidator, Strict, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError, Url, ValidationError, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

# Below these, plain http crosses no network.
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})
# Addresses that serve every account and answer for none.
_COMMON_HOSTS: Final = frozenset(
    {"kommo.com", "www.kommo.com", "amocrm.ru", "www.amocrm.ru", "amocrm.com", "www.amocrm.com"}
)
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*",
    re.ASCII | re.IGNORECASE,
)


def refusal(problem: str, remedy: str) -> PydanticCustomError:
    """The error to raise from a validator: what is wrong, and what to do."""
    return PydanticCustomError("refused", "{problem}: {remedy}", {"problem": problem, "remedy": remedy})


def refusals(problems: list[tuple[tuple[str | int, ...], str, str]]) -> PydanticCustomError:
    """Several at once, each as (place below the value, problem, remedy); a place is such as (3, "extension")."""
    return PydanticCustomError("refusals", "{count} problems", {"count": len(problems), "problems": problems})


def json_type(value: object) -> str:
    """What a person calls this JSON value, without telling it."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "null" if value is None else next((name for kind, name in names.items() if isinstance(value, kind)), "this")


def nearest(word: object, known: list[str]) -> str | None:
    """The known word that `word` seems to mean."""
    by_form = {name.lower(): name for name in known}
    found = get_close_matches(word.lower(), by_form, n=1) if isinstance(word, str) else []
    return by_form[found[0]] if found else None


@dataclass(frozen=True, slots=True)
class Between:
    """A number from `low` to `high`, both included; without `high` there is no upper bound."""

    noun: str
    low: float
    high: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        whole = source is int
        span = f"from {self.low} on" if self.high is None else f"from {self.low} to {self.high}"
        remedy = f"give a {'whole ' if whole else ''}number {span}"

        def check(value: object) -> object:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise refusal(f"{json_type(value)} where a number is wanted", remedy)
            if not (self.low <= value and (self.high is None or value <= self.high)):
                raise refusal(f"{value} is no {self.noun}", remedy)
            if whole and not isinstance(value, int):
                raise refusal(f"{value} is no whole number", remedy)
            return value

        return core_schema.no_info_before_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        found = handler(schema)
        bounds = {"minimum": self.low, "maximum": self.high}
        return {**found, **{name: bound for name, bound in bounds.items() if bound is not None}}


@dataclass(frozen=True, slots=True)
class Shaped:
    """Text that matches `pattern` as a whole; `what` completes "this is no …", `remedy` says what to give."""

    pattern: str
    what: str
    remedy: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        compiled = re.compile(self.pattern, re.ASCII)

        def check(value: str) -> str:
            if not compiled.fullmatch(value):
                raise refusal(f"no {self.what}", self.remedy)
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True, slots=True)
class Template:
    """Text with the `{fields}` named here and no others, so that nothing can be reached through str.format."""

    fields: tuple[str, ...]

    def __call__(self, value: str) -> str:
        known = " and ".join(f"{{{name}}}" for name in self.fields)
        try:
            parts = list(string.Formatter().parse(value))
        except ValueError:
            raise refusal(
                "a brace without its partner", f"use {known} alone; a brace itself is written twice"
            ) from None
        for _, name, form, conversion in parts:
            if name is not None and (name not in self.fields or form or conversion):
                raise refusal("an unknown field in braces", f"use {known} alone")
        return value


def _host(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _HOST_NAME.fullmatch(value) or value.rpartition(".")[2].isdigit():
            raise refusal("neither a host name nor an IP address", "give a name or an address, no port") from None
    return value


def _web_address(value: str) -> Url:
    try:
        url = Url(value)
    except ValidationError:
        raise refusal("no web address", "give one such as https://pbx.example.com") from None
    if url.scheme not in {"http", "https"}:
        raise refusal("no http or https address", "give one such as https://pbx.example.com")
    if url.username or url.password:
        raise refusal("a user or password inside the address", "leave them out")
    if url.query is not None or url.fragment is not None:
        raise refusal("an address with ? or #", "end it with the host or path")
    return url


def _public_address(value: str) -> str:
    return str(_web_address(value)).rstrip("/")


def _secure_address(value: str) -> str:
    url = _web_address(value)
    if url.scheme != "https" and url.host not in LOOPBACK_NAMES:
        raise refusal("an unencrypted address", "begin it with https://")
    return value  # as it was given: Kommo compares a redirect address letter by letter


def _account_address(value: str) -> str:
    url = Url(_secure_address(value))
    if url.path not in {None, "/"}:
        raise refusal("an address with a path", "give the account's own, such as https://acme.kommo.com")
    if url.host in _COMMON_HOSTS:
        raise refusal("not the address of one account", "give the account's own, such as https://acme.kommo.com")
    return str(url).rstrip("/")


def _timezone(value: object) -> object:
    if isinstance(value, ZoneInfo):
        return value
    if not isinstance(value, str):
        raise refusal(f"{json_type(value)} where a time zone is wanted", 'give text such as "Europe/Madrid"')
    known = available_timezones()
    if not known:
        raise refusal("this host has no time zone database", "install the package tzdata")
    if value not in known:
        meant = nearest(value, sorted(known))
        raise refusal("no IANA time zone", f'did you mean "{meant}"?' if meant else 'give one such as "Europe/Madrid"')
    return ZoneInfo(value)


def _network(value: object) -> object:
    if isinstance(value, str):
        try:
            return ipaddress.ip_network(value)
        except ValueError:
            raise refusal("no network", "give an address or network such as 10.0.0.0/8, host bits zero") from None
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    raise refusal(f"{json_type(value)} where a network is wanted", "give text such as 10.0.0.0/8")


def _region(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise refusal("no country code", 'give two capital letters such as "RU" or "US", or null')
    return value


def _without_separators(value: str) -> str:
    return re.sub(r"[ ()\-]", "", value)


def _popup(value: object) -> object:
    return {True: "ringing", False: "off"}[value] if isinstance(value, bool) else value


Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=255)]
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Between("count", 1)]
KommoId = Annotated[int, Between("Kommo id", 1)]
Port = Annotated[int, Between("TCP port", 1, 65535)]
Seconds = Annotated[float, Between("time-out in seconds", 0.1, 3600)]

Host = Annotated[Text, AfterValidator(_host)]
PublicUrl = Annotated[Text, AfterValidator(_public_address)]
SecureUrl = Annotated[Text, AfterValidator(_secure_address)]
AccountUrl = Annotated[Text, AfterValidator(_account_address)]
Network = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network), WithJsonSchema({"type": "string"})
]
AbsolutePath = Annotated[Text, Shaped(r"/.*", "absolute path", "give one that begins with /")]
TimeZone = Annotated[ZoneInfo, BeforeValidator(_timezone), WithJsonSchema({"type": "string"})]
Region = Annotated[Text, AfterValidator(_region)]

Name = Annotated[
    Text, Shaped(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,39}", "usable name", "use up to 40 letters, digits, dots, - and _")
]
Extension = Annotated[
    Text, Shaped(r"\+?[A-Za-z0-9*#_.\-]{1,40}", "extension", "use up to 40 letters, digits, *, #, dots, - and _")
]
PhoneNumber = Annotated[
    Text,
    AfterValidator(_without_separators),
    Shaped(r"\+?[0-9]{2,20}", "phone number", "give 2 to 20 digits, with + before an international number"),
]
Prefix = Annotated[Text, Shaped(r"[0-9*#]{1,8}", "outside prefix", "give 1 to 8 digits, * or #")]
Trunk = Annotated[
    Text,
    Shaped(r"[A-Za-z][A-Za-z0-9]*/[^\s/,&]+", "trunk", 'give technology and name as Asterisk does: "PJSIP/trunk"'),
]
DialplanContext = Annotated[
    Text, Shaped(r"[A-Za-z0-9_.\-]{1,79}", "dialplan context", "use letters, digits, dots, - and _")
]
Table = Annotated[Text, Shaped(r"(?:[A-Za-z_]\w{0,63}\.)?[A-Za-z_]\w{0,63}", "table name", "use letters, digits and _")]
Column = Annotated[Text, Shaped(r"[A-Za-z_]\w{0,63}", "column name", "use letters, digits and _")]
ColumnAlias = Annotated[
    Text, Shaped(r"(?:cel|cdr)_[a-z_]{1,40}", "alias of a column", 'name it after table and column: "cel_extra"')
]
Popup = Annotated[
    Literal["ringing", "answered", "off"],
    BeforeValidator(_popup),
    WithJsonSchema({"enum": ["ringing", "answered", "off", True, False]}),
]
