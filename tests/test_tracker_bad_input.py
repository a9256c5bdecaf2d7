"""Whatever comes from the wire: no exception leaves the tracker, nothing grows, and all is forgotten in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itgrix_kommo.ami.decode import decode
from itgrix_kommo.ami.wanted import sieve
from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call_full import call_full
from itgrix_kommo.calls.live import LEFT_OUT, MOST_NOTES
from itgrix_kommo.calls.tracker import Tracker
from tests.bench.ami_stream import FIRST, plain_call
from tests.bench.bench_storm import play
from tests.storm import EVENTS, invented, storm
from tests.story import T0, channel, inbound
from tests.test_tracker_worlds import assert_forgotten, quiet
from tests.worlds import SCRIPTS, World, plan

chance = st.randoms(use_true_random=False)
few = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def survive(events: Iterable[ev.Event]) -> None:
    """The tracker takes it all, tells stages that can be shown, and forgets."""
    tracker = Tracker(plan())
    now = 0.0
    for event in events:
        now = max(now, event.at)
        for stage in tracker.feed(event):
            assert call_full(stage.call)["channel"]["id"]
    quiet(tracker, now)
    assert_forgotten(tracker, now + 60)


NOTHING = {ev.Channel: ev.Channel("", "", "", 0, "", "", "", "", "", ""), ev.Bridge: ev.Bridge("", "", "", "")}


def emptied(event: Any, field: str) -> ev.Event:
    """What `decode` makes of this event where every header of one field is missing."""
    kind = type(getattr(event, field))
    poor: ev.Event = event._replace(**{field: NOTHING[kind] if kind in NOTHING else kind()})
    return poor


class TestTypedEvents:
    @pytest.mark.parametrize("kind", EVENTS)
    def test_any_event_may_lack_any_header(self, kind: type[Any], worldly: list[ev.Event]) -> None:
        for field in kind._fields[1:]:
            survive(emptied(event, field) if isinstance(event, kind) else event for event in worldly)

    @few
    @given(random=chance, scripts=st.lists(st.sampled_from(sorted(SCRIPTS)), min_size=1, max_size=3))
    def test_mutated_events(self, random: Random, scripts: list[str]) -> None:
        survive(storm(random, World(random, scripts).events))

    @few
    @given(random=chance, count=st.integers(1, 60))
    def test_invented_events(self, random: Random, count: int) -> None:
        survive(invented(random, T0 + number) for number in range(count))

    def test_a_storm_leaves_nothing(self) -> None:
        stages, most, left = play(15_000, seed=7)
        assert stages > 500
        assert most["notes"] < MOST_NOTES * most["calls"]
        assert not any(left.values())


@pytest.fixture(scope="module")
def worldly() -> list[ev.Event]:
    """Events of every kind, as Asterisk tells them."""
    random = Random(11)  # noqa: S311 -- the same world whenever it is asked for
    events = [event for number in range(9) for event in World(random, sorted(SCRIPTS), start=T0 + number * 9e3).events]
    one, two = channel("PJSIP/101-77", "77.1", state=ev.UP), channel("PJSIP/102-78", "77.2", state=ev.UP)
    events += [
        ev.Rename(events[-1].at, "77.1", "PJSIP/101-79"),
        ev.NewCallerid(events[-1].at, one),
        ev.LinkedidEnd(events[-1].at, "77.1"),
        ev.OriginateResponse(events[-1].at, success=True, uniqueid="77.1", channel_name=one.name, reason=4),
        ev.Endpoints(events[-1].at, frozenset({"PJSIP/101"})),
        ev.Resync(events[-1].at, events[-1].at, (ev.LiveChannel(two, "AppDial", "", "b", T0),), (), None),
    ]
    missing = set(EVENTS) - set(map(type, events))
    assert not missing
    return events


A, B = channel("PJSIP/101-1", "1.1", state=ev.RING), channel("PJSIP/102-2", "1.2", state=ev.RING)
HALF = channel("Local/101@a-1;1", "1.3", state=ev.RING)
ROOM = ev.Bridge("b", "basic", "simple_bridge", "")
CIRCLES: dict[str, list[ev.Event]] = {
    "a dials b, b dials a": [ev.DialBegin(T0, A, B, "102"), ev.DialBegin(T0, B, A, "101")],
    "a channel dials itself": [ev.DialBegin(T0, A, A, "101"), ev.DialEnd(T0, A, A, "ANSWER", "101")],
    "a channel in a bridge with itself": [ev.BridgeEnter(T0, ROOM, A, "1.1"), ev.BridgeEnter(T0, ROOM, A, "")],
    "a half paired with itself": [ev.LocalBridge(T0, HALF, HALF), ev.BridgeEnter(T0, ROOM, HALF, "")],
    "a bridge merged into itself": [ev.BridgeEnter(T0, ROOM, A, ""), ev.BridgeMerge(T0, ROOM, ROOM)],
    "a channel picks itself up": [ev.Pickup(T0, A, A), ev.Pickup(T0, B, A)],
    "a channel transfers itself": [
        ev.BlindTransfer(T0, "Success", A, A, "", "101"),
        ev.AttendedTransfer(T0, "Success", A, A, A, A, "Bridge"),
    ],
    "a channel parks and retrieves itself": [ev.Parking(T0, "parked", A, A), ev.Parking(T0, "unparked", A, A)],
    "halves in one bridge": [
        ev.LocalBridge(T0, HALF, B),
        ev.BridgeEnter(T0, ROOM, HALF, ""),
        ev.BridgeEnter(T0, ROOM, B, ""),
    ],
}


@pytest.mark.parametrize("circle", CIRCLES)
def test_circles(circle: str) -> None:
    talk = [ev.BridgeEnter(T0 + 1, ROOM, one, "") for one in (A, B)]
    survive([*CIRCLES[circle], *CIRCLES[circle], *talk, ev.HangupRequest(T0 + 2, A, 16, soft=False)])


def test_an_endless_play_with_the_hold_key_is_cut_short() -> None:
    told = [event for event in inbound() if event.at < T0 + 4]
    phone = next(event.channel for event in told if isinstance(event, ev.BridgeEnter))
    held = [ev.Hold(T0 + 4 + number / 1000, phone, on=number % 2 == 0) for number in range(5000)]
    tracker = Tracker(plan())
    for event in [*told, *held]:
        tracker.feed(event)
    (call,) = tracker.calls.values()
    assert len(call.notes) == MOST_NOTES
    assert [note.text for note in call.notes].count(LEFT_OUT) == 1
    assert call.notes[-1].at == held[-1].at


class TestFrames:
    """The same at the level of bytes: what `decode` reads of damaged messages."""

    @few
    @given(random=chance, damage=st.sampled_from(["lines lost", "values lost", "lines repeated", "bytes"]))
    def test_damaged_messages(self, random: Random, damage: str) -> None:
        frames = sieve(event.removesuffix("\r\n").encode() for number in range(2) for event in plain_call(number))
        ruined = (DAMAGES[damage](random, frame) if random.random() < 0.3 else frame for frame in frames)
        survive(event for at, frame in enumerate(ruined) if (event := decode(frame, FIRST + at / 10)))


def lines_lost(random: Random, frame: bytes) -> bytes:
    name, *lines = frame.split(b"\r\n")
    return b"\r\n".join([name, *(line for line in lines if random.random() < 0.8)])


def values_lost(random: Random, frame: bytes) -> bytes:
    name, *lines = frame.split(b"\r\n")
    return b"\r\n".join([name, *(line if random.random() < 0.8 else line.partition(b":")[0] + b": " for line in lines)])


def lines_repeated(random: Random, frame: bytes) -> bytes:
    name, *lines = frame.split(b"\r\n")
    return b"\r\n".join([name, *random.choices(lines, k=2 * len(lines))])


def bytes_changed(random: Random, frame: bytes) -> bytes:
    damaged = bytearray(frame)
    for _ in range(5):
        damaged[random.randrange(20, len(damaged))] = random.randrange(256)
    return bytes(damaged)


DAMAGES: dict[str, Callable[[Random, bytes], bytes]] = {
    "lines lost": lines_lost,
    "values lost": values_lost,
    "lines repeated": lines_repeated,
    "bytes": bytes_changed,
}
