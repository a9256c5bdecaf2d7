"""The lab itself: what the vocabulary says really happens, as the PBX's own events tell."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.lab import root
from tests.lab.observation import StepFailedError
from tests.lab.pair import Pair
from tests.lab.recorder import trace
from tests.lab.root import LabUnavailableError, ensure
from tests.lab.scenes import SCENES
from tests.lab.stage import Lab

pytestmark = pytest.mark.lab


def statuses(lab: Lab) -> list[str]:
    return [event["DialStatus"] for event in lab.seen.pbx_events if event["Event"] == "DialEnd"]


async def test_an_incoming_call_rings_is_answered_and_ends(lab: Lab) -> None:
    client, anna = lab.client(), lab.phone(101)
    await client.calls("4957770101", name="Иван")
    await anna.rings()
    await anna.answers()
    await client.talks()
    await client.hangs_up()
    await anna.is_hung_up()
    await lab.quiet()
    first = await lab.seen.event("Newchannel", within=1)
    assert (first["CallerIDNum"], first["CallerIDName"], first["Exten"]) == (client.number, "Иван", "4957770101")
    assert first["Channel"].startswith("PJSIP/trunk-")
    assert statuses(lab) == ["ANSWER"]


async def test_an_outgoing_call_with_and_without_the_outside_prefix(lab: Lab) -> None:
    client, anna = lab.client(), lab.phone(101)
    for prefix in ("", "9"):
        await anna.calls(prefix + client.number)
        await client.rings()
        await anna.hears_ringing()
        await client.answers()
        await anna.talks()
        await client.hangs_up()
        await anna.is_hung_up()
        await lab.quiet()
    assert statuses(lab) == ["ANSWER", "ANSWER"]
    dialled = [event["DialString"] for event in lab.seen.pbx_events if event["Event"] == "DialBegin"]
    assert dialled == [f"{client.number}@trunk"] * 2


async def test_an_internal_call(lab: Lab) -> None:
    await lab.phone(101).calls("102")
    await lab.phone(102).answers()
    await lab.phone(101).talks()
    await lab.phone(102).hangs_up()
    await lab.phone(101).is_hung_up()
    assert statuses(lab) == ["ANSWER"]


@pytest.mark.parametrize(("code", "cause"), [(486, "17"), (603, "21"), (480, "19"), (404, "1"), (403, "21")])
async def test_a_refused_call_ends_with_the_cause_of_its_status(lab: Lab, code: int, cause: str) -> None:
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rejects(code)
    await client.is_hung_up()
    await lab.quiet()
    causes = {event["Channel"][:9]: event["Cause"] for event in lab.seen.pbx_events if event["Event"] == "Hangup"}
    assert causes["PJSIP/101"] == cause


async def test_the_client_gives_up(lab: Lab) -> None:
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rings()
    await client.hangs_up()
    await lab.phone(101).is_hung_up()
    await lab.quiet()
    assert statuses(lab) == ["CANCEL"]


async def test_the_employee_gives_up(lab: Lab) -> None:
    client = lab.client()
    await lab.phone(101).calls(client.number)
    await client.rings()
    await lab.phone(101).hangs_up()
    await client.is_hung_up()
    await lab.quiet()
    assert statuses(lab) == ["CANCEL"]


async def test_nobody_answers_and_the_pbx_gives_up(lab: Lab) -> None:
    client = lab.client()
    await client.calls("4957770201")
    await lab.phone(101).rings()
    await client.is_hung_up()
    await lab.quiet()
    assert statuses(lab) == ["NOANSWER"]


async def test_a_phone_that_is_offline_never_rings(lab: Lab) -> None:
    client, anna = lab.client(), lab.phone(101)
    await anna.goes_offline()
    await client.calls("4957770101")
    await client.is_hung_up()
    await lab.quiet()
    assert anna.legs == []
    assert statuses(lab) == []
    await anna.comes_online()
    await client.calls("4957770101")
    await anna.rings()


async def test_of_a_ring_group_one_answers_and_the_others_fall_silent(lab: Lab) -> None:
    client = lab.client()
    await client.calls("4957770600")
    for extension in (101, 102, 103):
        await lab.phone(extension).rings()
    await lab.phone(102).answers()
    await client.talks()
    await lab.phone(101).is_hung_up()
    await lab.phone(103).is_hung_up()
    await client.hangs_up()
    await lab.quiet()
    assert sorted(statuses(lab)) == ["ANSWER", "CANCEL", "CANCEL"]


async def test_a_hunt_goes_on_to_the_next_phone(lab: Lab) -> None:
    client = lab.client()
    await client.calls("4957770601")
    await lab.phone(101).rejects(486)
    await lab.phone(102).answers()
    await client.talks()
    await lab.phone(102).hangs_up()
    await client.is_hung_up()
    await lab.quiet()
    assert statuses(lab) == ["BUSY", "ANSWER"]


async def test_the_freepbx_side_in_and_out(lab: Lab) -> None:
    client, olga = lab.client(), lab.phone(201)
    await client.calls("4958880201", trunk="trunk2")
    await olga.answers()
    await client.talks()
    await client.hangs_up()
    await lab.quiet()
    await olga.calls(client.number)
    await client.answers()
    await olga.talks()
    await olga.hangs_up()
    await lab.quiet()
    variables = {(event["Variable"], event["Value"]) for event in lab.seen.pbx_events if event["Event"] == "VarSet"}
    assert ("__FROM_DID", "4958880201") in variables
    assert ("AMPUSER", "201") in variables
    contexts = {event["Context"] for event in lab.seen.pbx_events if event["Event"] == "Newexten"}
    assert {"from-trunk", "from-did-direct", "dial-one", "route", "dialout-trunk", "sub-record-check"} <= contexts


async def test_a_recording_is_where_the_pbx_says_and_holds_sound(lab: Lab) -> None:
    client = lab.client()
    await client.calls("4958881201")
    await lab.phone(201).answers()
    named = await lab.seen.event("VarSet", within=5, Variable="MIXMONITOR_FILENAME")
    recording = lab.pair.pbx.outside(named["Value"])
    await client.talks()
    await lab.seen.until(lambda: recording.stat().st_size > 20_000, f"sound in {recording}", 8)
    await client.hangs_up()
    await lab.quiet()
    assert re.search(r"/\d{4}/\d\d/\d\d/in-4958881201-\+7999\d{7}-.*\.wav$", str(recording))
    assert recording.is_relative_to(lab.pair.pbx.outside(lab.pair.pbx.monitor))
    samples = recording.read_bytes()[44:]
    assert max(samples) > min(samples)


async def test_the_pbx_dies_in_mid_call_and_comes_back(lab: Lab) -> None:
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await client.talks()
    await lab.pbx_dies()
    assert not lab.pair.pbx.alive
    await lab.pbx_returns()
    await client.hangs_up()
    await lab.phone(101).hangs_up()
    again = lab.client()
    await again.calls("4957770101")
    await lab.phone(101).answers()
    await again.talks()


async def test_cel_is_told_only_when_switched_on(lab: Lab) -> None:
    async with lab.cel():
        await SCENES["in_answered"](lab)
        end = await lab.seen.event("CEL", within=5, EventName="LINKEDID_END")
    told = sum(event["Event"] == "CEL" for event in lab.seen.pbx_events)
    assert told > 5
    await SCENES["in_answered"](lab)
    assert sum(event["Event"] == "CEL" for event in lab.seen.pbx_events) == told
    with closing(sqlite3.connect(lab.pair.pbx.folder / "log/master.db")) as database:
        rows = database.execute(
            "SELECT eventtype, eventtime FROM cel WHERE linkedid = ?", (end["LinkedID"],)
        ).fetchall()
    assert {"CHAN_START", "ANSWER", "BRIDGE_ENTER", "LINKEDID_END"} <= {row[0] for row in rows}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", row[1]) for row in rows)


async def test_the_cdr_table_names_the_recording(lab: Lab) -> None:
    await SCENES["freepbx_in_answered"](lab)
    first = await lab.seen.event("Newchannel", within=1)
    database = lab.pair.pbx.folder / "log/master.db"

    def written() -> tuple[str, str, str] | None:
        query = "SELECT disposition, did, recordingfile FROM cdr WHERE uniqueid = ?"
        with closing(sqlite3.connect(database)) as reader:
            row: tuple[str, str, str] | None = reader.execute(query, (first["Uniqueid"],)).fetchone()
            return row

    disposition, did, recording = await lab.seen.until(written, "a row in the table cdr", 5)
    assert (disposition, did) == ("ANSWERED", "4958881201")
    assert recording.startswith("in-4958881201-+7999")


async def test_a_trace_holds_what_the_daemons_user_is_told(lab: Lab, tmp_path: Path) -> None:
    saved = tmp_path / "one.trace"
    async with lab.record(saved):
        await SCENES["in_answered"](lab)
    frames = saved.read_text("utf-8").removesuffix("\n\n").split("\n\n")
    assert all(re.match(r"@ \d{10}\.\d{6}\nEvent: \w+\n", frame) for frame in frames)
    names = [frame.split("\n")[1].removeprefix("Event: ") for frame in frames]
    assert names.index("Newchannel") < names.index("DialBegin") < names.index("BridgeEnter") < names.index("Hangup")
    assert {"VarSet", "Newexten"} <= set(names)
    assert "RTCPSent" not in names


def test_a_trace_keeps_bytes_but_not_answers_nor_stray_blank_lines() -> None:
    frames = [(1.5, b"Response: Success\r\n\r\n"), (2.25, b"\r\nEvent: A\r\nX: \xff \r\nY: \r\n\r\n")]
    assert trace(frames) == b"@ 2.250000\nEvent: A\nX: \xff \nY: \n\n"


async def test_a_step_that_does_not_happen_says_what_was_awaited_and_seen(lab: Lab) -> None:
    client = lab.client()
    await client.calls("4957770101")
    await lab.phone(101).rings()
    with pytest.raises(StepFailedError) as failure:
        await lab.phone(102).rings(within=0.2)
    told = str(failure.value)
    assert told.startswith("102 rings did not happen within 0.2 s")
    assert "Newchannel PJSIP/101-" in told
    assert "!from-trunk!4957770101!" in told


async def test_what_the_phones_dial_reaches_the_second_trunk_behind_0(lab: Lab) -> None:
    client = lab.client()
    await lab.phone(101).calls(f"0{client.number}")
    await client.answers()
    await lab.phone(101).talks(to=client)
    begun = await lab.seen.event("DialBegin", within=1)
    assert begun["DestChannel"].startswith("PJSIP/trunk2-")


async def test_a_phone_of_the_old_channel_driver(lab: Lab) -> None:
    if lab.pair.root.version != "16":
        assert 107 not in lab.pair.extensions
        return
    client = lab.client()
    await client.calls("4957770107")
    await lab.phone(107).answers()
    await client.talks()
    begun = await lab.seen.event("DialBegin", within=1)
    assert begun["DestChannel"].startswith("SIP/107-")
    await lab.phone(107).hangs_up()
    await lab.quiet()
    await lab.phone(107).calls("101")
    await lab.phone(101).answers()
    await lab.phone(107).talks(to=lab.phone(101))


async def test_side_by_side_calls_do_not_meet(lab: Lab) -> None:
    clients = [lab.client() for _ in range(6)]
    for number, client in enumerate(clients, start=1):
        await client.calls(f"49577701{number:02d}")
    for number, client in enumerate(clients, start=101):
        await lab.phone(number).answers()
        await client.talks(to=lab.phone(number))
    assert len({event["Linkedid"] for event in lab.seen.pbx_events if event["Event"] == "Newchannel"}) == 6


def test_a_version_without_a_recipe_is_refused_by_name() -> None:
    with pytest.raises(LabUnavailableError, match="no recipe for Asterisk '11': ask for one of 22, 16"):
        ensure("11")


def test_a_root_that_cannot_be_built_names_every_try_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_mirror(draft: Path, suite: str, mirror: str) -> None:
        draft.mkdir()
        raise LabUnavailableError(f"no {suite} at {mirror}")

    monkeypatch.setenv("ITGRIX_CACHE", str(tmp_path))
    monkeypatch.setattr(root, "bootstrap", no_mirror)
    monkeypatch.setattr(root, "require_debootstrap", lambda _say: None)
    said: list[str] = []
    with pytest.raises(LabUnavailableError) as failure:
        ensure("22", say=said.append)
    told = str(failure.value)
    assert "no sid at http" in told
    assert "no forky at http://archive.debian.org/debian" in told
    assert "Remedy: make a Debian mirror reachable" in told
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert any("failed: no sid" in line for line in said)


def test_nothing_of_the_lab_listens_beyond_loopback(lab_pair: Pair) -> None:
    assert lab_pair.pbx.alive
    listening = Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]
    ports = {lab_pair.pbx.ports.ami, lab_pair.world.ports.ami}
    local = [line.split()[1].split(":") for line in listening if line.split()[3] == "0A"]
    bound = {int(port, 16): address for address, port in local}
    assert {bound[port] for port in ports} == {"0100007F"}
