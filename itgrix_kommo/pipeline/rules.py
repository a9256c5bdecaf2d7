"""What the configuration and the account say about every registration, and how a route changes it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo

from itgrix_kommo.calls.call import Call, CallType
from itgrix_kommo.config import Business, ListEntry, WorkingHours
from itgrix_kommo.pipeline.progress import Entity
from itgrix_kommo.pipeline.texts import Language

ROBOT = 0
"""Kommo's own user, for what no person is responsible for."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where new leads of a call go, and what else its trunk or DID decides."""

    pipeline_id: int
    status_id: int
    default_user_id: int
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """`stages` tells of each pipeline its first stage; `unsorted_pipelines` which of them take incoming leads.

    `users` are Kommo's names by id, `phones` the employees' numbers by user id.
    """

    business: Business
    language: Language
    phone_field_id: int
    pipeline_id: int
    status_id: int
    stages: Mapping[int, int] = field(default_factory=dict)
    unsorted_pipelines: frozenset[int] = frozenset()
    users: Mapping[int, str] = field(default_factory=dict)
    phones: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    timezone: tzinfo | None = None
    node: str = "pbx1"
    is_one_of_several: bool = False
    blacklist: tuple[ListEntry, ...] = ()
    whitelist: tuple[ListEntry, ...] = ()
    peer_trunks: tuple[str, ...] = ()

    def uniq(self, call: Call) -> str:
        """What tells this call from all others in Kommo; two PBXs may count their calls alike."""
        return f"{self.node}-{call.id}" if self.is_one_of_several else call.id

    def of_node(self, node: str) -> Rules:
        """The same for a call of another node, whose place this one takes."""
        return self if node == self.node else replace(self, node=node)

    def route(self, call: Call) -> Stage:
        """The settings of the first route that fits the call, over those of `business`."""
        business = self.business
        pipeline_id, status_id = self.pipeline_id, self.status_id
        default, tags = business.default_user_id, business.tags
        for route in business.routes:
            fits_trunk = route.trunk is None or route.trunk == call.trunk
            if fits_trunk and (route.did is None or route.did.matches(call.did)):
                if route.pipeline_id is not None and route.pipeline_id != pipeline_id:
                    pipeline_id, status_id = route.pipeline_id, self.stages.get(route.pipeline_id, 0)
                default = route.default_user_id if route.default_user_id is not None else default
                tags = route.tags if route.tags is not None else tags
                break
        return Stage(pipeline_id, status_id, default or 0, tuple(tags))

    def unlisted(self, call: Call, phone: str) -> str:
        """Why the lists keep this call out of Kommo; empty if they don't."""
        return unlisted(call, phone, blacklist=self.blacklist, whitelist=self.whitelist, peer_trunks=self.peer_trunks)

    def responsible(self, call: Call, entity: Entity | None) -> int:
        """The user of the last accepted conversation, or who tried to ring the client; a missed one as configured."""
        default = self.route(call).default_user_id
        if call.was_answered:
            return call.responsible.id if call.responsible else default
        rung = call.rung_last.id if call.rung_last else ROBOT
        if call.type is CallType.OUTGOING:
            return rung or default
        found = entity.responsible_id if entity and not entity.is_new else ROBOT
        order = {"entity": (found, rung), "rung": (rung,), "default": ()}[self.business.missed_responsible]
        return next((user for user in order if user != ROBOT), default)

    def wants_task(self, call: Call) -> bool:
        """Whether nobody talked and somebody should call back."""
        if call.was_answered:
            return False
        tasks = self.business.tasks
        return tasks.missed_inbound if call.type is CallType.INCOMING else tasks.unanswered_outbound

    def due(self, ended_at: float) -> int:
        """When a call-back is due: so many minutes of working time after the call's end, in Unix seconds."""
        tasks = self.business.tasks
        begin = datetime.fromtimestamp(int(ended_at), self.timezone).astimezone(self.timezone)
        return int(after_working_minutes(begin, tasks.due_minutes, tasks.working_hours).timestamp())


def over_there(call: Call, peer_trunks: Container[str]) -> str:
    """Why another PBX of ours registers this call; empty where none does.

    A call between two PBXs is one call of its client: the one that the client is at tells of it, with who answered.
    """
    return f"the PBX at the other end of {call.trunk} registers it" if call.trunk in peer_trunks else ""


def unlisted(
    call: Call,
    phone: str,
    *,
    blacklist: tuple[ListEntry, ...],
    whitelist: tuple[ListEntry, ...],
    peer_trunks: tuple[str, ...],
) -> str:
    """Why the lists keep this call out of Kommo; empty if they don't. The blacklist outranks the whitelist."""
    if reason := over_there(call, peer_trunks):
        return reason
    internal = {number for one in call.conversations for number in (one.user.phones if one.user else ())}
    internal |= {one.channel.to.number for one in call.conversations} | {call.channel.from_.number}
    sides = {"client": {phone, call.client.number}, "internal": internal, "trunk": {call.trunk}, "did": {call.did}}

    def listed(entries: tuple[ListEntry, ...]) -> ListEntry | None:
        return next((one for one in entries if any(map(one.matches, filter(None, sides[one.match])))), None)

    if black := listed(blacklist):
        return f"the blacklist names it: {black.match} {black.pattern}"
    if whitelist and listed(whitelist) is None:
        return "the whitelist does not name it"
    return ""


def after_working_minutes(begin: datetime, minutes: int, hours: WorkingHours | None) -> datetime:
    """`minutes` of working time after `begin`; without hours every minute counts."""
    if hours is None or not any(hours.days):
        return begin + timedelta(minutes=minutes)
    left = timedelta(minutes=minutes)
    day = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    while True:
        for span in hours.days[day.weekday()]:
            opens = max(day + timedelta(minutes=span.opens), begin)
            closes = day + timedelta(minutes=span.closes)
            if closes <= opens:
                continue
            if opens + left <= closes:
                return opens + left
            left -= closes - opens
        day += timedelta(days=1)
