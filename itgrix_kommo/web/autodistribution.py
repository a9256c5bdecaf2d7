"""`GET /autodistribution`: who is to get a call that comes in, and under which name; asked by the dialplan.

A caller hears nothing while it is asked, so the answer comes within `ANSWER_WITHIN` whatever Kommo does; without one in
time, or with an empty one, the dialplan goes its usual way.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from aiohttp import web

from itgrix_kommo.calls.numbers import NumberPlan, is_number
from itgrix_kommo.config import Employee, Hook
from itgrix_kommo.customizations.customizer import Verdict
from itgrix_kommo.errors import ItgrixError
from itgrix_kommo.kommo.listings import Client, Listing
from itgrix_kommo.web.caller_names import caller_name
from itgrix_kommo.web.problems import Refused
from itgrix_kommo.web.visitors import Network, bearer_of, is_same, visitor_of

PATH: Final = "/autodistribution"
HOOK: Final = "customize_autodistribution"

ANSWER_WITHIN: Final = 0.85
"""Seconds; the contract's second less what the way takes."""

KEPT_FOR_HOOK: Final = 0.5
"""Seconds of it that are the customization's, if there is one; the look-up gets the rest."""

LONGEST_QUERY: Final = 128

# What a dialplan may put into Dial() as it is.
_DIALABLE: Final = re.compile(r"\+?[A-Za-z0-9*#_.-]{1,40}", re.ASCII)

_NOT_FOUND: Final = "not found"
_HIDDEN: Final = "the caller hides his number"
_NO_EXTENSION: Final = "no extension"
_EXPECTED: Final = frozenset({_NOT_FOUND, _HIDDEN, _NO_EXTENSION})

_log = structlog.get_logger(__name__)


class Phones(Protocol):
    """What is needed of `kommo.phonebook.Phonebook`: who has a phone, from memory or else by asking Kommo."""

    async def find(self, phone: str) -> Listing | None: ...


class Hooks(Protocol):
    """What is needed of `customizations.Customizer`."""

    @property
    def hooks(self) -> Sequence[Hook]: ...

    async def call(self, hook: Hook, params: Mapping[str, Any], *, call_id: str = "") -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Destination:
    """Both empty: the call goes its usual way."""

    number: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        return f"{self.number};{self.name}" if self.number else ""


class Autodistribution:
    """`results` counts the answers by kind, for the metrics; `user_name` tells Kommo's name of a user."""

    def __init__(
        self,
        phones: Phones,
        plan: NumberPlan,
        employees: Sequence[Employee],
        hooks: Hooks,
        *,
        user_name: Callable[[int], str] = lambda _: "",
    ) -> None:
        self._phones = phones
        self._plan = plan
        self.use(employees)
        self._hooks = hooks
        self._user_name = user_name
        self.results: Counter[str] = Counter()

    def use(self, employees: Sequence[Employee]) -> None:
        """Put callers through to these from now on."""
        self._employees = {one.user_id: one for one in employees}

    async def answer(self, caller: str, trunk: str, request_data: Mapping[str, Any]) -> Destination:
        """Where the call from `caller` goes. Never raises, never later than `ANSWER_WITHIN`."""
        deadline = asyncio.get_running_loop().time() + ANSWER_WITHIN
        has_hook = HOOK in self._hooks.hooks
        client, error = await self._look_up(caller, deadline - KEPT_FOR_HOOK * has_hook)
        destination = Destination()
        if client is not None:
            employee = self._employees.get(client.responsible_id)
            if employee is None:
                error = f"{_NO_EXTENSION}: add the responsible user {client.responsible_id} to employees"
            else:
                destination = Destination(employee.extension, caller_name(client.name))
        if has_hook:
            params = {
                "number": destination.number,
                "name": destination.name,
                "from": caller,
                "trunk": trunk,
                "request_data": dict(request_data),
                "entity": self._entity(client) if client else None,
                "error": error,
            }
            destination = await self._customized(params, destination, deadline)
        expected = error.partition(":")[0] in _EXPECTED
        self.results["put_through" if destination.number else "unknown" if expected else "failed"] += 1
        _log.info("autodistribution", client=caller, number=destination.number, error=error)
        return destination

    async def _look_up(self, caller: str, deadline: float) -> tuple[Client | None, str]:
        if not is_number(caller):
            return None, _HIDDEN
        try:
            async with asyncio.timeout_at(deadline):
                listing = await self._phones.find(self._plan.client_phone(caller))
        except TimeoutError:
            return None, "Kommo did not answer in time"
        except ItgrixError as error:
            return None, str(error)
        return (listing.client, "") if listing else (None, _NOT_FOUND)

    async def _customized(self, params: Mapping[str, Any], before: Destination, deadline: float) -> Destination:
        try:
            async with asyncio.timeout_at(deadline):
                verdict = await self._hooks.call(HOOK, params)
        except TimeoutError:
            _log.warning("autodistribution_hook_late", consequence="its answer is not waited for")
            return before
        data = verdict.data or {}
        number, name = str(data.get("number") or "").strip(), caller_name(str(data.get("name") or ""))
        if number and not _DIALABLE.fullmatch(number):
            _log.warning(
                "autodistribution_number_refused", remedy=f"{HOOK}: give an extension: letters, digits, * # _ . -"
            )
            return Destination()
        return Destination(number, name) if number else Destination()

    def _entity(self, client: Client) -> dict[str, Any]:
        employee = self._employees.get(client.responsible_id)
        user = {
            "id": client.responsible_id,
            "name": self._user_name(client.responsible_id),
            "phones": [employee.extension, *employee.numbers] if employee else [],
        }
        return {
            "id": client.id,
            "type": client.type,
            "name": client.name,
            "phones": list(client.phones),
            "is_new": False,
            "responsible": user if client.responsible_id else None,
            "responsible_id": client.responsible_id,
        }


class AutodistributionDesk:
    """For programs with the token, and for the dialplan of this very host."""

    def __init__(
        self, autodistribution: Autodistribution, *, token: str | None, trusted: Sequence[Network] = ()
    ) -> None:
        self._autodistribution = autodistribution
        self._token = token
        self._trusted = trusted

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self._answer, allow_head=False)]

    async def _answer(self, request: web.Request) -> web.Response:
        self._check(request)
        query = request.query
        caller, trunk = query.get("from"), query.get("trunk", "")
        if caller is None:
            raise Refused(400, "from: missing: give the caller's number, URIENCODE()d")
        if max(map(len, (caller, trunk))) > LONGEST_QUERY or len(query) > 16:
            raise Refused(400, f"from, trunk: up to {LONGEST_QUERY} characters each")
        destination = await self._autodistribution.answer(caller.strip(), trunk, dict(query))
        if "application/json" in request.headers.get("Accept", ""):
            return web.json_response({"number": destination.number, "name": destination.name})
        return web.Response(text=destination.text)

    def _check(self, request: web.Request) -> None:
        """Raises Refused (401)."""
        given = bearer_of(request)
        if given is not None:
            if self._token is not None and is_same(given, self._token):
                return
        elif visitor_of(request, self._trusted).is_direct_loopback:
            return
        raise Refused(
            401,
            "give Authorization: Bearer with http.tokens.autodistribution, or ask from the host itself",
            headers={"WWW-Authenticate": 'Bearer realm="itgrix-kommo"'},
        )
