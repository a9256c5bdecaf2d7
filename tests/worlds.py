"""Random worlds: several calls at once at a model PBX, each a script of what callers and employees may do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.numbers import Employee, NumberPlan
from tests.model_pbx import Family, Line, reordered
from tests.model_people import (
    PHONES,
    People,
    Script,
    Talk,
    client_calls,
    connected,
    employee_calls,
    fails,
    goes_on,
    group,
    rung_outside,
)
from tests.story import T0

PAUSES = (0.0, 0.0, 0.0, 0.001, 0.3, 4.0, 30.0)
USER_ID = {extension: 9_100_000 + int(extension) for extension in PHONES}
OVER = object()


def plan() -> NumberPlan:
    return NumberPlan(
        employees=[Employee(USER_ID[extension], extension) for extension in PHONES],
        trunks=["PJSIP/trunk", "DAHDI/i1"],
        region="RU",
    )


class World:
    """`events` is what Asterisk tells of the calls of some SCRIPTS; `families` is the truth about them.

    `snapshots` are what exists between two steps, by the number of events until then, and `talking` whose phones talk.
    """

    def __init__(self, random: Random, scripts: Sequence[str], *, start: float = T0) -> None:
        self.scripts = scripts
        self.snapshots: dict[int, ev.Resync] = {}
        self.talking: dict[int, frozenset[str]] = {}
        people = People(random, start)
        self.pbx = people.pbx
        self._run([SCRIPTS[name](people) for name in scripts], random)
        self.events: list[ev.Event] = list(reordered(self.pbx.told, random))

    def __repr__(self) -> str:
        return "\n".join([f"World {self.scripts}:", *map(repr, self.events)])

    @property
    def families(self) -> list[Family]:
        return self.pbx.families

    def _run(self, scripts: list[Script], random: Random) -> None:
        while scripts:
            script = random.choice(scripts)
            if next(script, OVER) is OVER:
                scripts.remove(script)
            self.pbx.clear_tables()
            self.pbx.pass_time(random.choice(PAUSES))
            so_far = len(self.pbx.told)
            self.snapshots[so_far] = self.pbx.snapshot(asked_at=self.pbx.now, blind_since=None)
            self.talking[so_far] = frozenset(self.pbx.talking())


def inbound(people: People) -> Script:
    """A client calls: a menu or a queue perhaps, then groups of phones, one after the other."""
    pbx, client = people.pbx, client_calls(people)
    yield
    if people.some(0.3):
        pbx.run(client, "BackGround", "welcome")
        pbx.set_state(client, ev.UP)
        yield
        if people.some(0.3):
            pbx.give_up(client)
            return
    queue = "700" if people.some(0.3) else ""
    if queue:
        pbx.set_state(client, ev.UP)
        pbx.run(client, "Queue", queue)
        pbx.tell(ev.QueueCaller, "join", client, queue)
        yield
    for _ in range(people.random.randint(1, 2)):
        talk = yield from group(people, client, people.phones(people.random.randint(1, 3)), queue)
        if talk is not None:
            yield from goes_on(people, talk)
        if not client.live:
            return
    if people.some(0.3):
        pbx.run(client, "VoiceMail", "101")
        pbx.tell(ev.VarSet, client.uniqueid, "VMSTATUS", "SUCCESS")
        yield
    pbx.hang_up(client, 17)


def outbound(people: People) -> Script:
    """An employee calls a client."""
    (extension,) = people.phones(1)
    number = f"+7999{people.random.randrange(5_000_000, 9_000_000)}"
    yield from reaches_client(people, employee_calls(people, extension, number), number)


def click_to_call(people: People) -> Script:
    """The PBX rings an employee for nobody, then the client for him."""
    pbx, (extension,) = people.pbx, people.phones(1)
    number = f"+7999{people.random.randrange(5_000_000, 9_000_000)}"
    employee = pbx.line(PHONES[extension], extension, exten="s", state=ev.DOWN)
    employee.extension = extension
    pbx.tell(ev.DialBegin, None, employee, extension)
    yield
    pbx.set_state(employee, ev.RINGING)
    yield
    if people.some(0.2):
        pbx.tell(ev.DialEnd, None, employee, "NOANSWER", "")
        pbx.hang_up(employee, 0)
        return
    pbx.set_state(employee, ev.UP)
    pbx.tell(ev.DialEnd, None, employee, "ANSWER", "")
    yield from reaches_client(people, employee, number)


def reaches_client(people: People, employee: Line, number: str) -> Script:
    pbx = people.pbx
    yield
    attempt = rung_outside(people, employee, number)
    yield
    pbx.ring(attempt)
    yield
    fate = people.random.choice(("answered", "fails", "gives up"))
    if fate == "answered":
        connected(people, attempt)
        yield
        yield from goes_on(people, Talk(employee, attempt.phone))
    elif fate == "fails":
        fails(people, attempt)
        pbx.hang_up(employee, 17)
    else:
        pbx.give_up(employee, [attempt])


def internal(people: People) -> Script:
    one, other = people.phones(2)
    caller = employee_calls(people, one, other)
    yield
    talk = yield from group(people, caller, [other])
    if talk is not None:
        yield from goes_on(people, talk)
    elif caller.live:
        people.pbx.hang_up(caller, 17)


def conference(people: People) -> Script:
    """A client and some employees call into one room, in any order."""
    pbx = people.pbx
    comers = ["", *people.phones(people.random.randint(1, 2))]
    room = pbx.table("base", "softmix")
    present: list[Line] = []
    for extension in people.random.sample(comers, len(comers)):
        line = employee_calls(people, extension, "900") if extension else client_calls(people)
        pbx.run(line, "ConfBridge", "900")
        pbx.set_state(line, ev.UP)
        pbx.enter(room, line)
        present.append(line)
        yield
    for line in people.random.sample(present, len(present)):
        pbx.give_up(line)
        yield


SCRIPTS: dict[str, Callable[[People], Script]] = {
    script.__name__: script for script in (inbound, outbound, internal, click_to_call, conference)
}
