"""Items of one kind that wait together travel together: one request carries up to fifty of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from itgrix_kommo.kommo.batches import MOST_ITEMS, Outcome
from itgrix_kommo.kommo.client import KommoClient

Body: TypeAlias = Mapping[str, Any]

LINGER = 0.02
"""Seconds that the first item waits for company; while its request is away, the next ones gather by themselves."""


class Box:
    """Items of one kind, sent by `send`, which tells the outcome of each in order."""

    def __init__(self, send: Callable[[list[Body]], Awaitable[list[Outcome]]]) -> None:
        self._send = send
        self._waiting: list[tuple[Body, asyncio.Future[Outcome]]] = []
        self._courier: asyncio.Task[None] | None = None

    async def post(self, body: Body) -> Outcome:
        """What became of this item. Whoever is cancelled while it is away leaves it to its fate."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, future))
        if self._courier is None or self._courier.done():
            self._courier = asyncio.create_task(self._carry())
        return await future

    async def close(self) -> None:
        if self._courier is not None:
            self._courier.cancel()
            await asyncio.gather(self._courier, return_exceptions=True)

    async def _carry(self) -> None:
        await asyncio.sleep(LINGER)
        while self._waiting:
            batch = [(body, future) for body, future in self._waiting[:MOST_ITEMS] if not future.done()]
            del self._waiting[:MOST_ITEMS]
            if not batch:
                continue
            try:
                outcomes = await self._send([body for body, _ in batch])
            except BaseException as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(
                            asyncio.CancelledError() if isinstance(error, asyncio.CancelledError) else error
                        )
                raise
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if not future.done():
                    future.set_result(outcome)


class Mail:
    """A box for each kind of thing that a registration writes."""

    def __init__(self, client: KommoClient) -> None:
        self.contacts = Box(client.create_contacts)
        self.leads = Box(client.create_leads)
        self.unsorted = Box(client.create_unsorted)
        self.calls = Box(client.add_calls)
        self.contact_notes = Box(lambda bodies: client.add_call_notes("contacts", bodies))
        self.company_notes = Box(lambda bodies: client.add_call_notes("companies", bodies))
        self.lead_notes = Box(lambda bodies: client.add_call_notes("leads", bodies))
        self.tasks = Box(client.create_tasks)
        self.contact_updates = Box(client.update_contacts)
        self.company_updates = Box(client.update_companies)
        self.lead_updates = Box(client.update_leads)

    async def close(self) -> None:
        await asyncio.gather(*(box.close() for box in vars(self).values()))

    def notes(self, entity_type: str) -> Box:
        return {"contacts": self.contact_notes, "companies": self.company_notes, "leads": self.lead_notes}[entity_type]

    def updates(self, entity_type: str) -> Box:
        return {"contacts": self.contact_updates, "companies": self.company_updates, "leads": self.lead_updates}[
            entity_type
        ]
