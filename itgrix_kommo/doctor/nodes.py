"""The PostgreSQL that several nodes of one account share."""

from __future__ import annotations

import time
from functools import partial
from typing import Final, NamedTuple

import sqlalchemy as sa

from itgrix_kommo.doctor.clock import judge_clock
from itgrix_kommo.doctor.examination import Check, Patient, Shared
from itgrix_kommo.doctor.findings import Finding, fault, ok, split, warning
from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage.shared import CLOCK, SharedDatabase, nodes

GROUP: Final = "nodes"


class Told(NamedTuple):
    """`names` are the nodes that are at work, `known` those that ever were; None where there are no tables yet."""

    now: float
    at: float
    names: frozenset[str]
    known: frozenset[str] | None


def checks(patient: Patient) -> list[Check]:
    url = patient.config.storage.shared_url
    if url is None:
        return []
    told = patient.share(partial(_told, url.get_secret_value()))
    return [
        Check(GROUP, "database", partial(database, told, patient.config.node.name)),
        Check(GROUP, "clock", partial(clock, told)),
    ]


async def _told(url: str) -> Told:
    """Raises StorageError."""
    shared = SharedDatabase(url)

    def ask(connection: sa.Connection) -> Told:
        now = float(connection.execute(sa.select(CLOCK)).scalar_one())
        at = time.time()
        if not sa.inspect(connection).has_table(nodes.name):
            return Told(now, at, frozenset(), None)
        rows = connection.execute(sa.select(nodes.c.name, nodes.c.until)).all()
        return Told(
            now, at, frozenset(name for name, until in rows if until > now), frozenset(name for name, _ in rows)
        )

    try:
        return await shared.read(ask)
    finally:
        await shared.close()


async def database(told: Shared[Told], name: str) -> Finding:
    try:
        found = await told.get()
    except StorageError as error:
        return fault(
            split(str(error))[0],
            "see that PostgreSQL runs (systemctl status postgresql), that its pg_hba.conf lets this host in, and that "
            "storage.shared_url has its address, user and password; each node registers by itself meanwhile",
        )
    if found.known is None:
        return warning("it can be reached, and has no tables yet", "start the daemon: it makes them")
    if name not in found.names:
        others = ", ".join(sorted(found.names)) or "none"
        return warning(
            f"this node ({name}) is not at work there; at work: {others}",
            "type systemctl start itgrix_amo; if it runs, journalctl -u itgrix_amo tells what keeps it from the others",
        )
    return ok(f"nodes at work: {', '.join(sorted(found.names))}")


async def clock(told: Shared[Told]) -> Finding:
    found = await told.needed("the shared database can't be reached")
    return judge_clock("the shared database's", found.now, found.at)
