"""`itgrix-kommo check` as an admin or a script meets it: a process, its lines, its exit status."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp.test_utils import unused_port

from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from tests.ami_server import AmiServer
from tests.doctor_house import House, certificate, folder, furnish, give_to_nobody

WITHIN = 60.0


class Done(NamedTuple):
    status: int
    out: str
    err: str


# Nobody may not even enter the directories in which this Python lies: what is needed is imported before.
AS_NOBODY = """
import os, sys
import aiosqlite, encodings.idna, rich.status, sqlalchemy.dialects.sqlite.aiosqlite
from itgrix_kommo.cli import main as cli
os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
cli.main()
"""


async def check(*arguments: str | Path, as_nobody: bool = False, **variables: str) -> Done:
    program = ["-c", AS_NOBODY] if as_nobody else ["-m", "itgrix_kommo"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, "check", *map(str, arguments),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, **variables},
    )  # fmt: skip
    async with asyncio.timeout(WITHIN):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture
def directory() -> Iterator[Path]:
    yield from folder()


@pytest.fixture
async def house(directory: Path) -> AsyncIterator[House]:
    async with AmiServer() as asterisk, Sandbox(SandboxOptions()).serve() as sandbox:
        furnish(asterisk)
        yield House(directory, asterisk, sandbox, unused_port())


async def test_a_host_in_health_is_status_0_with_a_line_for_each_thing(house: House) -> None:
    done = await check("--config", house.write())
    assert (done.status, done.err) == (0, ""), done
    for line in (
        "Asterisk\n",
        "  ✓ login: itgrix is let in\n",
        "  ✓ dialplan: the context from-internal exists",
        "  ✓ employees: 2 extensions of 2 with a phone that is registered\n",
        "  ✓ phone field: contacts have PHONE (801) with WORK\n",
        "  ! runs: it does not run: nobody answers at",
        "      → type systemctl start itgrix_amo",
        "  · autodistribution: not in the dialplan",
    ):
        assert line in done.out
    assert "faults" not in done.out.splitlines()[-1]
    assert "\x1b" not in done.out


async def test_a_broken_host_is_status_1_and_every_fault_has_its_remedy_beneath(house: House) -> None:
    await house.asterisk.shut()
    house.settings["kommo"]["access_token"] = "a-token-that-is-none"
    house.settings["recordings"]["directories"] = ["/mnt/pbx/monitor"]
    done = await check("--config", house.write())
    assert (done.status, done.err) == (1, ""), done
    lines = done.out.splitlines()
    faults = [at for at, line in enumerate(lines) if line.startswith("  ✗")]
    assert len(faults) == 3, done.out
    assert all(lines[at + 1].startswith("      → ") for at in faults)
    assert "faults: 3" in lines[-1]


async def test_json_is_one_document(house: House) -> None:
    house.settings["business"] = {"pipeline_id": 77}
    done = await check("--json", "--config", house.write())
    assert done.status == 1
    found = json.loads(done.out)
    assert found["verdict"] == "fault"
    assert found["counts"]["fault"] == 1
    (fault,) = [one for one in found["checks"] if one["verdict"] == "fault"]
    assert fault == {
        "group": "Kommo",
        "name": "pipeline",
        "verdict": "fault",
        "words": "the account has no pipeline 77, or it is archived",
        "remedy": "correct business.pipeline_id and business.status_id, or leave them null for the account's main ones",
    }


async def test_a_terminal_that_knows_ascii_alone(house: House) -> None:
    house.settings["customizations"]["directory"] = str(house.directory / "хуки")
    done = await check("--config", house.write(), PYTHONIOENCODING="ascii")
    assert done.status == 0, done
    assert "  + login: itgrix is let in\n" in done.out
    assert "      -> type systemctl start itgrix_amo" in done.out
    assert "\\u0445\\u0443\\u043a\\u0438: no such directory" in done.out


async def test_a_configuration_that_can_not_be_used(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    ami = '{"port": 70000, "username": "itgrix", "secret": "itgrix-secret"}'
    path.write_text(f'{{"ami": {ami}, "bussiness": {{}}, "http": {{"admin": {{"password": 5}}}}}}')
    done = await check("--config", path)
    assert done.status == 1
    assert (
        "  ✗ file: http.admin.password: a number where a secret is wanted\n"
        '      → give text, {"credential": "name"}, {"file": "/path"} or {"env": "NAME"}\n'
    ) in done.out
    assert "  ✗ file: ami.port: 70000 is no TCP port\n      → give a whole number from 1 to 65535\n" in done.out
    assert '  ✗ file: bussiness: unknown key\n      → did you mean "business"?\n' in done.out
    assert "it needs a configuration that can be used" in done.out
    missing = await check("--config", tmp_path / "none.json", "--json")
    assert missing.status == 1
    assert json.loads(missing.out)["checks"][0]["remedy"] == "write one with `itgrix-kommo config init`"


async def test_who_may_not_look_is_told_so(house: House) -> None:
    """An ordinary user sees what he may see; what he may not is a line of its own, and no failure of the doctor."""
    hidden = house.directory / "hidden"
    (hidden / "monitor").mkdir(parents=True)
    hidden.chmod(0o700)
    house.settings["recordings"]["directories"] = [str(hidden / "monitor")]
    house.settings["customizations"]["enabled"] = False
    done = await check("--config", house.write(), as_nobody=True)
    assert done.status == 1
    assert f"{house.file}: may not be read by this user" in done.out
    house.file.chmod(0o644)
    done = await check("--config", house.file, as_nobody=True)
    assert done.status == 1
    assert (
        f"✗ directory: {hidden}/monitor can't be looked at by nobody\n      → type sudo itgrix-kommo check" in done.out
    )
    assert "✓ login: itgrix is let in" in done.out
    assert "the examination itself failed" not in done.out
    give_to_nobody(house.directory / "data")
    done = await check("--config", house.file, as_nobody=True)
    assert f"✗ directory: {hidden}/monitor can't be reached by nobody, who runs the daemon" in done.out, done.out


async def test_misuse_is_status_2() -> None:
    done = await check("--fast")
    assert done.status == 2
    assert "Usage" in done.err


async def test_no_secret_is_shown_whoever_quotes_it(house: House) -> None:
    """Where a login fails, what it was tried with stands in many an error's text."""
    house.asterisk.answers["Login"] = (
        "Response: Error\r\nActionID: {id}\r\nMessage: ami-s3cr3t is wrong \x1b[2J for itgrix\r\n\r\n"
    )
    house.settings["kommo"]["access_token"] = "kommo-s3cr3t-token"
    house.settings["http"]["admin"] = {"password": "admin-s3cr3t"}
    url = f"postgresql+asyncpg://itgrix:db-s3cr3t@127.0.0.1:{unused_port()}/cdr"
    house.settings["database"] = {"url": url}
    house.settings["recordings"]["link_secret"] = "link-s3cr3t-of-some-length"
    for options in ((), ("--json",)):
        done = await check("--config", house.write(), *options)
        assert done.status == 1
        assert "s3cr3t" not in done.out + done.err
        assert "\x1b" not in done.out
        assert "[masked] is wrong" in done.out


async def test_what_hangs_for_ever_keeps_nobody(house: House, directory: Path) -> None:
    made, key = certificate(directory / "tls")
    made.unlink()
    os.mkfifo(made)  # whoever opens it waits for ever, as on a mount that has died
    house.settings["http"] |= {"tls_certificate": str(made), "tls_key": str(key)}
    done = await check("--config", house.write())
    assert done.status == 1
    assert "  ✗ certificate: no answer within 5 s\n" in done.out
    assert "✓ login: itgrix is let in" in done.out
