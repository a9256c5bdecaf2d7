"""A node as one of several: what it does while the shared database is there, and what while it is away.

Together: every ended call is handed over and worked at in the shared database, this node's calls and those of nodes
that are away, under claims. Cut off from Kommo: the others see to its calls as if it were away. Alone: what was not
handed over yet is worked at from this node's own disk, with its fixed share of the limit; what was handed over waits,
for another node may be at it. Coming back, what ended alone is told, and where the database is an older copy of itself,
all that is remembered of later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, NamedTuple, Protocol

import structlog

from itgrix_kommo.errors import NameTaken, StorageError
from itgrix_kommo.kommo.limiter import Limiter
from itgrix_kommo.kommo.shares import COOL, LEASE, Share
from itgrix_kommo.pipeline.registration.recording import lacks_link
from itgrix_kommo.storage.memory import Memory, Part, Remembered
from itgrix_kommo.storage.registrations import State
from itgrix_kommo.storage.servers import LOOK_AFTER
from itgrix_kommo.storage.shared import ANSWERS_WITHIN, SharedDatabase
from itgrix_kommo.storage.shared_account import Heard, Known, NodeSeen, SharedAccount
from itgrix_kommo.storage.shared_registrations import SharedRegistrations

BEAT = 1.0
"""Seconds between beats."""

HANDED_EVERY = 2.0
"""Seconds between looks for what to hand over and what has ended, without news."""

ANOTHER_DATABASE = "give each account a PostgreSQL database of its own, by storage.shared_url"

STOOD_STILL = 2.0
"""Seconds without a look at the time, which is looked at four times in each, from which this process stood still."""

_log = structlog.get_logger(__name__)


class Mode(Enum):
    BEGINNING = "beginning"
    TOGETHER = "together"
    CUT_OFF = "cut off from Kommo"
    WAITING = "waiting for the shared database"
    ALONE = "alone"


class Spell(NamedTuple):
    """An unbroken time in one mode; `number` counts those together."""

    mode: Mode
    number: int


class Worker(Protocol):
    """A `Delivery`."""

    def nudge(self) -> None: ...
    async def let_go(self, clients: Collection[str]) -> None: ...
    async def run(self) -> None: ...


class Member:
    """`together` works at the shared registrations, `alone` at this node's own."""

    def __init__(
        self,
        name: str,
        database: SharedDatabase,
        memory: Memory,
        registrations: SharedRegistrations,
        limiter: Limiter,
        *,
        limit: int,
        together: Worker,
        alone: Worker,
        pause: Callable[[], float],
        is_answered: Callable[[], bool] = lambda: True,
        account_id: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._name = name
        self._database = database
        self._memory = memory
        self._registrations = registrations
        self._account = SharedAccount(database, name, limit)
        self._limiter = limiter
        self._together = together
        self._alone = alone
        self._pause = pause
        self._is_answered = is_answered
        self._account_id = account_id
        self._clock = asyncio.get_running_loop().time
        self._begun = self._clock()
        self._share = Share(name, begun=self._begun)
        self._part = Part()
        self._looked_at = self._begun
        self._woke_at = float("-inf")
        self._lease_ends = float("-inf")
        self._leases = 0
        self._epoch = ""
        self._news = asyncio.Event()
        self._beaten = asyncio.Event()
        self._error = ""
        self._waiting: dict[str, int] = {}
        self._limit = limit
        self._limits: dict[str, int] = {}
        self._accounts: dict[str, int] = {}
        self.nodes: tuple[NodeSeen, ...] = ()
        self._worked_in = self._spell
        registrations.latest = lambda: self._share.latest(self._clock())
        registrations.is_answered = is_answered
        limiter.resize(0)

    @property
    def mode(self) -> Mode:
        now = self._clock()
        if now < self._lease_ends:
            return Mode.TOGETHER if self._is_answered() else Mode.CUT_OFF
        stands_still = now > self._looked_at + STOOD_STILL
        # Who has woken just now waits for an answer first: the shared database was not away, he was.
        if not stands_still and now >= max(self._lease_ends + COOL, self._begun + LEASE, self._woke_at + COOL):
            return Mode.ALONE
        return Mode.BEGINNING if self._lease_ends < 0 else Mode.WAITING

    @property
    def _spell(self) -> Spell:
        return Spell(self.mode, self._leases)

    @property
    def error(self) -> str:
        """Why the shared database is away; empty while it is there."""
        return self._error

    @property
    def difference(self) -> str:
        """What the nodes' configurations differ in; empty where they agree."""
        if self._accounts:
            told = ", ".join(f"{account} at {name}" for name, account in self._accounts.items())
            return (
                f"the nodes' Kommo account is {told}: give those of another account a PostgreSQL database of their own"
            )
        if not self._limits:
            return ""
        told = ", ".join(f"{limit} at {name}" for name, limit in self._limits.items())
        return f"kommo.requests_per_second is {told}: {self._limit} counts: give it the same value on all PBXs"

    @property
    def starved_by(self) -> list[str]:
        """Who is away and keeps all that there is of the limit as fixed shares; none while this node has a share."""
        keeping = {one.name: one.homes for one in self.nodes if one.homes and not one.is_here}
        is_starved = self.mode is Mode.TOGETHER and self._limiter.per_second == 0
        return list(keeping) if is_starved and sum(keeping.values()) >= self._limit else []

    def facts(self) -> dict[str, Any]:
        """For /status."""
        return {
            "node": self._name,
            "mode": self.mode.value,
            "limit": self._limit,
            "share": self._limiter.per_second,
            "nodes": {
                one.name: {
                    "here": one.is_here,
                    "seen_s_ago": one.seen,
                    "waiting": one.waiting,
                    "slots": one.slots,
                    "fixed_share": one.homes,
                    "requests_per_second": one.per_second,
                    "version": one.version,
                }
                for one in self.nodes
            },
        }

    def elsewhere(self, recording_id: str) -> str:
        """Which other node has this recording, for who listens; empty where it is this one's, or nobody's."""
        has = [one for one in self.nodes if recording_id.startswith(f"{one.name}-")]
        node = max(has, key=lambda one: len(one.name), default=None)
        if node is None or node.name == self._name:
            return ""
        how = "ask it by its own address" if node.is_here else f"which has been away for {node.seen:.0f} s"
        return f"This recording lies on the PBX {node.name} alone, {how}."

    def nudge(self) -> None:
        """A call has been kept on this node's disk."""
        self._news.set()
        self._alone.nudge()

    async def let_go(self, clients: Collection[str]) -> None:
        """Leave the registrations of these clients as they were last saved, here and in common."""
        for worker in (self._together, self._alone):
            await worker.let_go(clients)

    async def run(self) -> None:
        """Be one of several, for ever."""
        self._part = await self._memory.part()
        heard_at = self._part.heard_at
        unheard = 0.0 if heard_at is None else max(0.0, time.time() - heard_at)
        self._share = Share(self._name, self._part.homes, begun=self._begun, unheard=unheard)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self._follow_share())
            tasks.create_task(self._follow_mode())

    # The beat

    async def _beat(self) -> None:
        is_prepared = False
        while True:
            try:
                async with asyncio.timeout(3 * ANSWERS_WITHIN):
                    if not is_prepared:
                        await self._database.prepare()
                        is_prepared = True
                    await self._beat_once()
                if self._error:
                    _log.info("shared_database_back")
                self._error = ""
            except (StorageError, TimeoutError) as error:
                is_prepared = False  # what comes back may be another one, and empty
                self._share.lost(self._clock())
                if isinstance(error, NameTaken):
                    if not self._error.startswith("node.name"):
                        _log.error("node_name_taken", error=str(error))
                elif not self._error:
                    is_away = isinstance(error, TimeoutError) or str(error).endswith(LOOK_AFTER)
                    # Else it was reached, and a person has to mend what it says.
                    tell = _log.warning if is_away else _log.error
                    tell("shared_database_away", error=str(error), remedy="this node goes on alone")
                self._error = str(error) or "no answer"
            self._beaten.set()
            await asyncio.sleep(BEAT)

    async def _beat_once(self) -> None:
        sent_at = self._clock()
        wants = max(1, self._limiter.waiting + self._limiter.held) if self._is_answered() else 0
        beat = self._share.beat(sent_at, wants=wants, busy=self._limiter.held)
        self._resize()
        if beat.drops:  # another may have them from the next moment on
            await self._memory.keep_part(self._part._replace(homes=self._share.homes))
        known = Known(
            tick=self._part.tick,
            epoch=self._epoch,
            waiting=self._waiting.get(self._name, 0),
            pause=self._pause(),
            others=tuple((one.name, one.homes) for one in self.nodes),
            account=self._account_id(),
        )
        try:
            heard = await self._account.beat(beat, known)
        except NameTaken:
            await self._stand_aside()
            raise
        if not self._share.answered(heard.answer, sent_at=sent_at, at=self._clock()):
            remedy = (
                "see whether PostgreSQL's clock was set, or this host paused; a fixed share of the limit serves so long"
            )
            _log.warning("shared_clock_jumped", for_s=LEASE, remedy=remedy)
        await self._take_in(heard)
        if beat.keeps is not None:  # only the second beat tells whether another has this name: claims are by name
            self._leases += sent_at >= self._lease_ends
            self._lease_ends = sent_at + LEASE - COOL

    async def _stand_aside(self) -> None:
        """Another daemon has this name: its part of the limit and its claims are not this one's to use."""
        self._share.forfeit()
        self._lease_ends = float("-inf")
        self._resize()
        self._part = self._part._replace(homes=frozenset())
        await self._memory.keep_part(self._part)

    async def _take_in(self, heard: Heard) -> None:
        self.nodes = heard.nodes
        self._compare(heard)
        self._resize()
        if heard.pause:
            self._limiter.pause_for(heard.pause)
        part = Part(self._share.homes, heard.tick, heard.epoch, time.time())
        await self._memory.keep_part(part)
        self._part = part

    def _compare(self, heard: Heard) -> None:
        accounts = {one.name: one.account for one in heard.nodes if one.account is not None}
        is_mixed = len(set(accounts.values())) > 1
        if is_mixed and not self._accounts:
            _log.error(
                "accounts_differ", accounts=accounts, remedy="give each account a PostgreSQL database of its own"
            )
        self._accounts = accounts if is_mixed else {}
        limits = {one.name: one.per_second for one in heard.nodes if one.per_second is not None}
        differing = limits if len(set(limits.values())) > 1 else {}
        has_changed, self._limits, self._limit = differing != self._limits, differing, heard.limit
        if has_changed and differing:
            _log.warning("limits_differ", limit=heard.limit, limits=limits, remedy=self.difference)
        elif has_changed:
            _log.info("limits_agree", limit=heard.limit)

    def _resize(self) -> None:
        now = self._clock()
        if now > self._looked_at + STOOD_STILL:
            self._woke_at = now
        self._looked_at = now
        if self._limiter.has_lapsed and self._worked_in != self._spell:
            return  # this process stood still: what it was at may be another's by now, and has to end first
        # Another daemon may have this name and these slots, which shows at the second beat.
        slots = 0 if self.mode is Mode.BEGINNING else self._share.capacity(self._clock())
        self._limiter.resize(slots, good_for=BEAT)

    async def _follow_share(self) -> None:
        """What was lent ends by itself when no answer comes."""
        while True:
            self._resize()
            await asyncio.sleep(BEAT / 4)

    # What is done in each mode

    async def _follow_mode(self) -> None:
        while True:
            spell = self._worked_in = self._spell
            work = asyncio.create_task(self._work_in(spell.mode), name=spell.mode.value)
            try:
                while not work.done():
                    if spell.mode is Mode.CUT_OFF and self._spell == spell._replace(mode=Mode.TOGETHER):
                        # Who tried whether Kommo answers goes on.
                        _log.info("node_mode", mode=Mode.TOGETHER.value)
                        spell = self._worked_in = self._spell
                    if self._spell != spell:
                        break
                    self._beaten.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(BEAT):
                            await self._beaten.wait()
            finally:
                work.cancel()
                (ended,) = await asyncio.gather(work, return_exceptions=True)
            if isinstance(ended, Exception):
                if not isinstance(ended, StorageError):
                    raise ended
                _log.warning("sharing_interrupted", error=str(ended), remedy="tried again")
                await asyncio.sleep(BEAT)

    async def _work_in(self, mode: Mode) -> None:
        _log.info("node_mode", mode=mode.value)
        match mode:
            case Mode.TOGETHER:
                await self._work_together()
            case Mode.CUT_OFF:
                await self._work_together(holding=LEASE)
            case Mode.ALONE:
                await self._alone.run()
            case _:
                await asyncio.Event().wait()

    async def _work_together(self, *, holding: float = 0.0) -> None:
        """What it was at before, it holds for so many seconds more: what it has sent last may arrive late."""
        await self._reconcile()
        handing = asyncio.create_task(self._hand_over_and_hear())
        working = asyncio.create_task(self._take_up(holding))
        try:
            done, _ = await asyncio.wait({handing, working}, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for one in (handing, working):
                one.cancel()
            await asyncio.gather(handing, working, return_exceptions=True)

    async def _take_up(self, after: float) -> None:
        await asyncio.sleep(after)
        await self._registrations.release()
        await self._together.run()

    async def _reconcile(self) -> None:
        """Tell what the shared database does not know: after a time alone, or since an older copy was put back."""
        epoch = self._part.epoch
        if self._epoch != epoch:
            last = ("", "")
            while rows := await self._memory.rows(last):
                await self._registrations.remind(rows)
                last = (rows[-1].node, rows[-1].call_id)
            self._epoch = epoch
        after = 0
        while handed := await self._memory.handed(after):
            await self._memory.ended(await self._registrations.unknown(handed.values()))
            after = max(handed)
        after = 0
        while ended := await self._memory.ended_unknown(after):
            await self._registrations.tell_ended(ended)
            after = max(ended)

    async def _hand_over_and_hear(self) -> None:
        while True:
            self._news.clear()
            try:
                await self._exchange()
            except StorageError as error:
                _log.debug("not_handed_over", error=str(error), remedy="tried again")
            with suppress(TimeoutError):
                async with asyncio.timeout(HANDED_EVERY):
                    await self._news.wait()

    async def _exchange(self) -> None:
        if self._epoch != self._part.epoch:
            await self._reconcile()
        while rows := await self._memory.to_hand_over():
            await self._registrations.hand_over(rows)
            self._together.nudge()
        while ended := await self._registrations.to_tell():
            if not await self._hear(ended):
                break
        self._waiting = await self._registrations.waiting()

    async def _hear(self, ended: Sequence[tuple[int, Remembered]]) -> bool:
        """What became of this node's calls. Where another did it, only this one can add the recording's link: once
        Kommo answers it. False where all of them wait for that.
        """
        heard: list[tuple[int, Remembered]] = []
        unlinked: list[tuple[int, Remembered]] = []
        for number, row in ended:
            lacks = row.state == State.DONE and lacks_link(row.progress)
            (unlinked if lacks else heard).append((number, row))
        if unlinked and self._is_answered():
            await self._registrations.take_up_again(unlinked)
            return True
        if heard:
            await self._memory.ended([row for _, row in heard])
            await self._registrations.told(heard)
        return bool(heard)
