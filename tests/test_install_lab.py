"""The manager user that the installer writes, on a real Asterisk: it is let in and hears what is needed, no more."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from itgrix_kommo.ami.wanted import server_filters, sieve
from itgrix_kommo.calls import events as ev
from scripts.installer.manager import manager_user
from tests.ami_server import Listener
from tests.lab.ami_control import AmiControl
from tests.lab.stage import Lab

pytestmark = pytest.mark.lab

SECRET = "secret-of-the-installed-user"
NEEDED = {
    "Newchannel",
    "Newstate",
    "DialBegin",
    "DialEnd",
    "BridgeEnter",
    "BridgeLeave",
    "VarSet",
    "Newexten",
    "Hangup",
}


@pytest.fixture
async def installed(lab: Lab) -> AsyncIterator[str]:
    """The name of the user; the lab has one called itgrix already."""
    name = "installed"
    conf = lab.pair.pbx.folder / "etc/manager.conf"
    before = conf.read_text()
    conf.write_text(before + manager_user(SECRET, server_filters()).replace("[itgrix]", f"[{name}]"))
    await _reload(lab)
    yield name
    conf.write_text(before)
    await _reload(lab)


async def _reload(lab: Lab) -> None:
    control = await lab.pair.pbx.control(lambda _: None)
    await control.command("manager reload")
    await control.close()


async def talk(lab: Lab) -> None:
    client, anna = lab.client(), lab.phone(101)
    await client.calls("4957770301")
    await anna.answers()
    await anna.talks()
    await client.hangs_up()
    await lab.quiet()


async def test_it_is_told_a_whole_call_and_nothing_it_does_not_listen_to(lab: Lab, installed: str) -> None:
    port = lab.pair.pbx.ports.ami
    raw = await AmiControl.connect("installed", port, installed, SECRET, keep_frames=True)
    try:
        await talk(lab)
        # An answer comes behind all events that were sent before it.
        await raw.action("Ping")
        events = [frame for _, frame in raw.frames if frame.startswith(b"Event: ")]
        assert {frame.split(b"\r\n")[0].decode().removeprefix("Event: ") for frame in events} >= NEEDED
        assert any(b"\r\nVariable: MIXMONITOR_FILENAME\r\n" in frame for frame in events)
        assert [frame for frame in events if not sieve([frame])] == []
    finally:
        await raw.close()


async def test_the_daemons_link_finds_nothing_missing(lab: Lab, installed: str) -> None:
    async with Listener(lab.pair.pbx.ports.ami, username=installed, secret=SECRET) as heard:
        await heard.hears(ev.Endpoints)
        status = heard.link.status
        assert (status.connected, status.error, status.limits, status.filtered) == (True, "", (), True)
        await talk(lab)
        await heard.hears(ev.Hangup, times=2)
