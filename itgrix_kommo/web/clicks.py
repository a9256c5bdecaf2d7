"""Click-to-call as it goes on: from the order in Asterisk's hands to the end of the call. No IO; time is passed in.

A click is known again by the variable that its channel was born with, and by the action id of Asterisk's answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, assert_never

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Call, Stage, StageName
from itgrix_kommo.calls.outcome import BUSY, CONGESTION, GAVE_UP, NO_ANSWER, UNREACHABLE

VARIABLE: Final = "ITGRIX_ORIGINATE"

KEEP_ENDED: Final = 600.0
"""Seconds for which one can ask how it went."""

UNHEARD: Final = 60.0
"""Seconds after the ringing time in which a click of which nothing was heard is taken for lost."""

UNHEARD_OF: Final = "nothing was heard of it"
"""The outcome of such a click."""

_FAILURES: Final = {1: GAVE_UP, 3: NO_ANSWER, 5: BUSY, 8: CONGESTION}
"""Asterisk's reasons why the first phone was not reached (its control frames), far from exact; others: unreachable."""

EMPLOYEE: Final = "employee: "
"""Before an outcome that is the first phone's: the client was not called at all."""


class State(StrEnum):
    QUEUED = "queued"
    EMPLOYEE_RINGING = "employee_ringing"
    EMPLOYEE_ANSWERED = "employee_answered"
    CLIENT_RINGING = "client_ringing"
    TALKING = "talking"
    ENDED = "ended"


_RANK: Final = {state: rank for rank, state in enumerate(State)}


@dataclass(frozen=True, slots=True)
class Click:
    """`owner` is who may ask after it; `call_id` is that of the call, once there is one; times are Unix seconds."""

    id: str
    owner: str
    extension: str
    phone: str
    started_at: float
    state: State = State.QUEUED
    changed_at: float = 0.0
    call_id: str = ""
    outcome: str = ""
    result: int | None = None
    duration: int | None = None

    def body(self) -> dict[str, Any]:
        return {
            "originate_id": self.id,
            "state": self.state.value,
            "extension": self.extension,
            "phone": self.phone,
            "started_at": int(self.started_at),
            "changed_at": int(self.changed_at),
            "call_id": self.call_id or None,
            "outcome": self.outcome or None,
            "result": self.result,
            "duration": self.duration,
        }


class Clicks:
    """All clicks that somebody may still ask after.

    `patience` is for how long (s) an employee's phone rings; `moved` is told the id of a click in a new state.
    """

    def __init__(self, *, patience: float, moved: Callable[[str], None] = lambda _: None) -> None:
        self._patience = patience + UNHEARD
        self._moved = moved
        self._clicks: dict[str, Click] = {}
        self._of_channel: dict[str, str] = {}
        self._ended: deque[tuple[float, str]] = deque()

    def __len__(self) -> int:
        return len(self._clicks)

    def begin(self, click: Click) -> None:
        self._forget(click.started_at)
        self._clicks[click.id] = replace(click, changed_at=click.started_at)

    def drop(self, click_id: str) -> None:
        """Asterisk did not take it: there is nothing to ask after."""
        self._clicks.pop(click_id, None)

    def get(self, click_id: str, owner: str, now: float) -> Click | None:
        """How it goes; None for a click that is unknown, forgotten or somebody else's."""
        self._forget(now)
        click = self._clicks.get(click_id)
        if click is None or click.owner != owner:
            return None
        if click.state is State.QUEUED and not click.call_id and now - click.started_at > self._patience:
            self._advance(click_id, State.ENDED, now, outcome=UNHEARD_OF)
        return self._clicks[click_id]

    def hear(self, events: Iterable[ev.Event]) -> None:
        """What Asterisk tells, as it comes."""
        if not self._clicks:
            return
        for event in events:
            match event:
                case ev.VarSet(variable=variable) if variable.lstrip("_") == VARIABLE:
                    self._bind(event.value, event.uniqueid, event.at)
                case ev.Newstate(channel=channel) if channel.uniqueid in self._of_channel:
                    self._employee(channel, event.at)
                case ev.OriginateResponse(action_id=click_id) if click_id in self._clicks:
                    if event.success:
                        self._bind(click_id, event.uniqueid, event.at)
                    elif click_id not in self._of_channel.values():
                        # Where there was a channel its end tells better, and soon.
                        failure = _FAILURES.get(event.reason, UNREACHABLE)
                        self._advance(click_id, State.ENDED, event.at, outcome=EMPLOYEE + failure.text)
                case _:
                    pass

    def follow(self, stage: Stage) -> None:
        """What was understood of a call."""
        if not self._of_channel:
            return
        for click_id in {self._of_channel[alias] for alias in stage.call.aliases if alias in self._of_channel}:
            self._follow(click_id, stage)

    def _follow(self, click_id: str, stage: Stage) -> None:
        call = stage.call
        match stage.name:
            case StageName.REQUESTED:
                self._advance(click_id, State.CLIENT_RINGING, stage.at, call_id=call.id)
            case StageName.ACCEPTED:
                self._advance(click_id, State.TALKING, stage.at, call_id=call.id)
            case StageName.ENDED:
                pass  # a leg; more may follow
            case StageName.CALL_ENDED:
                self._end(click_id, call, stage.at)
            case _:
                assert_never(stage.name)

    def _end(self, click_id: str, call: Call, at: float) -> None:
        click = self._clicks.get(click_id)
        if click is None or call.outcome is None:
            return
        was_reached = _RANK[click.state] >= _RANK[State.EMPLOYEE_ANSWERED]
        self._clicks[click_id] = replace(click, call_id=call.id, result=call.outcome.result, duration=call.duration)
        self._advance(
            click_id, State.ENDED, at, outcome=call.outcome.text if was_reached else EMPLOYEE + call.outcome.text
        )
        for alias in call.aliases:
            self._of_channel.pop(alias, None)

    def _bind(self, click_id: str, uniqueid: str, at: float) -> None:
        if uniqueid and click_id in self._clicks:
            self._of_channel[uniqueid] = click_id
            click = self._clicks[click_id]
            self._clicks[click_id] = replace(click, call_id=click.call_id or uniqueid, changed_at=at)

    def _employee(self, channel: ev.Channel, at: float) -> None:
        click_id = self._of_channel[channel.uniqueid]
        if channel.state == ev.RINGING:
            self._advance(click_id, State.EMPLOYEE_RINGING, at)
        elif channel.state == ev.UP:
            self._advance(click_id, State.EMPLOYEE_ANSWERED, at)

    def _advance(self, click_id: str, state: State, at: float, *, outcome: str = "", call_id: str = "") -> None:
        """Forward only: a phone that rings elsewhere takes nobody out of his talk."""
        click = self._clicks.get(click_id)
        if click is None or _RANK[state] <= _RANK[click.state]:
            return
        self._clicks[click_id] = replace(
            click, state=state, changed_at=at, outcome=outcome, call_id=call_id or click.call_id
        )
        if state is State.ENDED:
            self._ended.append((at, click_id))
        self._moved(click_id)

    def _forget(self, now: float) -> None:
        while self._ended and now - self._ended[0][0] > KEEP_ENDED:
            _, click_id = self._ended.popleft()
            self._clicks.pop(click_id, None)
            for uniqueid in [uniqueid for uniqueid, other in self._of_channel.items() if other == click_id]:
                del self._of_channel[uniqueid]
