"""Asks the customizations, and answers for them: whatever a file does, a call gets its verdict in time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from itgrix_kommo.config import HOOKS, Customizations, Hook
from itgrix_kommo.customizations.answer import Answer, Cancelled, Data, Failed, decode, read_answer
from itgrix_kommo.customizations.catalogue import CATALOGUE, Lane
from itgrix_kommo.customizations.finding import Findings, HookFile, Kind, find
from itgrix_kommo.customizations.job import Job
from itgrix_kommo.customizations.pool import Pool
from itgrix_kommo.customizations.remote import RemoteWorker
from itgrix_kommo.customizations.workers import Worker, new_worker
from itgrix_kommo.errors import HookError, HooksUnusable, HookTimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOOK_EVERY: Final = 1.0
"""Seconds between looks for files that came or went; what is in a file is looked at in each call."""

_PATIENT_STAGE: Final = "call_ended"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the data: `data` goes on, or nothing does (None: cancelled).

    `answer` is None where nobody was asked, `seconds` is how long the asking took, `printed` what the file printed.
    """

    hook: Hook
    data: dict[str, Any] | None
    answer: Answer | None = None
    seconds: float = 0.0
    printed: str = ""

    @property
    def cancelled(self) -> bool:
        return self.data is None

    @property
    def failure(self) -> str | None:
        """Why the customization failed, in words."""
        return self.answer.words if isinstance(self.answer, Failed) else None


@dataclass(slots=True)
class Record:
    """How a customization has behaved since the start; `timeouts` are among the failures."""

    calls: int = 0
    failures: int = 0
    timeouts: int = 0
    cancelled: int = 0
    seconds: float = 0.0
    last_error: str = ""

    def note(self, answer: Answer, seconds: float) -> None:
        self.calls += 1
        self.seconds += seconds
        if isinstance(answer, Failed):
            self.failures += 1
            self.timeouts += answer.timed_out
            self.last_error = answer.words
        self.cancelled += isinstance(answer, Cancelled)


class Customizer:
    def __init__(self, settings: Customizations) -> None:
        self._settings = settings
        self._findings = Findings()
        self._watch: asyncio.Task[None] | None = None
        self._pools: dict[tuple[str, Kind], Pool] = {}
        self._unrunnable: tuple[str, ...] = ()
        self._stopped = False
        self.records: dict[Hook, Record] = {hook: Record() for hook in HOOKS}

    def use(self, settings: Customizations) -> None:
        """Go by these from now on; the directory and the workers stay as they are."""
        self._settings = settings

    async def start(self) -> None:
        """Find the files and start their workers. Raises HooksUnusable where the directory can't be used as it is."""
        self._watch = asyncio.create_task(self._look_for_ever(), name="customizations: files that come and go")
        if self._settings.enabled:
            await self._begin()

    async def _begin(self) -> None:
        await self.look_again()
        if self._findings.errors:
            raise HooksUnusable("\n".join(self._findings.errors))
        for hook in self.hooks:
            try:
                self._pool(self._findings.files[hook])
            except HookError as error:
                self._unrunnable += (f"{self._findings.files[hook].path}: {error}",)
                _log.warning("hook_can_not_run", hook=hook, error=str(error))

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if self._settings.enabled:
                await self.look_again()

    async def stop(self) -> None:
        """Kill all workers. Calls that still go on fail, and so do those that come later."""
        self._stopped = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        pools, self._pools = self._pools, {}
        await asyncio.gather(*(pool.close() for pool in pools.values()))

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """The customizations that run: switched on, and with a file."""
        files = self._findings.files if self._settings.enabled else {}
        return tuple(hook for hook in files if hook not in self._settings.disabled)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the directory and its files, with the remedy."""
        return (*self._findings.errors, *self._findings.warnings, *self._unrunnable)

    async def call(
        self,
        hook: Hook,
        params: Mapping[str, Any],
        *,
        full: Callable[[], dict[str, Any]] | None = None,
        call_id: str = "",
    ) -> Verdict:
        """Ask the file of `hook`, if there is one. `params` is its payload, which is not changed; JSON's types only.

        `full` makes the payload's `call_full`: it is much, and most hosts have few customizations or none.
        Whatever the file does, the verdict comes within its time-out (for a call that is over: once a worker is free).
        """
        file = self._file(hook)
        spec = CATALOGUE[hook]
        if file is None:
            return Verdict(hook, spec.unchanged(params))
        if full is not None:
            params = {**params, "call_full": full()}
        log = _log.bind(hook=hook, call_id=call_id)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        printed: list[str] = []
        try:
            answer = read_answer(hook, params, decode(await self._run(file, params, printed)))
        except HookError as error:
            answer = Failed(str(error), timed_out=isinstance(error, HookTimedOut))
        seconds = loop.time() - begun
        self.records[hook].note(answer, seconds)
        text = "".join(printed)
        if text:
            log.info("hook_printed", text=text)
        match answer:
            case Data(data):
                changed = {key: value for key, value in data.items() if key not in params or params[key] != value}
                log.debug("hook_answered", changed=changed, seconds=round(seconds, 3))
                verdict = Verdict(hook, data, answer, seconds, text)
            case Cancelled():
                log.info("hook_cancelled", meaning=f"cancelled by customization: {spec.cancels}")
                verdict = Verdict(hook, None, answer, seconds, text)
            case Failed(words):
                log.warning("hook_failed", file=file.path.name, error=words, consequence=spec.on_failure)
                verdict = Verdict(hook, spec.unchanged(params), answer, seconds, text)
        if self._settings.trace:
            log.info("hook_called", params=params, answer=answer, data=verdict.data, seconds=round(seconds, 4))
        return verdict

    def status(self) -> dict[str, Any]:
        """What /status shows; `methods` tells of each customization whether it runs."""
        files = self._findings.files
        running = self.hooks
        return {
            "enabled": self._settings.enabled,
            "methods": {hook: hook in running for hook in HOOKS},
            "directory": str(self._settings.directory),
            "problems": list(self.problems),
            "hooks": {
                hook: {
                    "file": file.path.name,
                    "kind": file.kind.value,
                    "calls": (record := self.records[hook]).calls,
                    "failures": record.failures,
                    "timeouts": record.timeouts,
                    "cancelled": record.cancelled,
                    "mean_seconds": round(record.seconds / record.calls, 4) if record.calls else None,
                    "last_error": record.last_error or None,
                }
                for hook, file in files.items()
            },
        }

    async def look_again(self) -> None:
        """Look for files that came or went. A directory that has become unusable leaves the former files at work."""
        found = await asyncio.to_thread(find, Path(self._settings.directory))
        former = self._findings
        for problem in {*found.errors, *found.warnings} - {*former.errors, *former.warnings}:
            _log.warning("customizations_directory", problem=problem)
        if found.errors:
            found = Findings(former.files, found.errors, found.warnings)
        self._findings = found

    def _file(self, hook: Hook) -> HookFile | None:
        if not self._settings.enabled or hook in self._settings.disabled:
            return None
        return self._findings.files.get(hook)

    async def _run(self, file: HookFile, params: Mapping[str, Any], printed: list[str]) -> bytes:
        """What `file` answers to `params`, unread. Raises HookError."""
        pool = self._pool(file)
        limit = self._settings.timeout_of(file.hook)
        # Who rings must not wait behind a thousand calls that are over; those wait for a worker as long as it takes.
        live = CATALOGUE[file.hook].lane is Lane.LIVE
        urgent = live or params.get("call_stage", _PATIENT_STAGE) != _PATIENT_STAGE
        job = Job(file, json.dumps(params, ensure_ascii=False).encode("utf-8", "replace"))
        waiting = True
        try:
            async with asyncio.timeout(limit if urgent else None), pool.worker(urgent=urgent) as worker:
                waiting = False
                worker.printed.take()
                try:
                    if not worker.ready:
                        await worker.start()
                    async with asyncio.timeout(limit):
                        return await worker.run(job)
                finally:
                    printed.append(worker.printed.take())
        except TimeoutError:
            if waiting:
                words = (
                    f"no worker was free within {limit:g} s: raise customizations.php_workers, or look for slow files"
                )
            else:
                words = f"no answer within {limit:g} s: killed, with all that it started"
            raise HookTimedOut(words) from None

    def _pool(self, file: HookFile) -> Pool:
        """The workers that `file` shares. Raises HookError where there is nothing to run it with."""
        if self._stopped:
            raise HookError("the customizations are being stopped")
        lane = CATALOGUE[file.hook].lane
        key = (file.hook if lane is Lane.LIVE else lane.value, file.kind)
        if key not in self._pools:
            pool = Pool([self._new_worker(file.kind) for _ in range(self._settings.php_workers)])
            pool.warm_up()
            self._pools[key] = pool
        return self._pools[key]

    def _new_worker(self, kind: Kind) -> Worker:
        socket = self._settings.socket
        return new_worker(kind) if socket is None else RemoteWorker(socket, kind)
