"""What registrations write, kind by kind: items that wait together travel together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

from itgrix_kommo.kommo.batches import MOST_ITEMS, IsAwaited, Outcome
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.gathering import Gathering, Round

Body: TypeAlias = Mapping[str, Any]
Post: TypeAlias = Callable[[Body], Awaitable[Outcome]]
"""Sends one item, in company, and tells what became of it; for who is cancelled before it goes out nothing is sent."""


class _Send(Protocol):
    def __call__(self, bodies: Sequence[Body], /, *, is_awaited: IsAwaited) -> Awaitable[list[Outcome]]: ...


class Mail:
    """A box for each kind of thing that a registration writes."""

    def __init__(self, client: KommoClient) -> None:
        def box(send: _Send) -> Post:
            def answer(bodies: Round[Body]) -> Awaitable[list[Outcome]]:
                return send(bodies, is_awaited=bodies.is_awaited)

            return Gathering[Body, Outcome](answer, most=MOST_ITEMS).ask

        self.contacts = box(client.create_contacts)
        self.leads = box(client.create_leads)
        self.unsorted = box(client.create_unsorted)
        self.calls = box(client.add_calls)
        self.tasks = box(client.create_tasks)
        self._notes = {
            "contacts": box(partial(client.add_call_notes, "contacts")),
            "companies": box(partial(client.add_call_notes, "companies")),
            "leads": box(partial(client.add_call_notes, "leads")),
        }
        self._updates = {
            "contacts": box(client.update_contacts),
            "companies": box(client.update_companies),
            "leads": box(client.update_leads),
        }

    def notes(self, entity_type: str) -> Post:
        """Call notes on cards of this type."""
        return self._notes[entity_type]

    def updates(self, entity_type: str) -> Post:
        return self._updates[entity_type]
