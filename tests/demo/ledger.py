"""What Kommo holds, read back over its API, beside what was placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.demo.calls import KNOWN, Expected, Placed

__all__ = ["Contact", "Held", "Ledger", "Verdict", "compare", "read_ledger"]

LATE = 1.5  # seconds by which a conversation may seem longer: the steps around it take their time
EARLY = 1.0  # and shorter: Kommo keeps whole seconds


@dataclass(frozen=True, slots=True)
class Held:
    """A call as Kommo holds it."""

    note_id: int
    direction: str
    phone: str
    result: str
    status: int
    duration: int
    user_id: int
    card: str


@dataclass(frozen=True, slots=True)
class Contact:
    name: str
    phones: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ledger:
    calls: list[Held]
    contacts: list[Contact]
    leads: int
    tasks: int
    users: dict[int, str]

    def user(self, user_id: int) -> str:
        return self.users.get(user_id, "robot")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`right` are the calls that are as they must be, by note; `wrong` says in words what is not."""

    right: frozenset[int]
    wrong: list[str]


async def read_ledger(url: str, token: str) -> Ledger:
    """Calls in the order of their arrival, cards and users; six requests."""
    async with aiohttp.ClientSession(f"{url}/api/v4/", headers={"Authorization": f"Bearer {token}"}) as session:
        users = await _all(session, "users")
        contacts = await _all(session, "contacts")
        leads = await _all(session, "leads")
        tasks = await _all(session, "tasks")
        of_contacts = await _all(session, "contacts/notes", "notes")
        of_leads = await _all(session, "leads/notes", "notes")
    contact_names = {card["id"]: f"contact {card['name']}" for card in contacts}
    lead_names = {card["id"]: f"lead {card['name']}" for card in leads}
    calls = [_held(note, contact_names) for note in of_contacts if note["note_type"] in {"call_in", "call_out"}]
    calls += [_held(note, lead_names) for note in of_leads if note["note_type"] in {"call_in", "call_out"}]
    return Ledger(
        sorted(calls, key=lambda call: call.note_id),
        [Contact(card["name"], tuple(_phones(card))) for card in contacts],
        len(leads),
        len(tasks),
        {user["id"]: user["name"] for user in users},
    )


async def _all(session: aiohttp.ClientSession, path: str, items: str = "") -> list[dict[str, Any]]:
    async with session.get(path, params={"limit": "250"}) as answer:
        answer.raise_for_status()
        if answer.status == 204:  # an empty list
            return []
        found: list[dict[str, Any]] = (await answer.json(content_type=None))["_embedded"][items or path]
        return found


def _held(note: dict[str, Any], cards: dict[int, str]) -> Held:
    params = note["params"]
    return Held(
        note["id"],
        note["note_type"].removeprefix("call_"),
        params["phone"],
        params["call_result"],
        params["call_status"],
        params["duration"],
        params.get("call_responsible", 0),
        cards.get(note["entity_id"], "a card that does not exist"),
    )


def _phones(card: dict[str, Any]) -> Iterable[str]:
    for field in card["custom_fields_values"] or ():
        if field["field_code"] == "PHONE":
            yield from (value["value"] for value in field["values"])


def compare(placed: Iterable[Placed], ledger: Ledger, *, speed: float = 1.0) -> Verdict:
    """Whether Kommo holds what was placed, all of it, and nothing else."""
    right: set[int] = set()
    wrong: list[str] = []
    unclaimed = {call.note_id: call for call in ledger.calls}
    clients: dict[str, str] = {}
    for each in placed:
        if each.client:
            clients[each.client] = KNOWN.get(each.client, f"Contact {each.client}")
        for expected in each.expected:
            mine = [call for call in unclaimed.values() if call.phone == each.client]
            found = next((call for call in mine if _fits(call, expected, speed)), None)
            if found is not None:
                right.add(unclaimed.pop(found.note_id).note_id)
            else:
                wrong.append(f"{each.story}: {_told(expected)} must be there, and is not")
    wrong += [f"{call.phone}: {_shown(call)} is there, and must not be so" for call in unclaimed.values()]
    names = Counter(contact.name for contact in ledger.contacts)
    must = Counter({*clients.values(), *KNOWN.values()})
    wrong += [f"contact {name}: is missing" for name in must - names]
    wrong += [f"contact {name}: is there, and must not be" for name in names - must]
    return Verdict(frozenset(right), wrong)


def _fits(call: Held, expected: Expected, speed: float) -> bool:
    talk = expected.talk / speed
    return (call.direction, call.result, call.status, call.user_id) == (
        expected.direction,
        expected.result,
        expected.status,
        expected.user_id,
    ) and (talk - EARLY <= call.duration <= talk + LATE if talk else call.duration == 0)


def _told(expected: Expected) -> str:
    talk = f" for about {expected.talk:g} s" if expected.talk else ""
    return (
        f"a call {expected.direction}, {expected.result}{talk}, call_status {expected.status}, user {expected.user_id}"
    )


def _shown(call: Held) -> str:
    return (
        f"a call {call.direction}, {call.result}, {call.duration} s, call_status {call.status}, user {call.user_id},"
        f" on {call.card}"
    )
