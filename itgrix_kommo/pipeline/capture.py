"""The capture: what Asterisk tells is journalled, understood, and, once a call has ended, kept for registration.

Nothing here waits for Kommo. A database that fails for a while delays the keeping, not the listening.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import TypeAlias

import structlog

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Call, Stage, StageName
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.errors import StorageError
from itgrix_kommo.pipeline.intake import why_not
from itgrix_kommo.storage.journal import Journal
from itgrix_kommo.storage.registrations import NewRegistration, Registrations, State

Batch: TypeAlias = Sequence[tuple[bytes, ev.Event]]
"""Frames with the events they mean, in the order of their arrival."""

KEEP_TOGETHER = 0.5
"""Seconds that an ended call waits for others to be kept with; until then the journal has it."""

MOST_TOGETHER = 50
"""Calls kept in one transaction."""

KEEP_AGAIN = 1.0
"""Seconds before the database is tried again."""

TIDY_EVERY = 60.0
"""Seconds between looks for frames of no live call (bridges name none), and for channels whose hangup was lost."""

_log = structlog.get_logger(__name__)


async def _next(batches: AsyncIterator[Batch]) -> Batch | None:
    return await anext(batches, None)


class Capture:
    """`keep` decides which ended calls become registrations, `keep_early` what becomes one before.

    `on_kept` is told when one has become a row.
    """

    def __init__(
        self,
        tracker: Tracker,
        journal: Journal,
        registrations: Registrations,
        *,
        keep: Callable[[Call], NewRegistration | None],
        keep_early: Callable[[Stage], NewRegistration | None],
        on_kept: Callable[[], None],
        on_stage: Callable[[Stage], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tracker = tracker
        self._journal = journal
        self._registrations = registrations
        self._keep = keep
        self._keep_early = keep_early
        self._on_kept = on_kept
        self._on_stage = on_stage
        self._now = now
        self._to_keep: deque[tuple[NewRegistration | None, frozenset[str]]] = deque()
        self._to_keep_news = asyncio.Event()
        self._tidy_at = 0.0
        self.calls_ended = 0
        self.keeping_error = ""
        """Why ended calls can't become rows at present, or empty; they wait in memory, and the journal has them."""

    @property
    def calls_held(self) -> int:
        """Ended calls that have not become rows yet."""
        return len(self._to_keep)

    def replay(self, decode: Callable[[bytes, float], ev.Event | None]) -> float | None:
        """Take up the journal where the last daemon left it; when it last heard Asterisk, None if it never did.

        Stages are told to nobody but those of calls that ended: pop-ups of the past are of no use.
        """
        frames, ended = self._journal.read()
        self._tracker.pass_over(ended, frames[-1].at if frames else 0.0)
        for at, frame in frames:
            event = decode(frame, at)
            if event is not None:
                self._take([stage for stage in self._understood(event) if stage.name is StageName.CALL_ENDED])
        if not frames:
            return None
        _log.info("journal_replayed", live_calls=len(self._tracker.calls), last_heard=frames[-1].at)
        return frames[-1].at

    async def run(self, batches: AsyncIterator[Batch]) -> None:
        """Take batch after batch, until there are no more; between them let time pass for the tracker."""
        following = asyncio.ensure_future(_next(batches))
        try:
            while True:
                # Time passes only when nothing is waiting to be fed: `advance` must not run ahead of what was received.
                pause = max(min(self._tracker.next_due, self._tidy_at) - self._now(), 0.0)
                await asyncio.wait({following}, timeout=pause)
                if not following.done():
                    self._let_time_pass()
                    continue
                batch = following.result()
                if batch is None:
                    return
                following = asyncio.ensure_future(_next(batches))
                self._feed(batch)
        finally:
            following.cancel()

    def _feed(self, batch: Batch) -> None:
        self._journal.append((event.at, frame) for frame, event in batch)
        for _, event in batch:
            stages = self._understood(event)
            if stages:
                self._take(stages)

    def _understood(self, event: ev.Event) -> Sequence[Stage]:
        """What the tracker makes of it."""
        try:
            return self._tracker.feed(event)
        except Exception:  # noqa: BLE001 (a fault of ours must not end the listening: each replay would end it again)
            _log.exception("event_not_understood", of=type(event).__name__, at=event.at)
            return ()

    async def run_keeper(self) -> None:
        """Turn ended calls into rows, in their order, for ever."""
        while True:
            await self._to_keep_news.wait()
            await asyncio.sleep(KEEP_TOGETHER)
            self._to_keep_news.clear()
            await self.keep_ended()

    async def keep_ended(self) -> None:
        while self._to_keep:
            ended = list(islice(self._to_keep, MOST_TOGETHER))
            news = [new for new, _ in ended if new is not None]
            try:
                kept = await self._registrations.keep_all(news) if news else []
            except StorageError as error:
                _log.error("call_not_kept", call_id=news[0].call_id, error=str(error), remedy="tried again")
                self.keeping_error = str(error)
                await asyncio.sleep(KEEP_AGAIN)
                continue
            self.keeping_error = ""
            for _ in ended:
                self._to_keep.popleft()
            if ended_ids := frozenset[str]().union(*(ids for _, ids in ended)):
                self._journal.ended(ended_ids)
            if any(number is not None for number in kept):
                self._on_kept()

    def _let_time_pass(self) -> None:
        now = self._now()
        stages = self._tracker.advance(now)
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_EVERY
            stages += self._tracker.sweep(now)
            oldest = min((call.started_at for call in self._tracker.calls.values()), default=now)
            if not self._to_keep:
                self._journal.forget_before(oldest)
        self._take(stages)

    def _take(self, stages: Sequence[Stage]) -> None:
        for stage in stages:
            call = stage.call
            _log.debug("stage", call_id=call.id, stage=stage.name.value, conversation=stage.conversation_id)
            if stage.name is StageName.CALL_ENDED:
                new = self._keep(call)
                self._tell(call)
                if new is None:
                    self._tell_why_not(call)
                elif new.state is State.SKIPPED:
                    _log.info("registration_closed", call_id=call.id, state=new.state.value, reason=new.reason)
                self._to_keep.append((new, call.aliases))
                self._to_keep_news.set()
            elif (early := self._keep_early(stage)) is not None:
                self._to_keep.append((early, frozenset()))
                self._to_keep_news.set()
            self._on_stage(stage)

    @staticmethod
    def _tell_why_not(call: Call) -> None:
        """No row will tell of it: this line is what there is."""
        _log.info(
            "call_not_registered",
            call_id=call.id,
            reason=why_not(call),
            type=call.type.value,
            parties=f"{call.channel.from_.number} → {call.channel.to.number}",
            result=call.outcome.text if call.outcome else "",
            duration_s=call.duration,
            started_at=call.started_at,
            ids=sorted(call.aliases),
        )

    def _tell(self, call: Call) -> None:
        self.calls_ended += 1
        _log.info(
            "call_ended",
            call_id=call.id,
            type=call.type.value,
            client=call.client.number,
            outcome=call.outcome.text if call.outcome else "",
            duration_s=call.duration,
            user=call.responsible.id if call.responsible else None,
        )
