"""What callers and employees do at a model PBX.

A deed is a generator that yields wherever time may pass. Those that end with a talk under way return it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import CallType
from tests.model_pbx import Attempt, Line, ModelPbx

PHONES = {"101": "PJSIP/101", "102": "SIP/102", "103": "IAX2/103", "104": "PJSIP/104", "105": "PJSIP/105"}
TRUNKS = ("PJSIP/trunk", "DAHDI/i1/", "IAX2/carrier")
"""The last one is nowhere configured: its numbers tell."""
DID = "4957770101"
MOBILE = "+79161110000"

Script: TypeAlias = Generator[None, None, None]


@dataclass(slots=True, eq=False)
class Talk:
    """An employee talks with the client, or with a colleague."""

    employee: Line
    other: Line


Deed: TypeAlias = Generator[None, None, Talk | None]


class People:
    """Who may call and be called at `pbx`; chance decides who and how."""

    def __init__(self, random: Random, start: float) -> None:
        self.random = random
        self.pbx = ModelPbx(random, start)
        self._clients = 0

    def client_number(self) -> str:
        """A new one each time; some hide theirs."""
        self._clients += 1
        return f"+7999{self._clients:07d}" if self.some(0.9) else ""

    def trunk(self, number: str) -> str:
        """The device that a call from or to this number outside takes."""
        trunk = self.random.choice(TRUNKS)
        return trunk + (number.lstrip("+") or "anonymous") if trunk.endswith("/") else trunk

    def some(self, chance: float) -> bool:
        return self.random.random() < chance

    def phones(self, count: int, *but: str) -> list[str]:
        return self.random.sample(sorted(set(PHONES) - set(but)), count)


def client_calls(people: People) -> Line:
    number = people.client_number()
    client = people.pbx.call_in(people.trunk(number), number, DID)
    client.family.type, client.family.client = CallType.INCOMING, client
    return client


def employee_calls(people: People, extension: str, exten: str) -> Line:
    line = people.pbx.call_in(PHONES[extension], extension, exten)
    line.extension, line.family.type = extension, CallType.LOCAL
    return line


def rung(people: People, source: Line, extension: str) -> Attempt:
    """A phone is rung for `source`, perhaps through a Local channel."""
    through = people.random.choice(("", "", "from-queue", "from-internal/n", "in@side;1"))
    attempt = people.pbx.dial(source, PHONES[extension], extension, through=through)
    attempt.phone.extension = extension
    return attempt


def rung_outside(people: People, source: Line, number: str, *, through: str = "") -> Attempt:
    """A phone outside is rung; where no client was in the call yet, he is it."""
    attempt = people.pbx.dial(source, people.trunk(number), number, through=through)
    if source.family.client is None:
        source.family.type, source.family.client = CallType.OUTGOING, attempt.phone
    return attempt


def fails(people: People, attempt: Attempt) -> None:
    status, cause = people.random.choice(
        (("BUSY", 17), ("NOANSWER", 0), ("NOANSWER", 21), ("CHANUNAVAIL", 20), ("CONGESTION", 34))
    )
    people.pbx.fail(attempt, status, cause)


def connected(people: People, attempt: Attempt) -> Line:
    """The phone is answered; who talks there."""
    tables = people.pbx.answer(attempt)
    if len(tables) == 2 and people.some(0.5):
        people.pbx.then()
        people.pbx.optimise(attempt, tables)
    return attempt.phone


def picked_up(people: People, caller: Line, attempt: Attempt) -> Line:
    """A colleague takes the call that rings at another phone; nobody ever dialled him."""
    pbx = people.pbx
    (extension,) = people.phones(1, attempt.phone.extension)
    picker = employee_calls(people, extension, "*8")
    pbx.set_state(picker, ev.UP)
    pbx.then()
    picks_up_first = people.some(0.5)
    if picks_up_first:
        pbx.tell(ev.Pickup, picker, attempt.phone)
    pbx.tell(ev.DialEnd, caller, picker, "ANSWER", "")
    if not picks_up_first:
        pbx.tell(ev.Pickup, picker, attempt.phone)
    pbx.unite(caller, picker)
    pbx.set_state(caller, ev.UP)
    pbx.hang_up(attempt.phone, 26)
    pbx.bridge(picker, caller)
    return picker


def forwarded(people: People, caller: Line, attempt: Attempt) -> Attempt:
    """The phone sends its call on to a mobile (302)."""
    people.pbx.fail(attempt, "CANCEL", 23, forward=MOBILE)
    return rung_outside(people, caller, MOBILE, through="from-internal")


def group(people: People, caller: Line, extensions: list[str], queue: str = "") -> Deed:
    """Phones ring together: one is answered, or picked up elsewhere, or none, or the caller gives up."""
    pbx, random = people.pbx, people.random
    attempts = [rung(people, caller, extension) for extension in extensions]
    yield
    for attempt in attempts:
        if people.some(0.8):
            pbx.ring(attempt)
            yield
    while attempts and people.some(0.3):
        fails(people, attempts.pop(random.randrange(len(attempts))))
        yield
    fate = random.choice(("answered", "answered", "nobody", "gives up", "picked up", "forwarded"))
    talk = None
    if fate == "gives up":
        pbx.give_up(caller, attempts)
    elif fate == "nobody" or not attempts:
        for attempt in attempts:
            fails(people, attempt)
    else:
        chosen = attempts.pop(random.randrange(len(attempts)))
        direct = len(chosen.hops) == 1
        if fate == "forwarded" and direct and not attempts:
            chosen = forwarded(people, caller, chosen)
            yield
        answered = picked_up(people, caller, chosen) if fate == "picked up" and direct else connected(people, chosen)
        talk = Talk(answered, caller)
        for attempt in attempts:
            pbx.cancel(attempt)
        yield
    if queue:
        pbx.tell(ev.QueueCaller, "leave" if caller.live else "abandon", caller, queue)
    return talk


def goes_on(people: People, talk: Talk) -> Script:
    """They hold, transfer, park, and at last one hangs up."""
    deeds: list[Callable[[People, Talk], Deed]] = [
        held,
        blindly_transferred,
        transferred_by_phone,
        transferred_by_code,
        parked,
    ]
    current: Talk | None = talk
    for _ in range(people.random.randint(0, 3)):
        if current is None:
            return
        if current.employee.room is not current.other.room or not current.employee.extension:
            break
        people.pbx.then()
        current = yield from people.random.choice(deeds)(people, current)
    if current is not None:
        people.pbx.then()
        yield
        people.pbx.part(people.random.choice((current.employee, current.other)))


def held(people: People, talk: Talk) -> Deed:
    people.pbx.tell(ev.Hold, talk.employee, True)  # noqa: FBT003 -- the event's own field
    yield
    people.pbx.tell(ev.Hold, talk.employee, False)  # noqa: FBT003 -- the event's own field
    return talk


def blindly_transferred(people: People, talk: Talk) -> Deed:
    """The employee sends the other one to a colleague and is gone."""
    pbx, other = people.pbx, talk.other
    (extension,) = people.phones(1, talk.employee.extension)
    pbx.tell(ev.BlindTransfer, "Success", talk.employee, other, "from-internal", extension)
    other.exten = extension
    pbx.leave(other)
    pbx.hang_up(talk.employee)
    pbx.then()
    found = yield from group(people, other, [extension])
    if found is None and other.live:
        pbx.hang_up(other, 17)
    return found


def transferred_by_phone(people: People, talk: Talk) -> Deed:
    """The employee consults on a second line of his phone, then his phone ties the two (REFER with Replaces)."""
    pbx, first = people.pbx, talk.employee
    (extension,) = people.phones(1, first.extension)
    second = employee_calls(people, first.extension, extension)
    yield
    consulted = yield from group(people, second, [extension])
    if consulted is None:
        if second.live:
            pbx.hang_up(second, 17)
        return talk
    yield
    table = second.room
    if table is None or people.some(0.3):
        pbx.part(second)
        return talk
    pbx.then()
    pbx.leave(talk.other)
    pbx.enter(table, talk.other, swap=second)
    pbx.leave(first)
    pbx.tell(ev.AttendedTransfer, "Success", first, second, talk.other, consulted.employee, "Bridge")
    pbx.unite(first, second)
    pbx.then()
    pbx.hang_up(first)
    pbx.hang_up(second)
    return Talk(consulted.employee, talk.other)


def transferred_by_code(people: People, talk: Talk) -> Deed:
    """The employee consults by a feature code: through a Local channel that nobody ever dials."""
    pbx, employee, first_table = people.pbx, talk.employee, talk.other.room
    (extension,) = people.phones(1, employee.extension)
    one, two = pbx.local(extension, "from-internal", employee)
    consultation = pbx.table()
    pbx.enter(consultation, one)
    pbx.leave(employee)
    pbx.enter(consultation, employee)
    pbx.then()
    attempt = pbx.dial(two, PHONES[extension], extension)
    attempt.phone.extension = extension
    yield
    pbx.ring(attempt)
    pbx.set_state(one, ev.RINGING)
    pbx.tell(ev.DialState, None, one, "RINGING")
    yield
    answered = people.some(0.6)
    if answered:
        pbx.answer(attempt)
        pbx.set_state(one, ev.UP)
        pbx.tell(ev.DialEnd, None, one, "ANSWER", "")
        yield
    else:
        fails(people, attempt)
    pbx.then()
    if first_table is None or not answered or people.some(0.3):
        pbx.leave(employee)
        pbx.hang_up(one)
        pbx.hang_up(attempt.phone)
        pbx.then()
        pbx.enter(first_table or pbx.table(), employee)
        return talk
    pbx.tell(ev.HangupRequest, employee, 16, False)  # noqa: FBT003 -- the event's own field
    pbx.then()
    pbx.tell(ev.BridgeMerge, first_table, consultation)
    pbx.leave(one)
    pbx.enter(first_table, one)
    pbx.leave(employee)
    pbx.tell(ev.AttendedTransfer, "Success", employee, employee, talk.other, one, "Bridge")
    pbx.then()
    pbx.hang_up(employee)
    return Talk(attempt.phone, talk.other)


def parked(people: People, talk: Talk) -> Deed:
    """The other one waits in the parking lot until a colleague takes him up, or he gives up."""
    pbx, other = people.pbx, talk.other
    lot = pbx.table("parking", "holding_bridge")
    pbx.leave(other)
    pbx.tell(ev.Parking, "parked", other, None)
    pbx.enter(lot, other)
    yield
    pbx.hang_up(talk.employee)
    yield
    if people.some(0.3):
        pbx.tell(ev.Parking, "giveup", other, None)
        pbx.give_up(other)
        return None
    (extension,) = people.phones(1)
    retriever = employee_calls(people, extension, "71")
    yield
    pbx.set_state(retriever, ev.UP)
    told_first = people.some(0.5)
    if told_first:
        pbx.tell(ev.Parking, "unparked", other, retriever)
    pbx.leave(other)
    pbx.bridge(other, retriever)
    if not told_first:
        pbx.tell(ev.Parking, "unparked", other, retriever)
    return Talk(retriever, other)
