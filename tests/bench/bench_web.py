"""How long a waiting caller waits: /autodistribution for known callers, beside /healthz of the same server and load.

    python -m tests.bench.bench_web [seconds]

200 requests a second, half of each, while every look into Kommo hangs; the phonebook is the daemon's own, with 10,000
phones, and one request in twenty is of an unknown caller, who waits for Kommo in vain.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

import structlog

from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Limiter
from itgrix_kommo.kommo.listings import Client
from itgrix_kommo.kommo.phonebook import Phonebook
from itgrix_kommo.kommo.transport import LongLivedToken, Transport
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.phonebook import PhonebookRows
from tests.web_face import ANN, face_of

PER_SECOND = 200
PHONES = 10_000


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A Kommo that takes every request and answers none."""
    await reader.read()
    writer.close()


async def measure(seconds: float) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"/healthz": [], "known": [], "unknown": []}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        kommo = await asyncio.start_server(hang, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{kommo.sockets[0].getsockname()[1]}"
        database = await Database.open(f"sqlite+aiosqlite:///{directory}/bench.db")
        async with Transport(url, LongLivedToken("token-of-the-bench"), Limiter(6), timeout_s=10) as transport:
            phonebook = Phonebook(KommoClient(transport, region="RU"), PhonebookRows(database))
            for number in range(PHONES):
                phone = f"+7999{number:07}"
                phonebook.learn(phone, Client("contacts", number + 1, f"Client {number}", ANN, (phone,)))
            async with face_of(directory) as face, kommo:
                face.face.autodistribution._phones = phonebook
                face.http.connector._limit = 0  # type: ignore[union-attr]  # requests don't wait for each other here
                dice = random.Random(7)  # noqa: S311 (the same callers each time)

                async def ask(kind: str) -> None:
                    number = dice.randrange(PHONES) + (PHONES if kind == "unknown" else 0)
                    path = "/healthz" if kind == "/healthz" else f"/autodistribution?from=%2B7999{number:07}"
                    begun = time.perf_counter()
                    async with face.http.get(face.url + path) as answer:
                        text = await answer.text()
                    times[kind].append(time.perf_counter() - begun)
                    if (kind == "known") != text.startswith("101;") and kind != "/healthz":
                        raise AssertionError((kind, text))

                async with asyncio.TaskGroup() as tasks:
                    begun = time.perf_counter()
                    for number in range(int(seconds * PER_SECOND)):
                        await asyncio.sleep(max(0.0, begun + number / PER_SECOND - time.perf_counter()))
                        kind = "/healthz" if number % 2 else "unknown" if number % 20 == 0 else "known"
                        tasks.create_task(ask(kind))
        await database.close()
    return times


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    times = asyncio.run(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0))
    last: dict[str, float] = {}
    for kind, found in times.items():
        found.sort()
        p50, p99 = (found[int(len(found) * part)] * 1000 for part in (0.5, 0.99))
        worst, last[kind] = found[-1] * 1000, p99
        print(f"{kind:9} {len(found):5} requests, p50 {p50:7.2f} ms, p99 {p99:7.2f} ms, worst {worst:7.2f} ms")
    print(f"known callers' p99 is {last['known'] / last['/healthz']:.1f} times that of /healthz")


if __name__ == "__main__":
    main()
