"""Who is tied to whom: one link per pair of cards, found from either end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from .records import Kind, Link

_End = tuple[Kind, int]


class Links:
    def __init__(self) -> None:
        self._all: dict[tuple[_End, _End], Link] = {}
        self._by_end: dict[_End, dict[_End, None]] = defaultdict(dict)

    def of(self, kind: Kind, card_id: int) -> list[Link]:
        """The links that have this card at one of their ends."""
        end = (kind, card_id)
        return [self._all.get((end, other)) or self._all[other, end] for other in self._by_end[end]]

    def neighbours(self, kind: Kind, card_id: int, to_kind: Kind) -> list[int]:
        """Ids of the cards of that kind at the other ends."""
        return [other_id for other_kind, other_id in self._by_end[kind, card_id] if other_kind is to_kind]

    def tie(self, link: Link) -> Link:
        """The link as it is kept. A card has one company; a lead one main contact: its first, until another is told."""
        here = [
            other for other in self.of(link.kind, link.id) if other.kind is link.kind and other.to_kind is link.to_kind
        ]
        known = next((other for other in here if other.to_id == link.to_id), None)
        others = [other for other in here if other is not known]
        for other in others:
            if link.to_kind is Kind.COMPANIES:
                self.untie(other)
            elif link.is_main and other.is_main:
                self._keep(replace(other, is_main=False))
        is_first = link.to_kind is Kind.CONTACTS and not others
        return self._keep(replace(link, is_main=link.is_main or is_first or (known is not None and known.is_main)))

    def untie(self, link: Link) -> None:
        here, there = (link.kind, link.id), (link.to_kind, link.to_id)
        self._by_end[here].pop(there, None)
        self._by_end[there].pop(here, None)
        self._all.pop((here, there), None)

    def _keep(self, link: Link) -> Link:
        here, there = (link.kind, link.id), (link.to_kind, link.to_id)
        self._all[here, there] = link
        self._by_end[here][there] = None
        self._by_end[there][here] = None
        return link
