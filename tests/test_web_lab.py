"""The HTTP face on a real Asterisk: its dialplan asks who gets a call, and a click rings real phones."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from tests.kommo_account import connect, contact, created
from tests.lab.scenario import Client
from tests.lab.stage import Lab
from tests.test_daemon_lab import BORIS, WITHIN, Host, a_host

pytestmark = pytest.mark.lab

SNIPPETS = Path(__file__).parent.parent / "etc/asterisk"
TOKEN = "originate-token-of-the-lab"
BY_TOKEN = {"Authorization": f"Bearer {TOKEN}"}
OTHER_TRUNK = """def process_originate_params(params):
    return {"state": "success", "data": {**params, "extension": "0" + params["extension"].lstrip("+")}}
"""
PLAIN_ENTRY = "[from-trunk](+)\nexten => 4957770190,1,Goto(from-itgrix,4957770101,1)\n"
NAMED_ENTRY = """[from-trunk](+)
exten => 4957770190,1,Goto(from-itgrix,itsp-account,1)
exten => itsp-account,1,Goto(4957770101,1)
"""
FREEPBX_ENTRY = "[from-trunk](+)\nexten => 4957770191,1,Goto(from-itgrix,4958880201,1)\n"


@asynccontextmanager
async def dialplan(lab: Lab, snippet: str, entry: str, url: str) -> AsyncIterator[None]:
    """The PBX with our snippets, as an administrator would put them in; `entry` leads a DID of its own there."""
    folder = lab.pair.pbx.folder / "etc"
    whole = folder / "extensions.conf"
    before = whole.read_text()
    common = (SNIPPETS / "itgrix.conf").read_text().replace("http://127.0.0.1:8077", url)
    (folder / "itgrix.conf").write_text(common)
    (folder / "itgrix_way_in.conf").write_text((SNIPPETS / snippet).read_text() + entry)
    whole.write_text(f"{before}\n#include itgrix.conf\n#include itgrix_way_in.conf\n")
    try:
        await lab.seen.pbx.command("dialplan reload")
        yield
    finally:
        whole.write_text(before)
        await lab.seen.pbx.command("dialplan reload")


@asynccontextmanager
async def a_face(lab: Lab, directory: Path, **more: Any) -> AsyncIterator[Host]:
    async with a_host(lab, directory) as host:
        host.config["http"]["tokens"] = {"originate": TOKEN}
        host.config.update(more)
        await host.start()
        yield host


async def known(host: Host, client: Client) -> None:
    """The client is a contact of Boris's, and the daemon has met him."""
    async with connect(host.sandbox, token=host.sandbox.options.admin_token) as kommo:
        await created(kommo, contact(client.number, name="Иван Петров", responsible_user_id=BORIS))
    address = f"{host.address}/autodistribution"
    async with aiohttp.ClientSession() as http, asyncio.timeout(WITHIN):
        while True:
            async with http.get(address, params={"from": client.number}) as answer:
                if await answer.text():
                    return
            await asyncio.sleep(0.1)


class TestAutodistribution:
    async def test_a_known_clients_manager_is_rung_with_his_name(self, lab: Lab, tmp_path: Path) -> None:
        async with a_face(lab, tmp_path) as host, dialplan(lab, "extensions_plain.conf", PLAIN_ENTRY, host.address):
            client = lab.client()
            await known(host, client)
            await client.calls("4957770190")
            leg = await lab.phone(102).rings()
            assert await lab.world_variable(leg, "CALLERID(name)") == "Иван Петров"
            assert not lab.phone(101).live_legs
            await lab.phone(102).answers()
            await client.talks(to=lab.phone(102))
            await client.hangs_up()
            await lab.quiet()

    async def test_a_manager_who_does_not_answer_leaves_the_usual_way(self, lab: Lab, tmp_path: Path) -> None:
        async with a_face(lab, tmp_path) as host, dialplan(lab, "extensions_plain.conf", PLAIN_ENTRY, host.address):
            client = lab.client()
            await known(host, client)
            await client.calls("4957770190")
            await lab.phone(102).rejects(486)
            await lab.phone(101).answers()
            await client.talks(to=lab.phone(101))
            await client.hangs_up()
            await lab.quiet()

    async def test_who_is_unknown_goes_the_usual_way(self, lab: Lab, tmp_path: Path) -> None:
        async with a_face(lab, tmp_path) as host, dialplan(lab, "extensions_plain.conf", PLAIN_ENTRY, host.address):
            await goes_the_usual_way(lab)

    async def test_a_call_to_a_name_goes_the_usual_way(self, lab: Lab, tmp_path: Path) -> None:
        async with a_face(lab, tmp_path) as host, dialplan(lab, "extensions_plain.conf", NAMED_ENTRY, host.address):
            await goes_the_usual_way(lab)

    async def test_in_freepbx_his_extension_is_rung_as_freepbx_does(self, lab: Lab, tmp_path: Path) -> None:
        employees = [{"user_id": BORIS, "extension": "202"}]
        async with (
            a_face(lab, tmp_path, employees=employees) as host,
            dialplan(lab, "extensions_freepbx.conf", FREEPBX_ENTRY, host.address),
        ):
            client = lab.client()
            await known(host, client)
            await client.calls("4957770191")
            leg = await lab.phone(202).rings()
            assert await lab.world_variable(leg, "CALLERID(name)") == "Иван Петров"
            await lab.phone(202).answers()
            await client.talks(to=lab.phone(202))
            await client.hangs_up()
            await lab.quiet()
            other = lab.client()
            await other.calls("4957770191")
            await lab.phone(201).answers()
            await other.talks(to=lab.phone(201))
            await other.hangs_up()
            await lab.quiet()

    async def test_the_connector_is_stopped(self, lab: Lab) -> None:
        nobody = f"http://127.0.0.1:{unused_port()}"
        async with dialplan(lab, "extensions_plain.conf", PLAIN_ENTRY, nobody):
            await goes_the_usual_way(lab, within=2.0)

    @pytest.mark.parametrize(
        "answer",
        [
            None,
            b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n" + b'{"type":"about:blank","detail":"a;b"}',
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n101&PJSIP/102;x",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n102;${SHELL(touch /lab/pwned)}",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n102;Ivan\r\nP-Asserted-Identity: <sip:ann@example.com>",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n999;nobody's extension",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html><body>It works!</body></html>",
            b"rubbish",
        ],
    )
    async def test_at_its_place_somebody_says(self, lab: Lab, answer: bytes | None) -> None:
        """None: nothing, for ever."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, dialplan(lab, "extensions_plain.conf", PLAIN_ENTRY, url):
            await goes_the_usual_way(lab, within=4.0)
        assert not lab.pair.pbx.outside("/lab/pwned").exists()


async def goes_the_usual_way(lab: Lab, within: float = 4.0) -> None:
    client = lab.client()
    begun = time.monotonic()
    await client.calls("4957770190")
    await lab.phone(101).rings()
    assert time.monotonic() - begun < within
    assert not lab.phone(102).live_legs
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await client.hangs_up()
    await lab.quiet()


async def started(host: Host, body: dict[str, Any]) -> str:
    address = f"{host.address}/originate"
    async with aiohttp.ClientSession() as http, http.post(address, json=body, headers=BY_TOKEN) as answer:
        assert answer.status == 202, await answer.text()
        click_id: str = (await answer.json())["originate_id"]
        return click_id


async def progress(host: Host, click_id: str, is_there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Its progress, once that is there."""
    found: dict[str, Any] = {}
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(WITHIN):
            while not (found and is_there(found)):
                async with http.get(f"{host.address}/originate/{click_id}", headers=BY_TOKEN) as answer:
                    found = await answer.json()
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"it did not come so far: {found}")
    return found


def is_in(state: str) -> Callable[[dict[str, Any]], bool]:
    return lambda found: bool(found["state"] == state)


class TestClickToCall:
    async def test_rings_the_employee_then_the_client(self, lab: Lab, tmp_path: Path) -> None:
        async with a_face(lab, tmp_path) as host:
            client = lab.client()
            click = await started(host, {"extension": "101", "phone": client.number})
            await lab.phone(101).rings()
            await progress(host, click, is_in("employee_ringing"))
            assert not client.legs
            await lab.phone(101).answers()
            await client.rings()
            await progress(host, click, is_in("client_ringing"))
            await client.answers()
            await client.talks(to=lab.phone(101))
            await progress(host, click, is_in("talking"))
            await client.hangs_up()
            await lab.quiet()
            ended = await progress(host, click, is_in("ended"))
            assert (ended["outcome"], ended["result"]) == ("talked", 200)
            (call,) = await host.calls(1)
            assert call.params["phone"] == client.number
            assert call.note_type == "call_out"

    async def test_the_employee_refuses(self, lab: Lab, tmp_path: Path) -> None:
        async with a_face(lab, tmp_path) as host:
            click = await started(host, {"extension": "101", "phone": lab.client().number})
            await lab.phone(101).rejects(486)
            ended = await progress(host, click, is_in("ended"))
            assert ended["outcome"] == "employee: busy"
            await lab.quiet()

    async def test_the_employees_phone_is_off(self, lab: Lab, tmp_path: Path) -> None:
        async with a_face(lab, tmp_path) as host:
            await lab.phone(101).goes_offline()
            try:
                click = await started(host, {"extension": "101", "phone": lab.client().number})
                ended = await progress(host, click, is_in("ended"))
                assert ended["outcome"] == "employee: unreachable"
            finally:
                await lab.phone(101).comes_online()

    async def test_the_customization_takes_the_other_trunk(self, lab: Lab, tmp_path: Path) -> None:
        hooks = tmp_path / "hooks"
        hooks.mkdir()
        (hooks / "process_originate_params.py").write_text(OTHER_TRUNK)
        originate = {"allowed": ["+7XXXXXXXXXX", "07XXXXXXXXXX"]}
        async with a_face(lab, tmp_path, customizations={"directory": str(hooks)}, originate=originate) as host:
            client = lab.client()
            click = await started(host, {"extension": "101", "phone": client.number})
            await lab.phone(101).answers()
            await client.rings()
            channels = {channel.partition("-")[0] for channel in lab.seen.switchboard.channels}
            assert channels == {"PJSIP/101", "PJSIP/trunk2"}
            await client.answers()
            await progress(host, click, is_in("talking"))
            await client.hangs_up()
            await lab.quiet()

    async def test_asterisk_is_away_and_nothing_rings_when_it_is_back(self, lab: Lab, tmp_path: Path) -> None:
        async with a_face(lab, tmp_path) as host:
            await lab.pbx_dies()
            async with asyncio.timeout(WITHIN):
                while (await host.health())[0] != 503:
                    await asyncio.sleep(0.05)
            async with aiohttp.ClientSession() as http:
                body = {"extension": "101", "phone": lab.client().number}
                async with http.post(f"{host.address}/originate", json=body, headers=BY_TOKEN) as answer:
                    assert answer.status == 503
                    assert "no link to Asterisk" in (await answer.json())["detail"]
            await lab.pbx_returns()
            async with asyncio.timeout(60):
                while (await host.health())[0] != 200:
                    await asyncio.sleep(0.1)
            await lab.quiet()
            assert not lab.phone(101).legs


class TestStatus:
    async def test_tells_of_all_that_is_outside(self, lab: Lab, tmp_path: Path) -> None:
        http = {"port": unused_port(), "admin": {"password": "admin-password-of-the-lab"}}
        login = base64.b64encode(b"admin:admin-password-of-the-lab").decode()
        async with a_face(lab, tmp_path, http=http) as host:
            await host.until(lambda: "account_in_order" in host.log())
            async with aiohttp.ClientSession(headers={"Authorization": f"Basic {login}"}) as session:
                async with session.get(f"{host.address}/status") as answer:
                    status = await answer.json()
                async with session.get(f"{host.address}/metrics") as answer:
                    metrics = await answer.text()
        assert status["app_state"] == ""
        assert status["outside"]["asterisk"]["connected"] is True
        assert status["outside"]["kommo"]["registering"] is True
        assert 'itgrix_up{part="asterisk"} 1.0' in metrics
        assert 'itgrix_registrations{state="waiting"} 0.0' in metrics


class TestHistory:
    async def test_a_call_of_before_the_daemon_is_read_back_and_one_that_was_heard_is_known(
        self, lab: Lab, tmp_path: Path
    ) -> None:
        table = lab.pair.pbx.folder / "log/master.db"
        http = {"port": unused_port(), "admin": {"password": "admin-password-of-the-lab"}}
        login = base64.b64encode(b"admin:admin-password-of-the-lab").decode()
        async with lab.cel():
            begun = time.time()
            before, heard = lab.client(), lab.client()
            await talks_with_101(lab, before)
            database = {"url": f"sqlite+aiosqlite:///{table}"}
            async with (
                a_face(lab, tmp_path, http=http, database=database) as host,
                aiohttp.ClientSession(headers={"Authorization": f"Basic {login}"}) as session,
            ):
                await talks_with_101(lab, heard)
                await host.calls(1)

                async def read() -> dict[str, str]:
                    """What became of each client's call, once CEL has all of them."""
                    asked = {"start_date": f"{begun - 1:.0f}"}
                    async with session.post(f"{host.address}/pbx/read_call", json=asked) as answer:
                        assert answer.status == 200
                        told = (await answer.json())["calls"]
                    return {one["client"]: one["fate"] for one in told}

                async with asyncio.timeout(WITHIN):
                    while (fates := await read()).get(heard.number) != "already registered":
                        await asyncio.sleep(0.1)
                assert fates[before.number] in {"registered", "already registered"}
                calls = await host.calls(2)
        assert {call.params["phone"] for call in calls} == {before.number, heard.number}


async def talks_with_101(lab: Lab, client: Client) -> None:
    await client.calls("4957770101")
    await lab.phone(101).answers()
    await client.talks(to=lab.phone(101))
    await client.hangs_up()
    await lab.quiet()
