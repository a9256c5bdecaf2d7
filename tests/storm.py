"""Events that no Asterisk would send: headers missing or mad, channels that dial themselves, halves without a pair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, get_args, get_type_hints

from itgrix_kommo.calls import events as ev
from tests.story import T0

EVENTS: tuple[type[Any], ...] = get_args(ev.Event)
_HINTS = {event: get_type_hints(event) for event in EVENTS}

UNIQUEIDS = ("", "0", "1.1", "1.2", "1.3", "2.1", "pbx-1.4", "-", "nan", "inf.1", "1e9.7", "..", "я.1", "none")
NAMES = (
    "", "PJSIP/101-00000001", "SIP/102-1", "PJSIP/trunk-2", "DAHDI/i1/79990000001-3", "Local/101@a-1;1",
    "Local/101@a-1;2", "Local/;1@;2-/;1", "Local/", "/", "-", ";", "PJSIP", "CBAnn/x-1;2", "Message/ast_msg_queue",
)  # fmt: skip
TEXTS = (
    "", "0", "101", "+79990000001", "s", "ANSWER", "CANCEL", "Success", "Dial", "Queue", "DIALSTATUS", "AMPUSER",
    "FROM_DID", "VMSTATUS", "SUCCESS", "MIXMONITOR_FILENAME", "softmix", "holding_bridge", "basic", "AgentPool",
    "<unknown>", "\x00", "Ж" * 300, "١٢٣", "²", "+", "*", "b-1", "b-2", "1.1", "1.2",
)  # fmt: skip
BRIDGES = ("", "b-1", "b-2", "b-3")
NUMBERS = (0, 0, 4, 5, 6, 6, 16, 17, -1, 26, 127, 99_999_999_999)
APPLICATIONS = ("AppDial", "AppQueue", "Dial", "VoiceMail")


def channel(random: Random) -> ev.Channel:
    pick = random.choice
    number, connected, exten = pick(TEXTS), pick(TEXTS), pick(TEXTS)
    return ev.Channel(
        pick(NAMES), pick(UNIQUEIDS), pick(UNIQUEIDS), pick(NUMBERS), number, pick(TEXTS), connected, "", "", exten
    )


def bridge(random: Random) -> ev.Bridge:
    return ev.Bridge(random.choice(BRIDGES), random.choice(TEXTS), random.choice(TEXTS), random.choice(TEXTS))


def _channels(random: Random) -> tuple[ev.LiveChannel, ...]:
    return tuple(
        ev.LiveChannel(channel(random), random.choice(APPLICATIONS), "", random.choice(BRIDGES), T0 - random.random())
        for _ in range(random.randrange(4))
    )


VALUES: dict[Any, Callable[[Random], Any]] = {
    ev.Channel: channel,
    ev.Channel | None: lambda random: channel(random) if random.random() < 0.7 else None,
    ev.Bridge: bridge,
    str: lambda random: random.choice((*TEXTS, *UNIQUEIDS)),
    int: lambda random: random.choice(NUMBERS),
    bool: lambda random: random.random() < 0.5,
    float: lambda random: T0 - random.random(),
    float | None: lambda random: T0 if random.random() < 0.5 else None,
    frozenset[str]: lambda random: frozenset(random.sample(NAMES, 3)),
    tuple[ev.LiveChannel, ...]: _channels,
    tuple[ev.Bridge, ...]: lambda random: tuple(bridge(random) for _ in range(random.randrange(3))),
}
"""How a value of each type that events hold is made up; literals are drawn from themselves."""


def value(random: Random, hint: Any) -> Any:
    make = VALUES.get(hint)
    return random.choice(get_args(hint)) if make is None else make(random)


def invented(random: Random, at: float) -> ev.Event:
    """An event of any kind with made-up values, from so few ids that they collide at every turn."""
    event = random.choice(EVENTS)
    fields = {name: value(random, hint) for name, hint in _HINTS[event].items()}
    made: ev.Event = event(**fields | {"at": at})
    return made


def mutated(random: Random, event: Any) -> ev.Event:
    """`event` with one of its values, or of its channels', made up; `at` is kept."""
    name = random.choice(event._fields[1:])
    old: Any = getattr(event, name)
    new: Any
    if isinstance(old, ev.Channel | ev.Bridge) and random.random() < 0.8:
        within = random.choice(old._fields)
        change: dict[str, Any] = {within: random.choice(NUMBERS) if within == "state" else random.choice(TEXTS)}
        new = old._replace(**change)
    else:
        new = value(random, _HINTS[type(event)][name])
    changed: ev.Event = event._replace(**{name: new})
    return changed


def storm(random: Random, legal: Iterable[ev.Event], *, calm: float = 0.5) -> Iterator[ev.Event]:
    """Legal events, of which the `calm` part stays as it is, with mutated and invented ones among them."""
    for event in legal:
        if random.random() < calm:
            yield event
        else:
            yield mutated(random, event)
        if random.random() < (1 - calm) / 2:
            yield invented(random, event.at)
