"""A host in perfect health for the doctor to examine, in which a test then plants one fault."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from itgrix_kommo import doctor
from itgrix_kommo.config import Config
from itgrix_kommo.doctor import Finding, Verdict
from itgrix_kommo.sandbox import Sandbox
from tests.ami_server import SUCCESS, AmiServer, Headers, listing

NOBODY = 65534

CONTEXT = "Event: ListDialplan\r\nContext: from-internal\r\nExtension: _X.\r\nRegistrar: pbx_config\r\n"
UNKNOWN_CONTEXT = "Response: Error\r\nActionID: {id}\r\nMessage: Did not find context there\r\n\r\n"
VARSET = "Event: VarSet\r\nPrivilege: dialplan,all\r\nChannel: none\r\nUniqueid: none\r\nVariable: ITGRIX_DOCTOR\r\n"
COMMANDS = "".join(
    f"{name}: Does it.  (Priv: system,all)\r\n" for name in ("Filter", "Originate", "Setvar", "ShowDialPlan")
)


def phone(extension: str, *, state: str = "Not in use") -> str:
    return (
        f"Event: EndpointList\r\nObjectType: endpoint\r\nObjectName: {extension}\r\nAor: {extension}\r\n"
        f"Contacts: {extension}/sip:{extension}@192.0.2.1,\r\nDeviceState: {state}\r\nActiveChannels: 0\r\n"
    )


def set_variable(headers: Headers) -> str:
    return f"{SUCCESS}{VARSET}Value: {headers.get('Value', '')}\r\n\r\n"


def no_channel(_: Headers) -> str:
    return (
        "Response: Success\r\nActionID: {id}\r\nMessage: Originate successfully queued\r\n\r\n"
        "Event: OriginateResponse\r\nPrivilege: call,all\r\nActionID: {id}\r\nResponse: Failure\r\n"
        "Channel: Itgrix/doctor\r\nContext: \r\nExten: \r\nReason: 0\r\nUniqueid: <null>\r\n\r\n"
    )


def dialplan(headers: Headers) -> str:
    known = headers["Context"] == "from-internal"
    return listing("ShowDialPlanComplete", CONTEXT) if known else UNKNOWN_CONTEXT


def pong(ahead: float = 0.0) -> Callable[[Headers], str]:
    return lambda _: (
        f"Response: Success\r\nActionID: {{id}}\r\nPing: Pong\r\nTimestamp: {time.time() + ahead:.6f}\r\n\r\n"
    )


def furnish(asterisk: AmiServer) -> None:
    """Answers of a PBX with two phones, whose user may do everything."""
    asterisk.answers.update(
        {
            "Ping": pong(),
            "ListCommands": f"Response: Success\r\nActionID: {{id}}\r\n{COMMANDS}\r\n",
            "Setvar": set_variable,
            "Originate": no_channel,
            "ShowDialPlan": dialplan,
            "PJSIPShowEndpoints": listing("EndpointListComplete", phone("101"), phone("102")),
        }
    )


class House:
    """`settings` is the configuration as JSON; `directory` is everybody's to enter."""

    def __init__(self, directory: Path, asterisk: AmiServer, sandbox: Sandbox, port: int) -> None:
        self.directory = directory
        self.asterisk = asterisk
        self.sandbox = sandbox
        self.file = directory / "config.json"
        for name in ("data", "monitor", "actions"):
            (directory / name).mkdir()
        (directory / "monitor/call.wav").write_bytes(b"RIFF")
        self.settings: dict[str, Any] = {
            "ami": {"port": asterisk.port, "username": "itgrix", "secret": "ami-s3cr3t"},
            "kommo": {
                "base_url": sandbox.url,
                "access_token": sandbox.options.admin_token,
                "requests_per_second": 1,  # it leaves the doctor six, who so need not wait
                "timeout_s": 5,
            },
            "employees": [{"user_id": 9100001, "extension": "101"}, {"user_id": 9100002, "extension": "102"}],
            "customizations": {"directory": str(directory / "actions")},
            "recordings": {"directories": [str(directory / "monitor")], "public_url": f"http://127.0.0.1:{port}"},
            "http": {"port": port},
            "storage": {"url": f"sqlite+aiosqlite:///{directory}/data/itgrix.db"},
        }

    def config(self) -> Config:
        return Config.model_validate(self.settings)

    def write(self) -> Path:
        self.file.write_text(json.dumps(self.settings))
        self.file.chmod(0o640)
        return self.file

    async def examined(self, *, run_hooks: bool = False) -> list[doctor.Result]:
        return await doctor.examination(self.config(), self.write(), run_hooks=run_hooks)

    async def found(self, group: str, name: str, *, run_hooks: bool = False) -> list[Finding]:
        """What the lines of this name say."""
        patient = doctor.Patient(self.config(), self.write(), run_hooks=run_hooks)
        try:
            results = await doctor.examine([check for check in doctor.checks(patient) if check.group == group])
        finally:
            await patient.dismiss()
        found = [one.finding for one in results if one.name == name]
        assert found, f"there is no line {group}: {name}"
        return found

    async def one(self, group: str, name: str, *, run_hooks: bool = False) -> Finding:
        (found,) = await self.found(group, name, run_hooks=run_hooks)
        return found

    async def fault(self, group: str, name: str, *, run_hooks: bool = False) -> Finding:
        """The one line of this name that is a fault."""
        found = [one for one in await self.found(group, name, run_hooks=run_hooks) if one.verdict is Verdict.FAULT]
        assert len(found) == 1, found
        return found[0]

    async def warning(self, group: str, name: str) -> Finding:
        found = [one for one in await self.found(group, name) if one.verdict is Verdict.WARNING]
        assert len(found) == 1, found
        return found[0]


def certificate(
    directory: Path, *, names: str = "DNS:pbx.example.com", begin: str = "", end: str = ""
) -> tuple[Path, Path]:
    """A certificate of its own with its key, good for two days, or from `begin` to `end` (``YYYYMMDDHHMMSSZ``)."""
    directory.mkdir(exist_ok=True)
    key, request, made = (directory / name for name in ("key.pem", "request.pem", "certificate.pem"))
    settings = directory / "openssl.cnf"
    settings.write_text(
        "[ca]\ndefault_ca = here\n[here]\nnew_certs_dir = .\ndatabase = ./index\nserial = ./serial\n"
        "default_md = sha256\npolicy = any\nx509_extensions = names\n[any]\ncommonName = supplied\n"
        f"[names]\nsubjectAltName = {names}\n"
    )
    (directory / "index").write_text("")
    (directory / "serial").write_text("01\n")
    subprocess.run(
        ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=pbx",
         "-keyout", str(key), "-out", str(request)],
        check=True, capture_output=True,
    )  # fmt: skip
    times = ["-startdate", begin, "-enddate", end] if begin else ["-days", "60"]
    subprocess.run(
        ["openssl", "ca", "-batch", "-selfsign", "-notext", "-config", str(settings), "-keyfile", str(key),
         "-in", str(request), "-out", str(made), *times],
        check=True, capture_output=True, cwd=directory,
    )  # fmt: skip
    key.chmod(0o600)
    return made, key


def give_to_nobody(*paths: Path) -> None:
    for path in paths:
        os.chown(path, NOBODY, NOBODY)


def folder() -> Iterator[Path]:
    """Outside of pytest's own folders, which nobody but their owner may enter."""
    made = Path(tempfile.mkdtemp(prefix="itgrix-doctor-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)
