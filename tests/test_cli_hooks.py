"""`itgrix-kommo hooks` and `phonebook`: what they print, and that they leave Kommo alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import unused_port

from itgrix_kommo.calls.call import Call
from itgrix_kommo.customizations import CATALOGUE
from itgrix_kommo.kommo.phonebook import MOST_PHONES
from itgrix_kommo.pipeline.intake import registration_of
from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.phonebook import PhonebookRows
from itgrix_kommo.storage.registrations import Registrations
from tests.doctor_house import give_to_nobody
from tests.story import ended, inbound, plan

WITHIN = 60.0
WAITED = """
def process_call_params(params):
    print("looked at")
    params["call_result"] = "Waited 3 s"
    return {"state": "success", "data": params}
"""


class Host:
    """A configuration with a directory of customizations."""

    def __init__(self, directory: Path, kommo: str = "http://127.0.0.1:1") -> None:
        self.hooks = directory / "hooks"
        self.hooks.mkdir()
        self._url = f"sqlite+aiosqlite:///{directory}/itgrix.db"
        self.path = directory / "config.json"
        self.settings: dict[str, Any] = {
            "ami": {"port": 1, "username": "itgrix", "secret": "itgrix-secret"},
            "kommo": {"base_url": kommo, "access_token": "sandbox-token"},
            "employees": [{"user_id": 9100001, "extension": "101"}],
            "numbers": {"trunks": ["PJSIP/trunk"], "region": "RU"},
            "customizations": {"directory": str(self.hooks)},
            "recordings": {"enabled": False},
            "http": {"port": unused_port(), "admin": {"password": "a-long-password"}},
            "storage": {"url": self._url},
        }

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.path.write_text(json.dumps(self.settings))
        self.path.chmod(0o600)
        return subprocess.run(
            [sys.executable, "-m", "itgrix_kommo", *arguments, "--config", str(self.path)],
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
            env={**os.environ, "COLUMNS": "150"},
        )

    async def said(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(self.command, *arguments)

    async def database(self) -> Database:
        return await Database.open(self._url, beside_daemon=True)

    async def keep(self, call: Call) -> None:
        database = await self.database()
        new = registration_of(call, plan())
        assert new is not None
        assert await Registrations(database, "pbx1").keep(new) is not None
        await database.close()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxOptions()).serve(port=0) as served:
        yield served


class TestList:
    def test_it_shows_files_and_problems_also_without_a_daemon(self, host: Host) -> None:
        (host.hooks / "process_call_params.py").write_text(WAITED)
        (host.hooks / "post_registration.php").write_text("<?php return array('state' => 'success');")
        (host.hooks / "need_registraton.php").write_text("")
        host.settings["customizations"]["disabled"] = ["post_registration"]
        shown = host.command("hooks", "list")
        assert shown.returncode == 0, shown.stderr
        for words in ("process_call_params.py", "python", "yes", "disabled", "did you mean need_registration.php"):
            assert words in shown.stdout
        assert "is the daemon running?" in shown.stdout
        assert "failures" not in shown.stdout
        told = json.loads(host.command("hooks", "list", "--json").stdout)
        assert {one["hook"]: one["enabled"] for one in told["hooks"]} == {
            hook: hook == "process_call_params" for hook in CATALOGUE
        }

    async def test_it_shows_how_they_fared_in_the_running_daemon(self, tmp_path: Path, sandbox: Sandbox) -> None:
        host = Host(tmp_path, sandbox.url)
        (host.hooks / "process_call_params.py").write_text(WAITED)
        (host.hooks / "post_registration.py").write_text("def post_registration(params):\n    return 5\n")
        await host.keep(ended(inbound()))
        await host.said("config", "check")  # writes the file
        run = [sys.executable, "-m", "itgrix_kommo", "run", "--config", str(host.path)]
        daemon = await asyncio.create_subprocess_exec(*run, stderr=asyncio.subprocess.DEVNULL)
        try:
            async with asyncio.timeout(WITHIN):
                counted: dict[str, Any] = {"calls": 0}
                while not counted["calls"]:
                    told = json.loads((await host.said("hooks", "list", "--json")).stdout)
                    counted = next(one for one in told["hooks"] if one["hook"] == "post_registration")
            assert (counted["calls"], counted["failures"], counted["timeouts"]) == (1, 1, 0)
            assert "failures" in (await host.said("hooks", "list")).stdout
        finally:
            daemon.send_signal(signal.SIGTERM)
            await daemon.wait()


class TestTry:
    def test_root_tries_nothing_that_the_daemons_user_may_not(self, host: Host) -> None:
        (host.hooks / "process_call_params.py").write_text(WAITED)
        give_to_nobody(host.path.parent)
        refused = host.command("hooks", "try", "process_call_params", "--sample")
        assert refused.returncode == 1
        assert "type runuser -u nobody -- itgrix-kommo hooks try process_call_params --sample" in refused.stderr

    def test_a_sample_shows_input_output_and_the_difference(self, host: Host) -> None:
        (host.hooks / "process_call_params.py").write_text(WAITED)
        shown = host.command("hooks", "try", "process_call_params", "--sample")
        assert shown.returncode == 0, shown.stderr
        assert '-  "call_result": "Conversation took place"' in shown.stdout
        assert '+  "call_result": "Waited 3 s"' in shown.stdout
        assert "looked at" in shown.stdout
        told = json.loads(host.command("hooks", "try", "process_call_params", "--sample", "--json").stdout)
        assert told["input"] == CATALOGUE["process_call_params"].params
        assert told["data"]["call_result"] == "Waited 3 s"
        assert (told["failure"], told["cancelled"], told["printed"]) == (None, False, "looked at")

    async def test_a_kept_call_is_found_by_any_of_its_ids_and_stays_as_it_is(self, host: Host) -> None:
        (host.hooks / "process_call_params.py").write_text(WAITED)
        await host.keep(ended(inbound()))
        for call_id in ("1795355557.1", "1795355557.2"):
            said = await host.said("hooks", "try", "process_call_params", "--call", call_id, "--json")
            told = json.loads(said.stdout)
            assert CATALOGUE["process_call_params"].misfits(told["input"]) == []
            assert (told["input"]["phone"], told["input"]["duration"]) == ("+79990000001", 30)
        database = await host.database()
        (row,) = await Registrations(database, "pbx1").latest(5)
        await database.close()
        assert (row.state, row.progress) == ("waiting", {})

    def test_one_that_is_switched_off_can_be_tried(self, host: Host) -> None:
        (host.hooks / "process_call_params.py").write_text(WAITED)
        host.settings["customizations"] |= {"enabled": False, "disabled": ["process_call_params"]}
        assert "Waited 3 s" in host.command("hooks", "try", "process_call_params", "--sample").stdout

    def test_a_cancellation_is_no_failure(self, host: Host) -> None:
        (host.hooks / "process_call_params.py").write_text(
            "def process_call_params(params):\n    return {'state': 'success', 'data': {}}\n"
        )
        shown = host.command("hooks", "try", "process_call_params", "--sample")
        assert shown.returncode == 0
        assert "cancelled: the call itself is not written" in shown.stdout

    def test_a_failure_says_why_and_what_goes_on(self, host: Host) -> None:
        (host.hooks / "process_call_params.py").write_text(
            "def process_call_params(params):\n    raise ValueError('oh')"
        )
        shown = host.command("hooks", "try", "process_call_params", "--sample")
        assert shown.returncode == 1
        assert "oh" in shown.stdout
        assert "the unchanged data goes on" in shown.stdout

    @pytest.mark.parametrize(
        ("arguments", "status", "words"),
        [
            (("process_call_parms", "--sample"), 2, "hooks list"),
            (("process_call_params",), 2, "--call"),
            (("need_registration", "--sample"), 1, "no file for need_registration"),
            (("process_call_params", "--call", "5.5"), 1, "registrations list"),
        ],
    )
    def test_misuse_is_told(self, host: Host, arguments: tuple[str, ...], status: int, words: str) -> None:
        (host.hooks / "process_call_params.py").write_text(WAITED)
        shown = host.command("hooks", "try", *arguments)
        assert shown.returncode == status
        assert words in shown.stderr

    async def test_what_the_call_does_not_lead_to_is_told(self, host: Host) -> None:
        (host.hooks / "process_originate_params.php").write_text("")
        await host.keep(ended(inbound()))
        shown = await host.said("hooks", "try", "process_originate_params", "--call", "1795355557.1")
        assert shown.returncode == 1
        assert "--sample" in shown.stderr


class TestPhonebook:
    async def test_sync_reads_the_whole_account(self, tmp_path: Path) -> None:
        async with Sandbox(SandboxOptions(clients=True)).serve(port=0) as sandbox:
            host = Host(tmp_path, sandbox.url)
            shown = await host.said("phonebook", "sync")
        assert shown.returncode == 0, shown.stderr
        assert "4 phones are in the phonebook" in shown.stdout
        assert sandbox.audit.breaches == 0
        database = await host.database()
        assert len(await PhonebookRows(database).load(MOST_PHONES)) == 4
        await database.close()

    def test_without_kommo_it_fails_in_words(self, host: Host) -> None:
        shown = host.command("phonebook", "sync")
        assert shown.returncode == 1
        assert "check the network and kommo.base_url" in shown.stderr
        assert "Traceback" not in shown.stderr
