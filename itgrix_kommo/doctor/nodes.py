"""The PostgreSQL that several nodes of one account share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

import sqlalchemy as sa

from itgrix_kommo.doctor.clock import judge_clock
from itgrix_kommo.doctor.examination import Check, Patient, Shared
from itgrix_kommo.doctor.findings import Finding, age, count, fault, ok, skipped, split, warning
from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage.servers import LOOK_AFTER
from itgrix_kommo.storage.shared import CLOCK, SharedDatabase
from itgrix_kommo.storage.shared_nodes import Member, members

GROUP: Final = "nodes"


class Told(NamedTuple):
    """`now` is the server's time, `at` ours when it was told."""

    now: float
    at: float
    members: Sequence[Member]


def checks(patient: Patient) -> list[Check]:
    url = patient.config.storage.shared_url
    if url is None:
        return []
    told = patient.share(partial(_told, url.get_secret_value()))
    return [
        Check(GROUP, "database", partial(database, told, patient.config.node.name)),
        Check(GROUP, "account", partial(account, told)),
        Check(GROUP, "limit", partial(limit, told)),
        Check(GROUP, "clock", partial(clock, told)),
    ]


async def _told(url: str) -> Told:
    """Raises StorageError."""
    shared = SharedDatabase(url)
    try:
        await shared.see_that_it_can_be_written()
        found = await members(shared)
        now = await shared.read(lambda connection: float(connection.execute(sa.select(CLOCK)).scalar_one()))
        return Told(now, time.time(), found)
    finally:
        await shared.close()


async def database(told: Shared[Told], name: str) -> list[Finding]:
    try:
        found = await told.get()
    except StorageError as error:
        words, remedy = split(str(error))
        if remedy == LOOK_AFTER:
            remedy = (
                "see that PostgreSQL runs (systemctl status postgresql), that its pg_hba.conf lets this host in, and "
                "that storage.shared_url has its address, user and password"
            )
        return [fault(words, f"{remedy}; each node registers by itself meanwhile")]
    return judge_members(found.members, name)


def judge_members(found: Sequence[Member], name: str) -> list[Finding]:
    """A line about this node, called `name`, and one about each other that is away."""
    if not found:
        return [warning("it can be reached, and no node has been there yet", "start the daemon: it makes the tables")]
    here = [one.name for one in found if one.is_here]
    at_work = ", ".join(here) or "none"
    if name in here:
        own = ok(f"nodes at work: {at_work}")
    else:
        own = warning(
            f"this node ({name}) is not at work there; at work: {at_work}",
            "type systemctl start itgrix_amo; if it runs, journalctl -u itgrix_amo tells what keeps it from the others",
        )
    away = [one for one in found if not one.is_here and one.name != name]
    # Of who was forgotten the others finish what waits.
    return [own, *(_judge_away(one) for one in away if one.seen is not None or one.failed)]


def _judge_away(one: Member) -> Finding:
    if one.seen is None:
        return warning(
            f"{one.name} is gone, and nobody can retry its {count(one.failed, 'registration')} that failed",
            f"type itgrix-kommo nodes forget {one.name}, which lists them",
        )
    left = ", ".join(
        f"{number} {state}" for state, number in (("waiting", one.waiting), ("failed", one.failed)) if number
    )
    return warning(
        f"{one.name} has been away for {age(one.seen)}{f'; its registrations: {left}' if left else ''}",
        "type systemctl start itgrix_amo on that PBX; "
        f"if it is gone for good, type itgrix-kommo nodes forget {one.name} here",
    )


async def account(told: Shared[Told]) -> Finding:
    found = await told.needed("the shared database can't be reached")
    return judge_account(found.members)


def judge_account(found: Sequence[Member]) -> Finding:
    told = {one.name: one.account for one in found if one.account is not None}
    if not told:
        return skipped("no node has told its Kommo account yet")
    if len(set(told.values())) == 1:
        return ok("all are in the same Kommo account")
    return fault(
        "the nodes are in different Kommo accounts: " + ", ".join(f"{name} in {value}" for name, value in told.items()),
        "correct kommo.base_url and its access where it is wrong, or give each account a database of its own",
    )


async def limit(told: Shared[Told]) -> Finding:
    found = await told.needed("the shared database can't be reached")
    return judge_limit(found.members)


def judge_limit(found: Sequence[Member]) -> Finding:
    told = {one.name: one.per_second for one in found if one.per_second is not None}
    if not told:
        return skipped("no node has told its kommo.requests_per_second yet")
    keeping = [one.name for one in found if one.fixed_share and not one.is_here]
    here = [one for one in found if one.is_here]
    if keeping and here and not any(one.fixed_share or one.slots for one in here):
        return fault(
            f"{', '.join(keeping)}, which is away, keeps all of it, and nobody sends anything to Kommo",
            "type systemctl start itgrix_amo on that PBX; if it is gone for good: itgrix-kommo nodes forget",
        )
    least = min(told.values())
    if max(told.values()) == least:
        return ok(f"all have {least} requests a second")
    return warning(
        f"the nodes differ, and {least} counts: " + ", ".join(f"{name} has {value}" for name, value in told.items()),
        "set kommo.requests_per_second to the same value on all PBXs and restart those that had another; one that is "
        "gone for good: itgrix-kommo nodes forget",
    )


async def clock(told: Shared[Told]) -> Finding:
    found = await told.needed("the shared database can't be reached")
    return judge_clock("the shared database's", found.now, found.at)
