"""How an examination goes: all checks side by side, each within its own time, told in their own order.

A check that hangs is one line that says so. What several checks need (a login, the account) is had once, by `Shared`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

from itgrix_kommo.config import Config
from itgrix_kommo.doctor.findings import Finding, Result, fault, skipped, split
from itgrix_kommo.doctor.people import person
from itgrix_kommo.errors import ItgrixError

PATIENCE: Final = 20.0
"""Seconds for one check, the wait for what it shares with others included."""

CLOSE_WITHIN: Final = 3.0

Found: TypeAlias = Finding | Sequence[Finding]

T = TypeVar("T")


class NotThereError(Exception):
    """What a check needs can't be had; another check tells why. The message says what it is."""


@dataclass(frozen=True, slots=True)
class Check:
    """`run` examines; `within` is in seconds, `late` is what is to be done when they are over."""

    group: str
    name: str
    run: Callable[[], Awaitable[Found]]
    within: float = PATIENCE
    late: str = "look what hangs there, then run itgrix-kommo check again"


class Shared(Generic[T]):
    """Something made once, when it is first asked for; whoever asks gets it, or the error of its making."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._task: asyncio.Task[T] | None = None

    async def get(self) -> T:
        if self._task is None:
            self._task = asyncio.create_task(self._made())
        # One check that gives up must not take it from the others.
        return await asyncio.shield(self._task)

    async def needed(self, what: str) -> T:
        """For checks that are not the one to tell why it is not there. Raises NotThereError."""
        try:
            return await self.get()
        except (ItgrixError, OSError, NotThereError) as error:
            raise NotThereError(what) from error

    async def _made(self) -> T:
        return await self._make()

    async def forget(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.exception()


@dataclass(slots=True)
class Patient:
    """The host under examination. What is opened for it is closed at the end; `stack` and `shared` keep account."""

    config: Config
    file: Path
    run_hooks: bool = False
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    shared: list[Shared[Any]] = field(default_factory=list)

    def share(self, make: Callable[[], Awaitable[T]]) -> Shared[T]:
        one = Shared(make)
        self.shared.append(one)
        return one

    async def dismiss(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                for one in self.shared:
                    await one.forget()
                await self.stack.aclose()


async def examine(checks: Sequence[Check]) -> list[Result]:
    """The results of all checks, in the order of the checks."""
    found = await asyncio.gather(*(_examined(check) for check in checks))
    return [result for results in found for result in results]


async def _examined(check: Check) -> list[Result]:
    try:
        async with asyncio.timeout(check.within) as patience:
            found = await check.run()
    except TimeoutError:
        words = f"no answer within {check.within:g} s" if patience.expired() else "no answer in time"
        found = fault(words, check.late)
    except NotThereError as error:
        found = skipped(str(error))
    except ItgrixError as error:
        words, remedy = split(str(error))
        found = fault(words, remedy or check.late)
    except PermissionError as error:
        me = person(os.geteuid()).name
        found = fault(
            f"{error.filename} can't be looked at by {me}", "type sudo itgrix-kommo check, or let that user in"
        )
    except Exception as error:  # noqa: BLE001 (a fault of ours in one check must not cost the other lines)
        found = fault(
            f"the examination itself failed: {type(error).__name__}: {error}",
            "report this line to whoever maintains itgrix-kommo",
        )
    findings = [found] if isinstance(found, Finding) else found
    return [Result(check.group, check.name, finding) for finding in findings]


class StrayThreads(ThreadPoolExecutor):
    """A thread for each piece of work, waited for by nobody: one that hangs on a dead mount must not keep us."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 (it belongs to whoever awaits the future)
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 (the base's)
        """Nothing to wait for."""
