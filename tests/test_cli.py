"""The command line: what it prints, and with which status it ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from itgrix_kommo.calls.call import Call
from itgrix_kommo.pipeline.intake import registration_of
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.registrations import Registrations, State
from tests.story import ended, inbound, plan


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "itgrix_kommo", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "ami": {"username": "itgrix", "secret": "itgrix-secret"},
                "kommo": {"base_url": "http://127.0.0.1:1", "access_token": "sandbox-token"},
                "employees": [{"user_id": 9100001, "extension": "101"}],
                "numbers": {"trunks": ["PJSIP/trunk"], "region": "RU"},
                "storage": {"url": f"sqlite+aiosqlite:///{tmp_path}/itgrix.db"},
            }
        )
    )
    path.chmod(0o600)
    return path


async def keep(config: Path, call: Call, state: State = State.WAITING, reason: str = "") -> int:
    database = await Database.open(f"sqlite+aiosqlite:///{config.with_name('itgrix.db')}")
    registrations = Registrations(database, "pbx1")
    new = registration_of(call, plan())
    assert new is not None
    number = await registrations.keep(new)
    assert number is not None
    if state is not State.WAITING:
        await registrations.close(number, state, reason=reason)
    await database.close()
    return number


class TestConfig:
    def test_init_writes_a_file_that_asks_to_be_filled_in(self, tmp_path: Path) -> None:
        path = tmp_path / "etc" / "config.json"
        done = command("config", "init", path)
        assert done.returncode == 0
        assert path.stat().st_mode & 0o007 == 0
        checked = command("config", "check", "--config", path)
        assert checked.returncode == 1
        assert "kommo.base_url" in checked.stderr

    def test_init_overwrites_nothing_unless_told(self, config: Path) -> None:
        before = config.read_text()
        refused = command("config", "init", config)
        assert refused.returncode == 1
        assert "--force" in refused.stderr
        assert config.read_text() == before

    def test_check_tells_what_is_only_worth_a_word(self, config: Path) -> None:
        done = command("config", "check", "--config", config)
        assert done.returncode == 0, done.stderr
        assert "✓" in done.stdout
        assert "kommo.base_url" in done.stdout

    def test_check_names_every_problem(self, tmp_path: Path) -> None:
        path = tmp_path / "config.json"
        path.write_text('{"ami": {"port": 70000}, "bussiness": {}}')
        done = command("config", "check", "--config", path)
        assert done.returncode == 1
        assert "ami.port" in done.stderr
        assert "bussiness" in done.stderr
        assert "Traceback" not in done.stderr

    def test_schema_is_a_json_schema(self) -> None:
        schema = json.loads(command("config", "schema").stdout)
        assert schema["properties"]["ami"]

    def test_a_path_with_brackets_is_told_as_it_is(self, config: Path) -> None:
        odd = config.rename(config.with_name("[red]config.json"))
        assert f"{odd} can be used" in command("config", "check", "--config", odd).stdout


class TestSandbox:
    def test_a_port_in_use_is_told(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            done = command("sandbox", "--port", str(taken.getsockname()[1]))
        assert done.returncode == 1
        assert not done.stdout
        assert "can't be listened on" in done.stderr
        assert "Traceback" not in done.stderr


class TestRegistrations:
    async def test_list_shows_what_became_of_each(self, config: Path) -> None:
        await keep(config, ended(inbound()), State.FAILED, "Kommo refused it")
        shown = command("registrations", "list", "--config", config)
        assert shown.returncode == 0, shown.stderr
        for word in ("incoming", "talked", "failed", "Kommo"):
            assert word in shown.stdout
        (row,) = json.loads(command("registrations", "list", "--json", "--config", config).stdout)
        assert (row["client"], row["state"], row["reason"]) == ("+79990000001", "failed", "Kommo refused it")

    def test_what_was_handed_over_says_why_it_can_not_be_told_how_it_stands(self, config: Path) -> None:
        asyncio.run(keep(config, ended(inbound()), State.HANDED))
        (alone,) = json.loads(command("registrations", "list", "--json", "--config", config).stdout)
        assert "storage.shared_url is not set" in alone["reason"]
        told = json.loads(command("calls", "show", str(alone["id"]), "--json", "--config", config).stdout)
        assert told["what_to_do"].startswith("set storage.shared_url again")
        settings = json.loads(config.read_text())
        settings["storage"]["shared_url"] = "postgresql+asyncpg://itgrix:hidden@127.0.0.1:1/itgrix"
        config.write_text(json.dumps(settings))
        shown = command("registrations", "list", "--config", config)
        assert (shown.returncode, "handed" in shown.stdout, "hidden" in shown.stdout) == (0, True, False), shown.stderr
        (row,) = json.loads(command("registrations", "list", "--json", "--config", config).stdout)
        assert "look after PostgreSQL" in row["reason"]
        told = json.loads(command("calls", "show", str(row["id"]), "--json", "--config", config).stdout)
        assert "look after PostgreSQL" in told["registration"]["reason"]
        assert told["what_to_do"] == "it is in the nodes' database: one of them sees to it by itself"

    async def test_what_others_wrote_styles_and_steers_nothing(self, config: Path) -> None:
        await keep(config, ended(inbound()), State.FAILED, "no [/such] \x1b[2J field")
        shown = command("registrations", "list", "--config", config)
        assert shown.returncode == 0, shown.stderr
        assert "[/such]" in shown.stdout
        assert "\x1b" not in shown.stdout

    async def test_retry_puts_a_failed_one_back_in_line(self, config: Path) -> None:
        number = await keep(config, ended(inbound()), State.FAILED)
        assert command("registrations", "retry", str(number), "--config", config).returncode == 0
        (row,) = json.loads(command("registrations", "list", "--json", "--config", config).stdout)
        assert row["state"] == "waiting"
        again = command("registrations", "retry", str(number), "--config", config)
        assert again.returncode == 1
        assert "registrations list" in again.stderr


TRACE = """# An invented call.
@ 1795355557.000
Event: Newchannel
Channel: PJSIP/trunk-00000001
ChannelState: 4
ChannelStateDesc: Ring
CallerIDNum: +79990000001
CallerIDName: <unknown>
ConnectedLineNum: <unknown>
ConnectedLineName: <unknown>
Context: from-trunk
Exten: 4957770101
Priority: 1
Uniqueid: 1795355557.1
Linkedid: 1795355557.1

@ 1795355559.500
Event: Hangup
Channel: PJSIP/trunk-00000001
ChannelState: 4
ChannelStateDesc: Ring
CallerIDNum: +79990000001
CallerIDName: <unknown>
ConnectedLineNum: <unknown>
ConnectedLineName: <unknown>
Context: from-trunk
Exten: 4957770101
Priority: 2
Uniqueid: 1795355557.1
Linkedid: 1795355557.1
Cause: 1
Cause-txt: Unallocated (unassigned) number
"""


class TestReplay:
    def test_the_timeline_of_each_call(self, tmp_path: Path) -> None:
        (tmp_path / "call.trace").write_text(TRACE)
        shown = command("replay", tmp_path / "call.trace")
        assert shown.returncode == 0, shown.stderr
        assert "1795355557.1 incoming, +79990000001: wrong number" in shown.stdout
        assert "calls 4957770101 from +79990000001" in shown.stdout

    def test_json_for_scripts(self, tmp_path: Path, config: Path) -> None:
        (tmp_path / "call.trace").write_text(TRACE)
        (call,) = json.loads(command("replay", tmp_path / "call.trace", "--config", config, "--json").stdout)
        assert (call["client"], call["trunk"], call["result"]) == ("+79990000001", "PJSIP/trunk", "wrong number")

    def test_the_name_of_a_channel_may_be_anything(self, tmp_path: Path) -> None:
        (tmp_path / "call.trace").write_text(TRACE.replace("PJSIP/trunk-", "PJSIP/[/b]\x9b2J-"))
        shown = command("replay", tmp_path / "call.trace")
        assert shown.returncode == 0, shown.stderr
        assert "[/b]" in shown.stdout
        assert "\x9b" not in shown.stdout

    def test_a_call_that_had_not_ended_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "call.trace").write_text(TRACE.partition("@ 1795355559")[0])
        assert "had not ended" in command("replay", tmp_path / "call.trace").stdout

    @pytest.mark.parametrize(
        ("text", "words"),
        [("Event: A\n\n", "1: a message without its time"), ("@ noon\nEvent: A\n\n", "1: b'noon' is no Unix time")],
    )
    def test_what_is_no_trace_is_named_by_its_line(self, tmp_path: Path, text: str, words: str) -> None:
        (tmp_path / "call.trace").write_text(text)
        refused = command("replay", tmp_path / "call.trace")
        assert refused.returncode == 1
        assert words in refused.stderr

    def test_a_compressed_one_is_read_too(self, tmp_path: Path) -> None:
        path = tmp_path / "call.trace.gz"
        path.write_bytes(gzip.compress(TRACE.encode()))
        assert "1795355557.1 incoming" in command("replay", path).stdout
        path.write_bytes(b"no gzip")
        refused = command("replay", path)
        assert refused.returncode == 1
        assert "damaged gzip" in refused.stderr

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        refused = command("replay", tmp_path / "none.trace")
        assert refused.returncode == 1
        assert "No such file" in refused.stderr


class TestMisuse:
    @pytest.mark.parametrize(
        "arguments",
        [("fly",), ("registrations", "retry"), ("registrations", "retry", "9" * 20), ("sandbox", "--port", "0")],
    )
    def test_ends_with_status_2_and_help(self, arguments: tuple[str, ...]) -> None:
        done = command(*arguments)
        assert done.returncode == 2
        assert "Usage" in done.stderr

    def test_run_without_a_configuration_says_so(self, tmp_path: Path) -> None:
        done = command("run", "--config", tmp_path / "none.json")
        assert done.returncode == 1
        assert "none.json" in done.stderr
        assert "Traceback" not in done.stderr
