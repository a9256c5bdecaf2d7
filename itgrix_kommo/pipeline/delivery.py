"""The delivery: takes waiting registrations in their clients' order, and sees each to its end."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import structlog

from itgrix_kommo.calls.call import StageName
from itgrix_kommo.errors import (
    ItgrixError,
    KommoError,
    KommoForbidden,
    KommoUnreachable,
    Remedy,
    StorageError,
    StorageRefused,
)
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.retry import Backoff
from itgrix_kommo.pipeline.clients import Clients
from itgrix_kommo.pipeline.gate import Gate
from itgrix_kommo.pipeline.intake import CALL, EARLY
from itgrix_kommo.pipeline.mail import Mail
from itgrix_kommo.pipeline.progress import Progress
from itgrix_kommo.pipeline.registration.desk import Desk, Earlier, Hooks, Recorder, Settling
from itgrix_kommo.pipeline.registration.sheet import Sheet
from itgrix_kommo.pipeline.registration.walk import walk, walk_early
from itgrix_kommo.pipeline.rules import Rules
from itgrix_kommo.storage.registrations import Line, Registration, State

AT_ONCE = 200
"""Registrations under way together: Kommo takes a few requests a second, but what waits for one travels together."""

LAST = 2**31 - 1
"""Above every row's number."""

REFILL = AT_ONCE // 4
"""So many places have to be free before more rows are looked for: looking costs the same for one as for many."""

BROKEN_AFTER = 5
"""Attempts after which a registration that breaks the connector itself is parked."""

LOOK_EVERY = 15.0
"""Seconds after which waiting rows are looked for without news: a command may have put one back in line."""

TOGETHER = 0.2
"""Seconds that news waits for more: what begins together is looked for, kept and sent together."""

SAVE_AGAIN = 10.0
"""Seconds before a database that failed is tried again."""

AS_LONG_AS_IT_TAKES = Backoff(attempts=None, first=1.0, ceiling=300.0)

_log = structlog.get_logger(__name__)


class Registry(Protocol):
    """Where registrations wait, and what they have reached is kept. Raises StorageError where it can't be had."""

    async def in_line(self, now: float, *, limit: int, busy: Sequence[str] = ()) -> Line: ...
    async def of_client(self, client: str, *, before: int) -> list[Registration]: ...
    async def progress_of(self, client: str, *, before: int) -> list[tuple[int, str, str]]: ...
    async def save_progress(self, number: int, progress: dict[str, Any]) -> None: ...
    async def postpone(self, number: int, *, due_at: float, reason: str) -> None: ...
    async def close(
        self, number: int, state: State, *, reason: str = "", progress: dict[str, Any] | None = None
    ) -> None: ...


class ClientsHistory:
    """What was registered for the client of one registration before it."""

    def __init__(self, registrations: Registry, registration: Registration) -> None:
        self._registrations = registrations
        self._registration = registration
        self._earlier: list[Earlier] | None = None

    async def earlier(self) -> list[Earlier]:
        """The latest first. The same client is never served twice at once, so once read it stays true."""
        if self._earlier is None:
            rows = await self._registrations.progress_of(self._registration.client, before=self._registration.id)
            self._earlier = [
                Earlier(number, call_id, Progress.model_validate_json(progress)) for number, call_id, progress in rows
            ]
        return self._earlier

    async def reached_after(self, at: float) -> bool:
        """Whether a call of the client that began after `at` (Unix s) was answered: history comes later than it."""
        rows = await self._registrations.of_client(self._registration.client, before=LAST)
        return any(row.call["accepted_id"] and row.call["started_at"] > at for row in rows)

    async def save(self, number: int, progress: dict[str, Any]) -> None:
        await self._registrations.save_progress(number, progress)


class Delivery:
    """`phone_of` makes the number that is written from the raw one. `is_alone`: other nodes do their work unseen."""

    def __init__(
        self,
        registrations: Registry,
        client: KommoClient,
        clients: Clients,
        hooks: Hooks,
        recordings: Recorder,
        gate: Gate,
        *,
        phone_of: Callable[[str], str],
        is_alone: bool = False,
        backoff: Backoff | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._registrations = registrations
        self._is_alone = is_alone
        self._client = client
        self._clients = clients
        self._mail = Mail(client)
        self._hooks = hooks
        self._recordings = recordings
        self._gate = gate
        self._phone_of = phone_of
        self._backoff = backoff or AS_LONG_AS_IT_TAKES
        self._now = now
        self._news = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._next_at: float | None = None

    def nudge(self) -> None:
        """There is something new to deliver."""
        self._news.set()

    async def let_go(self, clients: Collection[str]) -> None:
        """Leave the registrations of these clients as they were last saved, wherever their walks are."""
        tasks = [task for client in clients if (task := self._running.get(client)) is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self) -> None:
        """Deliver, for ever. Cancelling leaves every row as it was last saved."""
        try:
            while True:
                rules = await self._gate.opened()
                self._news.clear()
                try:
                    await self._start_due(rules)
                    await self._wait()
                except StorageError as error:
                    _log.error("registrations_not_read", error=str(error), remedy="tried again")
                    await asyncio.sleep(SAVE_AGAIN)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _start_due(self, rules: Rules) -> None:
        if not self._has_room:
            return
        free, busy = AT_ONCE - len(self._running), list(self._running)
        line = await self._registrations.in_line(self._now(), limit=free, busy=busy)
        self._next_at = line.next_at
        for registration in line.due:
            task = asyncio.create_task(self._deliver(registration, rules), name=f"registration {registration.call_id}")
            self._running[registration.client] = task
            task.add_done_callback(functools.partial(self._finished, registration.client))

    @property
    def _has_room(self) -> bool:
        return AT_ONCE - len(self._running) >= min(REFILL, AT_ONCE)

    def _finished(self, client: str, _task: asyncio.Task[None]) -> None:
        del self._running[client]
        self._news.set()

    async def _wait(self) -> None:
        """Until there is news, or the next retry is due."""
        pause = LOOK_EVERY
        if self._has_room and self._next_at is not None:  # else the end of a walk is the news
            pause = min(max(self._next_at - self._now(), 0.0), LOOK_EVERY)
        try:
            async with asyncio.timeout(pause):
                await self._news.wait()
        except TimeoutError:
            return
        await asyncio.sleep(TOGETHER)

    async def _deliver(self, registration: Registration, rules: Rules) -> None:
        with structlog.contextvars.bound_contextvars(call_id=registration.call_id):
            try:
                await self._attempt(registration, rules)
            except StorageError as error:
                # The row is as it was last saved, and due: hold it back, lest Kommo be asked the same without a pause.
                _log.error("registration_not_saved", error=str(error), remedy="tried again")
                await asyncio.sleep(SAVE_AGAIN)

    async def _attempt(self, registration: Registration, rules: Rules) -> None:
        """Walk, and save what became of it. Raises StorageError where it can't be saved."""
        try:
            await self._walk(registration, rules)
        except Settling as settling:
            _log.debug("registration_settles", until=settling.until)
            await self._registrations.postpone(registration.id, due_at=settling.until, reason=str(settling))
        except StorageError as error:
            if not isinstance(error, StorageRefused):
                raise
            await self._failed(registration, error)
        except ItgrixError as error:
            await self._failed(registration, error)
        except Exception as error:  # noqa: BLE001 (a fault of ours in one call must not stop the others)
            _log.exception("registration_broke")
            if registration.attempts < BROKEN_AFTER:
                await self._again(registration, error)
            else:
                # The client's other calls wait behind it: they have waited long enough for a fault of ours.
                reason = f"the connector itself failed: {error!r}: report this with the log"
                await self._registrations.close(registration.id, State.FAILED, reason=reason)

    async def _walk(self, registration: Registration, rules: Rules) -> None:
        _log.debug("registration_begun", attempt=registration.attempts + 1)
        call = CALL.validate_python(registration.call)
        recordings = self._recordings if registration.node == rules.node else None
        rules = rules.of_node(registration.node)
        if self._is_alone or registration.is_elsewhere or registration.progress:
            # Who began it, or worked for the client since, made cards that our phonebook may know nothing of.
            self._clients.doubt(registration.client)
        desk = Desk(self._client, self._clients, self._mail, self._hooks, rules, recordings, self._now)
        sheet = Sheet(
            call,
            self._phone_of(call.client.number),
            Progress.model_validate(registration.progress),
            desk,
            ClientsHistory(self._registrations, registration),
            lambda progress: self._registrations.save_progress(registration.id, progress),
        )
        try:
            if registration.call_id.endswith(EARLY):
                skipped = await walk_early(sheet, StageName.ACCEPTED if call.was_answered else StageName.REQUESTED)
            else:
                skipped = await walk(sheet)
        except BaseException:
            await sheet.save_rest()
            raise
        state = State.SKIPPED if skipped else State.DONE
        await self._registrations.close(registration.id, state, reason=skipped, progress=sheet.unsaved())
        _log.info("registration_closed", state=state.value, reason=skipped)

    async def _failed(self, registration: Registration, error: ItgrixError) -> None:
        """Kommo away: again later. A person must act: nothing goes out until then. This one refused: it is parked."""
        if error.remedy is Remedy.GIVE_UP or isinstance(error, KommoForbidden):
            _log.warning("registration_failed", error=str(error), remedy=f"registrations retry {registration.id}")
            await self._registrations.close(registration.id, State.FAILED, reason=str(error))
            return
        if error.remedy is Remedy.PERSON:
            self._gate.shut(error)
        await self._again(registration, error)

    async def _again(self, registration: Registration, error: Exception) -> None:
        retriable = error if isinstance(error, KommoError) else KommoUnreachable(repr(error))
        pause = self._backoff(retriable, registration.attempts + 1) or 0.0
        reason = str(retriable)
        _log.info("registration_postponed", pause_s=round(pause, 1), reason=reason)
        await self._registrations.postpone(registration.id, due_at=self._now() + pause, reason=reason)
