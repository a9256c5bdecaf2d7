"""Kommo: whether it can be reached, takes our token, and has what the configuration refers to. A few reads in all."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final, NamedTuple

import aiohttp
from yarl import URL

from itgrix_kommo.config import Business, Config, Kommo
from itgrix_kommo.doctor.clock import judge_clock
from itgrix_kommo.doctor.examination import Check, Patient, Shared
from itgrix_kommo.doctor.findings import Finding, age, fault, ok, skipped, split, warning
from itgrix_kommo.doctor.storage import stored_grant
from itgrix_kommo.errors import (
    ConfigError,
    KommoBlocked,
    KommoError,
    KommoForbidden,
    KommoUnauthorized,
    KommoUnpaid,
    KommoUnreachable,
    StorageError,
)
from itgrix_kommo.kommo.checks import Problem, judge_phone_field, judge_pipelines, judge_users, unsorted_pipelines
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import MOST_PER_SECOND, Limiter
from itgrix_kommo.kommo.models import Account, Pipeline
from itgrix_kommo.kommo.subscription import PATH
from itgrix_kommo.kommo.transport import USER_AGENT, LongLivedToken, Transport

GROUP: Final = "Kommo"

SLOW: Final = 3.0
"""Seconds for an answer, from which autodistribution and pop-ups come too late."""

ENDS_SOON: Final = 30 * 86_400.0
"""Seconds before a token's end that somebody should make another."""

REFRESH_LIFE: Final = 90 * 86_400.0
"""Seconds that Kommo keeps the access of an integration that nobody uses."""

_LOGIN: Final = "type itgrix-kommo login"
_MAKE_ANOTHER: Final = (
    "make a long-lived token in the integration's settings in Kommo and put it into kommo.access_token"
)


class Greeting(NamedTuple):
    """An answer without a token. `date` is in Unix seconds, None where it told none."""

    seconds: float
    date: float | None
    at: float


class Open(NamedTuple):
    """The account, asked with our token."""

    client: KommoClient
    account: Account


def checks(patient: Patient) -> list[Check]:
    config = patient.config
    greeting = patient.share(partial(_greeted, config.kommo))
    account = patient.share(lambda: patient.stack.enter_async_context(_opened(config)))
    pipelines = patient.share(partial(_pipelines, account))
    return [
        Check(GROUP, "reach", partial(reach, greeting)),
        Check(GROUP, "clock", partial(clock, greeting)),
        Check(GROUP, "token", partial(token, config, account, greeting)),
        Check(GROUP, "rate", partial(rate, config.kommo)),
        Check(GROUP, "users", partial(users, config, account)),
        Check(GROUP, "phone field", partial(phone_field, account)),
        Check(GROUP, "pipeline", partial(pipeline, config.business, account, pipelines)),
        Check(GROUP, "tasks", partial(tasks, config.business, account)),
        *([Check(GROUP, "webhooks", partial(webhooks, config, account))] if config.kommo.webhook_secret else []),
    ]


async def _greeted(kommo: Kommo) -> Greeting:
    """Raises KommoUnreachable."""
    limit = aiohttp.ClientTimeout(total=kommo.timeout_s)
    begun = time.perf_counter()
    base = URL(kommo.base_url)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, headers={"User-Agent": USER_AGENT}) as session,
            session.head(base.origin(), allow_redirects=False) as answer,
        ):
            date, at = answer.headers.get("Date", ""), time.time()
    except aiohttp.ClientConnectorCertificateError as error:
        raise KommoUnreachable(
            f"the certificate of {base.host} is not believed ({error.certificate_error}): "
            "type update-ca-certificates, and see that kommo.base_url is your account's address"
        ) from error
    except aiohttp.ClientConnectorDNSError as error:
        raise KommoUnreachable(
            f"there is no address of {base.host}: correct kommo.base_url, and see that names are resolved on this host "
            f"(getent hosts {base.host})"
        ) from error
    except TimeoutError as error:
        raise KommoUnreachable(
            f"{base.origin()} does not answer within {kommo.timeout_s:g} s: "
            f"let the firewall pass https to it (curl -I {base.origin()} tries)"
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise KommoUnreachable(
            f"{base.origin()} can't be reached ({error}): correct kommo.base_url, and see that the network is up "
            f"(curl -I {base.origin()} tries)"
        ) from error
    try:
        told = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Greeting(time.perf_counter() - begun, None, at)
    return Greeting(time.perf_counter() - begun, told, at)


async def reach(greeting: Shared[Greeting]) -> Finding:
    try:
        found = await greeting.get()
    except KommoUnreachable as error:
        return fault(*split(str(error)))
    if found.seconds > SLOW:
        return warning(f"Kommo took {found.seconds:.1f} s to answer", "look for what slows this host's network down")
    return ok(f"Kommo answers in {found.seconds * 1000:.0f} ms")


async def clock(greeting: Shared[Greeting]) -> Finding:
    found = await greeting.needed("Kommo can't be reached")
    if found.date is None:
        return skipped("Kommo does not tell its time")
    return judge_clock("Kommo's", found.date, found.at)


@asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[Open]:
    """Raises ConfigError, StorageError, KommoError."""
    kommo = config.kommo
    # What the daemon leaves of the account's limit is ours: it may be sending at this moment.
    limiter = Limiter(max(1, MOST_PER_SECOND - kommo.requests_per_second))
    access = LongLivedToken(await _access_token(config))
    async with Transport(kommo.base_url, access, limiter, timeout_s=kommo.timeout_s) as transport:
        client = KommoClient(transport, retry=lambda _error, _failed: None, region=config.numbers.region)
        yield Open(client, await client.account())


async def _access_token(config: Config) -> str:
    """The token as it is: a grant is never renewed here, that is the daemon's. Raises StorageError, KommoError."""
    kommo = config.kommo
    if kommo.access_token is not None:
        return kommo.access_token.get_secret_value()
    client_id = kommo.integration.client_id if kommo.integration else ""
    grant = await stored_grant(config, client_id)
    if grant is None:
        raise KommoUnauthorized(f"nobody has granted access to Kommo yet: {_LOGIN}")
    if grant.expires_at < time.time() - REFRESH_LIFE:
        raise KommoUnauthorized(f"the access to Kommo has lapsed, for it was not used for three months: {_LOGIN}")
    if grant.expires_at < time.time():
        raise KommoUnauthorized(
            f"the access to Kommo is to be renewed since {age(time.time() - grant.expires_at)}: start the daemon, "
            f"which renews it; if it runs and can't, {_LOGIN}"
        )
    return grant.access_token


async def token(config: Config, account: Shared[Open], greeting: Shared[Greeting]) -> list[Finding]:
    kommo = config.kommo
    given = kommo.access_token.get_secret_value() if kommo.access_token is not None else ""
    ends_at = end_of(given)
    if ends_at is not None and ends_at <= time.time():
        return [fault(f"kommo.access_token has expired {age(time.time() - ends_at)} ago", _MAKE_ANOTHER)]
    try:
        found = (await account.get()).account
    except (ConfigError, StorageError, KommoError) as error:
        if isinstance(error, KommoUnreachable):
            await greeting.needed("Kommo can't be reached")
        return [judge_refusal(error, by_hand=bool(given))]
    soon = ends_at is not None and ends_at - time.time() < ENDS_SOON
    who = f"account {found.name or found.subdomain} ({found.id}) takes it"
    if soon and ends_at is not None:
        return [warning(f"{who}, for {age(ends_at - time.time())} more", _MAKE_ANOTHER)]
    until = time.strftime(", until %Y-%m-%d", time.gmtime(ends_at)) if ends_at is not None else ""
    return [ok(who + until)]


def judge_refusal(error: Exception, *, by_hand: bool) -> Finding:
    """Why the account could not be read."""
    words, remedy = split(str(error))
    match error:
        case KommoUnauthorized():
            return fault(words, _MAKE_ANOTHER if by_hand else remedy if "login" in remedy else _LOGIN)
        case KommoUnpaid():
            return fault(words, "pay the account's subscription in Kommo; calls wait here meanwhile")
        case KommoBlocked():
            return fault(words, "ask Kommo's support to lift the block, and see what else asks this account so often")
        case KommoUnreachable():
            return fault(words, remedy or "see that kommo.base_url is your account's own address")
        case _:
            return fault(words, remedy or "mend what is told there")


def end_of(token: str) -> float | None:
    """When a long-lived token ends (Unix s), as it says itself; None where it does not."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


async def rate(kommo: Kommo) -> Finding:
    used = kommo.requests_per_second
    if used >= MOST_PER_SECOND:
        return warning(
            f"kommo.requests_per_second is all that Kommo allows ({MOST_PER_SECOND}): whatever else asks this account "
            "gets it blocked",
            f"set kommo.requests_per_second to {MOST_PER_SECOND - 1} unless nothing else does",
        )
    return ok(f"{used} requests a second at most, of the {MOST_PER_SECOND} that Kommo allows")


async def users(config: Config, account: Shared[Open]) -> list[Finding]:
    client = (await _of(account)).client
    try:
        known = await client.users()
    except KommoForbidden as error:
        return [
            warning(split(str(error))[0], "use an administrator's token; until then user_ids are taken as they are")
        ]
    except KommoError as error:
        return [fault(*split(str(error)))]
    business = config.business
    defaults = {business.default_user_id, *(route.default_user_id for route in business.routes)} - {None}
    wanted = {one.user_id for one in config.employees} | {one for one in defaults if one is not None}
    problems = judge_users(known, wanted)
    if problems:
        return _findings(problems)
    return [ok(f"every user of the configuration ({len(wanted)}) is in the account and active")]


async def phone_field(account: Shared[Open]) -> list[Finding]:
    client = (await _of(account)).client
    try:
        number, problems = judge_phone_field(await client.contact_fields())
    except KommoError as error:
        return [fault(*split(str(error)))]
    return _findings(problems) or [ok(f"contacts have PHONE ({number}) with WORK")]


async def _pipelines(account: Shared[Open]) -> Sequence[Pipeline]:
    return await (await _of(account)).client.pipelines()


async def pipeline(business: Business, account: Shared[Open], pipelines: Shared[Sequence[Pipeline]]) -> list[Finding]:
    opened = await _of(account)
    try:
        known = await pipelines.get()
    except KommoError as error:
        return [fault(*split(str(error)))]
    stage, problems = judge_pipelines(known, business.pipeline_id, business.status_id)
    found = _findings(problems)
    for at, route in enumerate(business.routes):
        if route.pipeline_id is not None:
            _, wrong = judge_pipelines(known, route.pipeline_id, None)
            found += [
                fault(f"business.routes[{at}]: {one.words}", f"correct business.routes[{at}].pipeline_id")
                for one in wrong
            ]
    if business.unsorted and stage is not None and stage[0] not in unsorted_pipelines(known, opened.account):
        found.append(
            warning(
                f"business.unsorted is on, but pipeline {stage[0]} takes no incoming leads",
                "switch Incoming leads on in the pipeline's settings in Kommo, or set business.unsorted to false",
            )
        )
    if found or stage is None:
        return found
    names = {one.id: one.name for one in known}
    return [ok(f"new leads go to pipeline {names.get(stage[0], '')} ({stage[0]}), stage {stage[1]}")]


async def tasks(business: Business, account: Shared[Open]) -> Finding:
    kinds = {one.id for one in (await _of(account)).account.task_types}
    wanted = business.tasks
    if not (wanted.missed_inbound or wanted.unanswered_outbound):
        return skipped("no call-back tasks are wanted")
    return judge_task_type(wanted.task_type, kinds)


def judge_task_type(wanted: int, kinds: Collection[int]) -> Finding:
    if kinds and wanted not in kinds:
        known = ", ".join(map(str, sorted(kinds)))
        return fault(f"the account has no task type {wanted}", f"set business.tasks.task_type to one of {known}")
    return ok(f"call-back tasks are of type {wanted}")


async def webhooks(config: Config, account: Shared[Open]) -> Finding:
    """Whether Kommo tells us of changes; the daemon subscribes by itself."""
    url, secret = config.recordings.public_url, config.kommo.webhook_secret
    if url is None or secret is None:
        return warning(
            "kommo.webhook_secret is given, but no public address that Kommo could tell anything",
            "set recordings.public_url, or take kommo.webhook_secret out",
        )
    client = (await _of(account)).client
    try:
        known = await client.webhooks()
    except KommoForbidden as error:
        return warning(split(str(error))[0], "use an administrator's token, or take kommo.webhook_secret out")
    except KommoError as error:
        return fault(*split(str(error)))
    ours = url.rstrip("/") + PATH + secret.get_secret_value()
    found = [one for one in known if one.destination == ours]
    if not found:
        return warning(
            "Kommo tells this daemon of no changes", "type systemctl restart itgrix_amo: it subscribes itself"
        )
    if all(one.disabled for one in found):
        return warning(
            "Kommo has switched our webhook off, for it was not answered",
            "see the line of the public link, then type systemctl restart itgrix_amo: it subscribes anew",
        )
    return ok("Kommo tells this daemon of changes")


def _findings(problems: Sequence[Problem]) -> list[Finding]:
    return [(fault if one.stops else warning)(one.words, one.remedy) for one in problems]


async def _of(account: Shared[Open]) -> Open:
    return await account.needed("the account can't be asked")
