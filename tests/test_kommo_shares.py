"""Several nodes, one limit: whatever is lost between them, no slot is two nodes' at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itgrix_kommo.kommo.shares import (
    ALONE_AT_MOST,
    COOL,
    LEASE,
    Answer,
    Beat,
    Partner,
    Share,
    SharedSlot,
    exchange,
    fair,
)

EPOCH = 1_795_000_000.0
"""The server's time at zero of the nodes' clocks."""


@dataclass
class Table:
    """The server: its clock, its rows, and a copy of them that may be put back.

    `jumped` is by how much its clock is wrong; `idle` slots are out of use, by somebody's configuration.
    """

    limit: int
    jumped: float = 0.0
    idle: int = 0
    slots: list[SharedSlot] = field(default_factory=list)
    partners: dict[str, Partner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slots = [SharedSlot(number) for number in range(1, self.limit + 1)]

    def take(self, beat: Beat, now: float) -> Answer:
        now += self.jumped
        self.partners[beat.name] = Partner(beat.name, beat.acked, beat.wants, now + LEASE)
        self.partners = {name: partner.believed(now) for name, partner in self.partners.items()}
        in_use = max(1, self.limit - self.idle)
        self.slots[:in_use], answer = exchange(beat, self.slots[:in_use], self.partners, now)
        return answer


class Nodes:
    """Nodes around a table, in one time; each uses as many slots as it may at each moment."""

    def __init__(self, limit: int, count: int) -> None:
        self.table = Table(limit)
        self.at = 0.0
        self.shares = {f"pbx{number}": Share(f"pbx{number}", begun=0.0) for number in range(1, count + 1)}
        self.wants = dict.fromkeys(self.shares, 9)
        self.used_until: dict[str, list[float]] = {name: [] for name in self.shares}

    def beat(
        self,
        name: str,
        wants: int = 9,
        *,
        arrives: bool = True,
        answered: bool = True,
        trip: tuple[float, float] = (0, 0),
    ) -> None:
        """`trip` is how long it takes there, and back."""
        share, sent_at = self.shares[name], self.at
        self.wants[name] = wants
        self.use(name)
        beat = share.beat(self.at, wants=wants, busy=self.busy(name))
        if arrives:
            self.pass_time(trip[0])
            answer = self.table.take(beat, EPOCH + self.at)
            self.pass_time(trip[1])
            if answered:
                share.answered(answer, sent_at=sent_at, at=self.at)
        if not (arrives and answered):
            share.lost(self.at)
        self.use(name)

    def busy(self, name: str) -> int:
        self.used_until[name] = [end for end in self.used_until[name] if end > self.at]
        return len(self.used_until[name])

    def use(self, name: str) -> None:
        """Every slot that it has use for is used, as long as Kommo may count it."""
        for _ in range(min(self.shares[name].capacity(self.at), self.wants[name]) - self.busy(name)):
            self.used_until[name].append(self.at + COOL)
        assert sum(map(self.busy, self.shares)) <= self.table.limit

    def pass_time(self, seconds: float) -> None:
        until = self.at + seconds
        while self.at < until:
            self.at = min(self.at + 1.0, until)
            for name in self.shares:
                self.use(name)

    def capacities(self) -> list[int]:
        return [share.capacity(self.at) for share in self.shares.values()]

    def restart(self, name: str) -> None:
        """What its former life sent may still be counted."""
        self.shares[name] = Share(name, self.shares[name].homes, begun=self.at)

    def settle(self, wants: dict[str, int] | None = None, seconds: int = 40) -> None:
        for _ in range(seconds):
            self.at += 1.0
            for name in self.shares:
                self.beat(name, (wants or {}).get(name, 9))


class TestSharing:
    def test_one_node_has_it_all_at_once(self) -> None:
        nodes = Nodes(6, 1)
        nodes.beat("pbx1")
        assert nodes.capacities() == [6]

    @pytest.mark.parametrize(("limit", "count", "each"), [(6, 2, [3, 3]), (6, 4, [2, 2, 1, 1]), (7, 3, [3, 2, 2])])
    def test_those_who_work_alike_share_alike(self, limit: int, count: int, each: list[int]) -> None:
        nodes = Nodes(limit, count)
        nodes.settle()
        assert sorted(nodes.capacities(), reverse=True) == each
        assert [len(share.homes) for share in nodes.shares.values()] == [fair(limit, count)] * count

    def test_who_works_alone_gets_all_but_one_of_each(self) -> None:
        nodes = Nodes(6, 2)
        nodes.settle({"pbx1": 9, "pbx2": 1})
        assert nodes.capacities() == [5, 1]

    def test_what_was_lent_comes_back_when_its_home_wants_it(self) -> None:
        nodes = Nodes(6, 2)
        nodes.settle({"pbx1": 9, "pbx2": 1})
        nodes.settle(seconds=int(COOL) + 3)
        assert nodes.capacities() == [3, 3]

    def test_a_node_that_joins_gets_its_home_from_the_others(self) -> None:
        nodes = Nodes(6, 1)
        nodes.settle()
        nodes.shares["pbx2"] = Share("pbx2", begun=nodes.at)
        nodes.used_until["pbx2"], nodes.wants["pbx2"] = [], 9
        nodes.settle()
        assert nodes.capacities() == [3, 3]
        assert [len(share.homes) for share in nodes.shares.values()] == [3, 3]

    def test_more_nodes_than_slots_still_never_break_it(self) -> None:
        nodes = Nodes(2, 4)
        nodes.settle()
        assert sum(nodes.capacities()) <= 2


class TestAlone:
    def test_each_goes_on_with_its_fixed_share(self) -> None:
        nodes = Nodes(6, 2)
        nodes.settle({"pbx1": 9, "pbx2": 1})
        for share in nodes.shares.values():
            share.lost(nodes.at)
        nodes.pass_time(LEASE)
        assert nodes.capacities() == [3, 3]
        nodes.pass_time(3600)
        assert nodes.capacities() == [3, 3]
        nodes.settle()
        assert nodes.capacities() == [3, 3]

    def test_nobody_goes_on_until_the_others_forget_him(self) -> None:
        nodes = Nodes(6, 2)
        nodes.settle()
        share = nodes.shares["pbx1"]
        assert share.capacity(nodes.at + ALONE_AT_MOST - 1) == 3
        assert share.capacity(nodes.at + ALONE_AT_MOST) == 0

    def test_nor_does_one_that_was_restarted_meanwhile(self) -> None:
        share = Share("pbx1", frozenset({1, 2}), begun=0.0, unheard=ALONE_AT_MOST - 100.0)
        assert [share.capacity(at) for at in (LEASE, 99.0, 100.0)] == [2, 2, 0]
        table = Table(6)
        share.answered(table.take(share.beat(200.0, wants=1, busy=0), EPOCH), sent_at=200.0, at=200.0)
        assert share.capacity(200.0 + ALONE_AT_MOST - 1) > 0

    def test_one_that_is_cut_off_keeps_its_share_while_the_others_go_on(self) -> None:
        nodes = Nodes(6, 2)
        nodes.settle()
        for _ in range(60):
            nodes.at += 1.0
            nodes.beat("pbx1")
            nodes.beat("pbx2", arrives=False)
        assert nodes.capacities() == [3, 3]

    def test_homes_are_given_up_once_however_often_that_is_lost(self) -> None:
        nodes = Nodes(6, 1)
        nodes.settle()
        nodes.shares["pbx2"] = Share("pbx2", begun=nodes.at)
        nodes.used_until["pbx2"], nodes.wants["pbx2"] = [], 9
        nodes.beat("pbx2")
        nodes.beat("pbx1")  # which is told to give up three
        for _ in range(5):
            nodes.beat("pbx1", arrives=False)
        assert len(nodes.shares["pbx1"].homes) == 3
        nodes.settle()
        assert nodes.capacities() == [3, 3]

    def test_homes_in_use_are_not_given_up_by_who_is_alone(self) -> None:
        nodes = Nodes(6, 2)
        nodes.settle()
        nodes.shares["pbx3"] = Share("pbx3", begun=nodes.at)
        nodes.used_until["pbx3"], nodes.wants["pbx3"] = [], 9
        nodes.beat("pbx3")
        nodes.beat("pbx1")
        nodes.pass_time(LEASE)
        nodes.beat("pbx1", answered=False)
        for _ in range(5):
            nodes.beat("pbx3")
        assert nodes.capacities() == [3, 3, 0]

    def test_the_others_take_what_a_dead_one_had_borrowed(self) -> None:
        nodes = Nodes(6, 3)
        nodes.settle({"pbx1": 9, "pbx2": 1, "pbx3": 1})
        assert nodes.capacities() == [4, 1, 1]
        del nodes.shares["pbx1"]
        nodes.settle({"pbx2": 9, "pbx3": 1})
        assert nodes.capacities() == [3, 1]

    def test_a_start_without_the_table_waits_until_nothing_can_be_lent(self) -> None:
        share = Share("pbx1", frozenset({1, 2}), begun=100.0)
        assert share.capacity(100.0 + LEASE - 1) == 0
        assert share.capacity(100.0 + LEASE) == 2

    def test_a_node_that_never_joined_has_no_share(self) -> None:
        assert Share("pbx1", begun=0.0).capacity(1e9) == 0

    def test_a_restarted_node_goes_on_with_what_it_had(self) -> None:
        nodes = Nodes(6, 2)
        nodes.settle()
        nodes.at += 2.0
        nodes.shares["pbx1"] = Share("pbx1", nodes.shares["pbx1"].homes, begun=nodes.at)
        nodes.used_until["pbx1"] = []  # the limiter waits for its predecessor
        nodes.beat("pbx1")
        assert nodes.capacities() == [3, 3]

    def test_an_older_table_is_not_believed_for_a_while(self) -> None:
        nodes = Nodes(6, 2)
        nodes.settle({"pbx1": 9, "pbx2": 1})
        older = list(nodes.table.slots), dict(nodes.table.partners)
        nodes.settle({"pbx1": 1, "pbx2": 9})
        assert nodes.capacities() == [1, 5]
        nodes.table.slots, nodes.table.partners = older
        for share in nodes.shares.values():
            share.lost(nodes.at)
        nodes.settle(seconds=60)
        assert nodes.capacities() == [3, 3]


class TestJumpsOfTheServersClock:
    def test_forward_nobody_takes_what_only_seems_to_have_ended(self) -> None:
        nodes = Nodes(6, 2)
        nodes.settle({"pbx1": 9, "pbx2": 1})
        assert nodes.capacities() == [5, 1]
        nodes.table.jumped += 60.0
        for _ in range(3):  # before the other one has beaten
            nodes.at += 1.0
            nodes.beat("pbx2")
        assert nodes.capacities() == [5, 1]
        nodes.settle()
        assert nodes.capacities() == [3, 3]

    def test_backward_nothing_is_lent_for_longer(self) -> None:
        nodes = Nodes(6, 2)
        nodes.settle({"pbx1": 9, "pbx2": 1})
        nodes.table.jumped -= 60.0
        for _ in range(200):  # the server is back at the time when the other one was cut off, and goes beyond
            nodes.at += 1.0
            nodes.beat("pbx1")
            nodes.beat("pbx2", arrives=False)
        assert nodes.capacities() == [3, 3]

    def test_backward_the_dead_are_not_waited_for(self) -> None:
        nodes = Nodes(6, 3)
        nodes.settle({"pbx1": 9, "pbx2": 1, "pbx3": 1})
        del nodes.shares["pbx1"]
        nodes.table.jumped -= 86400.0
        nodes.settle({"pbx2": 9, "pbx3": 1}, seconds=60)
        assert nodes.capacities() == [3, 1]

    @pytest.mark.parametrize("jump", [-3600.0, -1.0, 1.0, 3600.0])
    def test_each_goes_on_with_its_homes_and_shares_again_after_a_lease(self, jump: float) -> None:
        nodes = Nodes(6, 2)
        nodes.settle({"pbx1": 9, "pbx2": 1})
        nodes.table.jumped += jump
        nodes.settle({"pbx1": 9, "pbx2": 1}, seconds=5)
        assert nodes.capacities() == [3, 1]
        nodes.settle({"pbx1": 9, "pbx2": 1})
        assert nodes.capacities() == [5, 1]

    def test_it_is_told_of_each_once(self) -> None:
        table, share = Table(6), Share("pbx1", begun=0.0)
        steady = []
        for at, jumped in enumerate([0.0, 0.2, 5.0, 5.0, -60.0, -60.0]):
            table.jumped = jumped
            answer = table.take(share.beat(float(at), wants=1, busy=0), EPOCH + at)
            steady.append(share.answered(answer, sent_at=float(at), at=float(at)))
        assert steady == [True, True, False, True, False, True]

    def test_clocks_that_run_apart_for_hours_have_not_jumped(self) -> None:
        table, share = Table(6), Share("pbx1", begun=0.0)
        steady = []
        for at, jumped in [(0.0, 0.0), (7200.0, 1.0), (7201.0, 1.0), (14400.0, 4.0)]:
            table.jumped = jumped
            answer = table.take(share.beat(at, wants=1, busy=0), EPOCH + at)
            steady.append(share.answered(answer, sent_at=at, at=at))
        assert steady == [True, True, True, False]

    def test_a_slow_answer_is_no_jump(self) -> None:
        table, share = Table(6), Share("pbx1", begun=0.0)
        for sent_at, arrived_at, at in [(0.0, 3.0, 9.0), (10.0, 19.0, 19.5), (20.0, 20.5, 29.0), (30.0, 30.0, 30.0)]:
            answer = table.take(share.beat(sent_at, wants=1, busy=0), EPOCH + arrived_at)
            assert share.answered(answer, sent_at=sent_at, at=at)

    def test_what_a_node_counts_on_for_others_to_be_away(self) -> None:
        nodes = Nodes(6, 1)
        share = nodes.shares["pbx1"]
        assert share.latest(0.0) == float("-inf")
        nodes.settle(seconds=int(LEASE) + 1)
        assert share.latest(nodes.at + 5.0) == pytest.approx(EPOCH + nodes.at + 5.0, abs=1.0)
        nodes.table.jumped += 60.0
        assert share.latest(nodes.at) < EPOCH + nodes.at + 1.0
        nodes.settle(seconds=1)
        assert share.latest(nodes.at) == float("-inf")


TIMES = st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.4, 2.0, 4.9])
"""Seconds for which a beat is under way in one direction."""

Step = tuple[int, float, int, bool, bool, tuple[float, float], bool, float, int]


@settings(max_examples=300, deadline=None)
@given(
    limit=st.integers(1, 7),
    count=st.integers(1, 5),
    steps=st.lists(
        st.tuples(
            st.integers(0, 4),  # who beats
            st.sampled_from([0.0, 0.3, 1.0, 1.0, 5.0, LEASE - COOL, LEASE, 3 * LEASE]),  # after how long
            st.integers(1, 9),  # how much it has to do
            st.booleans(),  # whether the beat arrives
            st.booleans(),  # whether its answer does
            st.tuples(TIMES, TIMES),
            st.sampled_from([False] * 9 + [True]),  # whether it was restarted before
            st.sampled_from([0.0] * 12 + [-7200.0, -60.0, -15.0, -5.0, -1.0, 1.0, 5.0, 15.0, 60.0, 7200.0]),
            st.sampled_from([0] * 9 + [1, 2, 5]),  # how many slots are out of use
        ),
        min_size=8,
        max_size=40,
    ),
)
def test_no_slot_is_used_by_two_whatever_is_lost_and_however_the_servers_clock_jumps(
    limit: int, count: int, steps: list[Step]
) -> None:
    nodes = Nodes(limit, count)
    for who, after, wants, arrives, answered, trip, is_restarted, jump, idle in steps:
        nodes.pass_time(after)
        nodes.table.jumped += jump
        nodes.table.idle = idle
        name = f"pbx{who % count + 1}"
        if is_restarted:
            nodes.restart(name)
        nodes.beat(name, wants, arrives=arrives, answered=answered, trip=trip)
        assert sum(len(share.homes) for share in nodes.shares.values()) <= limit


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=30))
def test_the_homes_are_few_enough_and_each_is_one_nodes(beats: list[tuple[int, int]]) -> None:
    nodes = Nodes(6, 3)
    for who, wants in beats:
        nodes.at += 1.0
        nodes.beat(f"pbx{who + 1}", wants)
    homes = [number for share in nodes.shares.values() for number in share.homes]
    assert len(homes) == len(set(homes))


def test_a_node_that_was_forgotten_leaves_its_homes() -> None:
    table = Table(6)
    for name in ("pbx1", "pbx2"):
        table.partners[name] = Partner(name, EPOCH, 1, EPOCH + LEASE)
    table.slots = [replace(slot, home="pbx2") for slot in table.slots]
    del table.partners["pbx2"]
    share = Share("pbx1", begun=0.0)
    share.answered(table.take(share.beat(0.0, wants=9, busy=0), EPOCH), sent_at=0.0, at=0.0)
    assert (len(share.homes), share.capacity(0.0)) == (3, 6)


@pytest.mark.parametrize(("limit", "kept"), [(1, 1), (5, 3), (6, 3)])
def test_one_by_itself_uses_all_and_leaves_half_to_who_comes_when_it_is_dead(limit: int, kept: int) -> None:
    nodes = Nodes(limit, 1)
    nodes.settle()
    assert (nodes.capacities(), len(nodes.shares["pbx1"].homes)) == ([limit], kept)
    del nodes.shares["pbx1"]
    nodes.pass_time(LEASE)
    nodes.shares["pbx2"] = Share("pbx2", begun=nodes.at)
    nodes.used_until["pbx2"], nodes.wants["pbx2"] = [], 9
    nodes.settle()
    assert nodes.capacities() == [limit - kept]
