"""The doctor on a real Asterisk: what it provokes comes back, what manager.conf withholds is named, nobody notices."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo import doctor
from itgrix_kommo.config import Config
from itgrix_kommo.doctor import Finding, Verdict
from tests.lab.stage import Lab
from tests.test_daemon_lab import Host, a_host, talked

pytestmark = pytest.mark.lab

USERS = {
    "noread": ("cdr", "system,call,originate,reporting"),
    "nowrite": ("system,call,dialplan,agent,cel", "agent"),
    "nooriginate": ("system,call,dialplan,agent,cel", "system,call,reporting"),
}


@asynccontextmanager
async def managers(lab: Lab) -> AsyncIterator[None]:
    """Users of the manager who lack this or that, beside the daemon's."""
    file = lab.pair.pbx.folder / "etc/manager.conf"
    before = file.read_text()
    users = (
        f"[{name}]\nsecret = {name}-secret\nread = {read}\nwrite = {write}\n" for name, (read, write) in USERS.items()
    )
    file.write_text(before + "\n" + "\n".join(users))
    try:
        await lab.seen.pbx.command("manager reload")
        yield
    finally:
        file.write_text(before)
        await lab.seen.pbx.command("manager reload")


async def lines(host: Host, **changes: Any) -> dict[str, Finding]:
    """The lines about Asterisk, by name; the first of each."""
    config = Config.model_validate({**host.config, **changes})
    patient = doctor.Patient(config, host.file)
    try:
        results = await doctor.examine([one for one in doctor.checks(patient) if one.group == "Asterisk"])
    finally:
        await patient.dismiss()
    return {one.name: one.finding for one in reversed(results)}


async def check(host: Host) -> tuple[int, dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "itgrix_kommo", "check", "--json", "--config", str(host.file),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out)


async def test_a_whole_healthy_host_with_its_daemon(lab: Lab, tmp_path: Path) -> None:
    async with a_host(lab, tmp_path) as host:
        (tmp_path / "actions").mkdir()
        host.config["customizations"] = {"directory": str(tmp_path / "actions")}
        (lab.pair.pbx.outside(lab.pair.pbx.monitor) / "doctor.wav").write_bytes(b"RIFF")
        await host.start()
        await host.until(lambda: "account_in_order" in host.log())
        status, found = await check(host)
        assert status == 0, found
        told = {(one["group"], one["name"]): one for one in found["checks"]}
        assert {key for key, one in told.items() if one["verdict"] == "warning"} <= {
            ("configuration", "file"),  # addresses without TLS, on loopback
            ("web", "public link"),
        }
        for key in (("daemon", "captures"), ("daemon", "registers"), ("Asterisk", "events"), ("Kommo", "token")):
            assert told[key]["verdict"] == "ok", told[key]
        assert told["web", "public link"]["words"].endswith("leads to this daemon")
        assert told["Asterisk", "employees"]["words"] == "3 extensions of 3 with a phone that is registered"
        # Nobody noticed: no call, no breach of the limit beside the daemon's own requests, and calls go on as before.
        assert not host.account.calls
        assert not host.sandbox.audit.breaches
        assert (await host.health())[1]["live_calls"] == 0
        await talked(lab)
        await host.calls(1)
        await host.stop()
        assert '"error"' not in host.log()


async def test_what_manager_conf_withholds(lab: Lab, tmp_path: Path) -> None:
    async with a_host(lab, tmp_path) as host, managers(lab):
        host.file.write_text(json.dumps(host.config))
        ami = host.config["ami"]

        found = await lines(host, ami={**ami, "username": "noread", "secret": "noread-secret"})
        assert found["login"].verdict is Verdict.OK
        assert found["events"].verdict is Verdict.FAULT
        assert "class call and dialplan and system do not come, though" in found["events"].words
        assert "give [noread] in manager.conf read = system,call,dialplan,agent,cel" in found["events"].remedy

        found = await lines(host, ami={**ami, "username": "nowrite", "secret": "nowrite-secret"})
        assert found["rights"].verdict is Verdict.FAULT
        for right in ("call", "originate", "reporting", "system"):
            assert f"{right}: " in found["rights"].words
        assert found["filter"].verdict is Verdict.WARNING
        assert "could not be provoked" in found["events"].words
        assert "can't be seen" in found["dialplan"].words
        assert found["employees"].verdict is Verdict.WARNING

        found = await lines(host, ami={**ami, "username": "nooriginate", "secret": "nooriginate-secret"})
        assert found["rights"].words == "write lacks originate: click-to-call can dial nobody"

        found = await lines(host, ami={**ami, "secret": "another-secret"})
        assert "does not let 'itgrix' in" in found["login"].words
        assert found["events"].verdict is Verdict.SKIPPED


async def test_phones_and_contexts_that_are_not_there(lab: Lab, tmp_path: Path) -> None:
    async with a_host(lab, tmp_path) as host:
        host.file.write_text(json.dumps(host.config))
        await lab.pair.switch(103, on=False)
        try:
            employees = [*host.config["employees"], {"user_id": 9100009, "extension": "199"}]
            patient = doctor.Patient(
                Config.model_validate({**host.config, "employees": employees, "originate": {"context": "nowhere"}}),
                host.file,
            )
            try:
                results = await doctor.examine(
                    [one for one in doctor.checks(patient) if one.name in {"employees", "dialplan"}]
                )
            finally:
                await patient.dismiss()
        finally:
            await lab.pair.switch(103, on=True)
    words = [one.finding.words for one in results]
    assert "the dialplan has no context nowhere, where click-to-call dials the client" in words
    assert "extension 199 (user 9100009) has no phone: Asterisk knows no PJSIP/199" in words
    assert "extension 103 (user 9100003): PJSIP/103 is not registered (Unavailable)" in words
    assert "2 extensions of 4 with a phone that is registered" in words
