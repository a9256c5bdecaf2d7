"""What registering costs: requests to Kommo for each call, and memory and time while a long queue drains.

    python -m tests.bench.bench_registration [--calls N] [--queue N]

First `--calls` ended calls wait, of as many clients whom the phonebook knows; no leads, a third of them missed, with
tasks; six requests a second, as by default. Then a queue of `--queue` calls of a thousand clients drains, at a limit
that the machine can't reach. Kommo is the sandbox in a process of its own. Exit status 1 where a call took more than a
tenth of a request, the process grew with the queue, or Kommo holds something else than was to be registered.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from aiohttp.test_utils import unused_port

from itgrix_kommo.calls.call import Call
from itgrix_kommo.config import Business, Customizations
from itgrix_kommo.customizations import Customizer
from itgrix_kommo.kommo.checks import Report, Wanted
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import MOST_PER_SECOND, Limiter
from itgrix_kommo.kommo.phonebook import Phonebook
from itgrix_kommo.kommo.transport import LongLivedToken, Transport
from itgrix_kommo.pipeline.clients import Clients
from itgrix_kommo.pipeline.delivery import Delivery
from itgrix_kommo.pipeline.gate import Gate
from itgrix_kommo.pipeline.intake import registration_of
from itgrix_kommo.pipeline.rules import Rules
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.phonebook import PhonebookRows
from itgrix_kommo.storage.registrations import Registrations, State
from tests.recorder import Recorder
from tests.story import BORIS, ended, inbound, plan

REQUESTS_PER_CALL = 0.1
GROWTH = 1.10
"""How much larger the process may be in the last quarter of the drain than in the second."""

CLIENTS = 1000
UNREACHED = 100_000
"""Requests a second: more than this machine can."""


@dataclass(slots=True)
class Account:
    """The sandbox in its own process."""

    url: str
    session: aiohttp.ClientSession

    async def audit(self) -> dict[str, Any]:
        async with self.session.get(f"{self.url}/sandbox/audit") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def add_clients(self, count: int) -> None:
        headers = {"Authorization": "Bearer sandbox-token"}
        for start in range(0, count, 50):
            bodies = [contact(number) for number in range(start, min(start + 50, count))]
            async with self.session.post(f"{self.url}/api/v4/contacts", json=bodies, headers=headers) as answer:
                answer.raise_for_status()


def phone_of(number: int) -> str:
    return f"+7999{number:07}"


def contact(number: int) -> dict[str, Any]:
    phone = {"field_id": 801, "values": [{"value": phone_of(number), "enum_code": "WORK"}]}
    return {"name": f"Client {number}", "responsible_user_id": BORIS, "custom_fields_values": [phone]}


def call_of(client: int, number: int, begun: float) -> Call:
    """Every third call is missed."""
    at = begun + number
    return ended(inbound(phone_of(client), linkedid=f"{begun:.0f}.{number * 10}", at=at, answered=number % 3 != 0))


@asynccontextmanager
async def an_account() -> AsyncIterator[Account]:
    port = unused_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "itgrix_kommo", "sandbox", "--port", str(port), stdout=asyncio.subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(30):
                while True:
                    with suppress(aiohttp.ClientConnectionError):
                        async with session.patch(
                            f"{url}/sandbox/switches", json={"requests_per_second": UNREACHED}
                        ) as answer:
                            answer.raise_for_status()
                            break
                    await asyncio.sleep(0.05)
            yield Account(url, session)
    finally:
        process.terminate()
        await process.wait()


def rules_of(report: Report) -> Rules:
    assert report.phone_field_id is not None
    assert report.pipeline_id is not None
    assert report.status_id is not None
    business = Business(create_leads="never")
    return Rules(business, "en", report.phone_field_id, report.pipeline_id, report.status_id)


@dataclass(frozen=True, slots=True)
class Sample:
    left: int
    rss: float
    """MiB"""


@dataclass(frozen=True, slots=True)
class Drain:
    requests: int
    seconds: float
    cpu: float
    samples: Sequence[Sample]


async def drain(account: Account, calls: Sequence[Call], directory: Path, *, per_second: int) -> Drain:
    """Register these calls, all of which wait; the phonebook has been synchronised."""
    database = await Database.open(f"sqlite+aiosqlite:///{directory}/itgrix.db")
    limiter = Limiter(min(per_second, MOST_PER_SECOND))
    limiter.per_second = per_second
    async with Transport(account.url, LongLivedToken("sandbox-token"), limiter, timeout_s=30) as transport:
        client = KommoClient(transport, region="RU")
        phonebook = Phonebook(client, PhonebookRows(database))
        async for _ in phonebook.sync():
            pass
        registrations = Registrations(database, "pbx1")
        for call in calls:
            new = registration_of(call, plan())
            assert new is not None
            assert await registrations.keep(new) is not None
        gate = Gate(client, Wanted(), rules_of)
        customizer = Customizer(Customizations(enabled=False))
        delivery = Delivery(registrations, client, Clients(phonebook), customizer, Recorder(), gate, phone_of=str)
        examining = asyncio.create_task(gate.run())
        await gate.opened()
        before = (await account.audit())["total"]
        begun, cpu = time.perf_counter(), time.process_time()
        delivering = asyncio.create_task(delivery.run())
        samples: list[Sample] = []
        while not samples or samples[-1].left:
            await asyncio.sleep(0.2)
            samples.append(Sample((await registrations.counts())[State.WAITING], rss()))
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        counts = await registrations.counts()
        assert counts[State.DONE] == len(calls), counts
        for task in (examining, delivering):
            task.cancel()
        await asyncio.gather(examining, delivering, return_exceptions=True)
        requests = (await account.audit())["total"] - before
    await database.close()
    return Drain(requests, seconds, cpu, samples)


def rss() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure_requests(calls: int) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        async with an_account() as account:
            await account.add_clients(calls)
            begun = float(int(time.time()) - 7200)
            found = await drain(
                account, [call_of(number, number, begun) for number in range(calls)], Path(directory), per_second=6
            )
            made = await registered(account)
    per_call = found.requests / calls
    print(
        f"{calls} calls of clients whom the phonebook knows: {found.requests} requests, {per_call:.3f} for each call;"
        f" {found.seconds:.1f} s"
    )
    print(f"  {made['notes']} calls, {made['tasks']} tasks written")
    return per_call <= REQUESTS_PER_CALL and made == {"notes": calls, "tasks": (calls + 2) // 3}


async def measure_drain(calls: int) -> bool:
    clients = min(CLIENTS, calls)
    with tempfile.TemporaryDirectory() as directory:
        async with an_account() as account:
            await account.add_clients(clients)
            begun = float(int(time.time()) - 20_000)
            queue = [call_of(number % clients, number, begun) for number in range(calls)]
            found = await drain(account, queue, Path(directory), per_second=UNREACHED)
            made = await registered(account)
    quarter = max(1, len(found.samples) // 4)
    second, last = (
        sum(one.rss for one in part) / len(part)
        for part in (found.samples[quarter : 2 * quarter] or found.samples, found.samples[-quarter:])
    )
    print(
        f"{calls} calls of {clients} clients drained in {found.seconds:.1f} s ({calls / found.seconds:.0f}/s):"
        f" {found.requests} requests, {found.cpu / calls * 1000:.2f} ms of processor time for each call"
    )
    print(f"  the process: {second:.1f} MiB in the second quarter, {last:.1f} MiB in the last")
    return last <= second * GROWTH and made["notes"] == calls


async def registered(account: Account) -> dict[str, int]:
    """What the sandbox has of calls and tasks, by its own account of creations."""
    audit = await account.audit()
    assert not audit["breaches"], audit["breaches"]
    assert not audit["duplicates"]["calls_by_uniq"], audit["duplicates"]
    kinds = [one["what"] for one in audit["created"]]
    return {noun: kinds.count(noun) for noun in ("notes", "tasks")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--queue", type=int, default=10_000)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    few = asyncio.run(measure_requests(given.calls))
    flat = asyncio.run(measure_drain(given.queue))
    return 0 if few and flat else 1


if __name__ == "__main__":
    sys.exit(main())
