"""Click-to-call: a request becomes one order to Asterisk, at once or never, and every one of them is in the log."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from itgrix_kommo.ami.actions import Action, Reply, originate
from itgrix_kommo.ami.settings import LinkStatus
from itgrix_kommo.config import Employee, Hook, Originate
from itgrix_kommo.customizations.customizer import Verdict
from itgrix_kommo.errors import AmiActionTimeout, AmiError
from itgrix_kommo.web.clicks import VARIABLE, Click, Clicks, State
from itgrix_kommo.web.dialling import DialRules, Order
from itgrix_kommo.web.lines import Lines
from itgrix_kommo.web.pace import Pace
from itgrix_kommo.web.problems import Refused

HOOK: Final = "process_originate_params"

MOST_WAITING: Final = 4
"""Requests that wait for news of one click; who asks more often is answered at once."""

_log = structlog.get_logger(__name__)


class Asterisk(Protocol):
    """What is needed of `ami.link.AmiLink`."""

    @property
    def status(self) -> LinkStatus: ...

    async def send(self, action: Action, *, within: float | None = None) -> Reply: ...


class Hooks(Protocol):
    """What is needed of `customizations.Customizer`."""

    async def call(self, hook: Hook, params: Mapping[str, Any], *, call_id: str = "") -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `name` is what the log and the ownership of clicks go by, `address` where the request came from.

    `user_id` is the user whom a signed token names, None for who may call for everybody.
    """

    name: str
    address: str
    user_id: int | None = None


class ClickToCall:
    """`results` counts what became of the requests, for the metrics."""

    def __init__(
        self,
        settings: Originate,
        employees: Iterable[Employee],
        rules: DialRules,
        asterisk: Asterisk,
        hooks: Hooks,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._pace = Pace(each=settings.per_user_per_minute, together=settings.per_minute)
        self.use(settings, employees, rules)
        self._asterisk = asterisk
        self._hooks = hooks
        self._now = now
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._is_ending = False
        self._lines = Lines()
        self.clicks = Clicks(patience=settings.timeout_s, moved=self._tell)
        self.results: Counter[str] = Counter()

    def use(self, settings: Originate, employees: Iterable[Employee], rules: DialRules) -> None:
        """Dial by these from now on; whose phone rings already is put through as he was to be."""
        self._settings = settings
        self._by_user = {one.user_id: one for one in employees}
        self._by_extension = {one.extension: one for one in self._by_user.values()}
        self._rules = rules
        self._pace.use(each=settings.per_user_per_minute, together=settings.per_minute)

    async def start(
        self,
        caller: Caller,
        phone: str,
        *,
        extension: str | None,
        user_id: int | None,
        request_data: Mapping[str, Any],
        click_id: str | None = None,
    ) -> Click:
        """Have the employee's phone rung and then the client called. `click_id` is given where it was promised before.

        Raises Refused; then nothing was dialled, or (503 after a silent Asterisk) nobody knows.
        """
        click_id = click_id or new_click_id()
        log = _log.bind(originate_id=click_id, by=caller.name, address=caller.address, phone=phone[:64])
        try:
            click, order = await self._start(click_id, caller, phone, extension, user_id, request_data)
        except Refused as refused:
            self.results["refused"] += 1
            who = {"extension": (extension or "")[:64]} if extension else {"user": user_id or caller.user_id}
            log.warning("originate_refused", status=refused.status, reason=str(refused), **who)
            raise
        self.results["started"] += 1
        log.info(
            "originate_started",
            extension=click.extension,
            channel=order.channel,
            context=order.context,
            dialled=order.extension,
        )
        return click

    def turn_away(self, by: str, address: str, refused: Refused) -> None:
        """Note a request that has not come as far as `start`: of somebody unknown, or without sense."""
        self.results["refused"] += 1
        facts = {"by": by, "address": address, "status": refused.status, "reason": str(refused)}
        self._lines.warn(_log, "originate_refused", self._now(), **facts)

    def progress(self, click_id: str, caller: Caller) -> Click | None:
        return self.clicks.get(click_id, caller.name, self._now())

    async def news(self, click_id: str, caller: Caller, known: State, within: float) -> Click | None:
        """As `progress`, but not before it has left the state `known` or `within` seconds have passed."""
        click = self.progress(click_id, caller)
        if click is None or click.state is not known or known is State.ENDED or self._is_ending:
            return click
        if len(self._waiting[click_id]) >= MOST_WAITING:
            return click
        told = asyncio.Event()
        self._waiting[click_id].add(told)
        try:
            async with asyncio.timeout(within):
                await told.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting[click_id].discard(told)
            if not self._waiting[click_id]:
                del self._waiting[click_id]
        return self.progress(click_id, caller)

    def end(self) -> None:
        """Answer all who wait, and let nobody wait any more: the door is about to close."""
        self._is_ending = True
        for click_id in list(self._waiting):
            self._tell(click_id)

    def _tell(self, click_id: str) -> None:
        for told in self._waiting.get(click_id, ()):
            told.set()

    async def _start(
        self,
        click_id: str,
        caller: Caller,
        phone: str,
        extension: str | None,
        user_id: int | None,
        request_data: Mapping[str, Any],
    ) -> tuple[Click, Order]:
        employee = self._employee(caller, extension, user_id)
        number = self._rules.phone(phone)
        order = self._rules.order(employee.extension, number)
        status = self._asterisk.status
        if not status.connected:
            raise Refused(503, f"there is no link to Asterisk: {status.error or 'not connected yet'}")
        self._pace.take(str(employee.user_id), self._now())
        verdict = await self._hooks.call(HOOK, order.params(request_data), call_id=click_id)
        if verdict.data is None:
            raise Refused(403, "cancelled by customization: process_originate_params gave nothing to dial")
        order = self._rules.checked(verdict.data)
        click = Click(click_id, caller.name, employee.extension, number, self._now())
        # Before it is sent: its first events may come before the answer.
        self.clicks.begin(click)
        try:
            await self._asterisk.send(
                originate(
                    channel=order.channel,
                    context=order.context,
                    exten=order.extension,
                    priority=order.priority,
                    caller_id=order.caller_id,
                    timeout_s=self._settings.timeout_s,
                    variables={VARIABLE: click_id},
                    action_id=click_id,
                )
            )
        except AmiError as error:
            self.clicks.drop(click_id)
            words = "nobody knows whether it rings" if isinstance(error, AmiActionTimeout) else "nothing was dialled"
            raise Refused(503, f"{error}: {words}") from error
        return click, order

    def _employee(self, caller: Caller, extension: str | None, user_id: int | None) -> Employee:
        if caller.user_id is not None:
            employee = self._by_user.get(caller.user_id)
            if employee is None:
                raise Refused(404, f"employees: nobody has the user_id {caller.user_id} of the signed token")
            if (user_id or employee.user_id) != employee.user_id or (extension or employee.extension) != (
                employee.extension
            ):
                raise Refused(403, "a signed token calls from its own user's phone alone")
            return employee
        if user_id is not None:
            found, words = self._by_user.get(user_id), f"user_id {user_id}"
        else:
            found, words = self._by_extension.get(extension or ""), "such extension"
        if found is None:
            raise Refused(404, f"employees: nobody has {words}")
        return found


def new_click_id() -> str:
    """Nobody can guess it: who knows it and is who started it may ask after it."""
    return secrets.token_urlsafe(18)
