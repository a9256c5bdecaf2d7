"""`itgrix-kommo calls`: why a call is in the CRM, or is not, told by one command, whether the daemon runs or not."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any

from itgrix_kommo.sandbox import Fault
from itgrix_kommo.storage.registrations import State
from tests.played import ANN, Host, a_host, frames_of

ANSWERED, DECLINED, INTERNAL = "in_answered", "in_declined", "internal_answered"

TRACED_HOOK = """
def process_call_params(params):
    params["call_result"] = "as the hook says"
    return {"state": "success", "data": params}
"""
SILENT = "def need_registration(params):\n    return {'state': 'success', 'data': {'result': False}}\n"


def times(shown: str) -> list[str]:
    return re.findall(r"^  (\d\d:\d\d:\d\d\.\d{3}) ", shown, re.MULTILINE)


async def ended(host: Host, calls: int) -> None:
    await host.until(lambda: len(host.logged("call_ended")) >= calls)


async def until_state(host: Host, state: State, count: int = 1) -> None:
    async with asyncio.timeout(60):
        while (await host.health())["registrations"].get(state.value, 0) < count:
            await asyncio.sleep(0.05)


async def test_registered_calls_and_those_between_colleagues(tmp_path: Path) -> None:
    async with a_host(frames_of(ANSWERED, INTERNAL), tmp_path) as host:
        host.config["logging"]["level"] = "info"
        host.config["customizations"]["trace"] = True
        (tmp_path / "actions" / "process_call_params.py").write_text(TRACED_HOOK)
        await host.start()
        await ended(host, 2)
        await until_state(host, State.DONE)
        listed = await host.json("calls", "list")
        by_type = {one["type"]: one for one in listed}
        assert (by_type["incoming"]["standing"], by_type["incoming"]["result"]) == ("done", "talked")
        assert (by_type["local"]["standing"], by_type["local"]["reason"]) == ("skipped", "between employees")
        await the_story_of_the_registered_one(host, by_type["incoming"])
        await the_same_without_the_daemon(host, by_type)
        await found_by_a_part_of_the_number(host)


async def the_story_of_the_registered_one(host: Host, listed: dict[str, Any]) -> None:
    shown = await host.command("calls", "show", listed["call_id"])
    assert shown.status == 0, shown.stderr
    (note,) = host.account.calls
    in_order = [
        "calls 4957770101 from +79990100090",
        "talks with",
        "told as incoming, talked",
        f"registration {listed['registration_id']} is in line",
        "nobody has the number",
        "writing the contact",
        "is created",
        "process_call_params answered in",
        '"call_result": "as the hook says"',
        f"the call is written: note {note.id} on leads/",
        "the registration is done",
        "process_call_params was given",
        "→ it is in Kommo: nothing to do",
    ]
    found = [shown.stdout.find(words) for words in in_order]
    assert -1 not in found, in_order[found.index(-1)] + "\n" + shown.stdout
    assert found == sorted(found), shown.stdout
    assert times(shown.stdout) == sorted(times(shown.stdout))
    told = await host.json("calls", "show", str(listed["registration_id"]))
    (traced,) = [one for one in told["timeline"] if one["text"] == "process_call_params traced"]
    assert traced["facts"]["params"]["phone"] == "+79990100090"
    assert traced["facts"]["data"]["call_result"] == "as the hook says"
    assert "sandbox-token" not in json.dumps(told) + shown.stdout


async def the_same_without_the_daemon(host: Host, by_type: dict[str, dict[str, Any]]) -> None:
    await host.stop()
    files = {path: path.read_bytes() for path in host.files.rglob("*") if path.is_file()}
    for one in by_type.values():
        told = await host.json("calls", "show", one["call_id"])
        assert told["call"]["type"] == one["type"]
        assert any("talks with" in moment["text"] for moment in told["timeline"])
    by_alias = await host.json("calls", "show", by_type["local"]["call_id"].replace(".308", ".309"))
    assert by_alias["call_id"] == by_type["local"]["call_id"]
    assert by_alias["registration"] is None
    assert "numbers.internal_max_length" in by_alias["what_to_do"]
    events = await host.json("calls", "show", by_type["local"]["call_id"], "--events")
    assert {"Newchannel", "Hangup"} <= {one["headers"].get("Event") for one in events["events"]}
    trace = host.directory / "one.trace"
    assert (await host.command("calls", "show", by_type["incoming"]["call_id"], "--trace", str(trace))).status == 0
    assert trace.stat().st_mode & 0o077 == 0
    (replayed,) = json.loads((await host.command("replay", str(trace), "--json")).stdout)
    assert (replayed["call_id"], replayed["result"]) == (by_type["incoming"]["call_id"], "talked")
    assert files == {path: path.read_bytes() for path in host.files.rglob("*") if path.is_file()}


async def found_by_a_part_of_the_number(host: Host) -> None:
    async def found(*arguments: str) -> list[str]:
        return [one["type"] for one in await host.json("calls", "list", *arguments)]

    assert await found("--phone", "0100090") == ["incoming"]
    assert await found("--phone", "8 (999) 010-00-90") == ["incoming"]
    assert await found("--phone", "102") == ["local"]
    assert await found("--phone", "555") == []
    assert await found("--only", "skipped") == ["local"]
    assert await found("--only", "failed", "--only", "waiting") == []
    assert await found("--until", "2020-01-01 00:00:00") == []
    assert await found("--since", "2020-01-01 00:00:00", "--limit", "1") == ["local"]


async def test_why_a_call_is_not_in_the_crm(tmp_path: Path) -> None:
    async with a_host(frames_of(DECLINED), tmp_path) as host:
        host.sandbox.faults.add(Fault(effect="status", status=400, method="POST", path="/api/v4/leads", count=None))
        await host.start()
        await until_state(host, State.FAILED)
        (listed,) = await host.json("calls", "list", "--only", "failed")
        shown = await host.command("calls", "show", listed["call_id"])
        assert "failed: Kommo refused the lead" in shown.stdout
        assert f"registrations retry {listed['registration_id']}" in shown.stdout
        assert f"the pop-up is shown to user {ANN}" in shown.stdout or "no pop-up" in shown.stdout


async def test_why_it_waits_and_for_whom(tmp_path: Path) -> None:
    async with a_host(frames_of(DECLINED), tmp_path) as host:
        host.account.switches.unpaid = True
        await host.start()
        await until_state(host, State.WAITING)
        (listed,) = await host.json("calls", "list", "--only", "waiting")
        told = await host.json("calls", "show", listed["call_id"])
        assert told["what_to_do"].startswith("nothing is registered at present: ")
        assert "402" in told["what_to_do"] or "paid" in told["what_to_do"]
        await host.stop()
        told = await host.json("calls", "show", listed["call_id"])
        assert told["what_to_do"] == "the daemon does not run: systemctl start itgrix_amo"
        assert told["registration"]["state"] == "waiting"


async def test_a_customization_that_wants_no_registration_is_named(tmp_path: Path) -> None:
    async with a_host(frames_of(DECLINED), tmp_path) as host:
        (tmp_path / "actions" / "need_registration.py").write_text(SILENT)
        await host.start()
        await until_state(host, State.SKIPPED)
        (listed,) = await host.json("calls", "list")
        shown = (await host.command("calls", "show", listed["call_id"])).stdout
        assert "need_registration answered in" in shown
        assert f"no pop-up for user {ANN}: need_registration said no" in shown
        assert "hooks try need_registration" in shown


async def test_what_is_not_known_is_told(tmp_path: Path) -> None:
    async with a_host([], tmp_path) as host:
        host.write_config()
        for name in ("1795357853.308", "99", "9" * 30, "[red]x", "../../etc/passwd", "٣"):
            done = await host.command("calls", "show", name)
            assert done.status == 1
            assert f"nothing is known of {name}" in done.stderr
            assert "Traceback" not in done.stderr
        assert (await host.command("calls", "list", "--since", "yesterday")).status == 2
        assert "No call" in (await host.command("calls", "list")).stdout


async def test_a_row_that_another_version_has_kept_otherwise_hides_no_other(tmp_path: Path) -> None:
    async with a_host([], tmp_path) as host:
        host.write_config()
        assert (await host.command("calls", "list")).status == 0
        with sqlite3.connect(tmp_path / "itgrix.db") as connection:
            connection.execute(
                "INSERT INTO registrations (node, call_id, client, state, due_at, attempts, created_at, call, "
                "progress, reason) VALUES ('pbx1', '1.1', '+79990000001', 'done', 0, 0, ?, ?, '{}', '')",
                (time.time(), json.dumps({"started_at": time.time(), "shape": "of tomorrow"})),
            )
        connection.close()
        (listed,) = await host.json("calls", "list")
        assert (listed["call_id"], listed["parties"], listed["standing"]) == ("1.1", "+79990000001", "done")
        assert (await host.json("calls", "show", "1"))["registration"]["state"] == "done"
        assert (await host.json("calls", "erase", "--phone", "+79990000001", "--yes"))["erased"]["registrations"] == 1
        assert (await host.json("registrations", "list"))[0]["reason"].startswith("erased")
