"""The calls that are placed, and what Kommo must hold of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from itgrix_kommo.sandbox.seed import ANN, BORIS, CARLA
from tests.lab.stage import Lab

__all__ = ["DEFAULT_USER", "EMPLOYEES", "KNOWN", "PLACED", "WAVES", "Expected", "Placed"]

EMPLOYEES = (
    {"user_id": ANN, "extension": "101"},
    {"user_id": BORIS, "extension": "102"},
    {"user_id": CARLA, "extension": "103"},
)
DEFAULT_USER = ANN
MARIA, IVAN, CHLOE = "+12025550143", "+79991234567", "+33199001234"
KNOWN = {MARIA: "Maria Gomez", IVAN: "Ivan Petrov", CHLOE: "Chloé Dubois"}
"""The clients whom the account knows beforehand."""

IN, OUT = "in", "out"
BUSY, REJECTED, NO_ANSWER = ("Busy", 7), ("Rejected", 6), ("No answer", 6)
GAVE_UP, UNREACHABLE = ("The caller hung up", 6), ("Unreachable", 3)


@dataclass(frozen=True, slots=True)
class Expected:
    """One call in Kommo: its result in words, Kommo's call_status, whose it is, and the seconds talked."""

    direction: str
    result: str
    status: int
    user_id: int
    talk: float = 0.0


@dataclass(frozen=True, slots=True)
class Placed:
    """One thing that happens at the office. `client` is the number outside, empty between colleagues."""

    story: str
    client: str
    play: Callable[[Lab], Awaitable[None]]
    expected: tuple[Expected, ...]


def talked(direction: str, user_id: int, seconds: float) -> Expected:
    return Expected(direction, "Talked", 4, user_id, seconds)


def missed(outcome: tuple[str, int], user_id: int, direction: str = IN) -> Expected:
    return Expected(direction, *outcome, user_id)


def stranger(number: int) -> str:
    """A client nobody knows yet."""
    return f"+7999000{number:04}"


async def maria_calls_ann(lab: Lab) -> None:
    maria = lab.client(MARIA)
    await maria.calls("4957770101", name="Maria")
    await lab.phone(101).answers()
    await maria.talks(to=lab.phone(101))
    await asyncio.sleep(3)
    await maria.hangs_up()


async def boris_is_busy(lab: Lab) -> None:
    client = lab.client(stranger(1))
    await client.calls("4957770102")
    await lab.phone(102).rejects(486)
    await client.is_hung_up()


async def carla_rejects(lab: Lab) -> None:
    client = lab.client(stranger(2))
    await client.calls("4957770103", trunk="trunk2")
    await lab.phone(103).rejects(603)
    await client.is_hung_up()


async def ann_calls_ivan(lab: Lab) -> None:
    ivan = lab.client(IVAN)
    await lab.phone(101).calls(IVAN)
    await ivan.answers()
    await lab.phone(101).talks(to=ivan)
    await asyncio.sleep(2)
    await lab.phone(101).hangs_up()
    await ivan.is_hung_up()


async def lost_in_the_menu(lab: Lab) -> None:
    client = lab.client(stranger(3))
    await client.calls("4957770800")
    await client.is_answered()
    await asyncio.sleep(1)
    await client.hangs_up()


async def group_rings(lab: Lab) -> None:
    client = lab.client(stranger(4))
    await client.calls("4957770600")
    for extension in (101, 102, 103):
        await lab.phone(extension).rings()
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await asyncio.sleep(2)
    await client.hangs_up()


async def nobody_answers(lab: Lab) -> None:
    client = lab.client(stranger(5))
    await client.calls("4957770203")
    await lab.phone(103).rings()
    await client.is_hung_up()


async def colleagues_talk(lab: Lab) -> None:
    await lab.phone(104).calls("105")
    await lab.phone(105).answers()
    await lab.phone(104).talks(to=lab.phone(105))
    await asyncio.sleep(1)
    await lab.phone(104).hangs_up()
    await lab.phone(105).is_hung_up()


async def queue_rings(lab: Lab) -> None:
    client = lab.client(stranger(6))
    await client.calls("4957770700")
    await lab.phone(103).rings()
    await lab.phone(103).answers()
    await client.talks(to=lab.phone(103))
    await asyncio.sleep(2)
    await lab.phone(103).hangs_up()
    await client.is_hung_up()


async def ann_calls_somebody_busy(lab: Lab) -> None:
    client = lab.client(stranger(7))
    await lab.phone(101).calls(client.number)
    await client.rejects(486)
    await lab.phone(101).is_hung_up()


async def phone_is_offline(lab: Lab) -> None:
    client = lab.client(stranger(8))
    await lab.phone(103).goes_offline()
    await client.calls("4957770103")
    await client.is_hung_up()


async def boris_calls_chloe(lab: Lab) -> None:
    chloe = lab.client(CHLOE)
    await lab.phone(102).calls(f"9{CHLOE}")
    await chloe.answers()
    await lab.phone(102).talks(to=chloe)
    await asyncio.sleep(1)
    await chloe.hangs_up()
    await lab.phone(102).is_hung_up()


async def ann_transfers_to_boris(lab: Lab) -> None:
    client = lab.client(stranger(9))
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await asyncio.sleep(1)
    await lab.phone(101).transfers("102")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await asyncio.sleep(1)
    await client.hangs_up()


async def client_gives_up(lab: Lab) -> None:
    client = lab.client(stranger(10))
    await client.calls("4957770103")
    await lab.phone(103).rings()
    await asyncio.sleep(1)
    await client.hangs_up()


async def two_at_once(lab: Lab) -> None:
    client = lab.client(stranger(11))
    first = await client.calls("4957770101")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await client.calls("4957770102", trunk="trunk2")
    await lab.phone(102).answers()
    await client.talks(to=lab.phone(102))
    await asyncio.sleep(1)
    await client.hangs_up(first)
    await client.hangs_up()


WAVES: tuple[tuple[Placed, ...], ...] = (
    (
        Placed("Maria Gomez calls Ann, who answers", MARIA, maria_calls_ann, (talked(IN, ANN, 3),)),
        Placed("a stranger calls Boris, who is busy", stranger(1), boris_is_busy, (missed(BUSY, BORIS),)),
        Placed("a stranger calls Carla, who rejects", stranger(2), carla_rejects, (missed(REJECTED, CARLA),)),
        Placed("a stranger hangs up in the menu", stranger(3), lost_in_the_menu, (missed(GAVE_UP, DEFAULT_USER),)),
    ),
    (
        Placed("a ring group rings, Boris answers", stranger(4), group_rings, (talked(IN, BORIS, 2),)),
        Placed("the workshop calls the store", "", colleagues_talk, ()),
    ),
    (
        Placed("Ann calls Ivan Petrov, who answers", IVAN, ann_calls_ivan, (talked(OUT, ANN, 2),)),
        Placed("Boris calls Chloé Dubois behind prefix 9", CHLOE, boris_calls_chloe, (talked(OUT, BORIS, 1),)),
        Placed("Carla's phone rings, nobody answers", stranger(5), nobody_answers, (missed(NO_ANSWER, CARLA),)),
    ),
    (Placed("a queue rings, Carla answers", stranger(6), queue_rings, (talked(IN, CARLA, 2),)),),
    (
        Placed(
            "two calls at once, to Ann and Boris", stranger(11), two_at_once, (talked(IN, ANN, 1), talked(IN, BORIS, 1))
        ),
        Placed("Carla's phone rings, the client gives up", stranger(10), client_gives_up, (missed(GAVE_UP, CARLA),)),
    ),
    (
        Placed("Ann answers and transfers to Boris", stranger(9), ann_transfers_to_boris, (talked(IN, BORIS, 1),)),
        Placed(
            "Carla's phone is offline, nobody is rung",
            stranger(8),
            phone_is_offline,
            (missed(UNREACHABLE, DEFAULT_USER),),
        ),
    ),
    (Placed("Ann calls a client, who is busy", stranger(7), ann_calls_somebody_busy, (missed(BUSY, ANN, OUT),)),),
)
"""Those of one wave are placed side by side: no two of them need the same phone."""

PLACED = tuple(placed for wave in WAVES for placed in wave)
