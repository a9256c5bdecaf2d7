"""The tracker's single decisions, where a random world would not show which one it was."""

from __future__ import annotations

import math
from typing import Any

import pytest

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Call, CallType, Stage, StageName
from itgrix_kommo.calls.live_calls import GRACE, REMEMBER_ENDED, STALE_AFTER, age
from itgrix_kommo.calls.tracker import Tracker
from tests.story import ANN, BORIS, T0, channel, ended, inbound, outbound, plan, stages

TALK = ev.Bridge("talk", "basic", "simple_bridge", "")
CONFERENCE = ev.Bridge("conference", "base", "softmix", "")


def client(uniqueid: str = "1795355557.1", *, state: int = ev.RING, number: str = "+79990000001") -> ev.Channel:
    return channel(f"PJSIP/trunk-{uniqueid[-1]}", uniqueid, state=state, number=number, exten="4957770101")


def employee(extension: str, uniqueid: str, linkedid: str = "", *, state: int = ev.UP, exten: str = "") -> ev.Channel:
    return channel(f"PJSIP/{extension}-{uniqueid[-1]}", uniqueid, linkedid, state=state, number=extension, exten=exten)


def told(tracker: Tracker, *events: ev.Event) -> list[Stage]:
    return [stage for event in events for stage in tracker.feed(event)]


def cut(events: list[ev.Event], kind: type[ev.Event]) -> tuple[list[ev.Event], list[ev.Event]]:
    """What came before the first event of a kind, and the rest."""
    where = next(number for number, event in enumerate(events) if isinstance(event, kind))
    return events[:where], events[where:]


def talking(**how: Any) -> list[ev.Event]:
    """An inbound call until it is hung up."""
    return cut(inbound(**how), ev.HangupRequest)[0]


def ends(found: list[Stage]) -> list[Call]:
    return [stage.call for stage in found if stage.name is StageName.CALL_ENDED]


def texts(call: Call) -> list[str]:
    return [note.text for note in call.timeline]


class TestStages:
    def test_an_answered_call(self) -> None:
        names = [stage.name.value for stage in stages(inbound())]
        assert names == ["conversation_requested", "conversation_accepted", "conversation_ended", "call_ended"]
        call = ended(inbound())
        assert (call.type, call.was_answered, call.duration, call.did) == (CallType.INCOMING, True, 30, "4957770101")
        assert call.responsible is not None
        assert call.responsible.id == ANN

    def test_a_call_waits_for_late_events_before_it_is_over(self) -> None:
        tracker = Tracker(plan())
        events = inbound()
        told(tracker, *events)
        assert tracker.next_due == events[-1].at + GRACE
        assert not tracker.advance(tracker.next_due - 0.1)
        assert len(ends(tracker.advance(tracker.next_due))) == 1
        assert tracker.next_due == math.inf

    def test_the_next_event_ends_what_is_due(self) -> None:
        tracker = Tracker(plan())
        told(tracker, *inbound())
        assert len(ends(tracker.feed(ev.Endpoints(T0 + 3600, frozenset())))) == 1

    def test_a_doubled_dial_asks_for_nothing_twice(self) -> None:
        told_twice = [one for event in inbound() for one in (event, event)]
        assert [stage.name for stage in stages(told_twice)] == [stage.name for stage in stages(inbound())]

    def test_events_that_tell_nothing_are_passed_over(self) -> None:
        assert not Tracker(plan()).feed(ev.OriginateResponse(T0, success=False, uniqueid="", channel_name="", reason=0))


class TestIds:
    @pytest.mark.parametrize(
        ("older", "younger"),
        [("9.5", "10.1"), ("10.9", "10.10"), ("pbx1-10.1", "pbx1-10.2"), ("10.1", "click-70"), ("10.1", "")],
    )
    def test_uniqueids_sort_by_birth(self, older: str, younger: str) -> None:
        assert age(older) < age(younger)

    def test_a_channel_first_seen_after_it_lent_its_id_joins_that_call(self) -> None:
        tracker = Tracker(plan())
        told(tracker, ev.Newchannel(T0, employee("102", "5.6", "5.5")), ev.Newchannel(T0, employee("101", "5.4")))
        told(tracker, ev.Newstate(T0, employee("103", "5.5", "5.4")))
        (call,) = tracker.calls.values()
        assert call.aliases == {"5.4", "5.5", "5.6"}

    def test_an_id_stays_the_agents_who_had_it_first(self) -> None:
        tracker = Tracker(plan())
        agent, waiting_room = employee("101", "5.1"), ev.Bridge("agents", "base", "holding_bridge", "AgentPool")
        told(tracker, ev.Newchannel(T0, agent), ev.BridgeEnter(T0, waiting_room, agent, ""))
        told(tracker, ev.Newstate(T0, agent._replace(linkedid="5.9")), ev.Newchannel(T0, employee("102", "5.8")))
        told(tracker, ev.Newstate(T0, employee("103", "5.9", "5.8")))
        assert {call.id: call.aliases for call in tracker.calls.values()} == {"5.1": {"5.1", "5.9"}, "5.8": {"5.8"}}
        assert set(tracker.calls["5.8"].legs) == {"5.8", "5.9"}
        told(tracker, ev.Newchannel(T0, employee("104", "5.10", "5.1")))
        assert tracker.calls["5.10"].aliases == {"5.10"}

    def test_late_events_of_an_ended_call_begin_no_new_one(self) -> None:
        tracker = Tracker(plan())
        events = inbound()
        told(tracker, *events)
        tracker.advance(T0 + 100)
        assert not told(tracker, ev.BridgeLeave(T0 + 100, TALK, client()))
        assert not told(tracker, ev.Newchannel(T0 + 100, employee("101", "9.9", "1795355557.1")))
        assert list(tracker.calls) == ["9.9"]

    def test_who_visits_two_calls_visits_the_one_they_become(self) -> None:
        tracker = Tracker(plan())
        for linkedid in ("5.1", "6.1", "7.1"):
            told(tracker, ev.Newchannel(T0, client(linkedid)), ev.Newstate(T0, client(linkedid, state=ev.UP)))
        guest, first, second = (
            employee("101", "5.2", "5.1"),
            employee("102", "6.2", "6.1"),
            employee("103", "7.2", "7.1"),
        )
        told(tracker, *(ev.Newchannel(T0, one) for one in (guest, first, second)))
        told(tracker, *(ev.BridgeEnter(T0, CONFERENCE, client(one, state=ev.UP), "") for one in ("6.1", "7.1")))
        told(tracker, *(ev.BridgeEnter(T0, CONFERENCE, guest, "") for _ in range(2)))
        calls = tracker.calls
        visits = calls["5.1"].legs["5.2"].visits
        assert [visit.call.id for visit in visits] == ["6.1", "7.1"]
        told(tracker, *(ev.BridgeEnter(T0, TALK, one, "") for one in (first, second)))
        assert set(calls) == {"5.1", "6.1"}
        assert visits == [calls["6.1"].legs["5.2"]]

    def test_who_left_two_calls_unheard_is_once_in_what_they_become(self) -> None:
        tracker = Tracker(plan())
        guest = employee("101", "5.2", "5.1", state=ev.RING)
        first, second = employee("102", "6.2", "6.1"), employee("103", "7.2", "7.1")
        told(tracker, *(ev.Newchannel(T0, client(one, state=ev.UP)) for one in ("5.1", "6.1", "7.1")))
        told(tracker, *(ev.Newchannel(T0, one) for one in (guest, first, second)))
        told(tracker, *(ev.BridgeEnter(T0, CONFERENCE, client(one, state=ev.UP), "") for one in ("6.1", "7.1")))
        told(tracker, ev.BridgeEnter(T0, CONFERENCE, guest, ""))
        assert not told(tracker, ev.BridgeLeave(T0, CONFERENCE, guest))
        told(tracker, *(ev.BridgeEnter(T0, TALK, one, "") for one in (first, second)))
        assert set(tracker.calls) == {"5.1", "6.1"}
        assert not tracker.calls["5.1"].legs["5.2"].visits
        assert tracker.calls["6.1"].legs["5.2"].ended_at == T0

    def test_what_was_dealt_with_is_passed_over(self) -> None:
        tracker = Tracker(plan())
        tracker.pass_over(frozenset({"1795355557.1", "1795355557.2"}), T0)
        assert not told(tracker, *inbound())
        assert not tracker.calls

    def test_ended_calls_are_remembered_for_a_while_only(self) -> None:
        tracker = Tracker(plan())
        told(tracker, *inbound())
        tracker.advance(T0 + 100)
        tracker.sweep(T0 + 100 + REMEMBER_ENDED + 1)
        told(tracker, *inbound(at=T0 + 1000))
        assert list(tracker.calls) == ["1795355557.1"]


class TestEnds:
    def test_a_channel_that_is_silent_for_hours_is_swept(self) -> None:
        tracker = Tracker(plan())
        told(tracker, *talking())
        assert not tracker.sweep(T0 + STALE_AFTER)
        (call,) = ends(tracker.sweep(T0 + STALE_AFTER + 60))
        assert call.was_answered
        assert sum("its hangup was not seen" in text for text in texts(call)) == 2

    def test_a_lost_hangup_is_dated_no_earlier_than_its_talk(self) -> None:
        tracker = Tracker(plan())
        *before, client_enters = talking()
        told(tracker, *before, client_enters._replace(at=T0 + 50))
        (call,) = ends(tracker.sweep(T0 + 2 * STALE_AFTER))
        assert all(one.channel.ended_at is not None for one in call.conversations)
        assert call.duration == 0
        assert call.ended_at == T0 + 50

    def test_what_cel_ends_may_still_hang_up_by_itself(self) -> None:
        tracker = Tracker(plan())
        events = inbound()
        told(tracker, *events[:-2], ev.LinkedidEnd(events[-1].at, "1795355557.1"), *events[-2:])
        (call,) = ends(tracker.advance(events[-1].at + 60))
        assert not any("not seen" in text for text in texts(call))

    def test_what_cel_ended_and_never_hung_up_is_ended(self) -> None:
        tracker = Tracker(plan())
        events = inbound()
        told(tracker, *events[:-2], ev.LinkedidEnd(events[-1].at, "1795355557.1"))
        (call,) = ends(tracker.advance(events[-1].at + GRACE))
        assert call.ended_at == events[-1].at

    def test_each_word_of_cel_has_its_own_grace(self) -> None:
        tracker = Tracker(plan())
        told(tracker, *inbound())
        second = talking(linkedid="1795355557.5", at=T0 + 4)
        due = inbound()[-1].at + GRACE
        told(tracker, *second, ev.LinkedidEnd(due - 0.1, "1795355557.5"))
        assert [call.id for call in ends(tracker.advance(due))] == ["1795355557.1"]
        assert [call.id for call in ends(tracker.advance(due + GRACE))] == ["1795355557.5"]

    def test_a_word_of_cel_about_nobody_is_passed_over(self) -> None:
        tracker = Tracker(plan())
        told(tracker, ev.LinkedidEnd(T0, "9.9"))
        assert tracker.next_due == math.inf

    def test_two_silent_calls_that_turn_out_to_be_one_end_together(self) -> None:
        tracker = Tracker(plan())
        one, other = employee("101", "5.1"), employee("102", "5.2")
        told(tracker, ev.Newchannel(T0, one), ev.Newchannel(T0, other), ev.Hangup(T0 + 1, one, 16))
        told(tracker, ev.Hangup(T0 + 2, other, 16), ev.DialState(T0 + 2, other, one, "RINGING"))
        (call,) = ends(tracker.advance(T0 + 60))
        assert (call.aliases, call.ended_at) == (frozenset({"5.1", "5.2"}), T0 + 2)

    def test_an_ended_channel_enters_no_bridge_and_rings_no_more(self) -> None:
        tracker = Tracker(plan())
        events = inbound(answered=False)
        told(tracker, *events)
        dialled = cut(events, ev.DialBegin)[1][0]
        late = [ev.BridgeEnter(events[-1].at, TALK, client(), ""), dialled._replace(at=events[-1].at)]
        assert not told(tracker, *late)
        assert not ends(tracker.advance(events[-1].at + 60))[0].was_answered


class TestCourse:
    def test_notes_of_merged_calls_keep_their_order_within_a_moment(self) -> None:
        tracker = Tracker(plan())
        one, other = employee("102", "5.1", exten="700"), employee("101", "5.2")
        told(tracker, ev.Newchannel(T0, one), ev.Hold(T0, one, on=True), ev.Newchannel(T0, other))
        told(tracker, ev.BridgeEnter(T0, TALK, one, ""), ev.BridgeEnter(T0, TALK, other, ""))
        (call,) = tracker.calls.values()
        notes = [note.text for note in call.notes]
        assert notes.index("PJSIP/102-1 calls 700 from 102") < notes.index("PJSIP/102-1 holds the other side")

    def test_an_employee_who_waits_in_a_conference_has_answered_the_client(self) -> None:
        tracker = Tracker(plan())
        host, guest = employee("101", "5.1", exten="900"), client("5.2", state=ev.UP)
        found = told(
            tracker,
            ev.Newchannel(T0, host._replace(state=ev.RING)),
            ev.Newstate(T0, host),
            ev.BridgeEnter(T0, CONFERENCE, host, ""),
            ev.Newchannel(T0 + 5, guest._replace(state=ev.RING)),
            ev.BridgeEnter(T0 + 5, CONFERENCE, guest, ""),
            ev.Hangup(T0 + 9, guest, 16),
            ev.Hangup(T0 + 9, host, 16),
        ) + tracker.advance(T0 + 60)
        (call,) = ends(found)
        assert (call.type, call.accepted_id, call.duration) == (CallType.INCOMING, "5.1", 4)
        assert [stage.name for stage in found] == [StageName.ACCEPTED, StageName.ENDED, StageName.CALL_ENDED]

    def test_an_employee_who_comes_back_to_a_client_in_a_conference_is_one_conversation(self) -> None:
        tracker = Tracker(plan())
        first, second = client("5.1", state=ev.UP), client("5.2", state=ev.UP, number="+79990000002")
        host = employee("101", "5.3", exten="900")
        told(tracker, *(ev.Newchannel(T0, one._replace(state=ev.RING)) for one in (first, second, host)))
        told(tracker, *(ev.BridgeEnter(T0 + 1, CONFERENCE, one, "") for one in (first, second, host)))
        told(tracker, ev.BridgeLeave(T0 + 5, CONFERENCE, host), ev.BridgeEnter(T0 + 7, CONFERENCE, host, ""))
        found = told(tracker, *(ev.Hangup(T0 + 10, one, 16) for one in (host, first, second)))
        calls = ends(found + tracker.advance(T0 + 60))
        assert [call.client.number for call in calls] == ["+79990000001", "+79990000002"]
        for call in calls:
            assert [one.id for one in call.conversations] == ["5.3"]
            assert (call.was_answered, call.duration) == (True, 9)

    def test_a_pickup_tied_by_dialling_alone(self) -> None:
        """The word of the pickup may be lost: who is named as answering took the call over."""
        tracker = Tracker(plan())
        ringing, rest = cut(inbound(answered=False), ev.HangupRequest)
        caller, picker = client(state=ev.UP), employee("102", "1795355557.9", exten="*8")
        told(tracker, *ringing, ev.Newchannel(T0 + 1, picker._replace(state=ev.RING)), ev.Newstate(T0 + 1, picker))
        told(tracker, ev.BridgeEnter(T0 + 2, TALK, picker, ""), ev.BridgeEnter(T0 + 2, TALK, caller, ""))
        told(tracker, ev.DialEnd(T0 + 2, caller, picker, "ANSWER", ""))
        found = told(tracker, *(ev.Hangup(T0 + 9, one, 16) for one in (picker, caller)), rest[-2])
        (call,) = ends(found + tracker.advance(T0 + 90))
        assert call.responsible is not None
        assert (call.responsible.id, call.duration) == (BORIS, 7)

    def test_a_conversation_of_employees_is_accepted_when_parking_is_told_late(self) -> None:
        tracker = Tracker(plan())
        waiting, retriever = employee("101", "5.1", exten="102"), employee("102", "5.2", exten="71")
        told(tracker, ev.Newchannel(T0, waiting), ev.Newchannel(T0, retriever))
        told(tracker, ev.BridgeEnter(T0, TALK, waiting, ""), ev.BridgeEnter(T0, TALK, retriever, ""))
        (stage,) = told(tracker, ev.Parking(T0, "unparked", waiting, retriever))
        assert (stage.name, stage.conversation_id) == (StageName.ACCEPTED, "5.2")

    def test_who_is_parked_is_told_of_the_accepted_conversation(self) -> None:
        tracker = Tracker(plan())
        told(tracker, *talking())
        told(tracker, ev.Parking(T0 + 4, "parked", client(state=ev.UP), None))
        (call,) = tracker.calls.values()
        assert [leg.is_parked for leg in call.legs.values()] == [False, True]
        told(tracker, ev.Parking(T0 + 5, "unparked", client(state=ev.UP), None))
        assert not any(leg.is_parked for leg in call.legs.values())

    def test_a_phone_reached_through_an_originated_local_channel_is_the_callers(self) -> None:
        tracker = Tracker(plan())
        one, two = channel("Local/101@a-1;1", "5.1"), channel("Local/101@a-1;2", "5.2", "5.1", state=ev.RING)
        phone, far = channel("PJSIP/101-3", "5.3", "5.1"), channel("PJSIP/trunk-4", "5.4", "5.1")
        found = told(
            tracker,
            ev.Newchannel(T0, one),
            ev.Newchannel(T0, two),
            ev.LocalBridge(T0, one, two),
            ev.DialBegin(T0, None, one, "101@a"),
            ev.Newchannel(T0, phone),
            ev.DialBegin(T0, two, phone, "101"),
            ev.Newchannel(T0 + 3, far),
            ev.DialBegin(T0 + 3, one._replace(state=ev.UP), far, "+79990000001@trunk"),
            *(ev.Hangup(T0 + 5, gone, 16) for gone in (far, phone, two, one)),
        )
        (call,) = ends(found + tracker.advance(T0 + 60))
        assert (call.type, call.client.number) == (CallType.OUTGOING, "+79990000001")
        assert [one.id for one in call.conversations] == ["5.4"]

    def test_attempts_end_as_their_legs_tell(self) -> None:
        call = ended(outbound())
        assert call.outcome is not None
        assert (call.type, call.outcome.result, call.client.number) == (CallType.OUTGOING, 486, "+79990000001")


class TestVariables:
    def call(self, *settings: tuple[str, str, str]) -> Call:
        ringing, rest = cut(inbound(), ev.DialEnd)
        return ended([*ringing, *(ev.VarSet(T0 + 1, *setting) for setting in settings), *rest])

    def test_the_recording(self) -> None:
        call = self.call(("1795355557.1", "MIXMONITOR_FILENAME", "/rec/1.wav"))
        assert call.conversations[0].recording == "/rec/1.wav"

    def test_the_did_of_freepbx(self) -> None:
        assert self.call(("1795355557.1", "__FROM_DID", "74951234567")).did == "74951234567"
        assert self.call(("1795355557.2", "FROM_DID", "74951234567")).did == "4957770101"

    def test_the_extension_behind_a_device(self) -> None:
        call = self.call(("1795355557.2", "AMPUSER", "102"), ("1795355557.2", "AMPUSER", "none"))
        assert call.conversations[0].channel.to.number == "101"

    def test_voicemail(self) -> None:
        ringing, rest = cut(inbound(answered=False), ev.DialEnd)
        left = ended([*ringing, ev.VarSet(T0 + 2, "1795355557.1", "VMSTATUS", "SUCCESS"), *rest])
        failed = ended([*ringing, ev.VarSet(T0 + 2, "1795355557.1", "VMSTATUS", "FAILED"), *rest])
        assert left.outcome is not None
        assert failed.outcome is not None
        assert (left.outcome.call_status, failed.outcome.call_status) == (1, 6)

    def test_of_unknown_channels_and_names_they_tell_nothing(self) -> None:
        assert self.call(("9.9", "AMPUSER", "102"), ("1795355557.1", "FOO", "1")) == ended(inbound())


class TestRooms:
    def test_a_bridge_that_nobody_is_in_is_forgotten(self) -> None:
        tracker = Tracker(plan())
        told(tracker, ev.BridgeCreate(T0, TALK), *inbound()[:-3])
        assert len(tracker._live.rooms) == 0

    def test_who_wait_in_one_parking_lot_hear_nobody(self) -> None:
        tracker = Tracker(plan())
        lot = ev.Bridge("lot", "parking", "holding_bridge", "")
        waiting = [client(f"5.{number}", state=ev.UP, number=f"+7999000000{number}") for number in (1, 2, 3)]
        told(tracker, *(ev.Newchannel(T0, one._replace(state=ev.RING)) for one in waiting))
        told(tracker, *(ev.BridgeEnter(T0 + 1, lot, one, "") for one in waiting), ev.Hangup(T0 + 2, waiting[0], 16))
        assert sorted(tracker.calls) == ["5.1", "5.2", "5.3"]
        assert not any(leg.talks for call in tracker.calls.values() for leg in call.legs.values())

    def test_a_destroyed_bridge_parts_who_is_in_it(self) -> None:
        tracker = Tracker(plan())
        told(tracker, *talking(), ev.BridgeDestroy(T0 + 5, ev.Bridge("bridge-1795355557.1", "", "", "")))
        (call,) = tracker.calls.values()
        assert not any(leg.talking for leg in call.legs.values())

    def test_who_leaves_a_bridge_he_is_not_in_leaves_nothing(self) -> None:
        tracker = Tracker(plan())
        told(tracker, *talking(), ev.BridgeLeave(T0 + 5, TALK, client(state=ev.UP)))
        (call,) = tracker.calls.values()
        assert all(leg.talking for leg in call.legs.values())


class TestResync:
    def live(self, shown: ev.Channel, application: str = "", bridge: str = "") -> ev.LiveChannel:
        return ev.LiveChannel(shown, application, "", bridge, T0 - 60)

    def test_who_left_his_bridge_in_the_gap_talks_no_more(self) -> None:
        tracker = Tracker(plan())
        told(tracker, *talking())
        caller = client(state=ev.UP)
        tracker.feed(ev.Resync(T0 + 60, T0 + 60, (self.live(caller, "BackGround"),), (), T0 + 20))
        (call,) = tracker.calls.values()
        assert call.main.talk(outside=True) == (T0 + 3, T0 + 20)

    def test_a_channel_that_ended_is_not_revived_by_an_old_list(self) -> None:
        tracker = Tracker(plan())
        events = inbound()
        told(tracker, *events)
        tracker.feed(ev.Resync(events[-1].at, T0, (self.live(client(state=ev.UP), bridge="talk"),), (TALK,), None))
        (call,) = ends(tracker.advance(T0 + 90))
        assert call.ended_at == events[-1].at

    def test_a_call_that_began_before_us(self) -> None:
        tracker = Tracker(plan())
        caller, phone = client(state=ev.UP), employee("101", "1795355557.2", "1795355557.1")
        look = (self.live(caller, "Dial", "talk"), self.live(phone, "AppDial", "talk"))
        found = tracker.feed(ev.Resync(T0, T0, look, (TALK,), 0.0))
        found += told(tracker, ev.Hangup(T0 + 9, phone, 16), ev.Hangup(T0 + 9, caller, 16))
        (call,) = ends(found + tracker.advance(T0 + 60))
        assert (call.was_answered, call.duration, call.started_at) == (True, 9, T0 - 60)
        assert "PJSIP/101-2 exists; its beginning was not seen" in texts(call)


class TestRecordings:
    def test_what_is_recorded_on_the_clients_channel_goes_with_him(self) -> None:
        """101 hands a recorded client over to 102, whose own channel is not recorded."""
        tracker = Tracker(plan())
        events = inbound(recording="in-1.wav")
        bridged = [event for event in events if isinstance(event, ev.BridgeEnter)]
        talk = events[: events.index(bridged[-1]) + 1]
        at, bridge = talk[-1].at + 5, bridged[-1].bridge
        colleague = channel("PJSIP/102-9", "1795355560.9", "1795355557.1", state=ev.UP, number="102")
        told(tracker, *talk, ev.Newchannel(at, colleague), ev.BridgeEnter(at, bridge, colleague, ""))
        first = bridged[0].channel
        told(tracker, ev.BridgeLeave(at, bridge, first), ev.Hangup(at, first, 16))
        at += 5
        told(tracker, ev.Hangup(at, colleague, 16), ev.Hangup(at, bridged[-1].channel, 16))
        (call,) = ends(tracker.advance(at + 60))
        last = call.conversation(call.accepted_id)
        assert last is not None
        assert (last.id, last.recording) == ("1795355560.9", "in-1.wav")


class TestDecisions:
    def test_the_timeline_ends_with_what_the_call_is_told_as_and_why(self) -> None:
        assert ended(inbound()).timeline[-1].text == f"told as incoming, talked: PJSIP/101-1 talked last; user {ANN}"
        missed = ended(inbound(answered=False)).timeline[-1].text
        assert missed == "told as incoming, gave up: nobody talked, 1 rung; no user"

    def test_a_message_is_told_as_one(self) -> None:
        tracker = Tracker(plan())
        events = inbound(answered=False)
        told(tracker, *events[:-1], ev.VarSet(events[-1].at, "1795355557.1", "VMSTATUS", "SUCCESS"), events[-1])
        (call,) = ends(tracker.advance(events[-1].at + 60))
        assert (
            call.timeline[-1].text
            == "told as incoming, left a message: nobody talked, the mailbox took a message; no user"
        )
