from __future__ import annotations

import pytest

from itgrix_kommo.kommo.phones import phone_key


class TestKey:
    @pytest.mark.parametrize(
        ("phone", "region", "digits"),
        [
            ("+1 (202) 555-0143", None, "2025550143"),
            ("8 999 123-45-67", None, "9991234567"),
            ("8 999 123-45-67", "RU", "9991234567"),
            ("+5491112345678", None, "1112345678"),
            ("123456789", None, "23456789"),
            ("12345678", None, "12345678"),
            ("1234567", None, "1234567"),
            ("12345", None, "12345"),
            ("+4722334455", None, "22334455"),
            ("22334455", "NO", "22334455"),
            ("4722334455", "NO", "22334455"),
            ("0123456789", "FR", "123456789"),
            ("+34 612 345 678", None, "612345678"),
            ("+376312345", None, "312345"),
            ("anonymous", "US", ""),
            ("+", "US", ""),
            ("٣٣٣", None, ""),
        ],
    )
    def test_a_number_is_looked_for_by_its_national_end(self, phone: str, region: str | None, digits: str) -> None:
        assert phone_key(phone, region).digits == digits

    def test_short_numbers_of_two_countries_are_kept_apart(self) -> None:
        assert phone_key("+4722334455").name == "+4722334455"
        assert phone_key("+4522334455").name == "+4522334455"
        assert phone_key("+12025550143").name == phone_key("2025550143").name == "2025550143"


class TestRecognition:
    @pytest.mark.parametrize(
        ("phone", "region", "typed", "is_there"),
        [
            ("+12025550143", None, ["+1 202 555 0143"], True),
            ("+12025550143", None, ["8-202-555-01-43"], True),
            ("+12025550143", None, ["+1 202 555 0144", "2025550143"], True),
            ("+12025550143", None, ["+12025550143, +12025559999"], True),
            ("+12025559999", None, ["+12025550143/+12025559999"], True),
            ("+498912345678", None, ["089/12345678"], True),
            ("+12025550143", None, ["5550143"], False),
            ("+12025550143", None, ["+1 202 555 0144"], False),
            ("+12025550143", None, [], False),
            ("112", "US", ["112"], True),
            ("112", "US", ["+7 999 111 2112"], False),
            ("", None, [""], False),
            # eight digits of Norway, with and without the country's code
            ("+4722334455", None, ["22 33 44 55"], True),
            ("+4722334455", None, ["+47 22 33 44 55"], True),
            ("+4722334455", None, ["0047 22 33 44 55"], True),
            ("22334455", "NO", ["+4722334455"], True),
            ("+4722334455", None, ["+45 22 33 44 55"], False),
            ("+4722334455", None, ["+1 202 233 44 55", "+7 922 334 455"], False),
            ("+33123456789", None, ["01 23 45 67 89", "x"], True),
            ("+33123456789", None, ["+33 (0)1 23 45 67 89"], True),
            # no country known: the tail must do
            ("22334455", None, ["+4722334455"], True),
        ],
    )
    def test_a_client_is_known_by_his_phone_however_it_is_typed(
        self, *, phone: str, region: str | None, typed: list[str], is_there: bool
    ) -> None:
        assert phone_key(phone, region).is_among(typed) is is_there
