"""Calls of the past read over HTTP, and how long everybody else waits meanwhile.

    python -m tests.bench.bench_read_call [--rows N]

The table is that of `bench_history`, the face is the daemon's own, and the rows are kept in its database: once when
nothing is known yet, and once more when all of it is. Beside it /healthz is asked a hundred times a second. Memory is
traced in a turn of its own, since tracing makes everything slow.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import json
import logging
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from itgrix_kommo.config import PbxDatabase
from itgrix_kommo.pbx.cel import PbxCalls
from itgrix_kommo.pipeline.history import History
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.registrations import Registrations
from tests.bench.bench_history import fill
from tests.lab.truth import office
from tests.web_face import PASSWORD, Served, face_of

ADMIN = {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}
EVERY = 0.01


@asynccontextmanager
async def hurried_history(table: Path, registrations: Registrations) -> AsyncIterator[History]:
    """As the daemon opens it, but that it does not wait while many registrations are in line."""
    pbx = await PbxCalls.open(PbxDatabase.model_validate({"url": f"sqlite+aiosqlite:///{table}"}), None)
    try:
        yield History(pbx, registrations, office(), sleep=lambda _: asyncio.sleep(0))
    finally:
        await pbx.close()


async def read(face: Served, begin: float, end: float) -> tuple[int, dict[str, int], list[int]]:
    """Bytes of the answer, its counts, and the memory in bytes whenever another tenth of a megabyte was told."""
    period = {"start_date": f"{begin:.0f}", "end_date": f"{end:.0f}"}
    size, tail, memory = 0, b"", []
    async with face.http.get(f"{face.url}/pbx/read_call", params=period, headers=ADMIN, timeout=None) as answer:
        async for chunk in answer.content.iter_any():
            if tracemalloc.is_tracing() and size // 100_000 != (size + len(chunk)) // 100_000:
                memory.append(tracemalloc.get_traced_memory()[0])
            size += len(chunk)
            tail = (tail + chunk)[-300:]
    counts: dict[str, int] = json.loads(b"{" + tail[tail.rindex(b'"counts"') :])["counts"]
    return size, counts, memory


async def ask(face: Served, times: list[float]) -> None:
    while True:
        begun = time.perf_counter()
        async with face.http.get(f"{face.url}/healthz") as answer:
            await answer.read()
        times.append(time.perf_counter() - begun)
        await asyncio.sleep(EVERY)


async def measure(directory: Path, rows: int) -> None:
    table = directory / "master.db"
    written, begin, end = fill(table, rows)
    database = await Database.open(f"sqlite+aiosqlite:///{directory}/itgrix.db")
    past = partial(hurried_history, table, Registrations(database, "pbx1"))
    async with face_of(directory, past=past) as face:
        gc.freeze()  # as the daemon does
        for what in ("nothing is known", "all is known"):
            times: list[float] = []
            asking = asyncio.create_task(ask(face, times))
            started, wall = time.process_time(), time.perf_counter()
            _, counts, _ = await read(face, begin, end)
            taken, passed = time.process_time() - started, time.perf_counter() - wall
            asking.cancel()
            times.sort()
            p50, p99 = (times[int(len(times) * part)] * 1000 for part in (0.5, 0.99))
            told = ", ".join(f"{count} {fate}" for fate, count in counts.items() if count)
            print(f"{what}: {written} rows in {passed:.1f} s, {taken:.1f} s of the processor: {told}")
            print(f"  /healthz meanwhile: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {times[-1] * 1000:.1f} ms")
        tracemalloc.start()
        size, _, memory = await read(face, begin, end)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        shown = " ".join(f"{one / 1e6:.1f}" for one in memory)
        print(f"  {size:,} bytes told; memory, MB: {shown}; peak {peak / 1e6:.1f}")
    await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the table, about")
    options = parser.parse_args()
    logging.disable()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(measure(Path(directory), options.rows))


if __name__ == "__main__":
    main()
