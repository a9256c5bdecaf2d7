"""The doctor, from the outside: a host in health, then one fault planted at a time, each told in its own words."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from itgrix_kommo.doctor import Verdict, asterisk, hooks, kommo, line, people, phones, recordings, storage
from itgrix_kommo.doctor import web as doctor_web
from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from itgrix_kommo.sandbox.faults import Fault
from itgrix_kommo.storage.database import Database
from tests.ami_server import REFUSED, SUCCESS, UNKNOWN, AmiServer, listing
from tests.doctor_house import NOBODY, House, certificate, folder, furnish, give_to_nobody, phone, pong
from tests.kommo_account import connect
from tests.pbx_tables import SQLITE, fill, run


@pytest.fixture
def directory() -> Iterator[Path]:
    yield from folder()


@pytest.fixture
async def house(directory: Path) -> AsyncIterator[House]:
    async with AmiServer() as asterisk_server, Sandbox(SandboxOptions()).serve() as sandbox:
        furnish(asterisk_server)
        yield House(directory, asterisk_server, sandbox, unused_port())


@asynccontextmanager
async def listening(talk: bytes, port: int = 0) -> AsyncIterator[int]:
    """A program of another kind: it says `talk` to whoever comes, and then nothing."""
    connected: list[asyncio.StreamWriter] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer)
        writer.write(talk)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in connected:
            writer.transport.abort()
        await server.wait_closed()


@asynccontextmanager
async def answering(port: int, status: int, body: str, kind: str = "application/json") -> AsyncIterator[None]:
    """A web server that says the same to everything."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, content_type=kind)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


class TestHealth:
    async def test_nothing_is_wrong(self, house: House) -> None:
        results = await house.examined()
        assert [one for one in results if one.finding.verdict is Verdict.FAULT] == []
        warned = {(one.group, one.name) for one in results if one.finding.verdict is Verdict.WARNING}
        # Only what belongs to a trial host: http addresses on loopback, and no daemon.
        assert warned == {("configuration", "file"), ("daemon", "runs"), ("web", "public link")}

    async def test_groups_stand_together_and_in_the_same_order_each_time(self, house: House) -> None:
        first, again = await house.examined(), await house.examined()
        assert [(one.group, one.name) for one in first] == [(one.group, one.name) for one in again]
        groups = [one.group for one in first]
        assert groups == sorted(groups, key=groups.index)

    async def test_it_writes_nothing_anywhere(self, house: House) -> None:
        await house.examined()
        asked = house.sandbox.audit.requests
        assert {one.method for one in asked} == {"GET"}
        assert len(asked) == 4
        assert {one["Action"] for session in house.asterisk.sessions for one in session.actions} <= {
            "Challenge", "Login", "Filter", "BridgeList", "CoreShowChannels", "CoreSettings", "Ping", "ListCommands",
            "Setvar", "Originate", "Command", "ShowDialPlan", "ModuleCheck", "PJSIPShowEndpoints", "SIPpeers",
            "IAXpeers", "DAHDIShowChannels",
        }  # fmt: skip
        (probe,) = house.asterisk.sessions[-1].asked("Originate") or house.asterisk.sessions[0].asked("Originate")
        assert probe["Channel"] == "Itgrix/doctor"
        assert list((house.directory / "data").iterdir()) == []

    async def test_the_daemons_database_is_left_as_it_is(self, house: House) -> None:
        url = house.settings["storage"]["url"]
        await (await Database.open(url)).close()
        give_to_nobody(*(house.directory / "data").iterdir())
        before = sorted((house.directory / "data").iterdir())
        found = await house.one("storage", "database")
        assert (found.verdict, found.words) == (Verdict.OK, "can be read: no calls yet")
        assert sorted((house.directory / "data").iterdir()) == before


def waits_only(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in (asterisk, line):
        monkeypatch.setattr(module, "CONNECT_WITHIN", seconds)


class TestAsterisk:
    async def test_nobody_listens(self, house: House) -> None:
        await house.asterisk.shut()
        found = await house.fault("Asterisk", "reach")
        assert f"nobody listens at 127.0.0.1:{house.asterisk.port}" in found.words
        assert "systemctl status asterisk" in found.remedy
        assert (await house.one("Asterisk", "dialplan")).words == "there is no login at Asterisk"
        await house.asterisk.open()

    async def test_there_is_no_such_host(self, house: House) -> None:
        house.settings["ami"]["host"] = "pbx.invalid"
        found = await house.fault("Asterisk", "reach")
        assert "there is no address of pbx.invalid" in found.words
        assert found.remedy == "correct ami.host"

    async def test_another_program_has_the_port(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        waits_only(monkeypatch, 2.0)
        async with listening(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
            house.settings["ami"]["port"] = port
            found = await house.fault("Asterisk", "reach")
        assert found.words == f"who answers at 127.0.0.1:{port} is no Asterisk Manager"
        assert "ss -ltnp" in found.remedy

    async def test_garbage_without_end(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        waits_only(monkeypatch, 2.0)
        async with listening(os.urandom(1 << 20).replace(b"\n", b"")) as port:
            house.settings["ami"]["port"] = port
            found = await house.fault("Asterisk", "reach")
        assert "is no Asterisk Manager" in found.words or "closes" in found.words

    async def test_it_hangs(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        waits_only(monkeypatch, 0.3)
        async with listening(b"") as port:
            house.settings["ami"]["port"] = port
            found = await house.fault("Asterisk", "reach")
            assert (await house.one("Asterisk", "login")).words == "Asterisk is not reached"
        assert found.words == f"127.0.0.1:{port} takes the connection and says nothing"
        assert "if Asterisk itself hangs, restart it" in found.remedy

    async def test_it_hangs_after_the_login(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        waits_only(monkeypatch, 0.5)
        house.asterisk.answers["Ping"] = None
        found = await house.fault("Asterisk", "answers")
        assert "did not answer Ping" in found.words

    async def test_it_hangs_at_one_question(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        waits_only(monkeypatch, 0.5)
        house.asterisk.answers["ShowDialPlan"] = None
        found = await house.fault("Asterisk", "dialplan")
        assert found.words.startswith("Asterisk did not answer ShowDialPlan within 0.5 s")
        assert "itgrix-kommo check again" in found.remedy

    async def test_its_lists_are_rubbish(self, house: House) -> None:
        odd = phone("101\x1b[2J").replace("DeviceState: Not in use", "DeviceState: " + "x" * 5000)
        house.asterisk.answers["PJSIPShowEndpoints"] = listing("EndpointListComplete", odd, "Event: EndpointList\r\n")
        house.asterisk.answers["ListCommands"] = "Response: Success\r\nActionID: {id}\r\n: \r\n\r\n"
        house.asterisk.answers["CoreSettings"] = "Response: Success\r\nActionID: {id}\r\nAsteriskVersion: \x00\r\n\r\n"
        house.asterisk.answers["Ping"] = "Response: Success\r\nActionID: {id}\r\nTimestamp: noon\r\n\r\n"
        results = {one.name: one.finding for one in await house.examined() if one.group == "Asterisk"}
        assert "has no phone" in results["employees"].words
        assert results["rights"].verdict is Verdict.FAULT
        assert "calls itself" in results["version"].words
        assert results["clock"].words == "Asterisk does not tell its time"

    async def test_no_tls_where_tls_is_wanted(self, house: House) -> None:
        house.settings["ami"]["tls"] = True
        found = await house.fault("Asterisk", "reach")
        assert "can't be spoken to by TLS" in found.words
        assert "tlsenable" in found.remedy

    async def test_a_wrong_secret(self, house: House) -> None:
        house.asterisk.answers["Login"] = "Response: Error\r\nActionID: {id}\r\nMessage: Authentication failed\r\n\r\n"
        found = await house.fault("Asterisk", "login")
        assert "does not let 'itgrix' in" in found.words
        assert "Authentication failed" in found.words
        assert "ami.secret" in found.remedy
        assert "asterisk -rx 'manager reload'" in found.remedy

    async def test_write_lacks_originate(self, house: House) -> None:
        offered = "Filter: x\r\nSetvar: x\r\nStatus: x\r\nShowDialPlan: x\r\n"
        house.asterisk.answers["ListCommands"] = f"Response: Success\r\nActionID: {{id}}\r\n{offered}\r\n"
        house.asterisk.answers["Originate"] = REFUSED
        found = await house.fault("Asterisk", "rights")
        assert found.words == "write lacks originate: click-to-call can dial nobody"
        assert "write = system,call,originate,reporting" in found.remedy
        assert "[itgrix]" in found.remedy

    async def test_read_lacks_call(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(line, "HEAR_WITHIN", 0.2)
        house.asterisk.answers["Originate"] = SUCCESS
        found = await house.fault("Asterisk", "events")
        assert (
            found.words
            == "events of the class call do not come, though they were provoked: calls go unheard, or in part"
        )
        assert "read = system,call,dialplan,agent,cel" in found.remedy

    async def test_read_lacks_agent(self, house: House) -> None:
        house.asterisk.answers["Command"] = (
            "Response: Success\r\nActionID: {id}\r\nMessage: Command output follows\r\n"
            "Output:          read perm: system,call,dialplan\r\n\r\n"
        )
        found = await house.fault("Asterisk", "events")
        assert found.words == "read lacks agent: who waits in a queue goes unheard"

    async def test_no_filter_is_taken(self, house: House) -> None:
        house.asterisk.answers["Filter"] = REFUSED
        found = await house.warning("Asterisk", "filter")
        assert "Asterisk takes no filter" in found.words
        assert "write = system" in found.remedy

    async def test_a_context_that_is_not_there(self, house: House) -> None:
        house.settings["originate"] = {"context": "from-nowhere"}
        found = await house.fault("Asterisk", "dialplan")
        assert "the dialplan has no context from-nowhere" in found.words
        assert "originate.context" in found.remedy

    async def test_autodistribution_without_curl(self, house: House) -> None:
        house.asterisk.answers["ShowDialPlan"] = listing("ShowDialPlanComplete")
        house.asterisk.answers["ModuleCheck"] = UNKNOWN
        found = await house.fault("Asterisk", "autodistribution")
        assert "func_curl.so" in found.words
        assert "module load func_curl.so" in found.remedy

    async def test_an_employee_without_a_phone(self, house: House) -> None:
        house.settings["employees"].append({"user_id": 9100003, "extension": "199"})
        found = await house.fault("Asterisk", "employees")
        assert found.words == "extension 199 (user 9100003) has no phone: Asterisk knows no PJSIP/199"
        assert "pjsip show endpoints" in found.remedy

    async def test_a_phone_that_is_switched_off(self, house: House) -> None:
        house.asterisk.answers["PJSIPShowEndpoints"] = listing(
            "EndpointListComplete", phone("101"), phone("102", state="Unavailable")
        )
        found = await house.warning("Asterisk", "employees")
        assert found.words == "extension 102 (user 9100002): PJSIP/102 is not registered (Unavailable)"

    async def test_click_to_call_by_the_wrong_technology(self, house: House) -> None:
        house.settings["originate"] = {"channel": "SIP/{extension}"}
        found = await house.found("Asterisk", "employees")
        assert "click-to-call rings SIP/101, the phone is PJSIP/101" in found[0].words
        assert 'originate.channel to how your phones are called, such as "PJSIP/{extension}"' in found[0].remedy

    async def test_many_without_phones_are_summed_up(self, house: House) -> None:
        house.settings["employees"] = [{"user_id": 9200000 + at, "extension": str(300 + at)} for at in range(40)]
        found = await house.found("Asterisk", "employees")
        assert len(found) == phones.MOST_LINES
        assert found[-1].words == "31 more are like that"

    async def test_its_clock_is_wrong(self, house: House) -> None:
        house.asterisk.answers["Ping"] = pong(3 * 3600.0)
        found = await house.fault("Asterisk", "clock")
        assert found.words == "Asterisk's clock is 3 hours ahead of this host's"
        assert "timedatectl" in found.remedy

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("11.25.0", "older than what this was tried on"),
            ("23.0.0", "newer than what this was tried on"),
            ("my own", "calls itself 'my own'"),
        ],
    )
    def test_a_version_that_nobody_tried(self, text: str, words: str) -> None:
        found = asterisk.judge_version(text)
        assert found.verdict is Verdict.WARNING
        assert words in found.words

    @pytest.mark.parametrize("text", ["22.10.1+dfsg+~cs6.17", "16.28.0~dfsg-0+deb11u4", "certified/18.9-cert5"])
    def test_versions_that_were_tried(self, text: str) -> None:
        assert asterisk.judge_version(text).verdict is Verdict.OK


class TestKommo:
    async def test_nobody_is_there(self, house: House) -> None:
        house.settings["kommo"]["base_url"] = f"http://127.0.0.1:{unused_port()}"
        found = await house.fault("Kommo", "reach")
        assert "can't be reached" in found.words
        assert "curl -I" in found.remedy
        assert (await house.one("Kommo", "token")).words == "Kommo can't be reached"
        assert (await house.one("Kommo", "users")).words == "the account can't be asked"

    async def test_a_name_that_is_not_known(self, house: House) -> None:
        house.settings["kommo"]["base_url"] = "https://acme.invalid"
        found = await house.fault("Kommo", "reach")
        assert "there is no address of acme.invalid" in found.words
        assert "correct kommo.base_url" in found.remedy

    async def test_it_hangs(self, house: House) -> None:
        house.settings["kommo"]["timeout_s"] = 1
        house.sandbox.faults.add(Fault(effect="hang", path="/api/v4/account"))
        found = await house.fault("Kommo", "token")
        assert "nothing within 1 s" in found.words

    async def test_it_hangs_at_the_door(self, house: House) -> None:
        house.settings["kommo"]["timeout_s"] = 1
        async with listening(b"") as port:
            house.settings["kommo"]["base_url"] = f"http://127.0.0.1:{port}"
            found = await house.fault("Kommo", "reach")
        assert "does not answer within 1 s" in found.words

    async def test_a_token_that_is_none(self, house: House) -> None:
        house.settings["kommo"]["access_token"] = "a-token-that-is-none"
        found = await house.fault("Kommo", "token")
        assert "does not accept the token" in found.words
        assert "make a long-lived token" in found.remedy
        assert "kommo.access_token" in found.remedy

    async def test_nobody_granted_access(self, house: House) -> None:
        del house.settings["kommo"]["access_token"]
        house.settings["kommo"]["integration"] = {
            "client_id": "id", "client_secret": "client-s3cr3t", "redirect_uri": "https://pbx.example.com/oauth/kommo",
        }  # fmt: skip
        found = await house.fault("Kommo", "token")
        assert found.words == "nobody has granted access to Kommo yet"
        assert found.remedy == "type itgrix-kommo login"

    async def test_the_subscription_has_ended(self, house: House) -> None:
        house.sandbox.account.switches.unpaid = True
        found = await house.fault("Kommo", "token")
        assert "402" in found.words
        assert "pay the account's subscription" in found.remedy

    async def test_the_account_is_blocked(self, house: House) -> None:
        house.sandbox.faults.add(Fault(effect="block", path="/api/v4/account"))
        found = await house.fault("Kommo", "token")
        assert "block" in found.words
        assert "support" in found.remedy

    @pytest.mark.parametrize("effect", ["html", "truncated", "empty"])
    async def test_it_talks_nonsense(self, house: House, effect: str) -> None:
        house.sandbox.faults.add(Fault.model_validate({"effect": effect, "path": "/api/v4/account"}))
        found = await house.fault("Kommo", "token")
        assert "makes no sense" in found.words
        assert found.remedy

    async def test_a_token_of_no_administrator(self, house: House) -> None:
        house.settings["kommo"]["access_token"] = house.sandbox.options.user_token
        found = await house.warning("Kommo", "users")
        assert "GET /api/v4/users" in found.words
        assert "administrator's token" in found.remedy

    async def test_an_employee_whom_the_account_does_not_know(self, house: House) -> None:
        house.settings["employees"][0]["user_id"] = 5
        found = await house.warning("Kommo", "users")
        assert (found.words, found.remedy) == (
            "the account has no user 5",
            "correct the user_id in the configuration",
        )

    async def test_contacts_without_phone(self, house: House) -> None:
        house.sandbox.account.switches.phone_field = False
        found = await house.fault("Kommo", "phone field")
        assert "PHONE" in found.words
        assert "restore Kommo's own phone field" in found.remedy

    async def test_a_pipeline_that_is_not_there(self, house: House) -> None:
        house.settings["business"] = {"pipeline_id": 77}
        found = await house.fault("Kommo", "pipeline")
        assert found.words == "the account has no pipeline 77, or it is archived"
        assert "business.pipeline_id" in found.remedy

    async def test_a_route_into_a_pipeline_that_is_not_there(self, house: House) -> None:
        house.settings["business"] = {"routes": [{"trunk": "PJSIP/trunk", "pipeline_id": 77}]}
        found = await house.fault("Kommo", "pipeline")
        assert found.remedy == "correct business.routes[0].pipeline_id"

    async def test_incoming_leads_that_are_switched_off(self, house: House) -> None:
        house.sandbox.account.switches.is_unsorted_on = False
        house.settings["business"] = {"unsorted": True}
        found = await house.warning("Kommo", "pipeline")
        assert "takes no incoming leads" in found.words

    async def test_a_task_type_that_is_not_there(self, house: House) -> None:
        house.settings["business"] = {"tasks": {"task_type": 4711}}
        assert "no task type 4711" in (await house.fault("Kommo", "tasks")).words

    async def test_all_of_the_limit_is_used(self, house: House) -> None:
        house.settings["kommo"]["requests_per_second"] = 7
        found = await house.warning("Kommo", "rate")
        assert found.remedy == "set kommo.requests_per_second to 6 unless nothing else does"

    async def test_webhooks(self, house: House) -> None:
        house.sandbox.account.switches.requests_per_second = 100  # three examinations within a second
        house.settings["kommo"]["webhook_secret"] = "webhook-s3cr3t"
        house.settings["recordings"]["public_url"] = "https://pbx.example.com"
        found = await house.warning("Kommo", "webhooks")
        assert found.words == "Kommo tells this daemon of no changes"
        assert "systemctl restart itgrix_amo" in found.remedy
        async with connect(house.sandbox) as client:
            await client.subscribe("https://pbx.example.com/webhooks/kommo/webhook-s3cr3t", ["update_contact"])
        assert (await house.one("Kommo", "webhooks")).verdict is Verdict.OK
        house.sandbox.account.disable_webhooks()
        assert "has switched our webhook off" in (await house.warning("Kommo", "webhooks")).words

    def test_a_token_tells_its_end(self) -> None:
        assert kommo.end_of("e30.eyJleHAiOjE4MDAwMDAwMDB9.c2ln") == 1_800_000_000
        for rubbish in ("", "a.b.c", "e30.W10.x", "...", "e30.eyJleHAiOiJub29uIn0.x", "é.é.é"):
            assert kommo.end_of(rubbish) is None

    async def test_a_token_that_has_ended(self, house: House) -> None:
        house.settings["kommo"]["access_token"] = "e30.eyJleHAiOjE1MDAwMDAwMDB9.c2ln"
        found = await house.fault("Kommo", "token")
        assert "has expired" in found.words
        assert "make a long-lived token" in found.remedy


class TestDaemon:
    async def test_another_program_has_its_port(self, house: House) -> None:
        async with answering(house.settings["http"]["port"], 200, "<h1>It works!</h1>", "text/html"):
            results = [one for one in await house.examined() if one.group == "daemon"]
        (found,) = [one.finding for one in results if one.finding.verdict is Verdict.FAULT]
        address = f"http://127.0.0.1:{house.settings['http']['port']}/healthz"
        assert found.words == f"another program has its port: {address} answers 200, and not as the daemon does"
        assert f"ss -ltnp 'sport = :{house.settings['http']['port']}'" in found.remedy
        assert {one.finding.words for one in results if one.name != "runs"} == {"the daemon does not answer"}

    async def test_another_program_has_the_public_port(self, house: House) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            house.settings["http"]["public"] = {"host": "127.0.0.1", "port": port}
            found = await house.fault("daemon", "public port")
        assert found.words == f"http.public can't have 127.0.0.1:{port}: another program has it"
        assert f"ss -ltnp 'sport = :{port}'" in found.remedy
        assert (await house.one("daemon", "public port")).words == f"port {port} is free for http.public"
        house.settings["http"]["public"]["host"] = "192.0.2.1"
        assert "ssign" in (await house.fault("daemon", "public port")).words

    async def test_it_hears_no_calls_and_registers_none(self, house: House) -> None:
        body = (
            '{"status": "failing", "capturing_fault": "no link to Asterisk: refused",'
            ' "registering_stopped_by": ["account: 401: run itgrix-kommo login"], "live_calls": 0,'
            ' "troubles": ["the journal waits: free disk space"]}'
        )
        async with answering(house.settings["http"]["port"], 503, body):
            results = await house.examined()
        lines = {one.name: one.finding for one in reversed(results) if one.group == "daemon"}
        told = [(one.finding.words, one.finding.remedy) for one in results if one.name == "keeps"]
        assert told == [("the journal waits", "free disk space")]
        assert lines["runs"].verdict is Verdict.OK
        assert lines["captures"].words == "it hears no calls: no link to Asterisk: refused"
        assert lines["registers"].remedy == "run itgrix-kommo login"

    async def test_its_tables_are_damaged(self, house: House) -> None:
        (house.directory / "data/itgrix.db").write_bytes(b"no database at all " * 100)
        found = await house.fault("storage", "database")
        assert "file is not a database" in found.words
        assert "stop the daemon" in found.remedy

    def test_registrations_that_failed(self) -> None:
        found = storage.judge_counts({"waiting": 2, "done": 7, "failed": 1})
        assert found.words == "2 waiting, 7 done, 1 failed: 1 registration failed for good"
        assert "itgrix-kommo registrations list" in found.remedy

    async def test_its_data_is_somebody_elses(self, house: House) -> None:
        data = house.directory / "data"
        give_to_nobody(data)
        (data / "itgrix.files").mkdir(mode=0o700)
        found = await house.fault("storage", "directory")
        assert found.words == f"{data}/itgrix.files can't be written by nobody, who runs the daemon"
        assert found.remedy == f"type chown -R nobody {data}"

    async def test_several_of_its_files_are_one_line(self, house: House) -> None:
        data = house.directory / "data"
        for path in (data / "itgrix.files", data / "itgrix.files/journal"):
            path.mkdir()
            path.chmod(0o755)
        give_to_nobody(data)
        found = await house.fault("storage", "directory")
        assert found.words.startswith(f"{data}/itgrix.files and {data}/itgrix.files/journal can't be written by nobody")

    async def test_its_directory_became_roots(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(people, "SERVICE_USER", "nobody")
        data = house.directory / "data"
        data.chmod(0o755)
        found = await house.fault("storage", "directory")
        assert found.words.endswith("can't be written by nobody, who runs the daemon")
        assert found.remedy == f"type chown -R nobody {data}"

    def test_a_full_disk(self, tmp_path: Path) -> None:
        assert storage.judge_disk("the daemon's data", tmp_path, 5 << 30, None).verdict is Verdict.OK
        assert storage.judge_disk("the daemon's data", tmp_path, 500 << 20, 10**6).verdict is Verdict.WARNING
        found = storage.judge_disk("the daemon's data", tmp_path, 7 << 20, 10**6)
        assert found.words == f"7 MB are free for the daemon's data ({tmp_path}): calls will be lost"
        assert "du -xh" in found.remedy
        assert "files more" in storage.judge_disk("the daemon's data", tmp_path, 5 << 30, 3).words


class TestWeb:
    async def test_the_public_address_leads_elsewhere(self, house: House) -> None:
        house.settings["recordings"]["link_secret"] = "a secret of seventeen"
        port = unused_port()
        house.settings["recordings"]["public_url"] = f"http://127.0.0.1:{port}"
        health = '{"capturing_fault": "", "registering_stopped_by": []}'
        async with (
            answering(house.settings["http"]["port"], 200, health),
            answering(port, 404, "There is no such page."),
        ):
            found = await house.fault("web", "public link")
        assert "leads to something else than this daemon (it answers 404)" in found.words
        assert "/recordings/" in found.remedy

    async def test_the_public_address_is_shut(self, house: House) -> None:
        house.settings["recordings"]["link_secret"] = "a secret of seventeen"
        house.settings["recordings"]["public_url"] = f"http://127.0.0.1:{unused_port()}"
        async with answering(house.settings["http"]["port"], 200, '{"capturing_fault": ""}'):
            found = await house.fault("web", "public link")
        assert "can't be reached from here" in found.words
        assert "firewall" in found.remedy

    async def test_the_public_name_is_unknown(self, house: House) -> None:
        house.settings["recordings"]["public_url"] = "https://pbx.invalid"
        found = await house.fault("web", "public link")
        assert "there is no address of pbx.invalid" in found.words

    def test_an_address_that_only_colleagues_see(self) -> None:
        found = doctor_web.judge_addresses("pbx.example.com", ["10.0.0.5"])
        assert found is not None
        assert "only computers of the same network" in found.words
        assert doctor_web.judge_addresses("pbx.example.com", ["93.184.216.34"]) is None

    async def certified(self, house: House, made: Path, key: Path, public: str = "https://pbx.example.com") -> None:
        house.settings["http"] |= {"tls_certificate": str(made), "tls_key": str(key)}
        house.settings["recordings"]["public_url"] = public

    async def test_a_certificate_that_has_ended(self, house: House, directory: Path) -> None:
        made, key = certificate(directory / "tls", begin="20200101000000Z", end="20200201000000Z")
        await self.certified(house, made, key)
        found = await house.fault("web", "certificate")
        assert f"http.tls_certificate {made} ended" in found.words
        assert "days ago" in found.words
        assert "certbot renew" in found.remedy

    async def test_a_certificate_that_ends_soon(self, house: House, directory: Path) -> None:
        end = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 5.3 * 86_400))
        made, key = certificate(directory / "tls", begin="20200101000000Z", end=end)
        await self.certified(house, made, key)
        assert "ends in 5 days" in (await house.warning("web", "certificate")).words

    async def test_a_certificate_of_another_name(self, house: House, directory: Path) -> None:
        made, key = certificate(directory / "tls", names="DNS:crm.example.com,DNS:*.example.org")
        await self.certified(house, made, key)
        found = await house.fault("web", "certificate")
        assert "is for crm.example.com, *.example.org, browsers go to pbx.example.com" in found.words
        await self.certified(house, made, key, "https://pbx.example.org")
        assert (await house.one("web", "certificate")).verdict is Verdict.OK

    async def test_a_key_of_another_certificate(self, house: House, directory: Path) -> None:
        (made, _), (_, key) = certificate(directory / "one"), certificate(directory / "two")
        await self.certified(house, made, key)
        assert "the key does not belong to it" in (await house.fault("web", "certificate")).words

    async def test_a_key_that_everybody_reads(self, house: House, directory: Path) -> None:
        made, key = certificate(directory / "tls")
        key.chmod(0o644)
        await self.certified(house, made, key)
        found = await house.fault("web", "certificate")
        assert found.remedy == f"type chmod o-rwx {key}"

    async def test_files_that_are_none(self, house: House, directory: Path) -> None:
        made, key = certificate(directory / "tls")
        await self.certified(house, directory / "none.pem", key)
        assert "none.pem does not exist" in (await house.fault("web", "certificate")).words
        made.write_bytes(os.urandom(500))
        await self.certified(house, made, key)
        assert "they are no PEM" in (await house.fault("web", "certificate")).words

    async def test_a_file_that_hangs_is_one_line(
        self, house: House, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made, key = certificate(directory / "tls")
        made.unlink()
        os.mkfifo(made)  # whoever opens it waits for ever, as on a mount that has died
        await self.certified(house, made, key)
        monkeypatch.setattr(doctor_web, "READ_WITHIN", 0.5)
        found = await house.fault("web", "certificate")
        assert found.words.startswith("no answer within")
        with made.open("wb"):
            pass  # the thread goes home


class TestRecordings:
    async def test_mapped_elsewhere_than_recordings_are_read(self, house: House, tmp_path: Path) -> None:
        (directory,) = house.settings["recordings"]["directories"]
        house.settings["recordings"]["path_map"] = {"/var/spool/asterisk/monitor": str(tmp_path / "elsewhere")}
        found = await house.fault("recordings", "path_map")
        assert "in none of recordings.directories" in found.words
        assert f'add "{tmp_path}/elsewhere" to recordings.directories' in found.remedy
        house.settings["recordings"]["path_map"] = {"/var/spool/asterisk/monitor": f"{directory}/pbx"}
        assert "which is no directory" in (await house.fault("recordings", "path_map")).words
        house.settings["recordings"]["path_map"] = {"/var/spool/asterisk/monitor": directory}
        assert (await house.one("recordings", "path_map")).verdict is Verdict.OK

    async def test_a_directory_that_is_not_there(self, house: House) -> None:
        house.settings["recordings"]["directories"] = ["/mnt/pbx/monitor"]
        found = await house.fault("recordings", "directory")
        assert found.words == "/mnt/pbx/monitor does not exist"
        assert "recordings.directories" in found.remedy

    async def test_a_directory_that_the_daemon_may_not_read(self, house: House) -> None:
        give_to_nobody(house.directory / "data")
        monitor = house.directory / "monitor"
        monitor.chmod(0o750)
        found = await house.fault("recordings", "directory")
        assert found.words == f"{monitor} can't be read by nobody, who runs the daemon"
        assert found.remedy.startswith(f"type chgrp nobody {monitor}; chmod g+rX {monitor}")
        os.chown(monitor, -1, grp.getgrnam("audio").gr_gid)
        assert "usermod --append --groups audio nobody" in (await house.fault("recordings", "directory")).remedy

    async def test_the_way_to_them_is_barred(self, house: House) -> None:
        give_to_nobody(house.directory / "data")
        within = house.directory / "closed"
        within.mkdir(mode=0o700)
        (house.directory / "monitor").rename(within / "monitor")
        house.settings["recordings"]["directories"] = [str(within / "monitor")]
        assert (await house.fault("recordings", "directory")).remedy.startswith(f"type chgrp nobody {within};")

    async def test_recordings_that_the_daemon_may_not_read(self, house: House) -> None:
        give_to_nobody(house.directory / "data")
        (house.directory / "monitor/call.wav").chmod(0o640)
        assert "call.wav can't be read by nobody" in (await house.fault("recordings", "directory")).words

    async def test_none_has_come_for_long(self, house: House) -> None:
        old = time.time() - 9 * 86_400
        os.utime(house.directory / "monitor/call.wav", (old, old))
        found = await house.warning("recordings", "directory")
        assert "is 9 days old" in found.words
        assert "MixMonitor" in found.remedy

    async def test_none_has_ever_come(self, house: House) -> None:
        (house.directory / "monitor/call.wav").unlink()
        assert "holds no recording" in (await house.warning("recordings", "directory")).words

    def test_the_newest_is_found_in_the_newest_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recordings, "MOST_FILES", 3)
        for day in ("2025/12/31", "2026/11/21", "2026/11/22"):
            (tmp_path / day).mkdir(parents=True)
            for number in range(3):
                (tmp_path / day / f"{number}.wav").write_bytes(b"RIFF")
        newest = recordings.newest_in(tmp_path)
        assert newest is not None
        assert newest.path.parent == tmp_path / "2026/11/22"

    async def test_no_ffmpeg(self, house: House, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(directory))
        found = await house.fault("recordings", "ffmpeg")
        assert "ffmpeg is not installed" in found.words
        assert found.remedy == "type apt-get install ffmpeg"

    async def test_an_ffmpeg_that_makes_no_mp3(
        self, house: House, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = directory / "ffmpeg"
        program.write_text("#!/bin/sh\necho ffmpeg version 6.1 Copyright\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
        found = await house.fault("recordings", "ffmpeg")
        assert "without libmp3lame" in found.words


class TestCustomizations:
    def put(self, house: House, name: str, text: str, mode: int = 0o644) -> Path:
        path = house.directory / "actions" / name
        path.write_text(text)
        path.chmod(mode)
        return path

    async def test_php_that_is_none(self, house: House) -> None:
        path = self.put(house, "need_registration.php", "<?php\nreturn array('state' => ;\n")
        found = await house.fault("customizations", "files")
        assert found.words.startswith(f"{path}: ")
        assert "syntax error" in found.words
        assert "on line 2" in found.words
        assert "itgrix-kommo hooks try need_registration --sample" in found.remedy

    async def test_no_php_at_all(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.put(house, "need_registration.php", "<?php return array();")
        monkeypatch.setattr(hooks, "environment", lambda: {"PATH": "/nowhere"})
        found = await house.fault("customizations", "programs")
        assert found.words == "1 PHP file and no PHP on this host"
        assert found.remedy == "type apt-get install php-cgi"

    async def test_python_that_is_none(self, house: House) -> None:
        self.put(house, "need_registration.py", "def need_registration(params)\n    return {}\n")
        assert "line 1: expected ':'" in (await house.fault("customizations", "files")).words

    async def test_python_without_the_function(self, house: House) -> None:
        self.put(house, "need_registration.py", "def needs_registration(params):\n    return {}\n")
        found = await house.fault("customizations", "files")
        assert "it has no function need_registration(params)" in found.words

    async def test_python_that_can_not_be_compiled(self, house: House) -> None:
        self.put(house, "need_registration.py", "return {}\ndef need_registration(params): ...\n")
        assert "'return' outside function" in (await house.fault("customizations", "files")).words

    @pytest.mark.parametrize("text", ["#!/usr/bin/env -S LANG=C sh -e\n", "#!/bin/sh -e\n", "#! /bin/sh\n"])
    async def test_programs_with_an_interpreter(self, house: House, text: str) -> None:
        self.put(house, "post_registration", text, 0o755)
        assert (await house.one("customizations", "files")).verdict is Verdict.OK

    @pytest.mark.parametrize("text", ["", "echo {}\n", "#!\n", "#!/usr/bin/env\n"])
    async def test_programs_without_one(self, house: House, text: str) -> None:
        self.put(house, "post_registration", text, 0o755)
        assert "names no interpreter" in (await house.fault("customizations", "files")).words

    async def test_a_program_whose_interpreter_is_not_there(self, house: House) -> None:
        self.put(house, "post_registration", "#!/usr/bin/env ruby-1.9\n", 0o755)
        assert "its interpreter ruby-1.9 is not there" in (await house.fault("customizations", "files")).words

    async def test_a_program_without_its_run_bit(self, house: House) -> None:
        self.put(house, "post_registration.sh", "#!/bin/sh\n", 0o644)
        found = await house.fault("customizations", "directory")
        assert "not executable" in found.words
        assert found.remedy == "chmod +x it"

    async def test_two_files_for_one(self, house: House) -> None:
        self.put(house, "post_registration.php", "<?php")
        self.put(house, "post_registration.py", "def post_registration(params): ...")
        assert "a second file for post_registration" in (await house.fault("customizations", "directory")).words

    async def test_a_file_that_everybody_may_change(self, house: House) -> None:
        path = self.put(house, "post_registration.py", "def post_registration(params): ...", 0o666)
        found = await house.fault("customizations", "directory")
        assert found.words == f"everybody may change {path}, and so run programs as root"
        assert found.remedy == f"type chmod o-w {path}"

    async def test_files_are_not_run_unless_asked_to(self, house: House, directory: Path) -> None:
        mark = directory / "mark"
        text = (
            f"def post_registration(params):\n    open({str(mark)!r}, 'w').close()\n    return {{'state': 'success'}}\n"
        )
        self.put(house, "post_registration.py", text)
        assert "--run-hooks" in (await house.one("customizations", "runs")).words
        assert not mark.exists()
        assert (await house.one("customizations", "runs", run_hooks=True)).verdict is Verdict.OK
        assert mark.exists()

    async def test_one_that_fails_when_run(self, house: House) -> None:
        self.put(house, "need_registration.py", "def need_registration(params):\n    return 1 / 0\n")
        found = await house.fault("customizations", "runs", run_hooks=True)
        assert "need_registration failed with a made-up call" in found.words
        assert "ZeroDivisionError" in found.words

    async def test_the_host_of_the_customizations_is_away(self, house: House) -> None:
        house.settings["customizations"]["socket"] = "/run/itgrix_amo_hooks/none"
        found = await house.fault("customizations", "host")
        assert "the host of the customizations at /run/itgrix_amo_hooks/none can't be reached" in found.words
        assert "systemctl start itgrix_amo_hooks" in found.remedy

    async def test_root_runs_nothing_of_the_daemons(self, house: House) -> None:
        self.put(house, "need_registration.py", "def need_registration(params):\n    return 1 / 0\n")
        give_to_nobody(house.directory / "data")
        found = await house.one("customizations", "runs", run_hooks=True)
        assert found.verdict is Verdict.SKIPPED
        assert "runuser -u nobody -- itgrix-kommo check --run-hooks" in found.words


class TestDatabase:
    async def with_cel(self, house: House, *statements: str) -> None:
        url = f"sqlite+aiosqlite:///{house.directory}/master.db"
        await run(url, *statements)
        house.settings["database"] = {"url": url}

    async def test_it_is_down(self, house: House) -> None:
        house.settings["database"] = {
            "url": f"mysql+asyncmy://itgrix:db-s3cr3t@127.0.0.1:{unused_port()}/asteriskcdrdb"
        }
        found = await house.fault("PBX database", "CEL")
        assert "the PBX's database failed" in found.words
        assert "systemctl status mariadb" in found.remedy
        assert "db-s3cr3t" not in str(found)
        assert (await house.one("PBX database", "rows")).words == "the database can't be read"

    async def test_a_table_that_is_not_there(self, house: House) -> None:
        await self.with_cel(house, "CREATE TABLE other (id INTEGER)")
        found = await house.fault("PBX database", "CEL")
        assert found.words == "database.cel_table: there is no table cel"
        assert "correct it" in found.remedy

    async def test_a_column_that_is_not_there(self, house: House) -> None:
        await self.with_cel(house, SQLITE[0].replace("linkedid TEXT", "linked TEXT"), SQLITE[1])
        found = await house.fault("PBX database", "CEL")
        assert "cel has no column linkedid" in found.words
        assert '"cel_linkedid"' in found.remedy

    async def test_a_table_without_extra(self, house: House) -> None:
        await self.with_cel(house, SQLITE[0].replace(", extra TEXT", ""), SQLITE[1])
        assert "no column extra" in (await house.warning("PBX database", "CEL")).words

    async def test_nothing_is_written(self, house: House) -> None:
        await self.with_cel(house, *SQLITE)
        assert (await house.one("PBX database", "CEL")).verdict is Verdict.OK
        found = await house.warning("PBX database", "rows")
        assert "Asterisk writes nothing into it" in found.words
        assert "cel.conf" in found.remedy

    async def test_nothing_is_written_any_more(self, house: House) -> None:
        await self.with_cel(house, *SQLITE)
        then = datetime.now(UTC) - timedelta(days=9)
        row = {
            "eventtype": "CHAN_START",
            "eventtime": f"{then:%Y-%m-%d %H:%M:%S}",
            "uniqueid": f"{then.timestamp():.0f}.1",
        }
        await fill(house.settings["database"]["url"], [row])
        found = await house.warning("PBX database", "rows")
        assert found.words == "the newest row is 9 days old"
        assert "cel show status" in found.remedy


class TestNodes:
    async def test_their_database_is_away(self, house: House) -> None:
        url = f"postgresql+asyncpg://itgrix:shared-s3cr3t@127.0.0.1:{unused_port()}/itgrix"
        house.settings["storage"]["shared_url"] = url
        found = await house.fault("nodes", "database")
        assert "storage.shared_url: the shared database failed" in found.words
        assert "systemctl status postgresql" in found.remedy
        assert "shared-s3cr3t" not in str(found)
        assert (await house.one("nodes", "clock")).verdict is Verdict.SKIPPED


class TestConfiguration:
    async def test_a_file_that_everybody_may_change(self, house: House) -> None:
        path = house.write()
        path.chmod(0o646)
        found = storage.config_file(path, house.config())
        assert (found[0].verdict, found[0].words) == (Verdict.FAULT, f"everybody may change {path}")

    async def test_a_secret_that_the_daemon_may_not_read(self, house: House) -> None:
        give_to_nobody(house.directory / "data")
        secret = house.directory / "ami.secret"
        secret.write_text("ami-s3cr3t")
        secret.chmod(0o600)
        house.settings["ami"]["secret"] = {"file": str(secret)}
        path = house.write()
        path.chmod(0o644)
        (found,) = [one for one in storage.config_file(path, house.config()) if one.verdict is Verdict.FAULT]
        assert found.words == f"the secret in {secret} can't be read by nobody, who runs the daemon"
        assert found.remedy == f"type chown nobody {secret}; chmod 600 {secret}"

    async def test_a_file_that_the_daemon_may_not_read(self, house: House) -> None:
        give_to_nobody(house.directory / "data")
        found = await house.fault("configuration", "file")
        assert found.words == f"{house.file} can't be read by nobody, who runs the daemon"
        assert found.remedy.startswith(f"type chgrp nobody {house.file}")
        os.chown(house.file, 0, NOBODY)
        assert storage.config_file(house.file, house.config())[0].verdict is Verdict.WARNING
