"""The daemon's CPU for a call, against what Asterisk itself spends on the same call.

    python -m tests.bench.bench_daemon [--calls N] [--rate CALLS_PER_SECOND] [--talk SECONDS …] [--version 22|16]
        [--capture] [--profile FILE]

The lab's world places answered, recorded inbound calls; the daemon hears a real AMI, keeps its journal and registers
every call in a sandbox of Kommo. Time is user and system time of the process and of what it started, from the first
call until the last one is registered.

What a call costs the daemon hardly depends on how long it lasts; what it costs Asterisk does, for that handles and
records every 20 ms of it. So the ratio depends on the length of the talks, and two are measured: 3 s, the worse for the
daemon, and 10 s, still far below the minutes of real ones, but at 20 calls a second 200 live, recorded calls. The worst
ratio is judged: longer talks make it better by themselves, which is no merit of the daemon.
Exit status 1 where it is above what is allowed, or a call that Asterisk had is missing.

`--profile FILE` writes where the daemon's time went, for `python -m pstats FILE`; the figures are then too high.
`--capture` has Kommo refuse everything, and so measures listening and keeping alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from tests.lab.pair import Pair

ALLOWED = 0.2
CLIENTS = 50
"""Different callers; each calls again and again, as clients do."""

ROBOT = "190"
DID = "4957770390"
UP_WITHIN = 30.0
ENDS_WITHIN = 60.0
REGISTERED_WITHIN = 600.0
LOOK_EVERY = 1.0
"""Seconds between looks at the daemon, which cost it a millisecond or two each."""

MOST_LOST = 0.05
"""Of the calls placed: a machine that is too slow for so many at once loses some before they reach the PBX."""

TICK = os.sysconf("SC_CLK_TCK")


class Load(NamedTuple):
    """`rate` is calls a second, `talk` the seconds of each."""

    calls: int
    rate: float
    talk: float


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of CPU."""

    user: float
    system: float

    @property
    def all(self) -> float:
        return self.user + self.system

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.user - other.user, self.system - other.system)


def spent(pid: int) -> Spent:
    """By a process, all its threads, and all that it started."""
    user = system = 0
    for each in family(pid):
        fields = stat_of(each)
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return Spent(user / TICK, system / TICK)


def stat_of(pid: int) -> list[str]:
    """Of /proc/PID/stat what follows the name: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def family(pid: int) -> Iterator[int]:
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from family(int(child))


class Daemon:
    """The daemon as a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.pid = process.pid
        self._url = f"http://127.0.0.1:{port}/healthz"
        self._session = aiohttp.ClientSession()

    async def close(self) -> None:
        await self._session.close()

    async def health(self) -> dict[str, Any]:
        """Empty as long as it does not answer."""
        try:
            async with self._session.get(self._url) as answer:
                body: dict[str, Any] = await answer.json() if answer.status == 200 else {}
                return body
        except aiohttp.ClientError:
            return {}

    async def kept(self) -> int:
        """Calls that became rows."""
        return sum((await self.health()).get("registrations", {}).values())

    async def done(self) -> int:
        return int((await self.health()).get("registrations", {}).get("done", 0))


async def until_at_least(count: int, asked: Any, within: float) -> int:
    """What was counted in the end, be it enough or not."""
    deadline = time.monotonic() + within
    while (counted := await asked()) < count and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_EVERY)
    return int(counted)


@asynccontextmanager
async def running(pair: Pair, sandbox: Sandbox, directory: Path, profile: Path | None) -> AsyncIterator[Daemon]:
    port = pair.slot.number + 8_100
    config = directory / "config.json"
    config.write_text(json.dumps({
        "ami": {"port": pair.pbx.ports.ami, "username": "itgrix", "secret": "itgrix-secret"},
        "kommo": {"base_url": sandbox.url, "access_token": "sandbox-token"},
        "employees": [{"user_id": 9_100_001, "extension": ROBOT}],
        "numbers": {"trunks": ["PJSIP/trunk", "PJSIP/trunk2"], "region": "RU"},
        "customizations": {"enabled": False},
        "recordings": {"enabled": False},
        "http": {"port": port},
        "storage": {"url": f"sqlite+aiosqlite:///{directory}/itgrix.db"},
    }))  # fmt: skip
    config.chmod(0o600)
    profiled = ("-m", "cProfile", "-o", str(profile)) if profile else ()
    command = (sys.executable, *profiled, "-m", "itgrix_kommo", "run", "--config", str(config))
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    daemon = Daemon(process, port)
    try:
        if not await until_at_least(1, lambda: answers(daemon), UP_WITHIN):
            raise SystemExit(f"the daemon does not answer:\n{(directory / 'log').read_text()}")
        yield daemon
    finally:
        await daemon.close()
        process.terminate()
        await process.wait()


async def answers(daemon: Daemon) -> int:
    return int(bool(await daemon.health()))


async def place(pair: Pair, load: Load) -> None:
    """Have the world place the calls, evenly; returns when the last one is placed."""
    _, writer = await asyncio.open_connection("127.0.0.1", pair.world.ports.ami)
    login = "Action: Login\r\nUsername: lab\r\nSecret: lab-secret\r\nEvents: off\r\n\r\n"
    writer.write(login.encode())
    begun = time.monotonic()
    for number in range(load.calls):
        await asyncio.sleep(max(begun + number / load.rate - time.monotonic(), 0.0))
        writer.write(
            f"Action: Originate\r\nChannel: PJSIP/{DID}@carrier\r\nContext: load\r\nExten: s\r\nPriority: 1\r\n"
            f"Async: true\r\nTimeout: 30000\r\nVariable: SECONDS={load.talk:g}\r\n"
            f"CallerID: <+7999800{number % CLIENTS:04}>\r\n\r\n".encode()
        )
        await writer.drain()
    writer.close()
    await writer.wait_closed()


class Measured(NamedTuple):
    """`ratio` is the daemon's CPU to Asterisk's; `is_whole`: each call that Asterisk had was registered, once."""

    talk: float
    ratio: float
    is_whole: bool


async def processed(pair: Pair) -> int:
    """Calls that this Asterisk has had since its start."""
    control = await pair.pbx.control(lambda _: None)
    try:
        told = await control.command("core show calls")
        return int(told.split()[-3])  # "… 400 calls processed"
    finally:
        await control.close()


async def measure(load: Load, pair: Pair, profile: Path | None, *, capture: bool) -> Measured:
    """Of one length of talk, with a daemon of its own; with `capture` nothing is registered."""
    had = await processed(pair)
    with tempfile.TemporaryDirectory() as directory:
        async with Sandbox(SandboxOptions()).serve(port=0) as sandbox:
            sandbox.account.switches.unpaid = capture
            async with running(pair, sandbox, Path(directory), profile) as daemon:
                before, asterisk_before = spent(daemon.pid), spent(pair.pbx.pid)
                print(f"{load.calls} recorded calls of {load.talk:g} s, {load.rate:g} a second")
                await place(pair, load)
                found = await until_at_least(load.calls, daemon.kept, load.talk + ENDS_WITHIN)
                by_asterisk, heard = spent(pair.pbx.pid) - asterisk_before, spent(daemon.pid) - before
                calls = await processed(pair) - had
                print(f"  {calls} reached Asterisk, the daemon found {found}")
                report("Asterisk", by_asterisk, calls, by_asterisk)
                report("the daemon until all were kept", heard, calls, by_asterisk)
                if capture:
                    is_whole = found == calls >= load.calls * (1 - MOST_LOST)
                    return Measured(load.talk, heard.all / by_asterisk.all, is_whole)
                registered = await until_at_least(found, daemon.done, REGISTERED_WITHIN)
                whole = spent(daemon.pid) - before
                report("the daemon until all were registered", whole, calls, by_asterisk)
            written = len(sandbox.account.calls)
            print(f"  registered {registered}, in the CRM {written}")
            is_whole = found == registered == written == calls >= load.calls * (1 - MOST_LOST)
            return Measured(load.talk, whole.all / by_asterisk.all, is_whole)


async def measure_all(loads: list[Load], version: str, profile: Path | None, *, capture: bool) -> bool:
    """Whether nothing is missing, and no ratio is above what is allowed."""
    pair = Pair(version)
    try:
        await pair.start()
        measured = [await measure(load, pair, profile, capture=capture) for load in loads]
    finally:
        pair.stop()
    for one in measured:
        print(f"talks of {one.talk:g} s: {one.ratio:.3f} of Asterisk {version}'s own CPU; {ALLOWED} is allowed")
    return all(one.is_whole and one.ratio <= ALLOWED for one in measured)


def report(name: str, cpu: Spent, calls: int, reference: Spent) -> None:
    each = f"{cpu.all / calls * 1000:6.2f} ms a call (user {cpu.user:5.2f} s, system {cpu.system:5.2f} s)"
    print(f"  {name:<38} {each}   {cpu.all / reference.all:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--rate", type=float, default=20.0, help="calls a second (default 20)")
    parser.add_argument("--talk", type=float, nargs="+", default=[3.0, 10.0], help="seconds of talks (default 3 10)")
    parser.add_argument("--version", choices=("22", "16"), default="22", help="of Asterisk (default 22)")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="where to write the daemon's profile")
    parser.add_argument("--capture", action="store_true", help="listening and keeping alone: Kommo refuses everything")
    chosen = parser.parse_args()
    loads = [Load(chosen.calls, chosen.rate, talk) for talk in chosen.talk]
    return 0 if asyncio.run(measure_all(loads, chosen.version, chosen.profile, capture=chosen.capture)) else 1


if __name__ == "__main__":
    sys.exit(main())
