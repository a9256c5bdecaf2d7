"""One registration's sheet: what is known of the call's client, what is done, and what is being written.

What is about to be written is noted in the row first, so that whoever takes the row up again knows that it may have
been written already, waits until Kommo would show it, and looks before writing a second time. What a customization said
is in the row, too: nobody is asked twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from itgrix_kommo.calls.call import Call
from itgrix_kommo.config import Hook
from itgrix_kommo.errors import KommoRejected
from itgrix_kommo.kommo.batches import Added, Outcome, Refused
from itgrix_kommo.pipeline.params import Params
from itgrix_kommo.pipeline.progress import Entity, Progress, Writing
from itgrix_kommo.pipeline.registration.desk import Desk, History, Settling
from itgrix_kommo.pipeline.rules import ROBOT

SETTLE = 15.0
"""Seconds after which what was written is found by Kommo's search; before that, not finding it proves nothing."""

ENTITY_NOT_FOUND = 263
"""Kommo's code: nobody has the phone."""

CANCELLED = "cancelled by customization"

HOOK_BEFORE = {
    "contact": "process_contact_creation_params",
    "lead": "process_lead_creation_params",
    "unsorted": "process_unsorted_creation_params",
    "call": "process_call_params",
    "call note": "process_call_params",
    "task": "process_task_creation_params",
    "process_contact_update_params": "process_contact_update_params",
    "process_lead_update_params": "process_lead_update_params",
}
"""The customization that stands before each kind of writing."""


_log = structlog.get_logger(__name__)


class Sheet:
    """Of one call. `save` makes the progress durable; `raw_phone` has had its replacements."""

    def __init__(
        self,
        call: Call,
        raw_phone: str,
        progress: Progress,
        desk: Desk,
        history: History,
        save: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self.call = call
        self.raw_phone = raw_phone
        self.progress = progress
        self.desk = desk
        self.rules = desk.rules
        self.history = history
        self._save_row = save
        self._is_saved = True

    @property
    def phone(self) -> str:
        return self.progress.phone or ""

    @property
    def uniq(self) -> str:
        """As it was when something was written first: by another one Kommo's cards of this call would not be found."""
        return self.progress.uniq or self.rules.uniq(self.call)

    @property
    def params(self) -> Params:
        return Params(self.call, self.phone, self.rules, self.progress.uniq)

    @property
    def entity(self) -> Entity:
        if self.progress.entity is None:
            raise AssertionError("the steps before have found or created the client")
        return self.progress.entity

    def full(self) -> dict[str, Any]:
        return self.params.full(self.progress.entity, self.progress.deal, self.progress.link)

    def responsible(self, entity: Entity | None) -> int:
        return self.rules.responsible(self.call, entity)

    def card(self) -> tuple[str, int]:
        """The card the call and its task stand on, by Kommo's own rule: the one open lead, else the client."""
        deal = self.progress.deal
        if deal is not None and (deal.is_new or deal.is_unsorted or len(self.progress.open_leads or []) == 1):
            return "leads", deal.id
        return self.entity.type, self.entity.id

    def done(self, step: str) -> bool:
        return step in self.progress.steps

    def is_writing(self, what: str) -> bool:
        return self.progress.writing is not None and self.progress.writing.what == what

    async def ask(self, hook: Hook, params: dict[str, Any]) -> dict[str, Any] | None:
        """What goes on after this customization, None where it cancelled; asked once, however often this is walked.

        `params` is its payload without `call_full`, which is made only where somebody is asked.
        """
        if hook in self.progress.hooks:
            return self.progress.hooks[hook]
        if hook in self.desk.hooks.hooks:
            await self.save_rest()
        verdict = await self.desk.hooks.call(hook, params, full=self.full, call_id=self.call.id)
        if verdict.answer is not None:
            notes = [f"{hook} failed: {verdict.failure}"] if verdict.failure else []
            await self.save(hooks={**self.progress.hooks, hook: verdict.data}, notes=[*self.progress.notes, *notes])
        return verdict.data

    async def once(
        self,
        what: str,
        body: dict[str, Any],
        send: Callable[[dict[str, Any]], Awaitable[Outcome]],
        find: Callable[[Writing], Awaitable[Added | None]],
    ) -> Added:
        """Write, unless an earlier attempt of ours shows in Kommo."""
        writing = self.progress.writing
        if writing is not None and writing.what == what:
            found = await find(writing)
            if found is not None:
                _log.info("written_before", what=what, id=found.id)
                return found
            settled_at = await self._gone_by(writing) + SETTLE
            if self.desk.now() < settled_at:
                raise Settling(settled_at)
        return await self.write(what, body, send)

    async def write(
        self, what: str, body: dict[str, Any], send: Callable[[dict[str, Any]], Awaitable[Outcome]]
    ) -> Added:
        await self.save(uniq=self.uniq, writing=Writing(what=what, since=self.desk.now(), body=body))
        _log.debug("writing", what=what, body=body)
        outcome = await send({**body, "request_id": f"{self.uniq}:{what}"})
        if isinstance(outcome, Refused) and (instead := self._without_user(body, outcome)) is not None:
            _log.warning("user_refused", what=what, words=outcome.detail, remedy="the default user takes it")
            await self.save(writing=Writing(what=what, since=self.desk.now(), body=instead))
            _log.debug("writing", what=what, body=instead)
            outcome = await send({**instead, "request_id": f"{self.uniq}:{what}"})
        if isinstance(outcome, Added):
            return outcome
        if isinstance(outcome, Refused):
            # Who mends the customization and retries wants it asked anew.
            blamed = HOOK_BEFORE.get(what) if outcome.status != ENTITY_NOT_FOUND else None
            await self.save(writing=None, hooks={k: v for k, v in self.progress.hooks.items() if k != blamed})
            raise KommoRejected(
                f"Kommo refused the {what}: {outcome.title}: {outcome.detail}: mend it and retry",
                status=outcome.status or 400,
            )
        if not outcome.error.may_have_happened:
            await self.save(writing=None)
        elif self.progress.writing is not None:
            await self._gone_by(self.progress.writing)
        raise outcome.error

    async def _gone_by(self, writing: Writing) -> float:
        """When it had gone out: now at the latest, for whoever asks waits for it no more."""
        if writing.gone_by is not None:
            return writing.gone_by
        now = self.desk.now()
        await self.save(writing=writing.model_copy(update={"gone_by": now}))
        return now

    def _without_user(self, body: dict[str, Any], refused: Refused) -> dict[str, Any] | None:
        """The body with the default user where Kommo refused the one it names (deleted, say); None where it did not."""
        keys = {"responsible_user_id", "created_by", "call_responsible"}
        if not any(key in f"{refused.title} {refused.detail}" for key in keys):
            return None
        default = self.rules.route(self.call).default_user_id
        instead = _with_user(body, keys, default)
        if isinstance(body.get("params"), dict):
            instead["params"] = _with_user(body["params"], keys, default)
        return instead if instead != body else None

    async def finish(self, step: str, *, note: str = "", **changes: Any) -> None:
        notes = [*self.progress.notes, note] if note else self.progress.notes
        if note:
            _log.debug("step_decided", step=step, note=note)
        await self.save(steps=[*self.progress.steps, step], notes=notes, **changes)

    async def save(self, **changes: Any) -> None:
        """What is about to be written, and what may not be asked twice, is in the row at once; the rest waits for the
        next of them, or for the end. An answer that a crash forgets is looked for in Kommo, as one that never came.
        """
        self.progress = self.progress.model_copy(update=changes)
        self._is_saved = False
        if "hooks" in changes or changes.get("writing") is not None:
            await self.save_rest()

    async def save_rest(self) -> None:
        """Before what may take long, and where the walk ends early."""
        if (progress := self.unsaved()) is not None:
            await self._save_row(progress)

    def unsaved(self) -> dict[str, Any] | None:
        """The progress, if the row does not have it yet, for who takes it there."""
        if self._is_saved:
            return None
        self._is_saved = True
        return self.progress.model_dump(mode="json")


def _with_user(body: dict[str, Any], keys: set[str], user_id: int) -> dict[str, Any]:
    if user_id == ROBOT:
        return {
            key: ROBOT if key == "created_by" else value
            for key, value in body.items()
            if key not in keys - {"created_by"}
        }
    return {key: user_id if key in keys else value for key, value in body.items()}
