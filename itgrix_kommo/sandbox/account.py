"""A Kommo account in memory: what is in it, and how it changes. Knows nothing of HTTP."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import changes, seed
from .links import Links
from .records import (
    LOST,
    WON,
    Card,
    Change,
    Creation,
    Field,
    Kind,
    Link,
    Note,
    Pipeline,
    Popup,
    Status,
    Task,
    Unsorted,
    User,
    Webhook,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .clock import Clock
    from .switches import Switches


class Account:
    """Tables are plain dicts by id, in order of creation; `contacts`, `companies` and `leads` are views of `cards`.

    Everything that adds or changes goes through a method, so that webhooks, the page and the audit learn of it.
    """

    def __init__(
        self, clock: Clock, switches: Switches, *, account_id: int = 31_000_001, subdomain: str = "acme"
    ) -> None:
        self.clock = clock
        self.switches = switches
        self.id = account_id
        self.subdomain = subdomain
        self.name = subdomain.capitalize()
        self.created_at = int(clock.now())
        self.users: dict[int, User] = {user.id: user for user in seed.USERS}
        self.pipelines: dict[int, Pipeline] = {pipeline.id: pipeline for pipeline in seed.PIPELINES}
        self.loss_reasons = dict(seed.LOSS_REASONS)
        self.task_types = {type_id: (name, code) for type_id, name, code in seed.TASK_TYPES}
        self.cards: dict[Kind, dict[int, Card]] = {kind: {} for kind in Kind}
        self.links = Links()
        self.tags: dict[Kind, dict[int, str]] = {kind: {} for kind in Kind}
        self.tasks: dict[int, Task] = {}
        self.notes: dict[int, Note] = {}
        self.unsorted: dict[str, Unsorted] = {}
        self.webhooks: dict[int, Webhook] = {}
        self.popups: list[Popup] = []
        self.creations: list[Creation] = []
        self.revision = 0  # grows with every change, so that the page knows when to look again
        self.listeners: list[Callable[[Change], None]] = []
        persons = itertools.count(5501)  # Kommo numbers contacts and companies from one sequence
        self._ids = {
            Kind.CONTACTS: persons,
            Kind.COMPANIES: persons,
            Kind.LEADS: itertools.count(6601),
            "tasks": itertools.count(7701),
            "notes": itertools.count(8801),
            "tags": itertools.count(301),
            "webhooks": itertools.count(401),
        }

    @property
    def contacts(self) -> dict[int, Card]:
        return self.cards[Kind.CONTACTS]

    @property
    def companies(self) -> dict[int, Card]:
        return self.cards[Kind.COMPANIES]

    @property
    def leads(self) -> dict[int, Card]:
        return self.cards[Kind.LEADS]

    @property
    def calls(self) -> list[Note]:
        """Every call in the account: however it came in, Kommo keeps it as a note."""
        return [note for note in self.notes.values() if note.is_call]

    # What is there

    def now(self) -> int:
        return int(self.clock.now())

    def fields(self, kind: Kind) -> tuple[Field, ...]:
        fields = seed.FIELDS[kind]
        if kind is Kind.CONTACTS and not self.switches.phone_field:
            return tuple(field for field in fields if field.code != "PHONE")
        return fields

    def field(self, kind: Kind, *, field_id: int | None = None, code: str | None = None) -> Field | None:
        return next(
            (field for field in self.fields(kind) if field.id == field_id or (code and field.code == code)), None
        )

    @property
    def main_pipeline(self) -> Pipeline:
        return next(pipeline for pipeline in self.pipelines.values() if pipeline.is_main)

    def stage(self, status_id: int, pipeline_id: int | None) -> tuple[Pipeline, Status] | None:
        """The stage by its id; without a pipeline the closing stages are the main pipeline's."""
        if pipeline_id is not None:
            candidates: Iterable[Pipeline] = filter(None, [self.pipelines.get(pipeline_id)])
        elif status_id in {WON, LOST}:
            candidates = [self.main_pipeline]
        else:
            candidates = self.pipelines.values()
        return next(((line, status) for line in candidates if (status := line.status(status_id))), None)

    def is_user(self, user_id: int) -> bool:
        user = self.users.get(user_id)
        return user is not None and user.is_active

    def visible(self, kind: Kind) -> Iterator[Card]:
        """What lists show: what is not deleted and not an unsorted entry's."""
        return (card for card in self.cards[kind].values() if not card.is_deleted and not card.is_unsorted)

    def linked(self, card: Card, to_kind: Kind) -> list[Card]:
        """Cards of that kind tied to this one, in the order they were tied, whichever side holds the link."""
        return [self.cards[to_kind][card_id] for card_id in self.links.neighbours(card.kind, card.id, to_kind)]

    def open_leads(self, card: Card) -> list[Card]:
        return [lead for lead in self.linked(card, Kind.LEADS) if lead.is_open]

    # What happens

    def add_card(self, kind: Kind, given: dict[str, Any], *, by: int, request_id: str | None = None) -> Card:
        """`given` holds attributes of Card; what is absent gets Kommo's default."""
        now, card_id = self.now(), next(self._ids[kind])
        defaults: dict[str, Any] = {
            "name": f"Lead #{card_id}" if kind is Kind.LEADS else "",
            "responsible_user_id": by,
            "created_by": by,
            "created_at": now,
            "searchable_at": self.clock.now() + self.switches.search_delay_s,
        }
        if kind is Kind.LEADS:
            defaults |= {"pipeline_id": self.main_pipeline.id}
        values = defaults | given
        values.setdefault("updated_by", values["created_by"])
        values.setdefault("updated_at", now)
        if kind is Kind.LEADS:
            values.setdefault("status_id", self.pipelines[values["pipeline_id"]].first_status.id)
            if values["status_id"] in {WON, LOST}:
                values.setdefault("closed_at", now)
        card = Card(id=card_id, kind=kind, **values)
        self.cards[kind][card_id] = card
        self._born(kind, card_id, request_id)
        if not card.is_unsorted:
            self._tell(changes.added(self, card))
        return card

    def change_card(self, card: Card, given: dict[str, Any], *, by: int) -> Card:
        values = {"updated_by": by, "updated_at": self.now()} | given
        if "fields" in given and given["fields"] != card.fields:
            values["searchable_at"] = self.clock.now() + self.switches.search_delay_s
        if card.kind is Kind.LEADS:
            values.setdefault("pipeline_id", card.pipeline_id)
            if values["pipeline_id"] != card.pipeline_id:
                values.setdefault("status_id", self.pipelines[values["pipeline_id"]].first_status.id)
            is_closed = values.get("status_id", card.status_id) in {WON, LOST}
            values.setdefault("closed_at", (card.closed_at or self.now()) if is_closed else None)
        new = replace(card, **values)
        self.cards[card.kind][card.id] = new
        self._tell(*changes.changed(self, card, new))
        return new

    def delete_card(self, kind: Kind, card_id: int) -> None:
        """As a user does in Kommo's own pages: the card stays known as deleted."""
        card = replace(self.cards[kind][card_id], is_deleted=True, updated_at=self.now())
        self.cards[kind][card_id] = card
        self._tell(changes.deleted(card))

    def tag_ids(self, kind: Kind, given: Iterable[int | str]) -> tuple[int, ...]:
        """Ids of tags told by id or by name; an unknown name becomes a tag."""
        known = {name.casefold(): tag_id for tag_id, name in self.tags[kind].items()}
        found: dict[int, None] = {}
        for tag in given:
            tag_id = tag if isinstance(tag, int) else known.get(tag.casefold())
            if tag_id is None:
                tag_id = known[str(tag).casefold()] = next(self._ids["tags"])
                self.tags[kind][tag_id] = str(tag)
            found[tag_id] = None
        return tuple(found)

    def tie(self, link: Link) -> Link:
        """The link as it is kept."""
        self.revision += 1
        return self.links.tie(link)

    def untie(self, link: Link) -> None:
        self.revision += 1
        self.links.untie(link)

    def add_task(self, given: dict[str, Any], *, by: int, request_id: str | None = None) -> Task:
        now = self.now()
        values: dict[str, Any] = {
            "task_type_id": 1,
            "responsible_user_id": by,
            "created_by": by,
            "created_at": now,
        } | given
        values.setdefault("updated_by", values["created_by"])
        values.setdefault("updated_at", now)
        task = Task(id=next(self._ids["tasks"]), **values)
        self.tasks[task.id] = task
        self._born("tasks", task.id, request_id)
        self._tell(changes.task(self, "add", task))
        return task

    def change_task(self, task: Task, given: dict[str, Any], *, by: int) -> Task:
        new = replace(task, **({"updated_by": by, "updated_at": self.now()} | given))
        self.tasks[task.id] = new
        self._tell(changes.task(self, "update", new))
        return new

    def add_note(self, card: Card, given: dict[str, Any], *, by: int, request_id: str | None = None) -> Note:
        """`updated_at` is when it was written, whatever `created_at` says."""
        values = {"responsible_user_id": card.responsible_user_id, "created_by": by, "created_at": self.now()} | given
        note = Note(
            id=next(self._ids["notes"]),
            kind=card.kind,
            entity_id=card.id,
            updated_by=values["created_by"],
            updated_at=self.now(),
            **values,
        )
        self.notes[note.id] = note
        self._born("notes", note.id, request_id)
        self._tell(changes.noted(self, note, card))
        return note

    def change_note(self, note: Note, given: dict[str, Any], *, by: int) -> Note:
        new = replace(note, **({"updated_by": by, "updated_at": self.now()} | given))
        self.notes[note.id] = new
        self.revision += 1
        return new

    def add_unsorted(self, entry: Unsorted, request_id: str | None = None) -> Unsorted:
        self.unsorted[entry.uid] = entry
        self._born("unsorted", entry.uid, request_id)
        return entry

    def sort(self, entry: Unsorted, *, accepted: bool, by: int, status_id: int | None = None) -> Unsorted:
        """Accept: the hidden cards come into sight at a stage, with their new responsible. Decline: they are gone."""
        cards = [self.leads[entry.lead_id], *(self.contacts[card_id] for card_id in entry.contact_ids)]
        cards += [self.companies[card_id] for card_id in entry.company_ids]
        stage = status_id or self.pipelines[entry.pipeline_id].first_status.id
        for card in cards:
            values: dict[str, Any] = {"is_unsorted": False, "responsible_user_id": by, "updated_at": self.now()}
            if card.kind is Kind.LEADS and accepted:
                values["status_id"] = stage
            new = replace(card, is_deleted=not accepted, **values)
            self.cards[card.kind][card.id] = new
            if accepted:
                self._tell(changes.added(self, new))
        sorted_entry = replace(entry, state="accepted" if accepted else "declined", sorted_at=self.now())
        self.unsorted[entry.uid] = sorted_entry
        self._tell(changes.sorted_out(sorted_entry, accepted=accepted))
        return sorted_entry

    def add_popup(self, popup: Popup) -> None:
        self.popups.append(popup)
        self.revision += 1

    def add_webhook(self, given: dict[str, Any], *, by: int) -> Webhook:
        hook = Webhook(
            id=next(self._ids["webhooks"]), created_by=by, created_at=self.now(), updated_at=self.now(), **given
        )
        self.webhooks[hook.id] = hook
        self.revision += 1
        return hook

    def change_webhook(self, hook: Webhook, **given: Any) -> Webhook:
        new = replace(hook, updated_at=self.now(), **given)
        self.webhooks[hook.id] = new
        self.revision += 1
        return new

    def disable_webhooks(self) -> None:
        """What a block brings with it; each is enabled again only by saving it anew."""
        for hook in [hook for hook in self.webhooks.values() if not hook.disabled]:
            self.change_webhook(hook, disabled=True)

    def remove_webhook(self, destination: str) -> bool:
        found = [hook.id for hook in self.webhooks.values() if hook.destination == destination]
        for hook_id in found:
            del self.webhooks[hook_id]
        self.revision += 1
        return bool(found)

    @staticmethod
    def new_uid() -> str:
        return secrets.token_hex(20)

    def _born(self, what: str, record_id: int | str, request_id: str | None) -> None:
        self.creations.append(Creation(str(what), record_id, request_id, self.clock.now()))
        self.revision += 1

    def _tell(self, *told: Change) -> None:
        self.revision += 1
        for change in told:
            for listener in self.listeners:
                listener(change)
