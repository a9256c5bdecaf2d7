"""`GET|POST /pbx/read_call`: calls of the past, registered from the PBX's CEL table, each told as soon as it was read.

One reading at a time. Who leaves ends it; what was kept stays kept, so the same request goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Annotated, Any, Final, Protocol, Self, TypeAlias

import structlog
from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, model_validator
from pydantic_core import PydanticCustomError

from itgrix_kommo.errors import StorageError
from itgrix_kommo.log import masked
from itgrix_kommo.pipeline.history import Fate, Read, moment
from itgrix_kommo.web.bodies import fitting, read_json
from itgrix_kommo.web.problems import Handler, Refused
from itgrix_kommo.web.visitors import Network, visitor_of

PATH: Final = "/pbx/read_call"
LARGEST_BODY: Final = 64 * 1024
MOST_IDS: Final = 500
MOST_IDS_ON_A_LINE: Final = 50

BEAT: Final = 10.0
"""Seconds of silence after which an empty line shows everybody on the way that the reading goes on."""

LOOK: Final = 0.5
"""Seconds between looks whether the one who asked is still there."""

STALLED: Final = 60.0
"""Seconds for which he may take nothing of what he is told; then the reading ends, since others wait for it."""


_BEGIN: Final = '{"calls": [\n'

_log = structlog.get_logger(__name__)


class Calls(Protocol):
    """What is needed of `pipeline.history.History`."""

    def of_period(self, since: float, until: float) -> AsyncGenerator[Read]: ...

    def of_ids(self, ids: Sequence[str]) -> AsyncGenerator[Read]: ...


Past: TypeAlias = Callable[[], AbstractAsyncContextManager[Calls]]
"""Opens the PBX's tables; raises StorageError where they can't be read."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_CallId = Annotated[StrictStr, Field(pattern=r"^[!-~]{1,150}$")]
_Moment = Annotated[StrictStr, Field(min_length=1, max_length=40), BeforeValidator(_as_text)]


class ReadCallRequest(BaseModel):
    """Which calls: those with these linkedids or uniqueids, or those of a period; without `end_date` until now."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: Annotated[list[_CallId], Field(min_length=1, max_length=MOST_IDS), BeforeValidator(_as_list)] | None = None
    start_date: _Moment | None = None
    end_date: _Moment | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.id is None) == (self.start_date is None) or (self.id is not None and self.end_date is not None):
            raise PydanticCustomError("ways", "give either id (one or more), or start_date and perhaps end_date")
        return self

    def period(self, zone: tzinfo | None, now: float) -> tuple[float, float]:
        """In Unix seconds. Raises Refused (400)."""
        try:
            since = moment(self.start_date or "", zone)
        except ValueError as error:
            raise Refused(400, f"start_date: {error}") from None
        try:
            until = now if self.end_date is None else moment(self.end_date, zone)
        except ValueError as error:
            raise Refused(400, f"end_date: {error}") from None
        if since > until:
            raise Refused(400, "start_date: it is later than end_date, or than this very moment")
        return since, until


@dataclass(slots=True)
class Reading:
    """One that goes on; `since` is Unix seconds."""

    since: float
    counts: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(Fate, 0))

    def facts(self) -> dict[str, Any]:
        return {"since": int(self.since), **told(self.counts)}


def told(counts: Mapping[Fate, int]) -> dict[str, int]:
    return {fate.value.replace(" ", "_"): count for fate, count in counts.items()}


class _Ending(Exception):
    """The door is about to close."""

    def __str__(self) -> str:
        return "the daemon is stopping: ask again when it runs, it goes on from here"


class ReadCallDesk:
    """`past` is None where no database of the PBX is configured; `zone` is the PBX's."""

    def __init__(
        self,
        past: Past | None,
        *,
        zone: tzinfo | None,
        trusted: Sequence[Network] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._past = past
        self._trusted = trusted
        self._zone = zone
        self._now = now
        self._is_ending = False
        self.going: Reading | None = None

    def end(self) -> None:
        """Let the reading that goes on come to its end: the door is about to close."""
        self._is_ending = True

    def routes(self, guarding: Callable[[Handler], Handler]) -> list[web.RouteDef]:
        # A GET that does something is the vendor's; a HEAD of it does nothing.
        return [
            web.get(PATH, guarding(self._by_query), allow_head=False),
            web.post(PATH, guarding(self._by_body)),
        ]

    async def _by_query(self, request: web.Request) -> web.StreamResponse:
        # A browser that knows the password sends it for whatever page leads here, and says whose page it is.
        if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            raise Refused(403, "the page of another site asks for this: open the address itself, or use curl")
        query = request.query
        if len(query.getall("id", ())) > MOST_IDS_ON_A_LINE:
            raise Refused(400, f"id: more than {MOST_IDS_ON_A_LINE}: send a JSON body by POST")
        given: dict[str, Any] = {name: query.getall(name) for name in query}
        for name in given.keys() - {"id"}:
            if len(given[name]) > 1:
                raise Refused(400, f"{name[:40]}: given more than once")
            given[name] = given[name][0]
        return await self._answer(request, fitting(ReadCallRequest, given))

    async def _by_body(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, await read_json(request, ReadCallRequest, LARGEST_BODY))

    async def _answer(self, request: web.Request, asked: ReadCallRequest) -> web.StreamResponse:
        period = None if asked.id is not None else asked.period(self._zone, self._now())
        if self._past is None:
            raise Refused(503, "database: not configured, so there is no CEL table to read: name the PBX's database")
        if self.going is not None:
            begun = f"{datetime.fromtimestamp(self.going.since, self._zone):%Y-%m-%d %H:%M:%S}"
            raise Refused(
                409,
                f"another reading goes on since {begun}, {sum(self.going.counts.values())} calls so far: "
                "ask again when it has ended; it is in /status as read_call",
            )
        reading = self.going = Reading(self._now())
        address = visitor_of(request, self._trusted).address
        _log.info("read_call", address=address, ids=len(asked.id or ()), period=period)
        answer = web.StreamResponse(headers={"Content-Type": "application/json; charset=utf-8"})
        error, how = None, "broken off"
        try:
            async with self._past() as history:
                reads = history.of_period(*period) if period else history.of_ids(asked.id or ())
                async with aclosing(reads):
                    await self._tell(request, answer, reads, reading)
            how = "read"
        except (StorageError, _Ending) as failure:
            error = masked(str(failure))
            if not answer.prepared:
                raise Refused(503, error) from None
        finally:
            # Before the last word: who has heard it may ask anew.
            self.going = None
            _log.info("read_call_ended", how=how, **told(reading.counts))
        end = json.dumps({"counts": told(reading.counts), "error": error}, ensure_ascii=False)
        await _write(request, answer, ("\n" if any(reading.counts.values()) else _BEGIN) + "], " + end[1:] + "\n")
        await answer.write_eof()
        return answer

    async def _tell(
        self, request: web.Request, answer: web.StreamResponse, reads: AsyncIterator[Read], reading: Reading
    ) -> None:
        """The calls of one JSON document, line by line; its end is another's."""
        before = _BEGIN
        async with aclosing(self._beating(reads, request)) as beating:
            async for read in beating:
                if read is None:
                    await _write(request, answer, "\n")
                    continue
                await _write(request, answer, before + json.dumps(read.facts(self._zone), ensure_ascii=False))
                reading.counts[read.fate] += 1
                before = ",\n"

    async def _beating(self, reads: AsyncIterator[Read], request: web.Request) -> AsyncGenerator[Read | None]:
        """The same, and None for every `BEAT` seconds without one.

        Raises ConnectionResetError once nobody listens, _Ending once nobody may.
        """
        loop = asyncio.get_running_loop()
        while not self._is_ending:
            following, beat_at = asyncio.ensure_future(_next(reads)), loop.time() + BEAT
            try:
                while not (await asyncio.wait({following}, timeout=LOOK))[0]:
                    if request.transport is None or request.transport.is_closing():
                        raise ConnectionResetError
                    if self._is_ending:
                        raise _Ending
                    if loop.time() >= beat_at:
                        beat_at += BEAT
                        yield None
            finally:
                if not following.done():
                    following.cancel()
                    with suppress(asyncio.CancelledError, StorageError):
                        await following
            read = following.result()
            if read is None:
                return
            yield read
        raise _Ending


async def _next(reads: AsyncIterator[Read]) -> Read | None:
    return await anext(reads, None)


async def _write(request: web.Request, answer: web.StreamResponse, text: str) -> None:
    """Raises ConnectionResetError where nobody takes it."""
    if not answer.prepared:
        await answer.prepare(request)
    try:
        async with asyncio.timeout(STALLED):
            await answer.write(text.encode("utf-8", "replace"))
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from None


def schema() -> dict[str, Any]:
    """The JSON schema of the body."""
    return ReadCallRequest.model_json_schema()
