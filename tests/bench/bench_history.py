"""How many CEL rows a second are read back into calls, and with how much memory, beside live events of the same calls.

    python -m tests.bench.bench_history [--rows N]

The table is an SQLite file of FreePBX's shape, filled with the scenes of tests/cel again and again, an hour apart each
time. Live events are those that AMI told of the same scenes, from bytes to stages. Seconds are the processor's.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sqlite3
import tempfile
import time
import tracemalloc
from pathlib import Path

from itgrix_kommo.ami.codec import Codec
from itgrix_kommo.ami.decode import decode
from itgrix_kommo.calls.call import Stage, StageName
from itgrix_kommo.calls.cel import calls_of
from itgrix_kommo.calls.numbers import NumberPlan
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.config import PbxDatabase
from itgrix_kommo.pbx.cel import PbxCalls
from itgrix_kommo.storage.trace import read_trace
from tests.cel_scenes import KEPT, read
from tests.lab.golden import GOLDEN
from tests.lab.truth import office
from tests.pbx_tables import CDR, CEL, SQLITE, wall

HOUR = 3600
LIVE_TURNS = 5


def fill(path: Path, rows: int) -> tuple[int, float, float]:
    """Makes the table; how many rows it has, and its first and last moment in Unix seconds."""
    scenes = [read(file) for file in sorted(KEPT.glob("22/*.json"))]
    connection = sqlite3.connect(path)
    for statement in SQLITE:
        connection.execute(statement)
    connection.execute("CREATE INDEX linkedid_index ON cel (linkedid)")
    connection.execute("CREATE INDEX uniqueid_index ON cel (uniqueid)")
    connection.execute("CREATE INDEX cdr_uniqueid_index ON cdr (uniqueid)")
    written, turn, begin = 0, 0, 0.0
    while written < rows:
        at = 1_700_000_000 + turn * HOUR
        for scene in scenes:
            first = int(scene.cel_rows()[0].at)
            ids = sorted({row[key] for row in scene.cel for key in ("uniqueid", "linkedid")}, key=len, reverse=True)
            names = {one: f"{at}.{turn}{place}" for place, one in enumerate(ids)}

            def anew(text: str, names: dict[str, str] = names) -> str:
                return names.get(text, text)

            for table, columns, kept in (("cel", CEL, scene.cel), ("cdr", CDR, scene.cdr)):
                values = []
                for row in kept:
                    new = {column: anew(row.get(column, "")) for column in columns}
                    for column in {"eventtime", "calldate"} & new.keys():
                        moment = wall(new[column], None).timestamp() - first + at
                        new[column] = f"{moment:.6f}"
                    if "extra" in new:
                        for old, name in names.items():
                            new["extra"] = new["extra"].replace(f'"{old}"', f'"{name}"')
                    values.append(tuple(new[column] for column in columns))
                marks = ", ".join("?" * len(columns))
                connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)  # noqa: S608 (names of the tests)
            written += len(scene.cel)
            at += 20
        begin = begin or 1_700_000_000
        turn += 1
    connection.commit()
    connection.close()
    return written, begin, 1_700_000_000 + (turn + 1) * HOUR


async def read_back(path: Path, begin: float, end: float, plan: NumberPlan) -> tuple[int, int, int, list[int]]:
    """Rows, calls and ended calls read, and the memory in bytes after each tenth of them, if it is traced."""
    settings = PbxDatabase.model_validate({"url": f"sqlite+aiosqlite:///{path}"})
    pbx = await PbxCalls.open(settings, None)
    rows = calls = ended = 0
    memory: list[int] = []
    try:
        async for whole in pbx.between(begin, end):
            rows += len(whole.rows)
            calls += 1
            ended += len(calls_of(whole.rows, whole.records, plan))
            if tracemalloc.is_tracing() and calls % 1000 == 0:
                memory.append(tracemalloc.get_traced_memory()[0])
    finally:
        await pbx.close()
    return rows, calls, ended, memory


def live_rate() -> tuple[float, float]:
    """Events and ended calls a second of the same scenes as AMI told them, from bytes to stages."""
    scenes = [list(read_trace(file)) for file in sorted(GOLDEN.glob("22/*.trace"))]
    events = ended = 0
    started = time.process_time()
    for _ in range(LIVE_TURNS):
        for recorded in scenes:
            tracker = Tracker(office())
            codec = Codec()
            stages: list[Stage] = []
            for at, frame in recorded:
                for whole in codec.feed(frame + b"\r\n\r\n"):
                    event = decode(whole, at)
                    if event is not None:
                        events += 1
                        stages += tracker.feed(event)
            stages += tracker.advance(recorded[-1].at + HOUR)
            ended += sum(stage.name is StageName.CALL_ENDED for stage in stages)
    taken = time.process_time() - started
    return events / taken, ended / taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the table, about")
    options = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "master.db"
        written, begin, end = fill(path, options.rows)
        started = time.process_time()
        rows, calls, ended, _ = asyncio.run(read_back(path, begin, end, office()))
        taken = time.process_time() - started
        print(f"{written} rows written; {rows} read back as {calls} groups, {ended} calls, in {taken:.1f} s")
        tracemalloc.start()
        *_, memory = asyncio.run(read_back(path, begin, end, office()))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    live_events, live_calls = live_rate()
    for what, past, live in (("rows", rows / taken, live_events), ("calls", ended / taken, live_calls)):
        print(f"  {what + '/s':<8} {past:>8,.0f}   live {live:>8,.0f}   {past / live:.2f} x")
    print(
        f"  memory after each 1000 groups, MB: {' '.join(f'{one / 1e6:.1f}' for one in memory)}; peak {peak / 1e6:.1f}"
    )


if __name__ == "__main__":
    main()
