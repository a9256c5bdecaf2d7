"""Calls over a trunk between two PBXs, on real Asterisks: a daemon beside each, both of one account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from tests.cluster import a_server
from tests.daemons import until
from tests.lab.pair import Pair
from tests.lab.scenario import STEP, Party
from tests.lab.stage import Lab
from tests.test_daemon_lab import ANN, BORIS, CLARA, Host

pytestmark = pytest.mark.lab

TALKED, MISSED, BUSY = 4, 6, 7
EMPLOYEES = {"101": ANN, "102": BORIS, "201": CLARA}
NOT_OURS = "the PBX at the other end of PJSIP/peer registers it"


class Office(NamedTuple):
    """Two PBXs: clients come and go by the carriers of the first; 101 and 102 are at the first, 201 at the second."""

    first: Lab
    second: Lab

    async def quiet(self) -> None:
        await asyncio.gather(self.first.quiet(), self.second.quiet())


class Told(NamedTuple):
    """What the CRM is to know of one call."""

    client: str
    type: str
    status: int
    user: int


async def talk(*parties: Party) -> None:
    """Returns once each PBX has who is at it in a bridge."""
    await asyncio.gather(*(party.talks() for party in parties))


async def answered_over_there(office: Office) -> Told:
    client, carla = office.first.client(), office.second.phone(201)
    await client.calls("4957773201")
    await carla.answers()
    await talk(client, carla)
    await client.hangs_up()
    return Told(client.number, "call_in", TALKED, CLARA)


async def nobody_picks_up_over_there(office: Office) -> Told:
    client, carla = office.first.client(), office.second.phone(201)
    await client.calls("4957773201")
    await carla.rings()
    await client.hangs_up()
    return Told(client.number, "call_in", MISSED, CLARA)


async def busy_over_there(office: Office) -> Told:
    client, carla = office.first.client(), office.second.phone(201)
    await client.calls("4957773201")
    await carla.rejects(486)
    await client.is_hung_up()
    return Told(client.number, "call_in", BUSY, CLARA)


async def one_of_a_group_over_there(office: Office) -> Told:
    """Only the connected line tells who it was."""
    client = office.first.client()
    await client.calls("4957773600")
    await office.second.phone(101).rings()
    await office.second.phone(102).answers()
    await talk(client, office.second.phone(102))
    await office.first.seen.event("NewConnectedLine", within=STEP, ConnectedLineNum="102")
    await office.second.phone(102).hangs_up()
    return Told(client.number, "call_in", TALKED, BORIS)


async def transferred_over_there(office: Office) -> Told:
    client, ann, carla = office.first.client(), office.first.phone(101), office.second.phone(201)
    await client.calls("4957770101")
    await ann.answers()
    await ann.transfers("4201")
    await carla.answers()
    await talk(client, carla)
    await client.hangs_up()
    return Told(client.number, "call_in", TALKED, CLARA)


async def handed_over_after_a_consultation(office: Office) -> Told:
    client, ann, carla = office.first.client(), office.first.phone(101), office.second.phone(201)
    await client.calls("4957770101")
    await ann.answers()
    await ann.consults("4201")
    await carla.answers()
    await talk(ann, carla)
    await ann.hands_over()
    await talk(client, carla)
    await carla.hangs_up()
    return Told(client.number, "call_in", TALKED, CLARA)


async def there_and_back(office: Office) -> Told:
    """Who answers over there sends the client back by the same trunk: it stays his, whose number was dialled first."""
    client, ann, carla = office.first.client(), office.first.phone(101), office.second.phone(201)
    await client.calls("4957773201")
    await carla.answers()
    await talk(client, carla)
    await carla.transfers("4101")
    await ann.answers()
    await talk(client, ann)
    await client.hangs_up()
    return Told(client.number, "call_in", TALKED, CLARA)


async def from_over_there_to_a_client(office: Office) -> Told:
    client, carla = office.first.client(), office.second.phone(201)
    await carla.calls(f"4{client.number}")
    await client.answers()
    await talk(client, carla)
    await carla.hangs_up()
    return Told(client.number, "call_out", TALKED, CLARA)


async def from_over_there_to_a_client_who_is_busy(office: Office) -> Told:
    client, carla = office.first.client(), office.second.phone(201)
    await carla.calls(f"4{client.number}")
    await client.rejects(486)
    await carla.is_hung_up()
    return Told(client.number, "call_out", BUSY, CLARA)


async def between_colleagues(office: Office) -> None:
    """That is no client's call."""
    ann, carla = office.first.phone(101), office.second.phone(201)
    await ann.calls("4201")
    await carla.answers()
    await talk(ann, carla)
    await ann.hangs_up()


Scene = Callable[[Office], Awaitable[Told | None]]
SCENES: tuple[Scene, ...] = (
    answered_over_there,
    nobody_picks_up_over_there,
    busy_over_there,
    one_of_a_group_over_there,
    transferred_over_there,
    handed_over_after_a_consultation,
    there_and_back,
    from_over_there_to_a_client,
    from_over_there_to_a_client_who_is_busy,
    between_colleagues,
)


@pytest.fixture
async def office(lab: Lab) -> AsyncIterator[Office]:
    pair = Pair(lab.pair.root.version)
    try:
        await pair.start()
        await pair.joins(lab.pair)
        async with Lab(pair) as second:
            yield Office(lab, second)
    finally:
        pair.stop()


@asynccontextmanager
async def two_hosts(office: Office, directory: Path, shared_url: str | None) -> AsyncIterator[tuple[Host, Host]]:
    async with Sandbox(SandboxOptions()).serve(port=0) as sandbox:
        hosts = []
        for lab, name in zip(office, ("pbx1", "pbx2"), strict=True):
            home = directory / name
            home.mkdir()
            host = Host(lab, sandbox, home)
            host.config["node"] = {"name": name}
            host.config["storage"]["shared_url"] = shared_url
            host.config["numbers"]["peer_trunks"] = ["PJSIP/peer"]
            host.config["kommo"]["requests_per_second"] = 6 if shared_url else 3
            host.config["employees"] = [{"user_id": user, "extension": one} for one, user in EMPLOYEES.items()]
            hosts.append(host)
        try:
            for host in hosts:
                await host.start()
            yield hosts[0], hosts[1]
        finally:
            await asyncio.gather(*(host.kill() for host in hosts if host._process is not None))


async def played(office: Office, scenes: Sequence[Scene]) -> list[Told]:
    told = []
    for scene in scenes:
        told.append(await scene(office))
        await office.quiet()
    return [one for one in told if one is not None]


async def settled(host: Host, calls: int) -> None:
    """Returns once so many calls at least have ended there and nothing is left to be done for any."""

    def nothing_is_left() -> bool:
        log = host.log()
        ended = log.count('"call_ended"')
        return ended >= calls and ended == log.count('"registration_closed"') + log.count('"call_not_registered"')

    await until(nothing_is_left, host.log)


async def assert_told(hosts: tuple[Host, Host], office: Office, scenes: Sequence[Scene]) -> None:
    """Each is in the CRM once, told by the first."""
    wanted = await played(office, scenes)
    first, second = hosts
    await asyncio.gather(*(settled(host, len(scenes)) for host in hosts))
    told = [
        Told(one.params["phone"], one.note_type, one.params["call_status"], one.params.get("call_responsible", 0))
        for one in first.account.calls
    ]
    assert sorted(told) == sorted(wanted)
    assert len(first.account.contacts) == len(wanted)
    assert NOT_OURS in second.log()
    assert "call_registered" not in second.log()


async def test_each_is_one_call_of_its_client(office: Office, tmp_path: Path) -> None:
    async with a_server() as server, two_hosts(office, tmp_path, server.address) as hosts:
        await assert_told(hosts, office, SCENES)


async def test_without_a_database_in_common(office: Office, tmp_path: Path) -> None:
    async with two_hosts(office, tmp_path, None) as hosts:
        await assert_told(hosts, office, (answered_over_there, from_over_there_to_a_client))
