"""Scenes as the PBX's tables remember them, kept beside what AMI told of the same calls.

    python -m tests.cel_scenes [--version 22|16] [SCENE ...]   plays them in the lab, writes tests/cel/VERSION/*.json

A file holds the fresh clients' numbers, what the tracker made of the live events, and the rows of `cel` and `cdr` as
FreePBX's tables would have them; what is empty in a row is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from itgrix_kommo.ami.decode import decode
from itgrix_kommo.calls.call import Call
from itgrix_kommo.calls.cel_lines import CdrRow, CelRow
from itgrix_kommo.storage.trace import read_trace
from tests.lab.pair import Pair
from tests.lab.scenes import SCENES, Scene
from tests.lab.stage import Lab
from tests.lab.truth import understood

KEPT = Path(__file__).parent / "cel"

CEL_COLUMNS = (
    "eventtype", "eventtime", "cid_name", "cid_num", "cid_ani", "cid_dnid", "exten", "context", "channame", "appname",
    "appdata", "uniqueid", "linkedid", "peer", "extra",
)  # fmt: skip
CDR_COLUMNS = (
    "calldate", "src", "dst", "dcontext", "channel", "dstchannel", "lastapp", "lastdata", "duration", "billsec",
    "disposition", "uniqueid", "did", "recordingfile", "linkedid",
)  # fmt: skip
WRITTEN_WITHIN = 5.0
"""Seconds in which Asterisk brings the last row into its table."""


class Heard(NamedTuple):
    """What the tracker made of a call from AMI; times are Unix seconds, None where there was no talk."""

    id: str
    started_at: float
    ended_at: float
    talk: tuple[float, float] | None
    aliases: tuple[str, ...]

    @classmethod
    def of(cls, call: Call) -> Heard:
        accepted = call.conversation(call.accepted_id)
        talk = accepted.client_talk if accepted else None
        assert call.ended_at is not None
        span = (talk[0], talk[1] or call.ended_at) if talk else None
        return cls(call.id, call.started_at, call.ended_at, span, tuple(sorted(call.aliases)))


class Remembered(NamedTuple):
    """`cel` and `cdr` are rows by column name, in the order of their writing; absent columns are empty."""

    clients: tuple[str, ...]
    heard: tuple[Heard, ...]
    cel: tuple[dict[str, str], ...]
    cdr: tuple[dict[str, str], ...]

    def cel_rows(self) -> list[CelRow]:
        return [cel_row(row) for row in self.cel]

    def cdr_rows(self) -> list[CdrRow]:
        return [cdr_row(row) for row in self.cdr]


def cel_row(row: dict[str, str]) -> CelRow:
    return CelRow(
        at=datetime.fromisoformat(row["eventtime"]).replace(tzinfo=UTC).timestamp(),
        event=row["eventtype"],
        uniqueid=row["uniqueid"],
        linkedid=row["linkedid"],
        channel=row["channame"],
        caller_number=row.get("cid_num", ""),
        caller_name=row.get("cid_name", ""),
        context=row.get("context", ""),
        exten=row.get("exten", ""),
        application=row.get("appname", ""),
        app_data=row.get("appdata", ""),
        peers=tuple(filter(None, row.get("peer", "").split(","))),
        extra=json.loads(row.get("extra", "") or "{}"),
    )


def cdr_row(row: dict[str, str]) -> CdrRow:
    return CdrRow(
        uniqueid=row["uniqueid"],
        dest_channel=row.get("dstchannel", ""),
        application=row.get("lastapp", ""),
        app_data=row.get("lastdata", ""),
        did=row.get("did", ""),
        recording=row.get("recordingfile", ""),
    )


def read(path: Path) -> Remembered:
    kept = json.loads(path.read_text("utf-8"))
    heard = tuple(
        Heard(one[0], one[1], one[2], tuple(one[3]) if one[3] else None, tuple(one[4])) for one in kept["heard"]
    )
    return Remembered(tuple(kept["clients"]), heard, tuple(kept["cel"]), tuple(kept["cdr"]))


def write(path: Path, remembered: Remembered) -> None:
    """One row a line, for those who read changes."""
    lines = [f'{{"clients": {json.dumps(remembered.clients)},', f'"heard": {json.dumps(remembered.heard)},']
    for name, rows in (("cel", remembered.cel), ("cdr", remembered.cdr)):
        lines.append(f'"{name}": [')
        lines.append(",\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
        lines.append("]," if name == "cel" else "]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def rows_since(database: Path, table: str, columns: Sequence[str], since: int) -> Iterator[dict[str, str]]:
    """The rows of a lab's table with numbers above `since`, in their order, without what is empty."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda text: text.decode("utf-8", "replace")
        for row in connection.execute(f"SELECT * FROM {table} WHERE AcctId > ? ORDER BY AcctId", (since,)):  # noqa: S608 (the lab's own tables)
            yield {column: row[column] for column in columns if row[column]}
    finally:
        connection.close()


def last_number(database: Path, table: str) -> int:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        number: int = connection.execute(f"SELECT coalesce(max(AcctId), 0) FROM {table}").fetchone()[0]  # noqa: S608 (the lab's own tables)
        return number
    finally:
        connection.close()


async def all_written(database: Path, since: int) -> list[dict[str, str]]:
    """The CEL rows since then, once every linkedid among them has ended."""
    async with asyncio.timeout(WRITTEN_WITHIN):
        while True:
            rows = list(rows_since(database, "cel", CEL_COLUMNS, since))
            begun = {row["linkedid"] for row in rows if row["eventtype"] == "CHAN_START"}
            if rows and begun == {row["linkedid"] for row in rows if row["eventtype"] == "LINKEDID_END"}:
                return rows
            await asyncio.sleep(0.05)


async def record(lab: Lab, scene: Scene) -> Remembered:
    """Play a scene and keep what the PBX's tables and its AMI told of it."""
    database = lab.pair.pbx.folder / "log/master.db"
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory) / "trace"
        async with lab.cel(), lab.record(trace):
            cel, cdr = last_number(database, "cel"), last_number(database, "cdr")
            await scene(lab)
            rows = await all_written(database, cel)
        events = [event for at, frame in read_trace(trace) if (event := decode(frame, at)) is not None]
    uniqueids = {row["uniqueid"] for row in rows}
    records = [row for row in rows_since(database, "cdr", CDR_COLUMNS, cdr) if row["uniqueid"] in uniqueids]
    return Remembered(tuple(lab.clients), tuple(map(Heard.of, understood(events))), tuple(rows), tuple(records))


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.cel_scenes", description=__doc__.partition("\n")[0])
    parser.add_argument("scene", nargs="*", metavar="SCENE", help="names of scenes; all without any")
    parser.add_argument("--version", default="22", help="of Asterisk (default 22)")
    chosen = parser.parse_args()
    pair = Pair(chosen.version)
    await pair.start()
    try:
        for scene in (SCENES[name] for name in chosen.scene or SCENES):
            if chosen.version in scene.versions:
                async with Lab(pair) as lab:
                    path = KEPT / chosen.version / f"{scene.name}.json"
                    write(path, await record(lab, scene))
                    print(path)
    finally:
        pair.stop()


if __name__ == "__main__":
    asyncio.run(main())
