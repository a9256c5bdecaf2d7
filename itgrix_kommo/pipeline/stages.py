"""The live path: what happens while the phones still ring. Immediate, and lost where it can't be so.

At each stage of a conversation the two customizations that belong there are asked, and the pop-up goes out to whose
phone rings. Nothing here delays a call or its registration.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection
from typing import Any, Literal, Protocol

import structlog

from itgrix_kommo.calls.call import Call, CallType, Stage, StageName
from itgrix_kommo.customizations import Customizer

AT_ONCE = 500
"""Stages that may be under way together; beyond that customizations are so slow that the live path is lost anyway."""

_CONVERSATION_STAGES = frozenset({StageName.REQUESTED, StageName.ACCEPTED, StageName.ENDED})
_ASKED = frozenset({"process_client_phone", "need_registration"})
_POPUP_AT = {"ringing": StageName.REQUESTED, "answered": StageName.ACCEPTED}

_log = structlog.get_logger(__name__)


class PopupScreen(Protocol):
    def show(self, phone: str, users: Collection[int], *, call_id: str = "") -> None: ...


class LiveStages:
    """`phone_of` makes the number that is written from the raw one, `full_of` the payload that customizations get.

    `unlisted` says why the lists keep a call with this number out of the CRM, or nothing.
    """

    def __init__(
        self,
        hooks: Customizer,
        popups: PopupScreen,
        *,
        popup: Literal["ringing", "answered", "off"],
        phone_of: Callable[[str], str],
        full_of: Callable[[Call], dict[str, Any]],
        unlisted: Callable[[Call, str], str],
    ) -> None:
        self._hooks = hooks
        self._popups = popups
        self._popup_at = _POPUP_AT.get(popup)
        self._phone_of = phone_of
        self._full_of = full_of
        self._unlisted = unlisted
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._count = 0
        self._shown: dict[str, set[int]] = {}

    def use_popup(self, popup: Literal["ringing", "answered", "off"]) -> None:
        """From now on show it at this moment."""
        self._popup_at = _POPUP_AT.get(popup)

    def on_stage(self, stage: Stage) -> None:
        """Begin what this stage asks for; stages of one call follow each other."""
        call = stage.call
        if stage.name is StageName.CALL_ENDED:
            self._shown.pop(call.id, None)
            return
        if stage.name not in _CONVERSATION_STAGES or call.type not in {CallType.INCOMING, CallType.OUTGOING}:
            return
        users = self._viewers(stage)
        if not users and _ASKED.isdisjoint(self._hooks.hooks):
            return
        if self._count >= AT_ONCE:
            _log.warning("stage_lost", call_id=call.id, stage=stage.name.value, remedy="look for slow customizations")
            return
        self._count += 1
        if users:
            self._shown.setdefault(call.id, set()).update(users)
        before = self._under_way.get(call.id)
        task = asyncio.create_task(self._handle(stage, users, before), name=f"{stage.name.value} {call.id}")
        self._under_way[call.id] = task
        task.add_done_callback(lambda done: self._finished(call.id, done))

    async def close(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, call_id: str, task: asyncio.Task[None]) -> None:
        self._count -= 1
        if self._under_way.get(call_id) is task:
            del self._under_way[call_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("stage_broke", call_id=call_id, error=repr(error))

    async def _handle(self, stage: Stage, users: list[int], before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        call, name = stage.call, stage.name.value
        with structlog.contextvars.bound_contextvars(call_id=call.id):
            given = {"phone": self._phone_of(call.client.number), "call_stage": name}
            full = functools.partial(self._full_of, call)
            verdict = await self._hooks.call("process_client_phone", given, full=full, call_id=call.id)
            phone = str(verdict.data["phone"]) if verdict.data else ""
            if reason := self._unlisted(call, phone):
                self._not_shown(users, reason)
                return
            wanted = await self._hooks.call("need_registration", {"call_stage": name}, full=full, call_id=call.id)
            if wanted.data is not None and not wanted.data["result"]:
                self._not_shown(users, "need_registration said no")
            elif not phone:
                self._not_shown(users, "the client's number is hidden")
            elif users:
                self._popups.show(phone, users, call_id=call.id)

    @staticmethod
    def _not_shown(users: list[int], reason: str) -> None:
        if users:
            _log.debug("popup_not_shown", users=users, reason=reason)

    def _viewers(self, stage: Stage) -> list[int]:
        """Whose phone this conversation rings, if he is to see the caller now and has not yet."""
        if stage.name is not self._popup_at or stage.call.type is not CallType.INCOMING:
            return []
        conversation = stage.call.conversation(stage.conversation_id)
        if conversation is None:
            return []
        user = conversation.user
        if user is None:
            reason = f"{conversation.channel.name} is no employee's phone (employees)"
            _log.debug("popup_not_shown", call_id=stage.call.id, users=[], reason=reason)
            return []
        return [] if user.id in self._shown.get(stage.call.id, ()) else [user.id]
