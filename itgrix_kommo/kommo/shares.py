"""How several nodes share the account's limit. No IO, no clock.

The limit is so many slots (see `limiter`), and each slot is one node's at a time. A table that all nodes see (in their
PostgreSQL) tells of each slot its *home*, the node that has it for good, and its *holder*, who may use it until a time.

- Every beat a node prolongs what it holds, lets go what it has no use for, and takes what is free.
- What a holder does not prolong falls free. It stops using a slot `COOL` before that, so that Kommo has forgotten its
  last request by then.
- A home never lends its last slot: whoever is on the line is served at once.
- Without the table a node goes on with its home slots alone: its fixed share. So a slot is never lent for longer than
  `LEASE` from the last moment of which its home *knows* that its beat was answered: when that has passed, the home
  takes it back without asking. The homes of a node that is away stay reserved: it may be at work, cut off from the
  table alone.
- The server's clock may jump: set right by hand, or another host's after a move. A node measures it by its own clock
  from answer to answer. Where that shows a jump it goes on with the homes it had, and neither takes nor borrows for
  `LEASE`; so does, with its homes, who has just come and can't tell. By then every lease of before is over for whoever
  has it, by his own clock. What the table tells of later than now can't be true: it is believed for `LEASE` at most.

Times of the table are its server's Unix seconds, others those of the node's own clock that never jumps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

LEASE = 20.0
"""Seconds for which a slot is lent; beats come far more often, so that a slow one costs nothing."""

COOL = 8.0
"""Seconds before its end that a lease is not used any more: what was said of it a second ago still counts, then a slot
may be used within 5.5 s (`limiter.USED_WITHIN`), and Kommo counts for 1.5 s.
"""

STEADY = 0.25
"""Seconds by which the server's clock may go wrong from answer to answer, measured by ours; more is a jump."""

DRIFT = 2e-4
"""Seconds a second by which two hosts' clocks may run apart all the time."""

FORGOTTEN_AFTER = 86400.0
"""Seconds after which the homes of a node that is away go to the others."""

ALONE_AT_MOST = FORGOTTEN_AFTER - 3600.0
"""Seconds for which a node goes on alone: it may be cut off, and the others be about to forget it."""


@dataclass(frozen=True, slots=True)
class SharedSlot:
    """`until` is when the holder's right ends, by the server's clock."""

    number: int
    home: str | None = None
    holder: str | None = None
    until: float = 0.0

    def is_free(self, now: float) -> bool:
        return self.holder is None or self.until <= now


@dataclass(frozen=True, slots=True)
class Partner:
    """A node as the table has it. `acked` is the server's time of its last beat whose answer it has received.

    `wants` is how many slots it could use, 0 where Kommo is out of its reach; `until` (server's time) when it counts as
    away.
    """

    name: str
    acked: float
    wants: int
    until: float

    def believed(self, now: float) -> Partner:
        """As far as it can be true: an answer that is later than now was given before the clock was set back."""
        return replace(self, acked=self.acked if self.acked <= now else 0.0, until=min(self.until, now + LEASE))


class Beat(NamedTuple):
    """What a node brings to the table.

    Of the slots it held it goes on with `keeps` (None, at its first beat: with those that nobody lent it) and lets
    `releases` go; `drops` are homes it gives up. `may_take`: who has just come back waits with new slots until nobody
    can hold an older right to them. `may_borrow`: who is not sure of the server's clock takes nothing that was
    another's, and counts on nothing but what it `keeps`. `acked` is the time of its last beat whose answer it has
    received, `acked_before` what it told as that then.
    """

    name: str
    acked: float
    acked_before: float
    wants: int
    keeps: frozenset[int] | None
    releases: frozenset[int]
    drops: frozenset[int]
    may_take: bool
    may_borrow: bool


class Answer(NamedTuple):
    """What a node takes away. `ends` tells until when (server's time) it holds which slot, `homes` are its own.

    `most` is how many it may use, so that the others get theirs; `surplus` how many homes it should give up.
    """

    now: float
    ends: Mapping[int, float]
    homes: frozenset[int]
    most: int
    surplus: int


def exchange(
    beat: Beat, slots: Sequence[SharedSlot], partners: Mapping[str, Partner], now: float
) -> tuple[list[SharedSlot], Answer]:
    """The table after this beat. `partners` are all known nodes as `believed`, this one among them as it is now."""
    me, limit = beat.name, len(slots)
    table = [replace(slot, until=min(slot.until, now + LEASE)) for slot in slots]
    for index, slot in enumerate(table):
        table[index] = _settled(slot, beat, table, partners, now)
    mine = {slot.number for slot in table if beat.may_borrow or _is_kept(slot, beat)}
    most = _most(me, limit, partners, now)
    if beat.may_take:
        lacking = fair(limit, len(partners)) - sum(slot.home == me for slot in table)
        wanted = min(beat.wants, most) - sum(_is_held(slot, me, now) for slot in table)
        for index in sorted(range(limit), key=lambda index: table[index].home != me):
            slot = table[index]
            if lacking > 0 and slot.home is None:
                slot = replace(slot, home=me)
                lacking -= 1
            end = _end(slot, me, partners, now)
            is_open = slot.is_free(now) and (beat.may_borrow or {slot.home, slot.holder} <= {None, me})
            if wanted > 0 and is_open and end > now + COOL and not _is_needed(slot, me, table, partners, now):
                slot = replace(slot, holder=me, until=end)
                mine.add(slot.number)
                wanted -= 1
            table[index] = slot
    homes = frozenset(slot.number for slot in table if slot.home == me)
    ends = {slot.number: slot.until for slot in table if slot.number in mine and _is_held(slot, me, now)}
    return table, Answer(now, ends, homes, most, max(0, len(homes) - fair(limit, len(partners))))


def reserved(slots: Sequence[SharedSlot], homes: Mapping[str, int]) -> list[SharedSlot]:
    """The table with so many of the slots that are nobody's for each of these nodes."""
    names = [name for name, count in homes.items() for _ in range(count)]
    return [replace(slot, home=names.pop()) if slot.home is None and names else slot for slot in slots]


def fair(limit: int, nodes: int) -> int:
    """The homes of each node: its fixed share.

    One that is by itself leaves half: were it gone, the first other one would have nothing until it is forgotten.
    """
    return limit // nodes if nodes > 1 else (limit + 1) // 2


def _settled(
    slot: SharedSlot, beat: Beat, table: Sequence[SharedSlot], partners: Mapping[str, Partner], now: float
) -> SharedSlot:
    """The slot with what the node says of those it had."""
    me = beat.name
    home = slot.home if slot.home in partners and not (slot.home == me and slot.number in beat.drops) else None
    slot = replace(slot, home=home)
    if slot.holder == me and slot.number in beat.releases:
        return replace(slot, holder=None, until=now)
    takes_back = beat.keeps is not None and home == me and slot.is_free(now)
    if _is_kept(slot, beat) and (_is_held(slot, me, now) or takes_back):
        end = slot.until if _is_needed(slot, me, table, partners, now) else _end(slot, me, partners, now)
        return replace(slot, holder=me, until=max(slot.until, end))
    # What the table thinks of as ours, and we don't, ends by itself.
    return slot


def _is_kept(slot: SharedSlot, beat: Beat) -> bool:
    """Whether the node goes on with what it held; of an earlier life's that is what nobody else can have a right to."""
    return slot.home in (None, beat.name) if beat.keeps is None else slot.number in beat.keeps


def _is_held(slot: SharedSlot, name: str, now: float) -> bool:
    return slot.holder == name and slot.until > now


def _is_needed(
    slot: SharedSlot, me: str, table: Sequence[SharedSlot], partners: Mapping[str, Partner], now: float
) -> bool:
    """Whether its home has use for it itself, or for one at any time."""
    home = partners.get(slot.home or "")
    if home is None or home.name == me:
        return False
    homes = sum(one.home == home.name for one in table)
    held = sum(_is_held(one, home.name, now) for one in table)
    lent = sum(one.home == home.name and not one.is_free(now) and one.holder != home.name for one in table)
    return held < min(home.wants, homes) or (slot.holder != me and lent + 1 >= homes)


def _end(slot: SharedSlot, me: str, partners: Mapping[str, Partner], now: float) -> float:
    """Until when this node may hold the slot from now on."""
    if slot.home is None or slot.home == me:
        return now + LEASE
    return min(now, partners[slot.home].acked) + LEASE


def _most(me: str, limit: int, partners: Mapping[str, Partner], now: float) -> int:
    """How many slots this node takes at most: where others have use for more than one too, they are shared alike."""
    competing = sum(one.wants > 1 and one.until > now for name, one in partners.items() if name != me)
    return -(-limit // (competing + 1))


class Share:
    """One node's part. `homes` have to outlive the process: let them be kept before a beat that drops some is sent.

    `begun` is when this life began: what an earlier one lent out comes back within `LEASE`. Then it had been without
    an answer for `unheard` seconds.
    """

    def __init__(self, name: str, homes: frozenset[int] = frozenset(), *, begun: float, unheard: float = 0.0) -> None:
        self.name = name
        self.homes = homes
        self._held: dict[int, float] | None = None
        """Until when, by our clock, each slot is ours to hold; None before the first answer."""
        self._lasting: frozenset[int] = frozenset()
        """Homes that nobody can have borrowed, however long no answer comes."""
        self._acked = self._acked_before = 0.0
        self._acked_at = self._acked_from = begun
        self._sure_from = float("inf")
        self._alone_until = begun - unheard + ALONE_AT_MOST
        self._quiet_until = begun
        self._most = 0
        self._surplus = 0

    def beat(self, at: float, *, wants: int, busy: int) -> Beat:
        """What to bring to the table now. What it lets go is not used from here on, whether or not the beat arrives.

        `busy` slots may still be counted by Kommo.
        """
        mine = self._mine(at)
        drops: frozenset[int] = frozenset()
        if not self._is_alone(at):  # else they are in use, and no lease keeps others off them
            drops = frozenset(sorted(self.homes)[len(self.homes) - self._surplus :])
            self._surplus = 0  # until it is told anew
        self.homes -= drops
        keeps: frozenset[int] | None = None
        releases: frozenset[int] = frozenset()
        if self._held is not None:
            # One's own are kept rather than borrowed ones, and one always.
            kept = sorted(mine, key=lambda number: number not in self.homes)[: max(min(wants, self._most), busy, 1)]
            keeps, releases = frozenset(kept), frozenset(self._held.keys() | mine) - frozenset(kept)
            self._held = {number: end for number, end in self._held.items() if number in keeps}
            self._lasting &= keeps & self.homes
        return Beat(
            name=self.name,
            acked=self._acked,
            acked_before=self._acked_before,
            wants=wants,
            keeps=keeps,
            releases=releases,
            drops=drops,
            may_take=keeps is None or at >= self._quiet_until,
            may_borrow=at >= self._sure_from,
        )

    def answered(self, answer: Answer, *, sent_at: float, at: float) -> bool:
        """The table's answer to a beat that was sent at `sent_at`. It stands, be it an older table than before.

        False where the server's clock has jumped since the last one: then nothing new is believed.
        """
        passed = answer.now - self._acked
        shortest, longest = sent_at - self._acked_at, at - self._acked_from
        slack = STEADY + DRIFT * longest
        is_first = self._held is None
        is_steady = shortest - slack <= passed <= longest + slack
        if is_first or not is_steady:
            self._sure_from = at + LEASE
        lasting = answer.homes & answer.ends.keys()
        if is_first or is_steady:
            # By our clock the server's `now` was not before the beat was sent.
            self._held = {number: sent_at + end - answer.now for number, end in answer.ends.items()}
            self._lasting = lasting
        else:
            self._held = {}
            self._lasting &= lasting
        self.homes = answer.homes
        self._acked_before, self._acked, self._acked_at, self._acked_from = self._acked, answer.now, at, sent_at
        self._alone_until = at + ALONE_AT_MOST
        self._most, self._surplus = answer.most, answer.surplus
        return is_first or is_steady

    def latest(self, at: float) -> float:
        """What the server's clock shows at most, if it is right: who was here until later is here.

        Long ago while that clock is not believed: then everybody is.
        """
        return self._acked + (at - self._acked_from) + STEADY if at >= self._sure_from else float("-inf")

    def lost(self, at: float) -> None:
        """The connection broke: the table that comes back may be an older one."""
        self._quiet_until = at + LEASE

    def forfeit(self) -> None:
        """All that it had is another's of the same name."""
        self.homes = self._lasting = frozenset()
        self._held = {}

    def capacity(self, at: float) -> int:
        """How many slots may be used now."""
        usable = {number for number in self._mine(at) if number in self._ours(at) or self._end(number) > at + COOL}
        return len(usable) if self._is_alone(at) else min(len(usable), self._most)

    def _mine(self, at: float) -> set[int]:
        return {number for number in self._held or () if self._end(number) > at} | self._ours(at)

    def _ours(self, at: float) -> frozenset[int]:
        """Homes that are ours to use without asking."""
        if at >= self._alone_until:
            return frozenset()
        return self.homes if self._is_alone(at) else self._lasting

    def _is_alone(self, at: float) -> bool:
        """No answer for so long that whatever was lent has come back."""
        return at >= self._acked_at + LEASE

    def _end(self, number: int) -> float:
        return (self._held or {}).get(number, float("-inf"))
