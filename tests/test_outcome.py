"""What calls come to: every row of the mapping, for one attempt and for whole calls."""

from __future__ import annotations

import pytest

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls import outcome
from itgrix_kommo.calls.call import Call, CallType
from itgrix_kommo.calls.outcome import End, Outcome, of_attempt, of_last, of_missed_inbound
from tests.story import T0, channel, ended, inbound

CLIENT = channel("PJSIP/trunk-1", "5.1", state=ev.RING, number="+79990000001", exten="4957770101")
FIRST, SECOND = channel("PJSIP/101-2", "5.2", "5.1"), channel("PJSIP/102-3", "5.3", "5.1")

ROWS = [
    (outcome.TALKED, 200, 4),
    (outcome.LEFT_MESSAGE, 200, 1),
    (outcome.BUSY, 486, 7),
    (outcome.WRONG_NUMBER, 404, 5),
    (outcome.UNREACHABLE, 480, 3),
    (outcome.CONGESTION, 503, 3),
    (outcome.REJECTED, 603, 6),
    (outcome.NO_ANSWER, 408, 6),
    (outcome.GAVE_UP, 487, 6),
]


@pytest.mark.parametrize(("found", "result", "call_status"), ROWS)
def test_codes(found: Outcome, result: int, call_status: int) -> None:
    assert (found.result, found.call_status) == (result, call_status)


@pytest.mark.parametrize(
    ("end", "cause", "status", "found"),
    [
        (End.ITSELF, 17, "NOANSWER", outcome.BUSY),
        (End.ITSELF, 0, "BUSY", outcome.BUSY),
        (End.ITSELF, 1, "NOANSWER", outcome.WRONG_NUMBER),
        (End.ITSELF, 28, "", outcome.WRONG_NUMBER),
        (End.ITSELF, 3, "CHANUNAVAIL", outcome.UNREACHABLE),
        (End.ITSELF, 18, "", outcome.UNREACHABLE),
        (End.ITSELF, 20, "", outcome.UNREACHABLE),
        (End.ITSELF, 38, "", outcome.UNREACHABLE),
        (End.ITSELF, 0, "CHANUNAVAIL", outcome.UNREACHABLE),
        (End.ITSELF, 34, "NOANSWER", outcome.CONGESTION),
        (End.ITSELF, 0, "CONGESTION", outcome.CONGESTION),
        (End.ITSELF, 21, "NOANSWER", outcome.REJECTED),
        (End.ITSELF, 0, "NOANSWER", outcome.NO_ANSWER),
        (End.ITSELF, 16, "", outcome.NO_ANSWER),
        (End.ITSELF, 999, "SOMETHING", outcome.NO_ANSWER),
        (End.CALLER, 17, "BUSY", outcome.GAVE_UP),
        (End.ELSEWHERE, 26, "CANCEL", None),
        (End.ELSEWHERE, 21, "CANCEL", outcome.REJECTED),
    ],
)
def test_one_attempt(end: End, cause: int, status: str, found: Outcome | None) -> None:
    assert of_attempt(end, cause, status) == found


def test_of_several_the_nearest_to_an_answer_tells() -> None:
    everything = [outcome.WRONG_NUMBER, outcome.UNREACHABLE, outcome.BUSY, outcome.REJECTED]
    assert of_missed_inbound(everything) == outcome.REJECTED
    assert of_missed_inbound([]) is None


def test_of_trunk_after_trunk_the_last_tells() -> None:
    assert of_last([outcome.CONGESTION, outcome.BUSY]) == outcome.BUSY
    assert of_last([]) is None


def missed(*attempts: tuple[ev.Channel, str, int], before: tuple[ev.Event, ...] = (), gives_up: bool = False) -> Call:
    """A client calls; phones ring, and end with Dial's word and a cause."""
    events: list[ev.Event] = [ev.Newchannel(T0, CLIENT), *before]
    events += [ev.DialBegin(T0, CLIENT, phone, "101") for phone, _, _ in attempts]
    events += [ev.HangupRequest(T0 + 5, CLIENT, 16, soft=False)] if gives_up else []
    for phone, status, cause in attempts:
        events += [ev.DialEnd(T0 + 5, CLIENT, phone, status, ""), ev.Hangup(T0 + 5, phone, cause)]
    return ended([*events, ev.Hangup(T0 + 9, CLIENT, 16)])


class TestWholeCalls:
    def test_talked(self) -> None:
        assert ended(inbound()).outcome == outcome.TALKED

    def test_the_caller_gave_up_while_it_rang(self) -> None:
        assert missed((FIRST, "CANCEL", 0), gives_up=True).outcome == outcome.GAVE_UP

    def test_nobody_answered_in_time(self) -> None:
        assert missed((FIRST, "NOANSWER", 0)).outcome == outcome.NO_ANSWER

    def test_one_was_busy_and_one_refused(self) -> None:
        assert missed((FIRST, "BUSY", 17), (SECOND, "NOANSWER", 21)).outcome == outcome.REJECTED

    def test_withdrawn_attempts_tell_nothing(self) -> None:
        assert missed((FIRST, "CANCEL", 26), (SECOND, "BUSY", 17)).outcome == outcome.BUSY
        assert missed((FIRST, "CANCEL", 26)).outcome == outcome.NO_ANSWER

    def test_nothing_was_rung_and_the_dialplan_tells_why(self) -> None:
        unreachable = ev.VarSet(T0, "5.1", "DIALSTATUS", "CHANUNAVAIL")
        congested = ev.VarSet(T0, "5.1", "DIALSTATUS", "CONGESTION")
        assert missed(before=(unreachable,)).outcome == outcome.UNREACHABLE
        assert missed(before=(congested,)).outcome == outcome.UNREACHABLE

    def test_the_caller_left_a_menu(self) -> None:
        call = missed(before=(ev.Newexten(T0, CLIENT, "BackGround", "hello"),), gives_up=True)
        assert (call.outcome, call.is_ivr) == (outcome.GAVE_UP, True)

    def test_the_caller_left_a_queue(self) -> None:
        call = missed(before=(ev.QueueCaller(T0, "join", CLIENT, "700"),), gives_up=True)
        assert (call.outcome, call.is_ivr) == (outcome.GAVE_UP, False)

    def test_a_caller_who_is_gone_before_anything_was_tried_gave_up(self) -> None:
        assert missed(gives_up=True).outcome == outcome.GAVE_UP
        assert missed().outcome == outcome.NO_ANSWER

    def test_a_message_is_no_menu(self) -> None:
        menu = ev.Newexten(T0, CLIENT, "BackGround", "hello")
        call = missed(before=(menu, ev.VarSet(T0, "5.1", "VMSTATUS", "SUCCESS")))
        assert (call.outcome, call.is_ivr) == (outcome.LEFT_MESSAGE, False)

    @pytest.mark.parametrize(
        ("cause", "found"), [(34, outcome.CONGESTION), (17, outcome.BUSY), (1, outcome.WRONG_NUMBER)]
    )
    def test_an_outgoing_call_is_what_the_last_trunk_said(self, cause: int, found: Outcome) -> None:
        employee = channel("PJSIP/101-1", "5.1", state=ev.RING, number="101", exten="+79990000001")
        tries = [channel(f"PJSIP/trunk-{number}", f"5.{number}", "5.1") for number in (2, 3)]
        events: list[ev.Event] = [ev.Newchannel(T0, employee)]
        for leg, why in zip(tries, (18, cause), strict=True):
            events += [ev.DialBegin(T0, employee, leg, "+79990000001@trunk"), ev.Hangup(T0 + 1, leg, why)]
        call = ended([*events, ev.Hangup(T0 + 1, employee, 34)])
        assert (call.type, call.outcome) == (CallType.OUTGOING, found)
