"""`itgrix-kommo calls erase`: nothing of the person is left in what the daemon keeps, and others lose nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from itgrix_kommo.errors import StorageError
from itgrix_kommo.pipeline.forgetting import ERASURES, ask_daemon, faceless
from itgrix_kommo.pipeline.intake import CALL
from itgrix_kommo.storage.erasure import erase_shared
from itgrix_kommo.storage.files import CHRONICLE, JOURNAL
from itgrix_kommo.storage.journal import ENDED, read_segments, segments_of
from itgrix_kommo.storage.registrations import State
from itgrix_kommo.storage.shared import SharedDatabase, claims, handed
from tests.pbx_servers import postgresql
from tests.played import Host, a_host, frames_of
from tests.story import ended, inbound

ANSWERED, DECLINED, INTERNAL = "in_answered", "in_declined", "internal_answered"
HIS, OTHERS = "+79990100090", "+79990100095"


def everything(host: Host) -> dict[str, bytes]:
    """All that stands in the daemon's files; what SQLite's file holds is asked of it."""
    found = {}
    for path in host.files.rglob("*"):
        if path.is_file() and path.name != "link.key":
            text = path.read_bytes()
            found[str(path)] = gzip.decompress(text) if path.suffix == ".gz" else text
    with sqlite3.connect(host.directory / "itgrix.db") as connection:
        found["database"] = "\n".join(connection.iterdump()).encode()
    connection.close()
    return found


def that_name(host: Host, phone: str) -> set[str]:
    return {name for name, text in everything(host).items() if phone.removeprefix("+7").encode() in text}


async def settled(host: Host, count: int) -> None:
    async with asyncio.timeout(60):
        while (await host.health())["registrations"].get(State.DONE.value, 0) < count:
            await asyncio.sleep(0.05)
    # The phonebook gathers for a moment before it is kept.
    await host.until(lambda: b'INSERT INTO "phonebook"' in everything(host)["database"])


async def test_beside_the_daemon_nothing_of_him_is_left_and_others_lose_nothing(tmp_path: Path) -> None:
    async with a_host(frames_of(ANSWERED, INTERNAL, DECLINED), tmp_path) as host:
        await host.start()
        await settled(host, 2)
        assert {"database"} < that_name(host, HIS)
        listed = {one["parties"].split()[0]: one for one in await host.json("calls", "list")}
        refused = await host.command("calls", "erase", "--phone", HIS, given="n\n")
        assert refused.status == 1
        assert "Kept here: registrations: 1, " in refused.stdout
        assert "Forget all this?" in refused.stdout
        assert that_name(host, HIS)
        done = await host.command("calls", "erase", "--phone", "8 999 010-00-90", "--yes")
        assert done.status == 0, done.stderr
        assert "Kommo: his contact" in done.stdout
        assert host.logged("person_forgotten")
        assert that_name(host, HIS) == set()
        # Nor in what SQLite no longer knows, but still holds.
        for file in ("itgrix.db", "itgrix.db-wal"):
            assert HIS.removeprefix("+7").encode() not in (tmp_path / file).read_bytes(), file
        assert {"database"} < that_name(host, OTHERS)
        assert "nothing of this number" in (await host.command("calls", "erase", "--phone", HIS)).stdout
        await his_row_tells_nobody_and_is_still_known(host, listed[HIS])
        assert (await host.json("calls", "show", listed[OTHERS]["call_id"]))["registration"]["state"] == "done"
        await host.stop()
        assert that_name(host, HIS) == set()
        assert read_segments(segments_of(host.files / JOURNAL)).frames


async def his_row_tells_nobody_and_is_still_known(host: Host, listed: dict[str, object]) -> None:
    told = await host.json("calls", "show", str(listed["call_id"]))
    assert told["registration"]["reason"].startswith("erased")
    assert told["registration"]["progress"] == {}
    assert HIS not in json.dumps(told)
    assert (told["call"]["type"], told["call"]["result"]) == ("incoming", "talked")
    by_alias = str(listed["call_id"]).replace(".260", ".261")
    assert (await host.json("calls", "show", by_alias))["call_id"] == listed["call_id"]


async def test_without_the_daemon_and_in_what_was_compressed(tmp_path: Path) -> None:
    async with a_host(frames_of(ANSWERED, DECLINED), tmp_path) as host:
        await host.start()
        await settled(host, 2)
        await host.kill()
        (segment,) = segments_of(host.files / JOURNAL)
        aside = host.files / JOURNAL / ENDED
        aside.mkdir()
        (aside / f"{segment.name}.gz").write_bytes(gzip.compress(segment.read_bytes()))
        segment.unlink()
        (day,) = (host.files / CHRONICLE).iterdir()
        day.with_name("2001-01-01.jsonl.gz").write_bytes(gzip.compress(day.read_bytes()))
        erased = await host.json("calls", "erase", "--phone", HIS, "--yes")
        assert erased["erased"]["registrations"] == 1
        assert erased["erased"]["journal_messages"] > 10
        assert that_name(host, HIS) == set()
        assert len(read_segments(segments_of(aside)).frames) > 10
        # Nor in what the database file has room for.
        assert HIS.removeprefix("+7").encode() not in (tmp_path / "itgrix.db").read_bytes()
        assert OTHERS.removeprefix("+7").encode() in (tmp_path / "itgrix.db").read_bytes()


async def test_a_call_that_waits_is_not_registered_any_more(tmp_path: Path) -> None:
    async with a_host(frames_of(DECLINED), tmp_path) as host:
        host.account.switches.unpaid = True
        await host.start()
        async with asyncio.timeout(60):
            while not (await host.health())["registrations"].get("waiting"):
                await asyncio.sleep(0.05)
        assert (await host.command("calls", "erase", "--phone", OTHERS, "--yes")).status == 0
        host.account.switches.unpaid = False
        begun = len(host.lines)
        await host.until(lambda: host.logged("account_in_order", begun))
        assert (await host.health())["registrations"] == {"waiting": 0, "done": 0, "skipped": 1, "failed": 0}
        assert host.account.calls == []
        assert that_name(host, OTHERS) == set()


@pytest.mark.parametrize("phone", ["101", "", "12345", "[red]", "+7916"])
async def test_what_names_nobody_is_refused(tmp_path: Path, phone: str) -> None:
    async with a_host([], tmp_path) as host:
        host.write_config()
        assert (await host.command("calls", "erase", "--phone", phone, "--yes")).status == 2


async def test_an_employees_number_is_refused(tmp_path: Path) -> None:
    async with a_host([], tmp_path) as host:
        host.config["employees"][0]["numbers"] = ["+79161112233"]
        host.write_config()
        done = await host.command("calls", "erase", "--phone", "+79161112233", "--yes")
        assert (done.status, "an employee's" in done.stderr) == (1, True)


def test_a_daemon_that_does_not_answer_is_told(tmp_path: Path) -> None:
    assert not ask_daemon(tmp_path, "9990100090", ["+79990100090"], within=0.1)
    assert list((tmp_path / ERASURES).iterdir()) == []
    with pytest.raises(StorageError, match="can't be used"):
        ask_daemon(tmp_path / "none", "9990100090", [], within=0.1)


def test_a_call_without_faces_is_a_call_still() -> None:
    kept = CALL.dump_python(ended(inbound()), mode="json")
    bare = faceless(kept)
    assert CALL.validate_python(bare).aliases == CALL.validate_python(kept).aliases
    assert "79990000001" not in json.dumps(bare)
    assert "101" not in json.dumps(bare["channel"])


@pytest.mark.xdist_group("databases")
async def test_what_the_nodes_have_in_common_names_him_no_more() -> None:
    with postgresql() as (address, _):
        shared = SharedDatabase(address)
        await shared.prepare()
        rows = [in_common("+79990000001", 1, "waiting"), in_common("+79990000002", 2, "done")]
        await shared.write(lambda connection: connection.execute(sa.insert(handed), rows))
        claim = {"client": "+79990000001", "node": "pbx1"}
        await shared.write(lambda connection: connection.execute(sa.insert(claims), claim))
        assert await erase_shared(shared, "9990000001", faceless) == 1
        assert await erase_shared(shared, "9990000001", faceless) == 0
        left = await shared.read(lambda connection: connection.execute(sa.select(handed)).mappings().all())
        assert await shared.read(lambda connection: connection.execute(sa.select(claims)).all()) == []
        states = {row["client"]: (row["state"], row["version"]) for row in left}
        assert states == {"1795355557.10": ("skipped", 1), "+79990000002": ("done", 0)}
        assert "9990000001" not in str(left)
        assert [row["client"] for row in left if row["ended_at"] is not None] == ["1795355557.10"]
        await shared.close()


def in_common(client: str, number: int, state: str) -> dict[str, Any]:
    call = ended(inbound(client, linkedid=f"1795355557.{number}0"))
    row = {"node": "pbx1", "call_id": call.id, "client": client, "state": state, "due_at": 0.0, "attempts": 0}
    row |= {"created_at": 0.0, "call": CALL.dump_python(call, mode="json"), "progress": {"phone": client}}
    return row | {"reason": "", "version": 0, "worker": "", "epoch": "e", "is_told": False}


async def test_what_was_made_while_the_call_went_on_is_forgotten_too(tmp_path: Path) -> None:
    async with a_host(frames_of(DECLINED), tmp_path) as host:
        host.config["business"] = {"create_at": "ringing"}
        await host.start()
        await settled(host, 2)
        await host.stop()
        (day,) = (host.files / CHRONICLE).iterdir()
        (contact_id,) = host.account.contacts
        assert b"#early" in day.read_bytes()
        assert (await host.json("calls", "erase", "--phone", OTHERS, "--yes"))["erased"]["registrations"] == 2
        assert b"#early" not in day.read_bytes()
        assert str(contact_id).encode() not in day.read_bytes()
        assert that_name(host, OTHERS) == set()
