"""One beat of a node in the shared database: who is there, who has which part of the limit, whether Kommo told to wait.

A beat is one transaction, and beats take turns. The table of slots is `kommo.shares`' own; this keeps it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from itgrix_kommo import __version__
from itgrix_kommo.errors import NameTaken
from itgrix_kommo.kommo.answers import LONGEST_PAUSE
from itgrix_kommo.kommo.shares import FORGOTTEN_AFTER, LEASE, Answer, Beat, Partner, SharedSlot, exchange, reserved
from itgrix_kommo.storage.shared import CLOCK, SharedDatabase, account, insert, nodes, slots


class Known(NamedTuple):
    """What a node tells of itself: the newest tick it has seen, the epoch whose table knows all that it remembers.

    `pause` is for how many seconds Kommo has told it to wait. `others` are the nodes that it has seen last, with their
    fixed shares: an older table, or an empty one, may not know of them, and has to wait for what they remember.
    `account` is the id of its account in Kommo, where it has heard that.
    """

    tick: int
    epoch: str
    waiting: int
    pause: float
    others: tuple[tuple[str, int], ...] = ()
    account: int | None = None


class NodeSeen(NamedTuple):
    """A node as the others see it. `seen` is for how many seconds it has not been heard of.

    `per_second` is the limit that it is configured with, None where its program does not tell.
    """

    name: str
    is_here: bool
    seen: float
    waiting: int
    slots: int
    homes: int
    version: str
    per_second: int | None
    account: int | None


class Heard(NamedTuple):
    """`limit` is the account's, the least that any known node is configured with.

    `pause` is what another node was told by Kommo, in seconds from now.
    """

    answer: Answer
    limit: int
    tick: int
    epoch: str
    pause: float
    nodes: tuple[NodeSeen, ...]


class SharedAccount:
    """`per_second` is the limit that this node is configured with."""

    def __init__(self, database: SharedDatabase, node: str, per_second: int) -> None:
        self._database = database
        self._node = node
        self._per_second = per_second

    async def beat(self, beat: Beat, known: Known) -> Heard:
        """Raises NameTaken, and StorageError: the beat may have arrived all the same then."""
        return await self._database.write(lambda connection: self._beat(connection, beat, known))

    def _beat(self, connection: sa.Connection, beat: Beat, known: Known) -> Heard:
        first = {"id": 1, "epoch": str(uuid.uuid4()), "epoch_at": 0.0, "tick": 0, "paused_until": 0.0, "paused_by": ""}
        connection.execute(insert(account).values(first).on_conflict_do_nothing())
        row = connection.execute(sa.select(account).with_for_update()).mappings().one()
        now = float(connection.execute(sa.select(CLOCK)).scalar_one())
        common: dict[str, Any] = {"tick": max(row["tick"], known.tick) + 1, "epoch_at": min(row["epoch_at"], now)}
        if row["tick"] < known.tick:  # this is an older copy than the one we knew
            common |= {"epoch": str(uuid.uuid4()), "epoch_at": now}
        if known.pause > 0 and (now + known.pause > row["paused_until"] or row["paused_by"] == self._node):
            common |= {"paused_until": now + known.pause, "paused_by": self._node}
        common = {**row, **common}
        connection.execute(sa.update(account).values(common))
        if row["tick"] >= known.tick and beat.keeps is not None:
            self._see_that_it_is_alone(connection, beat, now)
        self._enter(connection, beat, known, now)
        missed = self._miss(connection, dict(known.others), now) if row["tick"] < known.tick else {}
        partners = self._partners(connection, now)
        there = connection.execute(sa.select(nodes).order_by(nodes.c.name)).mappings().all()
        # Who is away counts too: he may be at work alone, by his own figure.
        limit = min(one["per_second"] for one in there if one["per_second"] is not None)
        table, answer = exchange(beat, reserved(self._slots(connection, limit), missed), partners, now)
        change = sa.update(slots).where(slots.c.number == sa.bindparam("slot"))
        connection.execute(
            change.values(home=sa.bindparam("to"), holder=sa.bindparam("by"), until=sa.bindparam("end")),
            [{"slot": one.number, "to": one.home, "by": one.holder, "end": one.until} for one in table],
        )
        return Heard(
            answer,
            limit,
            tick=common["tick"],
            epoch=common["epoch"],
            pause=min(max(0.0, common["paused_until"] - now), LONGEST_PAUSE)
            if common["paused_by"] != self._node
            else 0.0,
            nodes=tuple(_seen(one, table, now) for one in there),
        )

    def _see_that_it_is_alone(self, connection: sa.Connection, beat: Beat, now: float) -> None:
        """That the last beat in its name was its own. Of two with one name the one is refused that came later."""
        last = connection.execute(sa.select(nodes.c.acked, nodes.c.until).where(nodes.c.name == self._node)).first()
        # Where the last one was somebody's first, he is told at his next.
        if last is None or last.until <= now or last.acked in (0.0, beat.acked, beat.acked_before):
            return
        if last.until - LEASE > beat.acked:  # else this is an older copy of the table, with a beat of before
            raise NameTaken(
                f"node.name: another daemon is {self._node} too and was here {now - (last.until - LEASE):.0f} s ago: "
                "this one sends nothing to Kommo: give each PBX a name of its own and restart it"
            )

    def _enter(self, connection: sa.Connection, beat: Beat, known: Known, now: float) -> None:
        mine = {
            "name": self._node,
            "until": now + LEASE,
            "acked": beat.acked,
            "wants": beat.wants,
            "waiting": known.waiting,
            "epoch": known.epoch,
            "version": __version__,
            "per_second": self._per_second,
            "account": known.account,
        }
        put = insert(nodes).values(mine)
        known_before = {**mine, "account": sa.func.coalesce(put.excluded.account, nodes.c.account)}
        connection.execute(put.on_conflict_do_update(index_elements=["name"], set_=known_before))
        connection.execute(sa.delete(nodes).where(nodes.c.until < now - FORGOTTEN_AFTER))

    def _miss(self, connection: sa.Connection, others: Mapping[str, int], now: float) -> dict[str, int]:
        """Of these nodes with their fixed shares those of which this table knows nothing yet.

        They are away, remember what it has forgotten, and may be at work alone.
        """
        unheard = {"until": now, "acked": 0.0, "wants": 0, "waiting": 0, "epoch": "", "version": "", "per_second": None}
        missed = [{"name": name, **unheard} for name in others if name != self._node]
        if not missed:
            return {}
        put = insert(nodes).values(missed).on_conflict_do_nothing().returning(nodes.c.name)
        return {name: others[name] for name in connection.execute(put).scalars()}

    def _partners(self, connection: sa.Connection, now: float) -> dict[str, Partner]:
        """As they are believed; kept so, lest it become true with time what can't be true now."""
        told = [
            Partner(*row)
            for row in connection.execute(sa.select(nodes.c.name, nodes.c.acked, nodes.c.wants, nodes.c.until))
        ]
        believed = [one.believed(now) for one in told]
        change = sa.update(nodes).where(nodes.c.name == sa.bindparam("node"))
        if changed := [{"node": one.name, "at": one.acked, "end": one.until} for one in believed if one not in told]:
            connection.execute(change.values(acked=sa.bindparam("at"), until=sa.bindparam("end")), changed)
        return {one.name: one for one in believed}

    def _slots(self, connection: sa.Connection, limit: int) -> Sequence[SharedSlot]:
        """As many as the limit says. Those beyond it are kept as they are: once in use again they may still be held."""
        query = sa.select(slots.c.number, slots.c.home, slots.c.holder, slots.c.until).order_by(slots.c.number)
        found = [SharedSlot(*row) for row in connection.execute(query)]
        missing = [SharedSlot(number) for number in range(len(found) + 1, limit + 1)]
        if missing:
            connection.execute(sa.insert(slots), [{"number": one.number, "until": 0.0} for one in missing])
        return [*found, *missing][:limit]


def _seen(row: sa.RowMapping, table: Sequence[SharedSlot], now: float) -> NodeSeen:
    name = row["name"]
    return NodeSeen(
        name=name,
        is_here=row["until"] > now,
        seen=round(max(0.0, now - (row["until"] - LEASE)), 1),
        waiting=row["waiting"],
        slots=sum(slot.holder == name and slot.until > now for slot in table),
        homes=sum(slot.home == name for slot in table),
        version=row["version"],
        per_second=row["per_second"],
        account=row["account"],
    )
