"""What every registration works with, and why one may stop before its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from itgrix_kommo.config import Hook
from itgrix_kommo.customizations import Verdict
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.pipeline.clients import Clients
from itgrix_kommo.pipeline.mail import Mail
from itgrix_kommo.pipeline.progress import Progress
from itgrix_kommo.pipeline.rules import Rules
from itgrix_kommo.recordings.recording import CallFacts, NoRecording, Prepared


class Settling(Exception):
    """Something may have been written a moment ago; whether it was can be seen from `until` (Unix s) on."""

    def __init__(self, until: float) -> None:
        super().__init__(f"waiting for Kommo to show what may have been written, until {until:.0f}")
        self.until = until


class Skip(Exception):
    """This call is not for Kommo; its words say why."""


class Hooks(Protocol):
    @property
    def hooks(self) -> Sequence[Hook]: ...
    async def call(
        self, hook: Hook, params: dict[str, Any], *, full: Callable[[], dict[str, Any]], call_id: str = ""
    ) -> Verdict: ...


class Recorder(Protocol):
    async def prepare(
        self, named: str, facts: CallFacts, customize: Callable[[Path], Awaitable[str | None]] | None = None
    ) -> Prepared | NoRecording: ...


@dataclass(frozen=True, slots=True)
class Earlier:
    """Another registration of the same client: its row, and what it has written."""

    id: int
    call_id: str
    progress: Progress


class History(Protocol):
    """What was registered for the same client before."""

    async def earlier(self) -> list[Earlier]: ...
    async def reached_after(self, at: float) -> bool: ...
    async def save(self, number: int, progress: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """What every registration works with. `recordings` is None where they lie on another node, which is away."""

    client: KommoClient
    clients: Clients
    mail: Mail
    hooks: Hooks
    rules: Rules
    recordings: Recorder | None
    now: Callable[[], float]
