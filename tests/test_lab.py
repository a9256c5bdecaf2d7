"""The lab itself: what the vocabulary says really happens, as the PBX's own events tell."""

from __future__ import annotations

import pytest

from tests.lab.scenario import Lab

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
