"""By which digits a client is looked for, and whether a phone that somebody typed is the one looked for. No IO."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import phonenumbers

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHORTEST, _MIDDLE, _LONGEST = 7, 8, 10

_EITHER = re.compile(r"[,;/\n]")
"""Some write two numbers into one value, others a slash into one number."""


@dataclass(frozen=True, slots=True)
class PhoneKey:
    """The end of a number. Kommo compares the last 10 digits itself when it is given a call.

    People write country codes and trunk prefixes in many ways, and the end in one. Ten digits name one client
    whatever stands before them; fewer do so only if what stands before is one of `before` (None: anything).
    """

    digits: str
    before: frozenset[str] | None = None
    country: str = ""

    @property
    def name(self) -> str:
        """What this key is kept under: short numbers of two countries may have the same digits."""
        return f"+{self.country}{self.digits}" if self.country else self.digits

    def is_among(self, phones: Iterable[str]) -> bool:
        """Whether one of `phones`, as people typed them, is this number."""
        return bool(self.digits) and any(
            self._is(_digits(part)) for phone in phones for part in (phone, *_EITHER.split(phone))
        )

    def _is(self, digits: str) -> bool:
        if not digits.endswith(self.digits):
            return False
        return self.before is None or digits[: -len(self.digits)] in self.before


@lru_cache(maxsize=4096)
def phone_key(phone: str, region: str | None = None) -> PhoneKey:
    """The key of a number as the PBX or a person wrote it; without digits for what is none.

    `region` ("NO") is the country whose numbers come without a country code. Where the plan of a country has numbers
    of fewer than ten digits, the key is all of the national number: people there leave the country code out.
    """
    national = _national(phone, region)
    if national is not None:
        return national
    digits = _digits(phone)
    for length in (_LONGEST, _MIDDLE, _SHORTEST):
        if len(digits) >= length:
            return PhoneKey(digits[-length:])
    return PhoneKey(digits, frozenset({""}))


def _national(phone: str, region: str | None) -> PhoneKey | None:
    try:
        parsed = phonenumbers.parse(phone, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    digits = phonenumbers.national_significant_number(parsed)
    if len(digits) >= _LONGEST:
        return PhoneKey(digits[-_LONGEST:])
    country = str(parsed.country_code)
    region_there = phonenumbers.region_code_for_country_code(int(country))
    trunk = phonenumbers.ndd_prefix_for_region(region_there, strip_non_digits=True) or "0"
    codes = ("", country, f"00{country}", f"011{country}")
    before = frozenset(code + prefix for code in codes for prefix in ("", "0", trunk))
    return PhoneKey(digits, before, country)


def _digits(phone: str) -> str:
    return "".join(char for char in phone if char in "0123456789")
