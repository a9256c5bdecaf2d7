"""What is shown of the other rooms: how the things outside are, what is counted, and whether calls are captured."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from itgrix_kommo.ami.link import AmiLink
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.customizations import Customizer
from itgrix_kommo.errors import StorageError
from itgrix_kommo.kommo.phonebook import Phonebook
from itgrix_kommo.kommo.subscription import Subscription
from itgrix_kommo.kommo.transport import Transport
from itgrix_kommo.pipeline.capture import Capture
from itgrix_kommo.pipeline.gate import Gate
from itgrix_kommo.pipeline.member import Member
from itgrix_kommo.service_manager import Condition
from itgrix_kommo.storage.journal import Journal
from itgrix_kommo.storage.registrations import Registrations
from itgrix_kommo.web.health import Health
from itgrix_kommo.web.metrics import Figures, HookRecord
from itgrix_kommo.web.status import Grade, Part


@dataclass(slots=True, kw_only=True)
class Outside:
    link: AmiLink
    transport: Transport
    gate: Gate
    registrations: Registrations
    customizer: Customizer
    phonebook: Phonebook
    capture: Capture
    tracker: Tracker
    journal: Journal
    home: Path
    subscription: Subscription | None = None
    member: Member | None = None
    _storage_error: str = ""

    def parts(self) -> Mapping[str, Callable[[], Part]]:
        parts: dict[str, Callable[[], Part]] = {
            "asterisk": self._asterisk,
            "kommo": self._kommo,
            "storage": self._storage,
            "journal": self._journal,
        }
        if self.subscription is not None:
            parts["webhooks"] = self._webhooks
        if self.member is not None:
            parts["nodes"] = self._nodes
        return parts

    def condition(self) -> Condition:
        fault, stops = self._capturing_fault(), self.gate.stops()
        hearing = f"not capturing: {fault}" if fault else f"capturing, {len(self.tracker.calls)} live calls"
        writing = f"not registering: {'; '.join(stops)}" if stops else "registering"
        return Condition(not fault, f"{hearing}; {writing}")

    async def health(self) -> Health:
        return Health(
            capturing_fault=self._capturing_fault(),
            registering_stopped_by=tuple(self.gate.stops()),
            live_calls=len(self.tracker.calls),
            registrations=await self._counts(),
            troubles=tuple(self._troubles()),
        )

    async def figures(self) -> Figures:
        status = self.link.status
        return Figures(
            up={name: part().grade is not Grade.ERROR for name, part in self.parts().items()},
            live_calls=len(self.tracker.calls),
            ended_calls=self.capture.calls_ended,
            registrations=await self._counts(),
            oldest_waiting=await self._oldest_waiting(),
            registering=self.gate.is_open,
            calls_held=self.capture.calls_held,
            journal_held_bytes=self.journal.held_bytes,
            disk_free=await asyncio.to_thread(_free, self.home),
            ami_messages=status.messages,
            ami_events=status.events,
            ami_connections=status.connections,
            ami_gaps=status.gaps,
            kommo_waiting=self.transport.limiter.waiting,
            kommo_pause=self.transport.limiter.pause,
            phonebook=len(self.phonebook),
            hooks={
                hook: HookRecord(record.calls, record.failures, record.seconds)
                for hook, record in self.customizer.records.items()
            },
        )

    async def _counts(self) -> dict[str, int]:
        """By state; none where the database does not tell."""
        try:
            counts = await self.registrations.counts()
        except StorageError as error:
            self._storage_error = str(error)
            return {}
        self._storage_error = ""
        return {state.value: count for state, count in counts.items()}

    async def _oldest_waiting(self) -> float:
        """Seconds since the oldest registration in line was kept; none counts as 0, and so does what can't be told."""
        try:
            kept_at = await self.registrations.oldest_waiting()
        except StorageError as error:
            self._storage_error = str(error)
            return 0.0
        return 0.0 if kept_at is None else max(time.time() - kept_at, 0.0)

    def _troubles(self) -> Iterator[str]:
        if error := self.capture.keeping_error:
            yield f"{self.capture.calls_held} ended calls wait in memory, for they can't be kept: {error}"
        elif self._storage_error:
            yield self._storage_error
        if error := self.journal.error:
            yield (
                f"the journal can't be written ({error}), {self.journal.held_bytes} bytes of it wait in memory, and a "
                "crash would forget the calls under way: free disk space (df -h), and let the daemon's user own that "
                "directory"
            )

    def _capturing_fault(self) -> str:
        status = self.link.status
        return "" if status.connected else f"no link to Asterisk: {status.error or 'not connected yet'}"

    def _asterisk(self) -> Part:
        status = self.link.status
        facts = {
            "connected": status.connected,
            "since": status.since,
            "version": status.asterisk_version or None,
            "limits": list(status.limits),
            "gaps": status.gaps,
            "events": status.events,
            "waiting": status.waiting,
        }
        if not status.connected:
            error = status.error or "not connected yet"
            return Part(error, Grade.ERROR, stops=status.login_refused, passes=not status.error, facts=facts)
        return Part("; ".join(status.limits), Grade.WARNING if status.limits else Grade.OK, facts=facts)

    def _kommo(self) -> Part:
        limiter, blocked = self.transport.limiter, self.transport.breaker.reason
        problems = self.gate.problems
        stops = any(one.stops and not one.passes for one in problems)
        facts = {
            "registering": self.gate.is_open,
            "problems": [f"{one.what}: {one.words}: {one.remedy}" for one in problems],
            "blocked": blocked,
            "waiting": limiter.waiting,
            "pause_s": round(limiter.pause, 1),
            "phonebook": len(self.phonebook),
        }
        error = blocked or "; ".join(one.words for one in problems)
        if blocked or stops:
            return Part(error, Grade.ERROR, stops=True, facts=facts)
        untried = self.gate.rules is None and all(one.passes for one in problems)
        return Part(error, Grade.WARNING if error else Grade.OK, passes=untried, facts=facts)

    def _webhooks(self) -> Part:
        if self.subscription is None:
            return Part()
        error = self.subscription.error
        return Part(error, Grade.WARNING if error else Grade.OK, facts={"subscribed": self.subscription.is_there})

    def _nodes(self) -> Part:
        if self.member is None:
            raise AssertionError("only one of several nodes has this part")
        away = [one.name for one in self.member.nodes if not one.is_here]
        starved = ", ".join(self.member.starved_by)
        if starved and not self.member.error:
            remedy = "start it, or if it is gone for good: itgrix-kommo nodes forget"
            words = f"{starved}, which is away, keeps all of the limit, and nothing goes to Kommo from here: {remedy}"
            return Part(words, Grade.ERROR, facts=self.member.facts())
        error = self.member.error or "; ".join(
            filter(None, [*(f"{name} is away" for name in away), self.member.difference])
        )
        return Part(error, Grade.WARNING if error else Grade.OK, facts=self.member.facts())

    def _storage(self) -> Part:
        error = self.capture.keeping_error or self._storage_error
        return Part(error, Grade.ERROR if error else Grade.OK, facts={"calls_held": self.capture.calls_held})

    def _journal(self) -> Part:
        error = self.journal.error
        return Part(error, Grade.ERROR if error else Grade.OK, facts={"held_bytes": self.journal.held_bytes})


def _free(home: Path) -> int | None:
    """Bytes free on the disk of the daemon's data; None where it does not tell."""
    try:
        return shutil.disk_usage(home).free
    except OSError:
        return None
