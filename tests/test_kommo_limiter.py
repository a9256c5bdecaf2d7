from __future__ import annotations

import asyncio
import random
import selectors
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itgrix_kommo.kommo.limiter import (
    JITTER,
    LOOK_EVERY,
    MOST_PER_SECOND,
    USED_WITHIN,
    WINDOW,
    Lapsed,
    Limiter,
    Priority,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine


class VirtualSelector(selectors.DefaultSelector):
    """Waiting costs nothing: the clock jumps to the next timer instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits and no timer is set: a slot was lost"
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.virtual = VirtualSelector()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now


def play(scene: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene)


def now() -> float:
    return asyncio.get_running_loop().time()


async def exchange(limiter: Limiter, priority: Priority = Priority.LIVE, *, round_trip: float = 0.0) -> float:
    """One request: when it was sent."""
    async with limiter.slot(priority) as slot:
        slot.sent()
        sent_at = now()
        await asyncio.sleep(round_trip)
        return sent_at


def most_in_a_second(arrivals: list[float]) -> int:
    # Times are sums of floats: a nanosecond decides nothing in Kommo.
    return max(sum(start <= other < start + WINDOW - 1e-9 for other in arrivals) for start in arrivals)


class TestPace:
    def test_a_burst_goes_out_at_once_and_the_next_one_a_second_after_the_answers(self) -> None:
        async def scene() -> None:
            limiter = Limiter(2)
            sent = await asyncio.gather(*(exchange(limiter, round_trip=0.1) for _ in range(5)))
            assert sent == pytest.approx([0, 0, 1.1, 1.1, 2.2])

        play(scene())

    def test_a_slow_answer_holds_its_slot_no_longer_than_the_jitter(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)
            sent = await asyncio.gather(*(exchange(limiter, round_trip=30) for _ in range(3)))
            assert sent == pytest.approx([0, WINDOW + JITTER, 2 * (WINDOW + JITTER)])

        play(scene())

    @given(begins=st.floats(0.0, 4.0), lasts=st.floats(0.0, 9.0), round_trip=st.floats(0.0, 12.0))
    @settings(deadline=None)
    def test_what_a_network_fault_held_up_is_counted_when_it_arrives(
        self, begins: float, lasts: float, round_trip: float
    ) -> None:
        """The kernel sends it again and again, and all of it arrives at once when the network is back."""
        ends = begins + lasts
        arrivals: list[float] = []

        async def sent(limiter: Limiter) -> None:
            async with limiter.slot(Priority.LIVE) as slot:
                slot.sent()
                arrives = ends if begins <= now() < ends else now()
                slot.is_under_way = lambda: now() < arrives
                arrivals.append(arrives)
                await asyncio.sleep(max(round_trip, arrives - now()))

        async def scene() -> None:
            limiter = Limiter(3)
            await asyncio.gather(*(sent(limiter) for _ in range(15)))

        play(scene())
        assert most_in_a_second(arrivals) <= 3

    def test_its_slot_is_free_a_second_after_that(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)

            async def held_up() -> None:
                async with limiter.slot(Priority.LIVE) as slot:
                    slot.sent()
                    slot.is_under_way = lambda: now() < 5.2
                    await asyncio.sleep(30)

            waiting = asyncio.create_task(held_up())
            await asyncio.sleep(0)
            assert 5.2 + WINDOW <= await exchange(limiter) <= 5.2 + WINDOW + LOOK_EVERY
            await waiting

        play(scene())

    def test_what_was_never_sent_gives_its_slot_back_at_once(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)
            async with limiter.slot(Priority.LIVE):
                await asyncio.sleep(5)
                assert limiter.waiting == 0
                follower = asyncio.create_task(exchange(limiter))
                await asyncio.sleep(5)
                assert limiter.waiting == 1, "while a connection is being made the slot is held"
            assert await follower == 10

        play(scene())

    def test_a_request_that_fails_after_sending_is_counted_when_it_arrives(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)

            async def lost() -> None:
                async with limiter.slot(Priority.LIVE) as slot:
                    slot.sent()
                    raise ConnectionResetError

            with pytest.raises(ConnectionResetError):
                await lost()
            assert await exchange(limiter) == JITTER + WINDOW

        play(scene())

    def test_fewer_slots_count_from_the_next_request_on_and_more_at_once(self) -> None:
        async def scene() -> None:
            limiter = Limiter(3)
            first = [asyncio.create_task(exchange(limiter)) for _ in range(6)]
            await asyncio.sleep(0.5)
            assert limiter.held == 3
            limiter.resize(1)
            limiter.resize(1)
            await asyncio.sleep(1.0)
            assert (limiter.held, limiter.waiting) == (1, 2)
            limiter.resize(0)
            await asyncio.sleep(9)
            assert (limiter.held, limiter.waiting) == (0, 2)
            limiter.resize(2)
            assert await asyncio.gather(*first) == pytest.approx([0, 0, 0, 1, 10.5, 10.5])

        play(scene())

    def test_a_share_that_nobody_has_confirmed_lately_lets_nothing_out(self) -> None:
        async def scene() -> None:
            limiter = Limiter(3)
            limiter.resize(3, good_for=1.0)
            assert not limiter.has_lapsed
            waiting = [asyncio.create_task(exchange(limiter)) for _ in range(6)]
            await asyncio.sleep(0.5)
            limiter.resize(3, good_for=0.4)  # the process stands still then, while others take two of the slots
            await asyncio.sleep(30)
            assert (limiter.held, limiter.waiting, limiter.has_lapsed) == (0, 3, True)
            limiter.resize(1, good_for=60.0)
            limiter.resize(1, good_for=60.0)
            assert await asyncio.gather(*waiting) == pytest.approx([0, 0, 0, 30.5, 31.5, 32.5])

        play(scene())

    def test_a_share_that_lapsed_and_stayed_as_it_was_serves_again(self) -> None:
        async def scene() -> None:
            limiter = Limiter(2)
            limiter.resize(2, good_for=1.0)
            await asyncio.sleep(5)
            late = asyncio.create_task(exchange(limiter))
            await asyncio.sleep(5)
            limiter.resize(2, good_for=1.0)
            assert await late == 10

        play(scene())

    @pytest.mark.parametrize("per_second", [0, -1, MOST_PER_SECOND + 1])
    async def test_a_pace_that_kommo_does_not_bear_is_refused(self, per_second: int) -> None:
        with pytest.raises(ValueError, match="from 1 to 7"):
            Limiter(per_second)

    @given(
        per_second=st.integers(1, MOST_PER_SECOND),
        requests=st.lists(
            st.tuples(
                st.floats(0, 4),  # asked for at
                st.sampled_from(Priority),
                st.floats(0, 2 * USED_WITHIN),  # time to connect, or to stand still
                st.floats(0, 3),  # round trip
                st.floats(0, 1),  # at which part of the way there Kommo counts
                st.one_of(st.none(), st.floats(0, 4)),  # given up after
            ),
            min_size=1,
            max_size=40,
        ),
        pauses=st.lists(st.tuples(st.floats(0, 6), st.floats(0, 3)), max_size=2),
    )
    @settings(max_examples=150, deadline=None)
    def test_never_more_than_n_reach_kommo_in_any_second(
        self,
        per_second: int,
        requests: list[tuple[float, Priority, float, float, float, float | None]],
        pauses: list[tuple[float, float]],
    ) -> None:
        arrivals: list[float] = []
        granted_in_pause: list[float] = []

        async def request(
            limiter: Limiter, at: float, priority: Priority, connect: float, trip: float, part: float
        ) -> None:
            await asyncio.sleep(at)
            async with limiter.slot(priority) as slot:
                if limiter.pause > 0:
                    granted_in_pause.append(now())
                await asyncio.sleep(connect)
                if connect > USED_WITHIN:
                    with pytest.raises(Lapsed):
                        slot.sent()
                    await slot.again()
                slot.sent()
                arrivals.append(now() + min(trip * part, JITTER))
                await asyncio.sleep(trip)

        async def scene() -> None:
            limiter = Limiter(per_second)
            for at, seconds in pauses:
                asyncio.get_running_loop().call_later(at, limiter.pause_for, seconds)
            tasks = []
            for at, priority, connect, trip, part, patience in requests:
                tasks.append(asyncio.create_task(request(limiter, at, priority, connect, trip, part)))
                if patience is not None:
                    asyncio.get_running_loop().call_later(at + patience, tasks[-1].cancel)
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(task.cancelled() or task.exception() is None for task in tasks)
            assert limiter.waiting == 0

        play(scene())
        assert granted_in_pause == []
        assert not arrivals or most_in_a_second(arrivals) <= per_second


class TestLapsing:
    def test_a_slot_that_was_not_used_in_time_is_not_used_any_more(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)
            limiter.resize(1, good_for=1.0)
            async with limiter.slot(Priority.LIVE) as slot:
                await asyncio.sleep(30)  # the process stands still, and another has the slot now
                with pytest.raises(Lapsed):
                    slot.sent()
                assert not slot.was_sent
                limiter.resize(0)
                again = asyncio.create_task(slot.again())
                await asyncio.sleep(10)
                assert (limiter.held, limiter.waiting) == (0, 1)
                limiter.resize(1)
                await again
                slot.sent()
                assert (now(), slot.was_sent) == (40, True)

        play(scene())

    def test_up_to_then_it_is(self) -> None:
        async def scene() -> None:
            async with Limiter(1).slot(Priority.LIVE) as slot:
                await asyncio.sleep(USED_WITHIN)
                slot.sent()

        play(scene())

    def test_its_request_waits_at_its_old_place(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)
            served: list[str] = []

            async def request(name: str, priority: Priority) -> None:
                await exchange(limiter, priority)
                served.append(name)

            async with limiter.slot(Priority.REGISTRATION) as slot:
                others = [
                    asyncio.create_task(request("later", Priority.REGISTRATION)),
                    asyncio.create_task(request("less urgent", Priority.BACKFILL)),
                    asyncio.create_task(request("more urgent", Priority.LIVE)),
                ]
                await asyncio.sleep(30)
                await slot.again()
                slot.sent()
                served.append("lapsed")
            await asyncio.gather(*others)
            assert served == ["more urgent", "lapsed", "later", "less urgent"]

        play(scene())

    def test_who_is_cancelled_while_waiting_anew_takes_no_slot_along(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)

            async def lapse() -> None:
                async with limiter.slot(Priority.LIVE) as slot:
                    await asyncio.sleep(30)
                    limiter.resize(0)
                    await slot.again()

            lapsed = asyncio.create_task(lapse())
            await asyncio.sleep(31)
            lapsed.cancel()
            await asyncio.wait([lapsed])
            assert (lapsed.cancelled(), limiter.held, limiter.waiting) == (True, 0, 0)
            limiter.resize(1)
            assert await exchange(limiter) == 31

        play(scene())


class TestOrder:
    def test_live_goes_before_registration_before_backfill_and_first_come_first_served_within(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)
            served: list[tuple[Priority, int]] = []

            async def request(priority: Priority, number: int) -> None:
                await exchange(limiter, priority)
                served.append((priority, number))

            await exchange(limiter)
            wanted = [(priority, number) for number in range(3) for priority in reversed(Priority)]
            await asyncio.gather(*(request(*ask) for ask in wanted))
            assert served == sorted(wanted)

        play(scene())

    def test_who_comes_while_others_wait_still_goes_by_priority(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)
            await exchange(limiter)
            backfill = asyncio.create_task(exchange(limiter, Priority.BACKFILL))
            await asyncio.sleep(0.5)
            live = asyncio.create_task(exchange(limiter, Priority.LIVE))
            assert (await live, await backfill) == (1, 2)

        play(scene())


class TestPause:
    def test_nothing_goes_out_before_it_ends_and_a_shorter_one_does_not_cut_it(self) -> None:
        async def scene() -> None:
            limiter = Limiter(6)
            limiter.pause_for(300)
            limiter.pause_for(1)
            assert limiter.pause == 300
            assert await exchange(limiter) == 300
            assert limiter.pause == 0

        play(scene())

    def test_it_also_holds_who_waits_already(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)
            await exchange(limiter)
            waiting = asyncio.create_task(exchange(limiter))
            await asyncio.sleep(0.5)
            limiter.pause_for(10)
            assert await waiting == 10.5

        play(scene())


class TestCancellation:
    def test_a_cancelled_waiter_gives_its_place_on(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)
            await exchange(limiter)
            first, second = (asyncio.create_task(exchange(limiter)) for _ in range(2))
            await asyncio.sleep(0.5)
            assert limiter.waiting == 2
            first.cancel()
            assert await second == 1
            assert first.cancelled()

        play(scene())

    def test_who_is_cancelled_in_the_breath_of_the_grant_gives_the_slot_back(self) -> None:
        async def scene() -> None:
            limiter = Limiter(1)
            async with limiter.slot(Priority.LIVE):
                lucky = asyncio.create_task(exchange(limiter))
                await asyncio.sleep(1)
            lucky.cancel()  # granted when the block above ended, not yet resumed
            assert limiter.waiting == 0
            with pytest.raises(asyncio.CancelledError):
                await lucky
            assert await exchange(limiter) == 1

        play(scene())

    def test_a_storm_of_cancellations_loses_no_slot(self) -> None:
        async def scene() -> None:
            dice = random.Random(7)  # noqa: S311 (a fixed course of events, not a secret)
            limiter = Limiter(3)
            tasks = [asyncio.create_task(exchange(limiter, dice.choice(list(Priority)))) for _ in range(300)]
            for task in dice.sample(tasks, 280):
                asyncio.get_running_loop().call_later(dice.random() * 5, task.cancel)
            await asyncio.gather(*tasks, return_exceptions=True)
            begin = now() + WINDOW + JITTER
            await asyncio.sleep(WINDOW + JITTER)
            assert await asyncio.gather(*(exchange(limiter) for _ in range(3))) == [begin] * 3

        play(scene())


class TestClock:
    async def test_without_one_given_it_lives_by_the_running_loop(self) -> None:
        limiter = Limiter(6)
        before = now()
        assert before <= await exchange(limiter) < before + 5
