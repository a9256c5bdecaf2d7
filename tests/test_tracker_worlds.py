"""Random worlds against the tracker: whatever callers and employees do, every call is told as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Call, CallType, Stage, StageName
from itgrix_kommo.calls.live_calls import GRACE, REMEMBER_ENDED
from itgrix_kommo.calls.tracker import Tracker
from tests.model_pbx import Family, subjects
from tests.worlds import SCRIPTS, USER_ID, World, plan

ORDER = [StageName.REQUESTED, StageName.ACCEPTED, StageName.ENDED]
chance = st.randoms(use_true_random=False)
a_world = st.builds(World, chance, scripts=st.lists(st.sampled_from(sorted(SCRIPTS)), min_size=1, max_size=4))
few = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


def told(events: Iterable[ev.Event], tracker: Tracker) -> list[Stage]:
    """All stages of these events, and of the quiet after them."""
    at, stages = 0.0, []
    for event in events:
        at = event.at
        stages += tracker.feed(event)
    return stages + tracker.advance(at + GRACE)


def ended(stages: Iterable[Stage]) -> list[Call]:
    return [stage.call for stage in stages if stage.name is StageName.CALL_ENDED]


def call_of(family: Family, calls: Iterable[Call]) -> Call:
    """The one call that this family became."""
    (call,) = (call for call in calls if call.aliases & family.ids)
    return call


def assert_true(family: Family, call: Call) -> None:
    """The call is told as it was."""
    assert call.aliases == family.ids
    assert call.type == family.type or family.type is CallType.UNKNOWN
    assert call.ended_at == family.silent_at
    assert call.was_answered == family.answered
    assert call.outcome is not None
    assert (call.outcome.text == "talked") == family.answered
    for conversation in call.conversations:
        assert conversation.was_answered == (conversation.id in family.talked)
    if family.type is CallType.INCOMING:
        assert_inbound(family, call)


def assert_inbound(family: Family, call: Call) -> None:
    """Whose number it was, and that he who talked last is the responsible one."""
    assert family.client is not None
    assert call.client.number == family.client.number
    last = max(family.talked_with_client.values(), default=None)
    extensions = {
        line.extension
        for line in family.lines
        if last is not None and family.talked_with_client.get(line.uniqueid) == last
    }
    if extensions and "" not in extensions:
        assert call.responsible is not None
        assert call.responsible.id in {USER_ID[extension] for extension in extensions}


def assert_ordered(stages: list[Stage]) -> None:
    """Requested, accepted, ended, each once at most, and the call's end after all of them."""
    reached: dict[str, tuple[int, float]] = {}
    over: set[str] = set()
    for stage in stages:
        assert not (stage.call.aliases & over), "a call goes on after its end"
        if stage.name is StageName.CALL_ENDED:
            over |= stage.call.aliases
            assert all(stage.at >= reached[one.id][1] for one in stage.call.conversations if one.id in reached)
            continue
        rank = ORDER.index(stage.name)
        before, at = reached.get(stage.conversation_id, (-1, stage.at))
        assert before < rank
        assert at <= stage.at
        reached[stage.conversation_id] = (rank, stage.at)


def assert_complete(stages: list[Stage]) -> None:
    """Every conversation was told to be accepted, if it was, and to end."""
    told_of = {(stage.name, stage.conversation_id) for stage in stages}
    for call in ended(stages):
        for conversation in call.conversations:
            assert (StageName.ENDED, conversation.id) in told_of
            assert not conversation.was_answered or (StageName.ACCEPTED, conversation.id) in told_of


def assert_forgotten(tracker: Tracker, now: float) -> None:
    """Nothing is left of the past."""
    tracker.sweep(now + GRACE + REMEMBER_ENDED + 1)
    kept = {name: value for name, value in vars(tracker).items() if isinstance(value, dict | list) and value}
    kept.pop("_handlers")
    assert not kept
    assert len(tracker._live.rooms) == 0
    assert tracker.next_due == float("inf")


class TestLegalWorlds:
    @few
    @given(world=a_world)
    def test_every_call_is_told_as_it_was(self, world: World) -> None:
        tracker = Tracker(plan())
        stages = told(world.events, tracker)
        calls = ended(stages)
        assert len(calls) == len(world.families)
        for family in world.families:
            assert_true(family, call_of(family, calls))
        assert_ordered(stages)
        assert_complete(stages)
        assert_forgotten(tracker, world.pbx.now)

    @pytest.mark.parametrize("script", sorted(SCRIPTS))
    @few
    @given(random=chance)
    def test_two_of_a_kind_stay_two(self, script: str, random: Random) -> None:
        world = World(random, scripts=(script, script))
        calls = ended(told(world.events, Tracker(plan())))
        for family in world.families:
            assert_true(family, call_of(family, calls))

    @few
    @given(world=a_world)
    def test_the_same_events_give_the_same_stages(self, world: World) -> None:
        assert told(world.events, Tracker(plan())) == told(world.events, Tracker(plan()))


class TestFaultyStreams:
    """Events are lost, doubled and late."""

    @few
    @given(world=a_world, random=chance)
    def test_doubled_events_change_nothing(self, world: World, random: Random) -> None:
        doubled = [one for event in world.events for one in [event] * (1 + (random.random() < 0.3))]
        tracker = Tracker(plan())
        stages = told(doubled, tracker)
        calls = ended(stages)
        for family in world.families:
            assert_true(family, call_of(family, calls))
        assert_ordered(stages)
        assert_forgotten(tracker, world.pbx.now)

    @few
    @given(world=a_world, random=chance)
    def test_a_fault_in_one_call_harms_no_other(self, world: World, random: Random) -> None:
        spared = random.choice(world.families)
        tracker = Tracker(plan())
        stages = told(faulty(world.events, random, spared.ids), tracker)
        stages += quiet(tracker, world.pbx.now)
        assert_true(spared, call_of(spared, ended(stages)))
        assert_ended_once(stages)
        assert_forgotten(tracker, world.pbx.now + 60)

    @few
    @given(world=a_world, random=chance)
    def test_what_was_missed_ends_with_the_next_look(self, world: World, random: Random) -> None:
        tracker = Tracker(plan())
        stages = told(faulty(world.events, random, frozenset()), tracker)
        stages += quiet(tracker, world.pbx.now)
        assert_ended_once(stages)
        assert_ordered(stages)
        assert_forgotten(tracker, world.pbx.now + 60)


class TestGaps:
    """The link was down for a while; then Asterisk is asked what exists."""

    @few
    @given(world=a_world, random=chance)
    def test_calls_that_the_gap_did_not_touch_are_true_and_all_end(self, world: World, random: Random) -> None:
        begin, end = sorted(random.choices(sorted(world.snapshots), k=2))
        missed = world.events[begin:end]
        resync = after_gap(world.snapshots[end], world.events[:begin])
        tracker = Tracker(plan())
        stages = told([*world.events[:begin], resync, *world.events[end:]], tracker)
        touched = frozenset().union(*map(subjects, missed))
        calls = ended(stages)
        for family in world.families:
            if not family.ids & touched and not rooms_of(world, family) & touched:
                assert_true(family, call_of(family, calls))
        stages += quiet(tracker, world.pbx.now)
        assert_ended_once(stages)
        assert_ordered(stages)
        assert_forgotten(tracker, world.pbx.now + 60)

    @few
    @given(world=a_world, random=chance)
    def test_a_look_in_between_changes_nothing(self, world: World, random: Random) -> None:
        where = random.choice(sorted(world.snapshots))
        looked = [*world.events[:where], world.snapshots[where], *world.events[where:]]
        tracker = Tracker(plan())
        stages = told(looked, tracker)
        assert without_timelines(stages) == without_timelines(told(world.events, Tracker(plan())))
        assert_forgotten(tracker, world.pbx.now)

    @few
    @given(world=a_world, random=chance)
    def test_a_client_who_talks_when_we_come_back_is_not_missed(self, world: World, random: Random) -> None:
        moments = [number for number, phones in world.talking.items() if phones]
        assume(moments)
        where = random.choice(moments)
        before = world.events[: random.choice([0, *(number for number in world.snapshots if number <= where)])]
        resync = after_gap(world.snapshots[where], before)
        calls = ended(told([*before, resync, *world.events[where:]], Tracker(plan())))
        for family in world.families:
            if family.client is not None and family.client.uniqueid in world.talking[where]:
                (call,) = (call for call in calls if family.client.uniqueid in call.aliases)
                assert call.was_answered


def after_gap(look: ev.Resync, before: list[ev.Event]) -> ev.Resync:
    """`look` as the first one after nothing was heard since `before`; a gap takes some time."""
    blind_since = before[-1].at if before else 0.0
    assume(blind_since < look.asked_at)
    return look._replace(blind_since=blind_since)


def without_timelines(stages: list[Stage]) -> list[Stage]:
    """A look may know sooner than an event where a caller is, and says so."""
    return [stage._replace(call=replace(stage.call, timeline=())) for stage in stages]


def faulty(events: list[ev.Event], random: Random, spared: frozenset[str]) -> list[ev.Event]:
    """The same events with some missing, doubled and late, those of `spared` channels excepted."""
    arrivals: list[tuple[float, int, ev.Event]] = []
    for number, event in enumerate(events):
        fate = 1.0 if subjects(event) & spared else random.random()
        if fate < 0.05:
            continue
        delay = random.choice((0.01, 1.0, 5.0, 40.0)) if fate > 0.05 and fate < 0.1 else 0.0
        arrivals.append((event.at + delay, number, event._replace(at=event.at + delay)))
        if fate > 0.1 and fate < 0.15:
            arrivals.append((event.at + delay, number, event))
    return [event for _, _, event in sorted(arrivals, key=lambda arrival: arrival[:2])]


def quiet(tracker: Tracker, now: float) -> list[Stage]:
    """Long after the last event Asterisk is asked: nothing exists any more."""
    stages = tracker.feed(ev.Resync(now + 50, now + 49, (), (), None))
    return stages + tracker.advance(now + 50 + GRACE)


def assert_ended_once(stages: list[Stage]) -> None:
    told_ended = Counter(alias for call in ended(stages) for alias in call.aliases)
    assert all(count == 1 for count in told_ended.values())
    seen = {alias for stage in stages for alias in stage.call.aliases}
    assert seen == set(told_ended)


def rooms_of(world: World, family: Family) -> frozenset[str]:
    """The bridges that this family's channels were in."""
    return frozenset().union(*(subjects(event) for event in world.events if subjects(event) & family.ids))
