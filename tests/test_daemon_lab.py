"""The whole way on real parts: a call on a real Asterisk becomes a row in the CRM."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import unused_port

from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from itgrix_kommo.sandbox.records import Note
from tests.lab.stage import Lab

pytestmark = pytest.mark.lab

ANN, BORIS, CLARA = 9_100_001, 9_100_002, 9_100_003
WITHIN = 20.0
"""Seconds for what the daemon does by itself: the grace after a call, a new look at the account."""


class Host:
    """A PBX host: the daemon as a process of its own beside the lab's Asterisk, its Kommo a sandbox."""

    def __init__(self, lab: Lab, sandbox: Sandbox, directory: Path) -> None:
        self.lab = lab
        self.sandbox = sandbox
        port = unused_port()
        self.config: dict[str, Any] = {
            "ami": {"port": lab.pair.pbx.ports.ami, "username": "itgrix", "secret": "itgrix-secret"},
            "kommo": {"base_url": sandbox.url, "access_token": "sandbox-token", "timeout_s": 2},
            "employees": [
                {"user_id": ANN, "extension": "101"},
                {"user_id": BORIS, "extension": "102"},
                {"user_id": CLARA, "extension": "103"},
            ],
            "numbers": {"trunks": ["PJSIP/trunk", "PJSIP/trunk2"], "region": "RU", "outside_prefixes": ["9"]},
            "http": {"port": port},
            "recordings": {
                "directories": [str(lab.pair.pbx.outside(lab.pair.pbx.monitor))],
                "path_map": {str(lab.pair.pbx.monitor): str(lab.pair.pbx.outside(lab.pair.pbx.monitor))},
                "public_url": f"http://127.0.0.1:{port}",
            },
            "storage": {"url": f"sqlite+aiosqlite:///{directory}/itgrix.db"},
        }
        self.file = directory / "config.json"
        self._log = directory / "log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def account(self) -> Any:
        return self.sandbox.account

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    async def start(self) -> None:
        """Start the daemon and wait until it hears Asterisk."""
        self.file.write_text(json.dumps(self.config))
        self.file.chmod(0o600)
        begun = len(self.log())
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "itgrix_kommo", "run", "--config", str(self.file), stderr=log, env={**os.environ}
            )
        await self.until(lambda: '"serving"' in self.log()[begun:])
        lines = [json.loads(line) for line in self.log()[begun:].splitlines() if line.startswith("{")]
        self.address = next(line["address"] for line in lines if line["event"] == "serving")
        async with asyncio.timeout(WITHIN):
            while (await self.health())[0] != 200:
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """As a crash would: SIGKILL, nothing is written any more."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        assert await self._end(signal.SIGTERM) == 0, self.log()

    async def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        async with asyncio.timeout(WITHIN):
            return await self._process.wait()

    async def health(self) -> tuple[int, dict[str, Any]]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.address}/healthz") as answer:
            return answer.status, await answer.json()

    async def until(self, condition: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(WITHIN):
                while not condition():
                    assert self._process is None or self._process.returncode is None, self.log()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"it did not happen; the daemon's log:\n{self.log()}")

    async def calls(self, count: int) -> list[Note]:
        """The calls in the CRM, once there are `count`."""
        await self.until(lambda: len(self.account.calls) >= count)
        calls: list[Note] = self.account.calls
        assert len(calls) == count
        return calls


@asynccontextmanager
async def a_host(lab: Lab, directory: Path) -> AsyncIterator[Host]:
    async with Sandbox(SandboxOptions()).serve(port=0) as sandbox:
        host = Host(lab, sandbox, directory)
        try:
            yield host
        finally:
            if host._process is not None:
                await host.kill()


@pytest.fixture
async def host(lab: Lab, tmp_path: Path) -> AsyncIterator[Host]:
    async with a_host(lab, tmp_path) as made:
        await made.start()
        yield made


async def talked(lab: Lab, phone: int = 101) -> str:
    """A client calls, the phone's owner answers, the client hangs up; his number."""
    client = lab.client()
    await client.calls(f"49577701{phone - 100:02}")
    await lab.phone(phone).answers()
    await client.talks()
    await client.hangs_up()
    await lab.quiet()
    return client.number


class TestCallsAppear:
    async def test_an_answered_call_of_an_unknown_client(self, lab: Lab, host: Host) -> None:
        number = await talked(lab)
        (call,) = await host.calls(1)
        (contact,), (lead,) = host.account.contacts.values(), host.account.leads.values()
        assert (contact.name, lead.name) == (f"Contact {number}", f"{number} - incoming")
        assert (call.note_type, call.entity_id, call.params["call_status"]) == ("call_in", lead.id, 4)
        assert call.params["call_responsible"] == ANN

    async def test_a_second_call_goes_to_the_same_contact(self, lab: Lab, host: Host) -> None:
        client = lab.client()
        for _ in range(2):
            await client.calls("4957770102")
            await lab.phone(102).rejects(486)
            await client.is_hung_up()
            await lab.quiet()
        calls = await host.calls(2)
        assert len(host.account.contacts) == 1
        assert {call.params["call_status"] for call in calls} == {7}

    async def test_a_group_is_credited_to_who_answered(self, lab: Lab, host: Host) -> None:
        client = lab.client()
        await client.calls("4957770600")
        for phone in (101, 102, 103):
            await lab.phone(phone).rings()
        await lab.phone(102).answers()
        await client.talks()
        await lab.phone(102).hangs_up()
        await lab.quiet()
        (call,) = await host.calls(1)
        assert (call.params["call_responsible"], call.params["call_status"]) == (BORIS, 4)

    async def test_an_outbound_call_behind_the_outside_prefix(self, lab: Lab, host: Host) -> None:
        client = lab.client()
        await lab.phone(103).calls("9" + client.number)
        await client.answers()
        await lab.phone(103).talks()
        await lab.phone(103).hangs_up()
        await lab.quiet()
        (call,) = await host.calls(1)
        assert (call.note_type, call.params["phone"], call.params["call_responsible"]) == (
            "call_out",
            client.number,
            CLARA,
        )

    async def test_a_call_between_colleagues_does_not(self, lab: Lab, host: Host) -> None:
        await lab.phone(101).calls("102")
        await lab.phone(102).answers()
        await lab.phone(101).talks()
        await lab.phone(101).hangs_up()
        await lab.quiet()
        await talked(lab)
        (call,) = await host.calls(1)
        assert call.note_type == "call_in"


class TestRecordings:
    async def test_a_recorded_call_plays_from_its_link(self, lab: Lab, host: Host) -> None:
        client = lab.client()
        await client.calls("4957770301")
        await lab.phone(101).answers()
        await client.talks()
        await asyncio.sleep(2)  # something has to be heard
        await client.hangs_up()
        await lab.quiet()
        (call,) = await host.calls(1)
        await host.until(lambda: "link" in host.account.calls[0].params)
        link = host.account.calls[0].params["link"]
        async with aiohttp.ClientSession() as session, session.get(link) as answer:
            sound = await answer.read()
        assert (answer.status, answer.content_type) == (200, "audio/mpeg")
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert len(sound) > 4000 * 2  # two seconds at 32 kbit/s
        assert call.id == host.account.calls[0].id


class TestWhileItRings:
    async def test_whose_phone_rings_sees_who_is_calling(self, lab: Lab, host: Host) -> None:
        await host.until(lambda: "account_in_order" in host.log())
        client = lab.client()
        await client.calls("4957770102")
        await lab.phone(102).rings()
        await host.until(lambda: host.account.popups)
        (popup,) = host.account.popups
        assert (popup.phone, popup.users) == (client.number, (BORIS,))
        await client.hangs_up()
        await lab.quiet()


class TestNothingIsLost:
    async def test_killed_between_hangup_and_registration(self, lab: Lab, host: Host) -> None:
        await talked(lab)
        await host.kill()
        assert not host.account.calls
        await host.start()
        await host.calls(1)

    async def test_killed_in_mid_call(self, lab: Lab, host: Host) -> None:
        client = lab.client()
        await client.calls("4957770101")
        await lab.phone(101).answers()
        await client.talks()
        await asyncio.sleep(0.2)  # the journal gathers for a twentieth of a second
        await host.kill()
        await host.start()
        await client.hangs_up()
        await lab.quiet()
        (call,) = await host.calls(1)
        assert (call.params["call_status"], call.params["call_responsible"]) == (4, ANN)

    async def test_a_call_that_ended_while_the_daemon_was_down(self, lab: Lab, host: Host) -> None:
        client = lab.client()
        await client.calls("4957770101")
        await lab.phone(101).answers()
        await client.talks()
        await asyncio.sleep(0.2)  # the journal gathers for a twentieth of a second
        await host.kill()
        await client.hangs_up()
        await lab.quiet()
        await host.start()
        (call,) = await host.calls(1)
        assert call.params["call_status"] == 4

    async def test_stopped_in_order_after_the_hangup(self, lab: Lab, host: Host) -> None:
        await talked(lab)
        await host.stop()
        await host.start()
        await host.calls(1)

    async def test_kommo_away_then_back(self, lab: Lab, tmp_path: Path) -> None:
        async with a_host(lab, tmp_path) as host:
            host.account.switches.unpaid = True
            await host.start()
            status, body = await host.health()
            assert status == 200
            await host.until(lambda: "registering" in host.log() or "account_problem" in host.log())
            await talked(lab)
            await host.until(lambda: '"call_ended"' in host.log())
            status, body = await host.health()
            assert status == 200
            assert any("402" in line or "subscription" in line for line in body["registering_stopped_by"]), body
            assert not host.account.calls
            host.account.switches.unpaid = False
            await host.calls(1)

    async def test_without_the_phone_field_calls_wait(self, lab: Lab, tmp_path: Path) -> None:
        async with a_host(lab, tmp_path) as host:
            host.account.switches.phone_field = False
            await host.start()
            await talked(lab)
            await host.until(lambda: '"call_ended"' in host.log())
            _, body = await host.health()
            assert any("PHONE" in line for line in body["registering_stopped_by"]), body
            host.account.switches.phone_field = True
            await host.calls(1)

    async def test_a_wrong_token_is_told_and_hidden(self, lab: Lab, tmp_path: Path) -> None:
        async with a_host(lab, tmp_path) as host:
            host.config["kommo"]["access_token"] = "a-token-that-is-none"
            await host.start()
            await talked(lab)
            await host.until(lambda: '"call_ended"' in host.log())
            _, body = await host.health()
            assert any("token" in line for line in body["registering_stopped_by"]), body
            assert "a-token-that-is-none" not in host.log()
            await host.stop()
            host.config["kommo"]["access_token"] = "sandbox-token"
            await host.start()
            await host.calls(1)
