"""Who is who by number, and what the names of channels and dial strings give away."""

from __future__ import annotations

from typing import Any

import pytest

from itgrix_kommo.calls.numbers import (
    Employee,
    Kind,
    NumberPlan,
    device_name,
    dialled_device,
    e164,
    endpoint_of,
    fmc_pattern,
    is_number,
    number_in,
)
from itgrix_kommo.calls.tracker import Tracker
from tests.story import inbound

ANN = Employee(9_100_001, "101", ("+79161112233",))
BORIS = Employee(9_100_002, "10002", ())
CLARA = Employee(9_100_003, "", ("89165556677",))


def plan(**how: Any) -> NumberPlan:
    usual: dict[str, Any] = {"employees": [ANN, BORIS, CLARA], "trunks": ["PJSIP/trunk", "DAHDI/i1"], "region": "RU"}
    return NumberPlan(**usual | how)


class TestDialable:
    @pytest.mark.parametrize("text", ["1", "101", "+79990000001", "1*2#", "0", "00", "8"])
    def test_numbers(self, text: str) -> None:
        assert is_number(text)

    @pytest.mark.parametrize(
        "text", ["", "s", "S", "h", "i", "t", "anonymous", "Anonymous", "unknown", "*8", "#1", "+", "+*", "1 2", "1-2"]
    )
    def test_what_is_no_number(self, text: str) -> None:
        assert not is_number(text)

    @pytest.mark.parametrize("text", ["١٢٣", "²", "१०१", "1\n", "101;x", "sip:101"])
    def test_what_only_looks_like_one(self, text: str) -> None:
        assert not is_number(text)
        assert plan().kind(text) is Kind.UNKNOWN


class TestKinds:
    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            ("1", Kind.INTERNAL),
            ("9999", Kind.INTERNAL),
            ("10001", Kind.EXTERNAL),
            ("10002", Kind.INTERNAL),
            ("+101", Kind.EXTERNAL),
            ("+79161112233", Kind.INTERNAL),
            ("89161112233", Kind.INTERNAL),
            ("+79165556677", Kind.INTERNAL),
            ("+79990000001", Kind.EXTERNAL),
            ("112233", Kind.EXTERNAL),
            ("", Kind.UNKNOWN),
            ("s", Kind.UNKNOWN),
        ],
    )
    def test_by_length_employee_and_mobile(self, number: str, kind: Kind) -> None:
        assert plan().kind(number) is kind

    def test_the_internal_length_is_configured(self) -> None:
        assert plan(internal_max_length=3).kind("9999") is Kind.EXTERNAL
        assert plan(internal_max_length=5).kind("10001") is Kind.INTERNAL

    def test_without_a_region_only_full_numbers_match(self) -> None:
        abroad = plan(region=None)
        assert abroad.kind("+79161112233") is Kind.INTERNAL
        assert abroad.kind("89161112233") is Kind.EXTERNAL
        abroad.use_region("RU")
        assert abroad.kind("89161112233") is Kind.INTERNAL

    def test_owners(self) -> None:
        assert plan().employee("101") is ANN
        assert plan().employee("9161112233") is ANN
        assert plan().employee("+79165556677") is CLARA
        assert plan().employee("103") is None
        assert plan().employee("not a number") is None
        assert NumberPlan(employees=[BORIS]).employee("+79161112233") is None


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "matches", "differs"),
        [
            ("8123456XXXX", "81234567890", "812345678901"),
            ("+7999xxxxxxx", "+79990000001", "79990000001"),
            (" 8123 ", "8123", "81234"),
            ("8.23XXX", "8.23456", "8123456"),
            ("8123XXX", "8123456", "8123٤٥٦"),
        ],
    )
    def test_x_is_any_digit_and_nothing_else_is_special(self, pattern: str, matches: str, differs: str) -> None:
        assert fmc_pattern(pattern).match(matches)
        assert not fmc_pattern(pattern).match(differs)

    def test_patterns_may_change_while_running(self) -> None:
        changing = plan()
        changing.use_fmc_patterns(["8123456XXXX", "", "  "])
        assert changing.kind("81234567890") is Kind.INTERNAL
        assert changing.employee("81234567890") is None
        changing.use_fmc_patterns([])
        assert changing.kind("81234567890") is Kind.EXTERNAL


class TestEndpoints:
    def test_devices_are_extensions_unless_they_are_trunks(self) -> None:
        learnt = plan()
        learnt.learn_endpoints(
            ["PJSIP/20001", "SIP/20002", "IAX2/200003", "PJSIP/trunk", "PJSIP/79991234567", "PJSIP/x"]
        )
        assert [learnt.is_internal(number) for number in ("20001", "20002", "200003")] == [True] * 3
        assert not learnt.is_internal("79991234567")
        learnt.learn_endpoints([])
        assert not learnt.is_internal("20001")

    def test_a_trunk_named_by_a_short_number_is_none(self) -> None:
        named = plan(trunks=["PJSIP/200001"])
        named.learn_endpoints(["PJSIP/200001"])
        assert not named.is_internal("200001")

    @pytest.mark.parametrize(
        ("endpoint", "is_trunk"),
        [
            ("PJSIP/trunk", True),
            ("PJSIP/trunk-a", False),
            ("SIP/trunk", False),
            ("DAHDI/i1/79990000001", True),
            ("DAHDI/i2/79990000001", False),
            ("DAHDI/i1", True),
            ("", False),
        ],
    )
    def test_trunks(self, endpoint: str, *, is_trunk: bool) -> None:
        assert plan().is_trunk(endpoint) is is_trunk


class TestNames:
    @pytest.mark.parametrize(
        ("name", "endpoint"),
        [
            ("PJSIP/101-00000012", "PJSIP/101"),
            ("PJSIP/trunk-a-00000012", "PJSIP/trunk-a"),
            ("SIP/101-0000000a", "SIP/101"),
            ("IAX2/carrier-1234", "IAX2/carrier"),
            ("DAHDI/1-1", "DAHDI/1"),
            ("DAHDI/i1/79990000001-2b", "DAHDI/i1/79990000001"),
            ("Local/101@from-queue-0000000b;1", "Local/101@from-queue"),
            ("Local/101@from-internal/n-0000000b;2", "Local/101@from-internal/n"),
            ("Local/FMGL-101#@from-internal-00000007;2", "Local/FMGL-101#@from-internal"),
            ("Local/a;1@b-00000007;2", "Local/a"),
            ("PJSIP/101", "PJSIP/101"),
            ("PJSIP/trunk-a-", "PJSIP/trunk-a-"),
            ("a-b", "a-b"),
            ("", ""),
        ],
    )
    def test_endpoints_of_channels(self, name: str, endpoint: str) -> None:
        assert endpoint_of(name) == endpoint

    @pytest.mark.parametrize(
        ("endpoint", "device"),
        [
            ("PJSIP/101", "101"),
            ("IAX2/carrier", "carrier"),
            ("DAHDI/5", ""),
            ("Local/101@from-queue", ""),
            ("PJSIP", ""),
            ("", ""),
        ],
    )
    def test_devices(self, endpoint: str, device: str) -> None:
        assert device_name(endpoint) == device

    @pytest.mark.parametrize(
        ("dial_string", "number"),
        [
            ("79991234567@trunk", "79991234567"),
            ("trunk/79991234567", "79991234567"),
            ("g1/79991234567", "79991234567"),
            ("101/sip:101@192.0.2.1:5060", "101"),
            ("+79991234567@2", "+79991234567"),
            ("trunk", ""),
            ("", ""),
        ],
    )
    def test_numbers_in_dial_strings(self, dial_string: str, number: str) -> None:
        assert number_in(dial_string) == number

    @pytest.mark.parametrize(
        ("target", "device"),
        [
            ("PJSIP/79991234567@trunk", "PJSIP/trunk"),
            ("PJSIP/trunk/sip:79991234567@192.0.2.1", "PJSIP/trunk"),
            ("PJSIP/101", "PJSIP/101"),
            ("DAHDI/i1/79991234567", "DAHDI/i1"),
            ("Local/101@from-queue", "Local/101@from-queue"),
            ("", "/"),
        ],
    )
    def test_devices_of_dial_targets(self, target: str, device: str) -> None:
        assert dialled_device(target) == device


class TestClients:
    @pytest.mark.parametrize(
        ("number", "region", "key"),
        [
            ("89991234567", "RU", "+79991234567"),
            ("+7 (999) 123-45-67", None, "+79991234567"),
            ("9991234567", None, None),
            ("101", "RU", None),
            ("", "RU", None),
            ("x" * 300, "RU", None),
        ],
    )
    def test_keys(self, number: str, region: str | None, key: str | None) -> None:
        assert e164(number, region) == key

    @pytest.mark.parametrize(
        ("dialled", "sent", "client"),
        [
            ("89991234567", "79991234567@trunk", "89991234567"),
            ("0089991234567", "79991234567@trunk", "79991234567"),
            ("s", "79991234567@trunk", "79991234567"),
            ("", "79991234567@trunk", "79991234567"),
            ("", "trunk", ""),
            ("103", "trunk", "103"),
            ("112", "112@trunk", "112"),
        ],
    )
    def test_what_was_dialled_or_what_was_sent(self, dialled: str, sent: str, client: str) -> None:
        assert plan().dialled_client(dialled, sent) == client

    def test_an_outside_prefix_is_taken_off_the_longest_first(self) -> None:
        outside = plan(outside_prefixes=["9", "99"])
        assert outside.dialled_client("9989991234567", "79991234567@trunk") == "89991234567"
        assert outside.dialled_client("989991234567", "79991234567@trunk") == "89991234567"
        assert outside.dialled_client("9101", "") == "9101"

    def test_replacements_are_for_the_crm(self) -> None:
        assert plan(replace_client=lambda raw: f"+{raw}").client_phone("7999") == "+7999"
        assert plan().client_phone("7999") == "7999"


def test_an_employees_number_is_what_the_replacements_make_of_it() -> None:
    """A second PBX shows 101 as 7101: the replacement makes him the one whom the list knows."""
    told = Tracker(
        NumberPlan(
            employees=[Employee(7, "101")],
            trunks=["PJSIP/trunk"],
            replace_employee=lambda number: number.removeprefix("7") if len(number) == 4 else number,
        )
    )
    stages = [stage for event in inbound(phone="7101") for stage in told.feed(event)]
    (conversation,) = stages[0].call.conversations
    assert conversation.user is not None
    assert (conversation.user.id, conversation.channel.to.number) == (7, "101")
