"""How a click goes on, heard from real Asterisks: their recorded click-to-calls, with the variable that marks ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from itgrix_kommo.ami.decode import decode
from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.numbers import Employee, NumberPlan
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.storage.trace import read_trace
from itgrix_kommo.web.clicks import VARIABLE, Click, Clicks, State

TRACES = Path(__file__).parent / "traces"
OWNER = "user 9100001"


def heard(trace: str) -> Iterator[ev.Event]:
    """The trace's events; after the first channel's birth the variable that our Originate gives it."""
    born = False
    for at, frame in read_trace(TRACES / f"{trace}.trace"):
        event = decode(frame, at)
        if event is None:
            continue
        yield event
        if isinstance(event, ev.Newchannel) and not born:
            born = True
            yield ev.VarSet(at, event.channel.uniqueid, VARIABLE, "our-click")


def played(trace: str, *, with_variable: bool = True) -> tuple[list[State], Click]:
    """The states that were seen in turn, and the click at the end."""
    employees = [Employee(9_100_001, "101"), Employee(9_100_004, "201")]
    tracker = Tracker(NumberPlan(employees=employees, trunks=["PJSIP/trunk", "PJSIP/trunk2"], region="RU"))
    clicks = Clicks(patience=30)
    events = list(heard(trace))
    clicks.begin(Click("our-click", OWNER, "101", "+79991234567", events[0].at))
    states = [State.QUEUED]
    for event in events:
        if isinstance(event, ev.VarSet) and event.variable == VARIABLE and not with_variable:
            continue
        stages = tracker.feed(event)
        clicks.hear([event])
        note(states, clicks, event.at)
        for stage in stages:
            clicks.follow(stage)
            note(states, clicks, event.at)
    for stage in tracker.advance(events[-1].at + 10):
        clicks.follow(stage)
        note(states, clicks, events[-1].at)
    click = clicks.get("our-click", OWNER, events[-1].at)
    assert click is not None
    return states, click


def note(states: list[State], clicks: Clicks, at: float) -> None:
    click = clicks.get("our-click", OWNER, at)
    assert click is not None
    if click.state is not states[-1]:
        states.append(click.state)


TO_THE_CLIENT = [State.QUEUED, State.EMPLOYEE_RINGING, State.EMPLOYEE_ANSWERED, State.CLIENT_RINGING]


@pytest.mark.parametrize("version", ["22", "16"])
class TestRealCalls:
    @pytest.mark.parametrize("scene", ["click_to_call", "freepbx_click_to_call"])
    def test_both_answer(self, version: str, scene: str) -> None:
        states, click = played(f"{version}/{scene}")
        assert states == [*TO_THE_CLIENT, State.TALKING, State.ENDED]
        assert (click.outcome, click.result) == ("talked", 200)
        assert click.call_id

    def test_the_client_is_busy(self, version: str) -> None:
        states, click = played(f"{version}/click_to_call_not_answered")
        assert states == [*TO_THE_CLIENT, State.ENDED]
        assert (click.outcome, click.result, click.duration) == ("busy", 486, 0)

    def test_the_employee_refuses(self, version: str) -> None:
        states, click = played(f"{version}/click_to_call_refused")
        assert states == [State.QUEUED, State.EMPLOYEE_RINGING, State.ENDED]
        assert (click.outcome, click.result) == ("employee: busy", 486)


def response(at: float, *, success: bool = False, uniqueid: str = "", reason: int = 0) -> ev.OriginateResponse:
    return ev.OriginateResponse(at, success, uniqueid, "PJSIP/101", reason, "our-click")


class TestWithoutAChannel:
    @pytest.mark.parametrize(
        ("reason", "outcome"),
        [(0, "unreachable"), (1, "gave up"), (3, "no answer"), (5, "busy"), (8, "congestion")],
    )
    def test_asterisks_reason_is_told(self, reason: int, outcome: str) -> None:
        clicks = Clicks(patience=30)
        clicks.begin(Click("our-click", OWNER, "101", "+7", 100.0))
        clicks.hear([response(101.0, reason=reason)])
        click = clicks.get("our-click", OWNER, 102.0)
        assert click is not None
        assert (click.state, click.outcome) == (State.ENDED, f"employee: {outcome}")

    def test_what_nothing_was_heard_of_is_not_queued_for_ever(self) -> None:
        clicks = Clicks(patience=30)
        clicks.begin(Click("our-click", OWNER, "101", "+7", 100.0))
        before, after = (clicks.get("our-click", OWNER, at) for at in (150.0, 200.0))
        assert before is not None
        assert after is not None
        assert (before.state, after.state, after.outcome) == (State.QUEUED, State.ENDED, "nothing was heard of it")

    def test_it_is_forgotten_in_the_end(self) -> None:
        clicks = Clicks(patience=30)
        clicks.begin(Click("our-click", OWNER, "101", "+7", 100.0))
        clicks.hear([response(101.0), ev.VarSet(101.5, "1.1", VARIABLE, "our-click")])
        assert clicks.get("our-click", OWNER, 700.0) is not None
        assert clicks.get("our-click", OWNER, 702.0) is None
        assert len(clicks) == 0
        assert not clicks._of_channel

    def test_anothers_is_not_told(self) -> None:
        clicks = Clicks(patience=30)
        clicks.begin(Click("our-click", OWNER, "101", "+7", 100.0))
        assert clicks.get("our-click", "user 2", 101.0) is None

    def test_anothers_variable_binds_nothing(self) -> None:
        clicks = Clicks(patience=30)
        clicks.begin(Click("our-click", OWNER, "101", "+7", 100.0))
        clicks.hear([ev.VarSet(101.0, "1.1", VARIABLE, "made-up"), ev.VarSet(101.0, "1.2", "OTHER", "our-click")])
        assert not clicks._of_channel


class TestForwardOnly:
    def test_a_phone_that_rings_again_takes_nobody_back(self) -> None:
        clicks = Clicks(patience=30)
        clicks.begin(Click("our-click", OWNER, "101", "+7", 100.0))
        clicks.hear([ev.VarSet(100.5, "1.1", VARIABLE, "our-click")])
        seen = []
        for state in (ev.RINGING, ev.UP, ev.RINGING):
            channel = ev.Channel("PJSIP/101-1", "1.1", "1.1", state, "", "", "", "", "", "")
            clicks.hear([ev.Newstate(101.0, channel)])
            click = clicks.get("our-click", OWNER, 101.0)
            assert click is not None
            seen.append(click.state)
        assert seen == [State.EMPLOYEE_RINGING, State.EMPLOYEE_ANSWERED, State.EMPLOYEE_ANSWERED]
