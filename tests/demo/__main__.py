"""Places a dozen varied calls and shows them arriving in an invented Kommo account."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from itgrix_kommo.sandbox.records import Note
from tests.demo.calls import DEFAULT_USER, EMPLOYEES, KNOWN, PLACED
from tests.demo.daemon import Daemon, DaemonFailedError
from tests.demo.ledger import compare, read_ledger
from tests.demo.pbx import SECRET, TRACE, USERNAME, Pbx, real_asterisk, recorded_asterisk
from tests.demo.screen import ARROWS, Screen
from tests.lab.root import LabUnavailableError

ARRIVES_WITHIN = 8.0
"""Seconds after the last arrival within which the next one comes; the limit of requests takes a second for each."""

LOOK_EVERY = 0.1


class Demo:
    def __init__(self, screen: Screen, directory: Path, chosen: argparse.Namespace) -> None:
        self.screen = screen
        self.directory = directory
        self.chosen = chosen

    async def run(self) -> int:
        """The exit status: 0 where Kommo holds what was placed."""
        screen = self.screen
        async with AsyncExitStack() as stack:
            with screen.step("an invented Kommo account") as told:
                options = SandboxOptions(clients=True)
                sandbox = await stack.enter_async_context(Sandbox(options).serve())
                told(f"{sandbox.url}/")
            pbx = await self._pbx(stack)
            daemon = Daemon(self.directory, settings(pbx, sandbox))
            with screen.step("the daemon, a process of its own") as told:
                stack.push_async_callback(daemon.stop)
                await daemon.start()
                told(f"pid {daemon.pid}, configuration {daemon.config}")
            screen.console.print(f"\n[bold]{len(PLACED)} calls[/], up to four at a time:\n")
            failures = await self._place(pbx, sandbox, daemon)
            status = await self._tell(sandbox, daemon, failures, pbx.speed)
            if self.chosen.keep:
                screen.console.print("\nEverything stays up. [bold]Ctrl-C ends it.[/]")
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            return status

    async def _pbx(self, stack: AsyncExitStack) -> Pbx:
        screen, chosen = self.screen, self.chosen
        if not chosen.traces:
            try:
                with screen.step("a real Asterisk 22, with phones and carriers around it") as told:
                    pbx: Pbx = await stack.enter_async_context(real_asterisk(screen.say, record=chosen.record))
                    told(f"AMI at 127.0.0.1:{pbx.ami_port}")
                    return pbx
            except LabUnavailableError as failure:
                screen.warn(f"There is no real Asterisk here: {failure}")
                screen.warn("Calls recorded on a real Asterisk 22 are played instead. NOTHING BELOW IS A LIVE CALL.")
        with screen.step("a recording of Asterisk 22") as told:
            pbx = await stack.enter_async_context(recorded_asterisk(chosen.trace, speed=chosen.speed))
            told(f"{chosen.trace.name}, {chosen.speed:g} times as fast, AMI at 127.0.0.1:{pbx.ami_port}")
        return pbx

    async def _place(self, pbx: Pbx, sandbox: Sandbox, daemon: Daemon) -> list[str]:
        """Place the calls and wait for what comes of them; what could not be placed, in words."""
        screen = self.screen
        with screen.calls(PLACED):
            async with watched(sandbox, screen):
                await pbx.place(screen.moved)
                missing, deadline = screen.awaited(), time.monotonic() + ARRIVES_WITHIN
                while (screen.awaited() or not await daemon.is_idle()) and time.monotonic() < deadline:
                    await asyncio.sleep(LOOK_EVERY)
                    if screen.awaited() < missing:
                        missing, deadline = screen.awaited(), time.monotonic() + ARRIVES_WITHIN
        return [f"{placed.story}: {state}" for placed, state in screen.failures()]

    async def _tell(self, sandbox: Sandbox, daemon: Daemon, failures: list[str], speed: float) -> int:
        screen = self.screen
        # Our own reading counts against the account's limit like everybody's: it waits for a second without requests.
        while sandbox.audit.requests[-1].at > sandbox.clock.now() - 1.1:
            await asyncio.sleep(LOOK_EVERY)
        async with aiohttp.ClientSession() as session, session.get(f"{sandbox.url}/sandbox/audit") as answer:
            audit = await answer.json()
        ledger = await read_ledger(sandbox.url, sandbox.options.admin_token)
        verdict = compare(PLACED, ledger, speed=speed)
        wrong = [*failures, *verdict.wrong]
        if audit["breaches"]:
            wrong.append(f"{audit['breaches']} requests went out beyond Kommo's limit")
        wrong += [f"doubled: {kind}: {found}" for kind, found in audit["duplicates"].items() if found]
        screen.ledger(ledger, verdict)
        screen.cards(ledger, list(KNOWN.values()))
        screen.audit(audit, sandbox.switches.requests_per_second)
        screen.health(daemon.address, *await daemon.health())
        screen.verdict(len(ledger.calls), wrong)
        kept = "" if self.chosen.keep else "  (gone with this demo; scripts/demo --keep leaves everything up)"
        screen.places(sandbox_page=f"{sandbox.url}/{kept}", daemon_log=daemon.log, configuration=daemon.config)
        return 1 if wrong else 0


def settings(pbx: Pbx, sandbox: Sandbox) -> dict[str, object]:
    """What an administrator would write for this PBX and this account."""
    return {
        "ami": {"host": "127.0.0.1", "port": pbx.ami_port, "username": USERNAME, "secret": SECRET},
        "kommo": {"base_url": sandbox.url, "access_token": sandbox.options.admin_token},
        "employees": EMPLOYEES,
        "numbers": {"trunks": ["PJSIP/trunk", "PJSIP/trunk2"], "region": "RU", "outside_prefixes": ["9"]},
        "business": {"default_user_id": DEFAULT_USER},
    }


@asynccontextmanager
async def watched(sandbox: Sandbox, screen: Screen) -> AsyncIterator[None]:
    """Tells the screen of each call as it arrives in the account, while the block lasts and once more at its end."""
    seen = 0

    def look() -> None:
        nonlocal seen
        for note in sandbox.account.calls[seen:]:
            seen += 1
            placed = next((each for each in PLACED if each.client == note.params["phone"]), None)
            if placed is not None:
                screen.arrived(placed, line_of(sandbox, note))

    async def keep_looking() -> None:
        while True:
            look()
            await asyncio.sleep(LOOK_EVERY)

    looking = asyncio.create_task(keep_looking())
    try:
        yield
        look()
    finally:
        looking.cancel()


def line_of(sandbox: Sandbox, note: Note) -> str:
    params, account = note.params, sandbox.account
    card = account.cards[note.kind][note.entity_id]
    user = account.users.get(params.get("call_responsible", 0))
    length = f" {params['duration']} s" if params["duration"] else ""
    direction = ARROWS[note.note_type.removeprefix("call_")]
    return f"{direction}, {params['call_result']}{length}, {user.name if user else 'robot'}; {card.name}"


async def demo(screen: Screen, chosen: argparse.Namespace) -> int:
    directory = Path(tempfile.mkdtemp(prefix="itgrix-demo-"))
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a demo runs in a task")
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await Demo(screen, directory, chosen).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything up in the end, until Ctrl-C")
    parser.add_argument("--traces", action="store_true", help="play recorded calls, without an Asterisk")
    parser.add_argument("--trace", type=Path, default=TRACE, help="which recording that is", metavar="FILE")
    parser.add_argument("--speed", type=float, default=2.0, help="how many times faster recorded calls are played")
    parser.add_argument("--record", type=Path, nargs="?", const=TRACE, metavar="FILE", help="record the calls anew")
    chosen = parser.parse_args()
    screen = Screen()
    try:
        return asyncio.run(demo(screen, chosen))
    except DaemonFailedError as failure:
        screen.fail(str(failure))
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        screen.fail("stopped; everything that was started is ended")
        return 130


if __name__ == "__main__":
    sys.exit(main())
