"""Every scene, played on a real Asterisk and heard through the link, becomes the calls that its truth tells of.

`ITGRIX_LAB_ASTERISK=16` takes the other version.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import pytest

from itgrix_kommo.calls import events as ev
from tests.ami_server import Listener
from tests.lab.scenes import SCENES
from tests.lab.truth import CLIENT, CLIENT2, GAVE_UP, TALKED, incoming, internal, outgoing, told, understood

if TYPE_CHECKING:
    from collections.abc import Iterable

    from itgrix_kommo.calls.events import Event
    from tests.lab.stage import Lab
    from tests.lab.truth import Truth

pytestmark = pytest.mark.lab

VERSION = os.environ.get("ITGRIX_LAB_ASTERISK", "22")
ANSWERED_BY_101 = incoming(CLIENT, "4957770101", "101+", TALKED, last="101", user=101)


class Ear(Listener):
    """A link to the lab's PBX that is up once it is entered, and has heard everything once it is left."""

    def __init__(self, lab: Lab, *, blind_since: float | None = None) -> None:
        super().__init__(lab.pair.pbx.ports.ami, secret="itgrix-secret", blind_since=blind_since)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.hears(ev.Endpoints)
        return self

    async def stop(self) -> None:
        if self.link.status.connected:
            await self.link.send({"Action": "Ping"})  # answered after all that happened before
        await super().stop()


def assert_true(heard: Iterable[Event], lab: Lab, *truths: Truth) -> None:
    assert told(understood(heard), lab.clients, truths) == list(truths)


@pytest.mark.parametrize("name", [scene.name for scene in SCENES.values() if VERSION in scene.versions])
async def test_becomes_the_truth(lab: Lab, name: str) -> None:
    async with Ear(lab) as heard:
        await SCENES[name](lab)
    assert_true(heard.events, lab, *SCENES[name].truths)


async def test_with_cel(lab: Lab) -> None:
    async with lab.cel(), Ear(lab) as heard:
        await SCENES["transfer_attended_by_refer"](lab)
        await heard.hears(ev.LinkedidEnd)
    assert_true(heard.events, lab, *SCENES["transfer_attended_by_refer"].truths)


class TestBeganBeforeTheLink:
    async def test_while_they_talk(self, lab: Lab) -> None:
        client = lab.client()
        await client.calls("4957770101")
        await lab.phone(101).answers()
        await client.talks(to=lab.phone(101))
        async with Ear(lab) as heard:
            await client.hangs_up()
            await lab.quiet()
        assert_true(heard.events, lab, ANSWERED_BY_101)

    async def test_while_it_rings(self, lab: Lab) -> None:
        client = lab.client()
        await client.calls("4957770101")
        await lab.phone(101).rings()
        async with Ear(lab) as heard:
            await lab.phone(101).answers()
            await client.talks(to=lab.phone(101))
            await client.hangs_up()
            await lab.quiet()
        assert_true(heard.events, lab, ANSWERED_BY_101)

    async def test_while_it_rings_for_nothing(self, lab: Lab) -> None:
        client = lab.client()
        await client.calls("4957770101")
        await lab.phone(101).rings()
        async with Ear(lab) as heard:
            await client.hangs_up()
            await lab.quiet()
        assert_true(heard.events, lab, incoming(CLIENT, "4957770101", "101", GAVE_UP, user=101))

    async def test_outgoing(self, lab: Lab) -> None:
        client = lab.client()
        await lab.phone(101).calls(client.number)
        await client.answers()
        await lab.phone(101).talks(to=client)
        async with Ear(lab) as heard:
            await lab.phone(101).hangs_up()
            await lab.quiet()
        assert_true(heard.events, lab, outgoing(CLIENT, "CLIENT+", TALKED, last=CLIENT, user=101))

    async def test_in_a_queue(self, lab: Lab) -> None:
        client = lab.client()
        await client.calls("4957770701")
        for extension in (101, 102, 103):
            await lab.phone(extension).rings()
        async with Ear(lab) as heard:
            await lab.phone(102).answers()
            await client.talks(to=lab.phone(102))
            await client.hangs_up()
            await lab.quiet()
        # The first number he dialled is known to nobody any more; the one he is at now stands for it.
        assert_true(heard.events, lab, incoming(CLIENT, "701", "101 102+ 103", TALKED, last="102", user=102))

    async def test_with_an_agent(self, lab: Lab) -> None:
        agent, clients = lab.phone(101), (lab.client(), lab.client())
        await agent.calls("*45")
        await lab.seen.event("AgentLogin", within=8, Agent="1001")
        await clients[0].calls("4957770708")
        await clients[0].talks(to=agent)
        async with Ear(lab) as heard:
            await clients[0].hangs_up()
            await lab.only_left(agent)
            await clients[1].calls("4957770708")
            await clients[1].talks(to=agent)
            await clients[1].hangs_up()
            await lab.only_left(agent)
            await agent.hangs_up()
            await lab.quiet()
        truths = [incoming(client, "4957770708", "101+", TALKED, last="101", user=101) for client in (CLIENT, CLIENT2)]
        first = replace(truths[0], did="708")
        assert_true(heard.events, lab, internal("", GAVE_UP, user=101), first, truths[1])


class TestLinkLost:
    async def test_in_mid_talk(self, lab: Lab) -> None:
        client = lab.client()
        async with Ear(lab) as before:
            await client.calls("4957770101")
            await lab.phone(101).answers()
            await client.talks(to=lab.phone(101))
        async with Ear(lab, blind_since=before.events[-1].at) as after:
            await client.hangs_up()
            await lab.quiet()
        assert_true(before.events + after.events, lab, ANSWERED_BY_101)

    async def test_while_it_was_answered(self, lab: Lab) -> None:
        client = lab.client()
        async with Ear(lab) as before:
            await client.calls("4957770101")
            await lab.phone(101).rings()
        await lab.phone(101).answers()
        await client.talks(to=lab.phone(101))
        async with Ear(lab, blind_since=before.events[-1].at) as after:
            await client.hangs_up()
            await lab.quiet()
        assert_true(before.events + after.events, lab, ANSWERED_BY_101)

    async def test_while_it_ended(self, lab: Lab) -> None:
        client = lab.client()
        async with Ear(lab) as before:
            await client.calls("4957770101")
            await lab.phone(101).answers()
            await client.talks(to=lab.phone(101))
        await client.hangs_up()
        await lab.quiet()
        async with Ear(lab, blind_since=before.events[-1].at) as after:
            pass
        assert_true(before.events + after.events, lab, ANSWERED_BY_101)

    async def test_while_it_was_handed_on(self, lab: Lab) -> None:
        client = lab.client()
        async with Ear(lab) as before:
            await client.calls("4957770101")
            await lab.phone(101).answers()
            await client.talks(to=lab.phone(101))
        await lab.phone(101).transfers("102")
        await lab.phone(102).answers()
        await client.talks(to=lab.phone(102))
        async with Ear(lab, blind_since=before.events[-1].at) as after:
            await client.hangs_up()
            await lab.quiet()
        truth = incoming(CLIENT, "4957770101", "101+ 102+", TALKED, last="102", user=102)
        assert_true(before.events + after.events, lab, truth)


async def test_asterisk_dies_in_mid_call(lab: Lab) -> None:
    client = lab.client()
    async with Ear(lab) as heard:
        await client.calls("4957770101")
        await lab.phone(101).answers()
        await client.talks(to=lab.phone(101))
        await heard.hears(ev.BridgeEnter, times=2)
        await lab.pbx_dies()
        await lab.pbx_returns()
        await heard.hears(ev.Resync, times=2)
    await client.hangs_up()
    await lab.phone(101).hangs_up()
    assert_true(heard.events, lab, ANSWERED_BY_101)
