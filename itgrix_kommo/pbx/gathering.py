"""Whole calls out of a stream of CEL rows: what belongs together is kept until nothing of it is left open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from itgrix_kommo.calls.cel_lines import ENDS, CelRow
from itgrix_kommo.calls.live_calls import GRACE, STALE_AFTER

_OTHERS = (
    "channel2_uniqueid",
    "pickup_channel_uniqueid",
    "transferee_channel_uniqueid",
    "transfer_target_channel_uniqueid",
)
"""Where `extra` names channels that another linkedid may hold."""


@dataclass(slots=True, eq=False)
class Gathered:
    """The rows of one call, in their order. `headless`: a channel's beginning is not among them."""

    rows: list[tuple[int, CelRow]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    headless: bool = False
    last_at: float = 0.0

    def in_order(self) -> list[CelRow]:
        return [row for _, row in sorted(self.rows, key=lambda numbered: numbered[0])]

    @property
    def is_over(self) -> bool:
        return not self.open

    def add(self, number: int, row: CelRow) -> None:
        self.rows.append((number, row))
        self.last_at = max(self.last_at, row.at)
        if row.uniqueid not in self.seen:
            self.seen.add(row.uniqueid)
            self.open.add(row.uniqueid)
            self.headless = self.headless or row.event != "CHAN_START"
        if row.event in ENDS:
            self.open.discard(row.uniqueid)

    def absorb(self, other: Gathered) -> None:
        self.rows += other.rows
        self.keys |= other.keys
        self.seen |= other.seen
        self.open |= other.open
        self.headless = self.headless or other.headless
        self.last_at = max(self.last_at, other.last_at)


class Gathering:
    """Rows in, by their time; calls out, once they have been over for a moment."""

    def __init__(self) -> None:
        self._by_key: dict[str, Gathered] = {}
        self._groups: dict[int, Gathered] = {}
        self._over: dict[int, Gathered] = {}
        self._number = 0

    def feed(self, row: CelRow) -> Iterator[Gathered]:
        """Take one row; the calls that are over by its time."""
        self._number += 1
        keys = _keys(row)
        found = {id(group): group for key in keys if (group := self._by_key.get(key)) is not None}
        group = max(found.values(), key=lambda one: len(one.rows)) if found else Gathered()
        for other in found.values():
            if other is not group:
                group.absorb(other)
                self._drop(other)
                self._by_key.update(dict.fromkeys(other.keys, group))
        group.add(self._number, row)
        group.keys |= keys
        self._by_key.update(dict.fromkeys(keys, group))
        self._groups[id(group)] = group
        if group.is_over:
            self._over[id(group)] = group
        else:
            self._over.pop(id(group), None)
        for done in [one for one in self._over.values() if row.at - one.last_at > GRACE]:
            self._forget(done)
            yield done
        if self._number % 1000 == 0:
            for lost in [one for one in self._groups.values() if row.at - one.last_at > STALE_AFTER]:
                self._forget(lost)
                yield lost

    def rest(self) -> Sequence[Gathered]:
        """What is left when the rows are at their end, over or not."""
        rest = list(self._groups.values())
        for group in rest:
            self._forget(group)
        return rest

    def _drop(self, group: Gathered) -> None:
        self._groups.pop(id(group), None)
        self._over.pop(id(group), None)

    def _forget(self, group: Gathered) -> None:
        self._drop(group)
        for key in group.keys:
            self._by_key.pop(key, None)


def other_ids(row: CelRow) -> set[str]:
    """The ids of all channels that the row says belong together."""
    return {row.uniqueid, row.linkedid, *(row.told(other) for other in _OTHERS)} - {""}


def _keys(row: CelRow) -> set[str]:
    keys = other_ids(row) | {row.channel}
    if row.extra:
        bridge = row.told("bridge_id")
        if bridge and not row.told("bridge_technology").startswith("holding"):
            keys.add(bridge)
        for name in ("retriever", "pickup_channel", "channel2_name"):
            if told := row.told(name):
                keys.add(told)
    elif row.event.startswith("BRIDGE"):
        keys.update(row.peers)
    return keys
