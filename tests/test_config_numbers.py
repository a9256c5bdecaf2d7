"""Number patterns, replacements, lists and working hours."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.config import Config, ListEntry, NumberPattern, Replacement, Span, WorkingHours


class TestNumberPattern:
    @pytest.mark.parametrize(
        ("pattern", "meant", "not_meant"),
        [
            ("101", ["101"], ["1011", "10", "", "201"]),
            ("+7800XXXXXXX", ["+78001234567"], ["+7800123456", "+780012345678", "78001234567"]),
            ("NXX", ["200", "999"], ["100", "20a"]),
            ("ZX", ["10", "99"], ["00", "0"]),
            ("[1-38]0", ["10", "30", "80"], ["40", "00"]),
            ("+[1-9]XXXXXX.", ["+79991234567", "+12345678"], ["+1234567", "+07991234567", "112"]),
            ("00!", ["00", "0012"], ["0"]),
            ("_1xx", ["123"], ["12"]),
            ("*8", ["*8"], ["8", "**8"]),
            ("[*#]1", ["*1", "#1"], ["11"]),
        ],
    )
    def test_means(self, pattern: str, meant: list[str], not_meant: list[str]) -> None:
        parsed = NumberPattern.parse(pattern)
        assert [number for number in meant if not parsed.matches(number)] == []
        assert [number for number in not_meant if parsed.matches(number)] == []
        assert str(parsed) == pattern

    @pytest.mark.parametrize(
        ("pattern", "problem"),
        [
            ("", "has 1 to 80 characters"),
            ("_", "is empty"),
            ("1" * 81, "has 1 to 80 characters"),
            ("abc", "character 1 has no meaning"),
            ("1.2", "character 2 has no meaning"),
            ("12[", "character 3 has no meaning"),
            ("[]", "character 1 has no meaning"),
            ("[5-1]", "the set at character 1 has a range that runs backwards"),
            ("1٣", "character 2 has no meaning"),
            ("(1|1)*", "character 1 has no meaning"),
        ],
    )
    def test_refuses(self, pattern: str, problem: str) -> None:
        with pytest.raises(ValueError, match=re.escape(problem)):
            NumberPattern.parse(pattern)

    @given(st.from_regex(r"\+?[0-9*#]{1,40}", fullmatch=True))
    def test_a_number_means_itself(self, number: str) -> None:
        assert NumberPattern.parse(number).matches(number)

    @given(st.text(max_size=90), st.text(max_size=40))
    def test_any_text_is_refused_or_answers(self, pattern: str, number: str) -> None:
        try:
            parsed = NumberPattern.parse(pattern)
        except ValueError:
            return
        assert parsed.matches(number) in {True, False}


def replaced(pattern: str, substitution: str, number: str) -> str:
    return Replacement(pattern=pattern, substitution=substitution).apply(number)


class TestReplacement:
    @pytest.mark.parametrize(
        ("pattern", "substitution", "number", "result"),
        [
            (r"^8(\d{10})$", "+7$1", "89991234567", "+79991234567"),
            (r"^8(\d{10})$", "+7$1", "12", "12"),
            (r"(\d{10})$", "8${1}0", "+79991234567", "+7899912345670"),
            (r"^(?P<country>\+7)(?P<rest>.*)$", "${rest}$country", "+7999", "999+7"),
            (r"\D", "", "+7 (999) 1-2", "7" + "99912"),
            (r"^\+", "$$", "+7", "$7"),
            (r"9", "$0$0", "199", "19999"),
            (r"^(?:00(1)|\+1)", "+$1", "+1202", "+202"),
        ],
    )
    def test_rewrites_as_go_does(self, pattern: str, substitution: str, number: str, result: str) -> None:
        assert replaced(pattern, substitution, number) == result

    @pytest.mark.parametrize(
        ("pattern", "substitution", "problem"),
        [
            ("(?=8)", "", "look-ahead and look-behind do not exist"),
            ("(?<!8)9", "", "look-ahead and look-behind do not exist"),
            (r"(8)\1", "", "references back to a group do not exist"),
            ("(8", "", "no regular expression of Go's dialect (RE2 says: missing ))"),
            ("8" * 256, "", "pattern"),
            ("8", "$1", "$1 is no group of the pattern: it has 0"),
            ("(8)", "$1x", "write ${1} with braces"),
            ("(8)", "$name", "a named group that the pattern does not have"),
            ("(8)", r"\1", "write $1, as Go does"),
            ("(8)", "7$", "a lone $: write $$"),
            ("(8)", "${1", "a lone $: write $$"),
        ],
    )
    def test_refuses(self, pattern: str, substitution: str, problem: str) -> None:
        with pytest.raises(ValueError, match=re.escape(problem)):
            Replacement(pattern=pattern, substitution=substitution)

    def test_no_input_makes_it_slow(self) -> None:
        began = time.process_time()
        assert replaced("(a*)*b", "", "a" * 20_000) == "a" * 20_000  # for ever, with Python's own re
        assert time.process_time() - began < 5

    @given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
    def test_any_rule_is_refused_or_applies(self, pattern: str, substitution: str, number: str) -> None:
        try:
            rule = Replacement(pattern=pattern, substitution=substitution)
        except ValueError:
            return
        assert isinstance(rule.apply(number), str)


def config(**sections: Any) -> Config:
    return Config.model_validate(
        {
            "ami": {"username": "itgrix", "secret": "ami-secret-77"},
            "kommo": {"base_url": "https://acme.kommo.com", "access_token": "token-of-kommo-88"},
            **sections,
        }
    )


class TestLists:
    def test_bare_text_is_an_internal_number(self) -> None:
        entries = config(numbers={"blacklist": ["199", {"match": "client", "pattern": "+7800XXXXXXX"}]})
        assert entries.numbers.blacklist == (
            ListEntry(match="internal", pattern="199"),
            ListEntry(match="client", pattern="+7800XXXXXXX"),
        )
        assert entries.numbers.blacklist[1].matches("+78001234567")
        assert not entries.numbers.blacklist[1].matches("+78011234567")

    def test_a_trunk_is_meant_by_its_exact_name(self) -> None:
        entry = ListEntry(match="trunk", pattern="PJSIP/NXZ")
        assert entry.matches("PJSIP/NXZ")
        assert not entry.matches("PJSIP/201")

    def test_a_number_that_is_none_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no meaning in a number pattern"):
            ListEntry(match="did", pattern="reception")


class TestWorkingHours:
    def test_days_and_spans(self) -> None:
        hours = WorkingHours.parse({"mon-wed": "09:00-18:00", "sat": ["10:00-13:00", "14:00-24:00"]})
        week = (Span(540, 1080),)
        assert hours.days == (week, week, week, (), (), (Span(600, 780), Span(840, 1440)), ())

    def test_a_range_may_run_over_the_weekend(self) -> None:
        hours = WorkingHours.parse({"sat-mon": "00:00-01:00"})
        assert [bool(day) for day in hours.days] == [True, False, False, False, False, True, True]

    @given(
        st.dictionaries(
            st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]),
            st.lists(st.integers(0, 1440), min_size=2, max_size=6, unique=True).filter(lambda cuts: len(cuts) % 2 == 0),
            min_size=1,
        )
    )
    def test_reads_what_it_writes(self, cuts: dict[str, list[int]]) -> None:
        def clock(minutes: int) -> str:
            return f"{minutes // 60:02}:{minutes % 60:02}"

        written = {}
        for day in sorted(cuts, key=["mon", "tue", "wed", "thu", "fri", "sat", "sun"].index):
            edges = [clock(minutes) for minutes in sorted(cuts[day])]
            written[day] = [f"{opens}-{closes}" for opens, closes in zip(edges[::2], edges[1::2], strict=True)]
        assert WorkingHours.parse(written).as_json() == written

    @pytest.mark.parametrize(
        ("hours", "problem"),
        [
            ("09:00-18:00", "text where hours are wanted"),
            ({}, "no day at all"),
            ({"monday": "09:00-18:00"}, "neither a day nor days"),
            ({"mon-": "09:00-18:00"}, "neither a day nor days"),
            ({"mon": "9-18"}, "no span of hours"),
            ({"mon": "09:00-25:00"}, "no span of hours"),
            ({"mon": 9}, "no span of hours"),
            ({"mon": []}, "no hours at all"),
            ({"mon": "18:00-09:00"}, "a span that does not end after it begins"),
            ({"mon": "09:00-09:00"}, "a span that does not end after it begins"),
            ({"mon": ["09:00-13:00", "12:00-18:00"]}, "spans that overlap"),
            ({"mon-fri": "09:00-18:00", "wed": "09:00-12:00"}, "a day that an earlier entry has already"),
        ],
    )
    def test_refuses(self, hours: object, problem: str) -> None:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it says stands in its context
            WorkingHours.parse(hours)
        assert problem in str(getattr(caught.value, "context", None))


class TestOriginateAllowed:
    def test_by_default_no_short_numbers(self) -> None:
        (pattern,) = config().originate.allowed
        assert pattern.matches("+79991234567")
        assert not pattern.matches("112")
        assert not pattern.matches("+112")
