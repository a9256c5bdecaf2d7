"""What an attempt to reach somebody came to, and what the whole call is told as in the CRM."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result` is a SIP-like code, `call_status` Kommo's 1..7; `text` names the case, in no language in particular."""

    text: str
    result: int
    call_status: int


TALKED = Outcome("talked", 200, 4)
LEFT_MESSAGE = Outcome("left a message", 200, 1)
NO_ANSWER = Outcome("no answer", 408, 6)
GAVE_UP = Outcome("gave up", 487, 6)
REJECTED = Outcome("rejected", 603, 6)
BUSY = Outcome("busy", 486, 7)
UNREACHABLE = Outcome("unreachable", 480, 3)
CONGESTION = Outcome("congestion", 503, 3)
WRONG_NUMBER = Outcome("wrong number", 404, 5)

_NEAREST_TO_AN_ANSWER = (NO_ANSWER, REJECTED, BUSY, UNREACHABLE, CONGESTION, WRONG_NUMBER)

_BY_CAUSE = {
    1: WRONG_NUMBER,
    28: WRONG_NUMBER,
    3: UNREACHABLE,
    18: UNREACHABLE,
    20: UNREACHABLE,
    38: UNREACHABLE,
    34: CONGESTION,
    17: BUSY,
    21: REJECTED,
}

_BY_DIAL_STATUS = {
    "BUSY": BUSY,
    "CONGESTION": CONGESTION,
    "CHANUNAVAIL": UNREACHABLE,
    "NOANSWER": NO_ANSWER,
}


class End(Enum):
    """Who ended an attempt that nobody answered."""

    CALLER = "the caller gave up"
    ELSEWHERE = "answered elsewhere, or withdrawn by Asterisk"
    ITSELF = "it failed or rang out by itself"


def of_attempt(end: End, cause: int, dial_status: str) -> Outcome | None:
    """What one unanswered leg tells; None where it was withdrawn and so tells nothing.

    The leg's own hangup cause is believed before Dial's word, which says NOANSWER for a refusal or a busy queue member.
    """
    if end is End.CALLER:
        return GAVE_UP
    if outcome := _BY_CAUSE.get(cause):
        return outcome
    if end is End.ELSEWHERE:
        return None
    return _BY_DIAL_STATUS.get(dial_status, NO_ANSWER)


def of_missed_inbound(attempts: Iterable[Outcome]) -> Outcome | None:
    """Several phones were tried for a client who stayed: the one that came nearest to an answer tells."""
    seen = set(attempts)
    return next((outcome for outcome in _NEAREST_TO_AN_ANSWER if outcome in seen), None)


def of_last(attempts: Iterable[Outcome]) -> Outcome | None:
    """An employee tried trunk after trunk: the last word is the one he heard."""
    last = None
    for outcome in attempts:
        last = outcome
    return last
