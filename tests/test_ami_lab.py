"""The link against a real Asterisk."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from itgrix_kommo.ami.actions import originate
from itgrix_kommo.ami.wanted import sieve
from itgrix_kommo.calls import events as ev
from itgrix_kommo.errors import AmiActionFailed
from tests.ami_server import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.lab.stage import Lab

pytestmark = pytest.mark.lab


@pytest.fixture
async def heard(lab: Lab) -> AsyncIterator[Listener]:
    async with Listener(lab.pair.pbx.ports.ami, secret="itgrix-secret") as listening:
        await listening.hears(ev.Endpoints)
        yield listening


def frames_of(listener: Listener) -> list[bytes]:
    """What Asterisk sent by itself."""
    return [each.frame for each in listener.received if not isinstance(each.event, ev.Resync | ev.Endpoints)]


class TestAsterisk:
    async def test_lets_us_in_and_filters(self, lab: Lab, heard: Listener) -> None:
        status = heard.link.status
        assert (status.connected, status.error, status.limits, status.filtered) == (True, "", (), True)
        assert status.asterisk_version.startswith(lab.pair.root.version)
        assert {"PJSIP/101", "PJSIP/trunk"} <= (await heard.hears(ev.Endpoints)).names

    async def test_refuses_a_wrong_secret(self, lab: Lab) -> None:
        async with Listener(lab.pair.pbx.ports.ami, secret="wrong") as deaf:
            status = await deaf.is_told("Authentication failed")
            assert status.login_refused

    async def test_refuses_what_the_user_may_not_do(self, heard: Listener) -> None:
        with pytest.raises(AmiActionFailed, match="Permission denied"):
            await heard.link.send({"Action": "UpdateConfig"})

    async def test_sends_no_more_than_we_asked_for(self, lab: Lab, heard: Listener) -> None:
        before = heard.link.status
        client, anna = lab.client(), lab.phone(101)
        await client.calls("4957770301", name='Жанна "O\'Neil"')
        await anna.answers()
        await client.hangs_up()
        await lab.quiet()
        await heard.hears(ev.Hangup, times=2)
        after = heard.link.status
        # What is not for the tracker are answers and Asterisk's own life.
        events = [each for each in heard.received if not isinstance(each.event, ev.Resync | ev.Endpoints)]
        assert after.messages - before.messages == after.events - before.events <= len(events)
        assert sieve(each.frame for each in events) == [each.frame for each in events]

    async def test_filters_take_nothing_from_us(self, lab: Lab, heard: Listener) -> None:
        unfiltered = Listener(lab.pair.pbx.ports.ami, secret="itgrix-secret")
        unfiltered.link._use_filters = False
        async with unfiltered:
            await unfiltered.hears(ev.Endpoints)
            client, maria = lab.client(), lab.phone(202)
            await client.calls("4958880601")
            await maria.answers()
            await maria.talks()
            await client.hangs_up()
            await lab.quiet()
            hangups = len(unfiltered.all(ev.Newchannel))
            await unfiltered.hears(ev.Hangup, times=hangups)
            await heard.hears(ev.Hangup, times=hangups)
            async with asyncio.timeout(8):
                while frames_of(heard) != frames_of(unfiltered):  # whichever of the two hears last
                    await asyncio.sleep(0.02)
        assert any(b"Variable: MIXMONITOR_FILENAME" in frame for frame in frames_of(heard))
        assert {"Newexten", "VarSet", "DialEnd", "BridgeEnter", "LocalBridge"} <= {
            type(event).__name__ for event in heard.events
        }
        assert heard.link.status.messages < unfiltered.link.status.messages / 3

    async def test_a_call_is_heard_in_full(self, lab: Lab, heard: Listener) -> None:
        client, anna = lab.client(), lab.phone(101)
        await client.calls("4957770301", name="Жанна O'Neil")
        await anna.answers()
        await client.hangs_up()
        await heard.hears(ev.Hangup, times=2)
        born = heard.all(ev.Newchannel)
        assert [each.channel.name.partition("-")[0] for each in born] == ["PJSIP/trunk", "PJSIP/101"]
        first, second = (each.channel for each in born)
        assert first.uniqueid == first.linkedid == second.linkedid
        assert any(each.channel.caller_name == "Жанна O'Neil" for each in heard.all(ev.Newstate))
        assert {each.channel.uniqueid for each in heard.all(ev.BridgeEnter)} == {first.uniqueid, second.uniqueid}
        assert ("DIALSTATUS", "ANSWER") in [(each.variable, each.value) for each in heard.all(ev.VarSet)]
        (recording,) = {each.value for each in heard.all(ev.VarSet) if each.variable == "MIXMONITOR_FILENAME"}
        assert recording.endswith(".wav")
        assert {each.application for each in heard.all(ev.Newexten)} == {"Dial"}
        assert {each.cause for each in heard.all(ev.Hangup)} == {16}
        assert all(each.dest.uniqueid == second.uniqueid for each in heard.all(ev.DialBegin) + heard.all(ev.DialEnd))

    async def test_shows_a_call_that_began_before_us(self, lab: Lab) -> None:
        client, anna = lab.client(), lab.phone(101)
        await client.calls("4957770101")
        await anna.answers()
        await anna.talks()
        async with Listener(lab.pair.pbx.ports.ami, secret="itgrix-secret") as late:
            resync = await late.hears(ev.Resync)
            assert resync.blind_since is None
            assert sorted(each.channel.name.partition("-")[0] for each in resync.channels) == [
                "PJSIP/101",
                "PJSIP/trunk",
            ]
            (bridge,) = resync.bridges
            assert bridge.type == "basic"
            assert {each.bridge_id for each in resync.channels} == {bridge.id}
            assert {each.channel.state for each in resync.channels} == {ev.UP}
            assert {each.application for each in resync.channels} == {"Dial", "AppDial"}
            assert all(0 <= resync.at - each.started_at < 30 for each in resync.channels)
            await client.hangs_up()
            await late.hears(ev.Hangup, times=2)

    async def test_a_call_can_be_asked_for_and_known_again(self, lab: Lab, heard: Listener) -> None:
        anna = lab.phone(101)
        asked = originate(
            channel="PJSIP/101",
            context="from-internal",
            exten="102",
            caller_id='"79990000000" <101>',
            timeout_s=1,
            variables={"ITGRIX_ORIGINATE": "call-7"},
            action_id="ours-7",
        )
        assert (await heard.link.send(asked)).get("Response") == "Success"
        await anna.rings()
        carried = await heard.hears(ev.VarSet)
        assert (carried.variable, carried.value) == ("ITGRIX_ORIGINATE", "call-7")
        assert carried.uniqueid == heard.all(ev.Newchannel)[0].channel.uniqueid
        went = await heard.hears(ev.OriginateResponse)
        assert (went.action_id, went.success, went.channel_name) == ("ours-7", False, "PJSIP/101")


class TestEnds:
    async def test_cel_tells_the_end_of_a_call(self, lab: Lab, heard: Listener) -> None:
        async with lab.cel():
            client, anna = lab.client(), lab.phone(101)
            await client.calls("4957770101")
            await anna.rings()
            await client.hangs_up()
            ended = await heard.hears(ev.LinkedidEnd)
        assert ended.linkedid == heard.all(ev.Newchannel)[0].channel.linkedid

    async def test_a_killed_asterisk_leaves_a_gap(self, lab: Lab, heard: Listener) -> None:
        client, anna = lab.client(), lab.phone(101)
        await client.calls("4957770101")
        await anna.answers()
        await heard.hears(ev.BridgeEnter, times=2)
        last = heard.events[-1].at
        await lab.pbx_dies()
        await heard.until(lambda status: not status.connected, "the end of the link")
        await lab.pbx_returns()
        resync = await heard.hears(ev.Resync, times=2)
        assert resync.channels == ()
        assert resync.blind_since is not None
        assert last <= resync.blind_since <= resync.asked_at
        assert heard.link.status.gaps == 1
