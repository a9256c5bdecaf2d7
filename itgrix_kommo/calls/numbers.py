"""Who is who by number: internal, trunk or external; whose extension it is; what a number looks like as a key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

import phonenumbers

NOBODY = frozenset({"", "s", "h", "i", "t", "o", "anonymous", "unknown", "unavailable", "restricted", "private"})
"""What stands where no number is: dialplan's own extensions and the ways of hiding a caller."""

_DIALABLE = re.compile(r"\+?\d[\d*#]*\Z", re.ASCII)
_DIGITS = re.compile(r"\d+\Z", re.ASCII)
_DIAL_STRING_PART = re.compile(r"[/@&,;]")


class Kind(StrEnum):
    INTERNAL = "internal"
    EXTERNAL = "external"
    TRUNK = "trunk"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Employee:
    """A Kommo user with the phones that are his: `numbers` are mobiles that count as his extension (FMC)."""

    user_id: int
    extension: str
    numbers: tuple[str, ...] = ()
    phones: tuple[str, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "phones", tuple(filter(None, (self.extension, *self.numbers))))


@lru_cache(maxsize=4096)
def is_number(text: str) -> bool:
    """Something that can be dialled: digits, perhaps after a plus, perhaps with ``*`` and ``#`` inside."""
    return text.lower() not in NOBODY and _DIALABLE.match(text) is not None


@lru_cache(maxsize=4096)
def e164(number: str, region: str | None) -> str | None:
    """The number as ``+79991234567``: a key for matching. None where it is no possible number of `region`."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


@lru_cache(maxsize=4096)
def endpoint_of(channel_name: str) -> str:
    """``PJSIP/trunk-a-00000012`` → ``PJSIP/trunk-a``; a Local half keeps its context: ``Local/101@from-queue``."""
    name = channel_name.partition(";")[0] if channel_name.startswith("Local/") else channel_name
    head, dash, tail = name.rpartition("-")
    return head if dash and tail and "/" in head else name


def device_name(endpoint: str) -> str:
    """``PJSIP/101`` → ``101``. A DAHDI port's number is no extension: empty."""
    technology, _, name = endpoint.partition("/")
    return "" if technology in {"DAHDI", "Local"} else name


def dialled_device(target: str) -> str:
    """The device that Dial is to ring, as channel names spell it: of ``PJSIP/7999…@trunk`` it is ``PJSIP/trunk``."""
    technology, _, rest = target.partition("/")
    before, slash, _ = rest.partition("/")
    if technology != "Local" and not slash:
        before = rest.rpartition("@")[2]
    return f"{technology}/{before}"


@lru_cache(maxsize=4096)
def number_in(dial_string: str) -> str:
    """The number a dial string sends to its trunk: ``79991234567@trunk``, ``trunk/7999…``, ``g1/7999…``; else empty."""
    candidates = [part for part in _DIAL_STRING_PART.split(dial_string) if is_number(part)]
    return max(candidates, key=len, default="")


def fmc_pattern(text: str) -> re.Pattern[str]:
    """A pattern of the vendor's file: digits, an optional leading plus, and ``X`` for any digit."""
    return re.compile("".join(r"\d" if char in "Xx" else re.escape(char) for char in text.strip()) + r"\Z", re.ASCII)


class NumberPlan:
    """The one place that decides what kind a number is and whose it is."""

    def __init__(
        self,
        *,
        employees: Iterable[Employee] = (),
        trunks: Iterable[str] = (),
        peer_trunks: Iterable[str] = (),
        internal_max_length: int = 4,
        region: str | None = None,
        outside_prefixes: Iterable[str] = (),
        replace_client: Callable[[str], str] = str,
        replace_employee: Callable[[str], str] = str,
    ) -> None:
        self.region: str | None = None
        self.peer_trunks = frozenset(peer_trunks)
        self._trunks = frozenset(trunks)
        self._internal_max_length = internal_max_length
        self._outside_prefixes = tuple(sorted(outside_prefixes, key=len, reverse=True))
        self._replace_client = replace_client
        self.employee_number = replace_employee
        employees = tuple(employees)
        self._employees = {employee.extension: employee for employee in employees if employee.extension}
        self._mobiles = {number: employee for employee in employees for number in employee.numbers}
        self._mobiles_by_key: dict[str, Employee] = {}
        self._fmc_patterns: tuple[re.Pattern[str], ...] = ()
        self._endpoint_numbers: frozenset[str] = frozenset()
        self.use_region(region)

    def go_by(self, other: NumberPlan) -> None:
        """Decide as `other` does from now on; the endpoints and patterns that were learnt stay."""
        self.peer_trunks = other.peer_trunks
        self._trunks = other._trunks
        self._internal_max_length = other._internal_max_length
        self._outside_prefixes = other._outside_prefixes
        self._replace_client = other._replace_client
        self.employee_number = other.employee_number
        self._employees = other._employees
        self._mobiles = other._mobiles
        self.use_region(self.region)

    def use_region(self, region: str | None) -> None:
        """The country (``RU``) whose plan reads numbers without a country code; None reads only those with one."""
        self.region = region
        keyed = ((e164(number, region), employee) for number, employee in self._mobiles.items())
        self._mobiles_by_key = {key: employee for key, employee in keyed if key}

    def use_fmc_patterns(self, patterns: Iterable[str]) -> None:
        self._fmc_patterns = tuple(fmc_pattern(line) for line in patterns if line.strip())

    def learn_endpoints(self, names: Iterable[str]) -> None:
        """Extensions longer than `internal_max_length` that Asterisk has devices for.

        Trunks are often named by their own phone number, so seven digits and more are not taken for an extension.
        """
        found = (name.partition("/")[2] for name in names if name not in self._trunks)
        self._endpoint_numbers = frozenset(name for name in found if _DIGITS.match(name) and len(name) < 7)

    def is_trunk(self, endpoint: str) -> bool:
        """Whether this device is configured as a trunk; DAHDI adds the number to its name: ``DAHDI/i1/7999…``."""
        return endpoint in self._trunks or "/".join(endpoint.split("/")[:2]) in self._trunks

    def is_internal(self, number: str) -> bool:
        if not number:
            return False
        return (
            (len(number) <= self._internal_max_length and _DIGITS.match(number) is not None)
            or number in self._employees
            or number in self._endpoint_numbers
            or self.is_fmc(number)
        )

    def is_fmc(self, number: str) -> bool:
        """A mobile that counts as an extension, by the employees' list or by the patterns' file."""
        if self._mobile_owner(number) is not None:
            return True
        return any(pattern.match(number) for pattern in self._fmc_patterns)

    def kind(self, number: str) -> Kind:
        if self.is_internal(number):
            return Kind.INTERNAL
        return Kind.EXTERNAL if is_number(number) else Kind.UNKNOWN

    def employee(self, number: str) -> Employee | None:
        return self._employees.get(number) or self._mobile_owner(number)

    def client_phone(self, raw: str) -> str:
        """The client's number as the configured replacements want it in the CRM."""
        return self._replace_client(raw)

    def dialled_client(self, dialled: str, dial_string: str) -> str:
        """The client's number of an outbound leg, from what the employee dialled and what the trunk was given.

        Without a configured outside prefix the dialled digits win, unless only the trunk's are a number of the region.
        """
        for prefix in self._outside_prefixes:
            if dialled.startswith(prefix) and len(dialled) > len(prefix) + self._internal_max_length:
                return dialled[len(prefix) :]
        sent = number_in(dial_string)
        if not is_number(dialled):
            return sent or dialled
        if sent and e164(dialled, self.region) is None and e164(sent, self.region) is not None:
            return sent
        return dialled

    def _mobile_owner(self, number: str) -> Employee | None:
        if not self._mobiles or len(number) < 7:
            return None
        if owner := self._mobiles.get(number):
            return owner
        key = e164(number, self.region)
        return self._mobiles_by_key.get(key) if key else None
