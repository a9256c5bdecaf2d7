"""`call_full` and the frozen view it is made of, at every stage of a call."""

from __future__ import annotations

import json
from datetime import UTC, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Call, CallType, StageName, State
from itgrix_kommo.calls.call_full import UNSET_TIME, call_full
from tests.story import ANN, T0, channel, ended, inbound, internal, outbound, stages

ROOT = {
    "active_conversation_id",
    "channel",
    "conversations",
    "deal",
    "entity",
    "is_ivr",
    "record",
    "registration",
    "result",
}
CHANNEL = {
    "answer_time",
    "end_time",
    "extra",
    "from",
    "id",
    "is_primary",
    "name",
    "start_time",
    "state",
    "to",
    "trunk",
    "type",
    "was_answered",
}


def shown(call: Call) -> dict[str, Any]:
    return call_full(call, UTC)


class TestShape:
    @pytest.mark.parametrize("story", [inbound(), inbound(answered=False), outbound(), internal()])
    def test_the_keys_are_the_vendors_at_every_stage(self, story: list[ev.Event]) -> None:
        told = stages(story)
        assert StageName.CALL_ENDED in {stage.name for stage in told}
        for stage in told:
            full = shown(stage.call)
            assert set(full) == ROOT
            assert set(full["channel"]) == CHANNEL
            for key, conversation in full["conversations"].items():
                assert set(conversation) == {"channel", "is_parked", "user"}
                assert set(conversation["channel"]) == CHANNEL
                assert conversation["channel"]["id"] == key
            for side in ("from", "to", "trunk"):
                assert set(full["channel"][side]) == {"number", "name", "kind"}
            assert json.loads(json.dumps(full)) == full

    def test_what_only_the_crm_knows_is_empty(self) -> None:
        full = shown(ended(inbound()))
        assert (full["deal"], full["entity"], full["record"], full["registration"]) == (None, None, "", None)

    def test_users_have_the_names_that_are_known(self) -> None:
        call = ended(inbound())
        (conversation,) = call_full(call, UTC, {ANN: "Ann"})["conversations"].values()
        assert conversation["user"] == {"id": ANN, "name": "Ann", "phones": ["101", "+79161112233"]}
        (conversation,) = shown(call)["conversations"].values()
        assert conversation["user"]["name"] == ""


class TestTimes:
    @pytest.mark.parametrize(
        ("zone", "text"),
        [
            (UTC, "2026-11-22 13:52:37"),
            (ZoneInfo("Europe/Moscow"), "2026-11-22 16:52:37"),
            (timezone(timedelta(hours=-3)), "2026-11-22 10:52:37"),
        ],
    )
    def test_are_the_pbxs_own_to_the_second(self, zone: timezone | ZoneInfo, text: str) -> None:
        call = ended(inbound(at=T0 + 0.999))
        assert call_full(call, zone)["channel"]["start_time"] == text

    def test_of_what_never_happened_are_unset(self) -> None:
        requested, *_, over = stages(inbound(answered=False))
        (ringing,) = shown(requested.call)["conversations"].values()
        assert ringing["channel"]["answer_time"] == ringing["channel"]["end_time"] == UNSET_TIME
        (missed,) = shown(over.call)["conversations"].values()
        assert missed["channel"]["answer_time"] == UNSET_TIME
        assert missed["channel"]["end_time"] != UNSET_TIME


class TestStages:
    def test_states_and_results_go_with_the_stage(self) -> None:
        told = [
            (
                stage.name.value,
                stage.call.state,
                shown(stage.call)["result"],
                shown(stage.call)["active_conversation_id"],
            )
            for stage in stages(inbound())
        ]
        phone = "1795355557.2"
        assert told == [
            ("conversation_requested", State.RINGING, 0, phone),
            ("conversation_accepted", State.TALKING, 0, phone),
            ("conversation_ended", State.RINGING, 0, ""),
            ("call_ended", State.ENDED, 200, ""),
        ]

    def test_the_end_says_why(self) -> None:
        over = shown(ended(inbound(answered=False)))
        assert over["channel"]["extra"] == {"hangupcause": 16, "hangupsource": "PJSIP/trunk-1"}
        (conversation,) = over["conversations"].values()
        assert conversation["channel"]["extra"] == {"hangupcause": 16, "hangupsource": "", "dialstatus": "CANCEL"}


class TestSides:
    def sides(self, call: Call) -> tuple[str, str, str]:
        channel_shown = shown(call)["channel"]
        return channel_shown["from"]["number"], channel_shown["to"]["number"], channel_shown["trunk"]["number"]

    def test_inbound(self) -> None:
        call = ended(inbound())
        assert self.sides(call) == ("+79990000001", "4957770101", "PJSIP/trunk")
        (conversation,) = call.conversations
        assert (conversation.channel.from_.number, conversation.channel.to.number) == ("+79990000001", "101")
        assert (call.trunk, call.rung_last and call.rung_last.id) == ("PJSIP/trunk", ANN)

    def test_outbound(self) -> None:
        call = ended(outbound())
        assert self.sides(call) == ("101", "+79990000001", "PJSIP/trunk")
        (conversation,) = call.conversations
        assert (conversation.channel.from_.number, conversation.channel.to.number) == ("101", "+79990000001")
        assert conversation.channel.trunk.number == "PJSIP/trunk"
        assert conversation.user is not None
        assert conversation.user.id == ANN

    def test_internal(self) -> None:
        call = ended(internal())
        assert self.sides(call) == ("101", "102", "")
        assert (call.type, call.client.number) == (CallType.LOCAL, "")

    def test_a_hidden_number_stays_hidden(self) -> None:
        call = ended(inbound(client="anonymous"))
        assert self.sides(call) == ("", "4957770101", "PJSIP/trunk")
        assert call.type is CallType.INCOMING

    def test_a_conversation_is_found_by_its_id(self) -> None:
        call = ended(inbound())
        assert call.conversation("1795355557.2") is call.conversations[0]
        assert call.conversation("1795355557.1") is None

    def test_a_call_of_nobody_known_is_unknown(self) -> None:
        lone = channel("Message/ast_msg_queue", "5.1", state=ev.UP)
        assert ended([ev.Newchannel(T0, lone), ev.Hangup(T0, lone, 16)]).type is CallType.UNKNOWN
