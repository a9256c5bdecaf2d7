"""One limiter for the account: never more requests in a second than Kommo bears, as Kommo counts them.

Kommo counts a request at some instant between our sending it and its answer reaching us. So a slot is held until a
second after the *answer*: whatever the network did in between, the next request in this slot meets a second that has
forgotten the last one. A burst may go out at once; after it the pace is N requests per (1 s + round trip).

An answer that takes long would keep its slot long, though Kommo counts at the door, not when it is done. So a slot is
held `JITTER` + 1 s after sending, while the way to Kommo is that much slower for one request than for another only if a
packet was lost twice in a row. Where the network fails for seconds, the request is still under way then, and arrives
when the network is back, whatever has been sent since: its slot is held until a second after that. While a connection
is still being made nothing was sent and nothing counted: the slot stays held, and comes back whole if the request is
given up.

A slot that was not used within `USED_WITHIN` is not used any more: who stood still in between (a stopped process, a
host that swaps) would send in the right of before, while the slot is another node's, and maybe its work too. What
remains is to stand still in the moment between that look at the clock and the kernel's taking the bytes, which Kommo
has no means to see: it takes no number by which the later of two could be refused.

Priorities are strict: a waiting live request goes before every registration, a registration before every backfill;
within one priority the first come is the first served. There is no ageing: a flood of live requests starves backfill
for as long as it lasts, because backfill has time and a caller on the line has not.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
from contextlib import asynccontextmanager
from enum import IntEnum
from math import inf
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

WINDOW = 1.0
"""The second in which Kommo counts."""

JITTER = 0.5
"""How much later (s) one request may arrive than another sent together with it: TCP resends after 0.2 s, then 0.4 s."""

LOOK_EVERY = 0.5
"""Seconds between looks at a request that has not arrived after `JITTER`."""

USED_WITHIN = 5.5
"""Seconds after its grant within which a slot is used or not at all: a connection takes 5 s at most."""

MOST_PER_SECOND = 7
"""Kommo's own limit; whoever breaks it repeatedly is blocked until support lifts it."""


class Priority(IntEnum):
    LIVE = 0
    """Somebody is on the line: autodistribution, pop-ups, lookups while it rings."""
    REGISTRATION = 1
    """What an ended call becomes in the CRM."""
    BACKFILL = 2
    """History and synchronising: nobody waits for it."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """What the limiter needs of time; an asyncio event loop is one."""

    def time(self) -> float: ...
    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer: ...


class Lapsed(Exception):
    """The slot was granted too long ago. Nothing was sent."""


def _has_arrived() -> bool:
    return False


class Slot:
    """The right to send one request now. Tell it when the request leaves: before that it can be given back whole."""

    __slots__ = (
        "_on_sent",
        "_take_turn",
        "arrival",
        "free_at",
        "granted_at",
        "is_under_way",
        "priority",
        "was_sent",
    )

    def __init__(
        self,
        priority: Priority,
        arrival: int,
        *,
        take_turn: Callable[[Slot], Awaitable[None]],
        on_sent: Callable[[Slot], None],
    ) -> None:
        self.priority = priority
        self.arrival = arrival
        self.granted_at = -inf
        self.free_at = inf
        self.was_sent = False
        self.is_under_way: Callable[[], bool] = _has_arrived
        """Whether the other end has not taken all of it yet, by who sends it."""
        self._take_turn = take_turn
        self._on_sent = on_sent

    def sent(self) -> None:
        """The request's first byte goes out in this moment. Raises Lapsed: then it may not, and `again` helps."""
        self._on_sent(self)

    async def again(self) -> None:
        """Give the lapsed slot back and wait for another one, at the old place in the queue."""
        await self._take_turn(self)


class Limiter:
    """Hands out slots: at most `per_second` requests fall into any second.

    Use it as ``async with limiter.slot(Priority.LIVE) as slot:`` around one request and its whole answer. A waiter that
    is cancelled gives its place on. All of it happens in one event loop, without tasks of its own.
    """

    def __init__(self, per_second: int, *, clock: Clock | None = None) -> None:
        if not 1 <= per_second <= MOST_PER_SECOND:
            message = f"requests_per_second: {per_second} is not possible: give a number from 1 to {MOST_PER_SECOND}"
            raise ValueError(message)
        self.per_second = per_second
        self._clock: Clock = asyncio.get_running_loop() if clock is None else clock
        self._held: set[Slot] = set()
        self._queue: list[tuple[Priority, int, Slot, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()
        self._timer: Timer | None = None
        self._paused_until = -inf
        self._good_until = inf

    @property
    def waiting(self) -> int:
        """How many requests stand in the queue."""
        return sum(not turn.done() for *_, turn in self._queue)

    @property
    def pause(self) -> float:
        """For how many seconds from now nothing goes out, because Kommo told us to wait; 0 when it did not."""
        return max(0.0, self._paused_until - self._clock.time())

    @property
    def held(self) -> int:
        """How many slots Kommo may still count, or will."""
        now = self._clock.time()
        return sum(slot.free_at > now for slot in self._held)

    @property
    def has_lapsed(self) -> bool:
        """Nobody has said for too long how many slots there are: nothing goes out."""
        return self._clock.time() >= self._good_until

    def resize(self, per_second: int, *, good_for: float = inf) -> None:
        """Share the account with others: so many slots from now on; 0 lets nothing out. What was granted stays so.

        After `good_for` seconds nothing goes out until it is said again: a process that stood still meanwhile does not
        know yet what others have taken.
        """
        has_lapsed, self._good_until = self.has_lapsed, self._clock.time() + good_for
        if per_second != self.per_second or has_lapsed:
            self.per_second = per_second
            self._serve()

    def pause_for(self, seconds: float) -> None:
        """Let nothing out for so long; a later, shorter pause never shortens a longer one."""
        self._paused_until = max(self._paused_until, self._clock.time() + seconds)
        self._serve()

    @asynccontextmanager
    async def slot(self, priority: Priority) -> AsyncIterator[Slot]:
        slot = Slot(priority, next(self._arrivals), take_turn=self._turn, on_sent=self._sent)
        try:
            await self._turn(slot)
            yield slot
            slot.free_at = min(slot.free_at, self._clock.time() + WINDOW)
        finally:
            slot.is_under_way = _has_arrived  # who gave up has ended the connection
            if not slot.was_sent:
                self._held.discard(slot)
            self._serve()

    async def _turn(self, slot: Slot) -> None:
        self._held.discard(slot)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (slot.priority, slot.arrival, slot, turn))
        self._serve()
        await turn

    def _sent(self, slot: Slot) -> None:
        now = self._clock.time()
        if now > slot.granted_at + USED_WITHIN:
            raise Lapsed
        slot.was_sent = True
        slot.free_at = now + JITTER + WINDOW
        self._clock.call_later(JITTER, functools.partial(self._look_after, slot))
        self._serve()

    def _look_after(self, slot: Slot) -> None:
        """What is still under way arrives before the next look, perhaps at the last moment, or is seen then."""
        if slot.is_under_way():
            slot.free_at = self._clock.time() + LOOK_EVERY + WINDOW
            self._clock.call_later(LOOK_EVERY, functools.partial(self._look_after, slot))

    def _serve(self) -> None:
        """Grant what can be granted now, and come back when the next slot falls free."""
        now = self._clock.time()
        self._held = {slot for slot in self._held if slot.free_at > now}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            *_, slot, turn = self._queue[0]
            if not turn.done():
                wait = self._wait(now)
                if wait > 0:
                    if wait < inf:
                        self._timer = self._clock.call_later(wait, self._serve)
                    return
                slot.granted_at = now
                self._held.add(slot)
                turn.set_result(None)
            heapq.heappop(self._queue)

    def _wait(self, now: float) -> float:
        """Seconds until the next slot is free; infinite while every slot waits for its connection."""
        excess = len(self._held) - self.per_second
        if self.per_second == 0 or self.has_lapsed:
            return inf
        free_at = sorted(slot.free_at for slot in self._held)[excess] if excess >= 0 else -inf
        return max(free_at, self._paused_until) - now
