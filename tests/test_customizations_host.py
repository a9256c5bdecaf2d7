"""Customizations that another process runs, as another user: they behave as if the daemon ran them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from itgrix_kommo.config import Hook
from itgrix_kommo.customizations import Failed, frames
from itgrix_kommo.customizations.host import HookHost
from itgrix_kommo.customizations.process import PRINTED_KEPT
from tests.hook_files import demand_php, params, php, running, until

HOOK: Hook = "process_call_params"
PATIENT = {"timeout_s": 60, "php_workers": 1}


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Path]:
    """The socket of a host that runs."""
    path = tmp_path / "host.sock"
    async with hosting(path):
        yield path


@contextlib.asynccontextmanager
async def hosting(path: Path) -> AsyncIterator[None]:
    ready = asyncio.Event()
    task = asyncio.create_task(HookHost(path).run(ready.set))
    try:
        async with asyncio.timeout(20):
            await ready.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "actions"
    directory.mkdir()
    return directory


PHP = php("""
    echo "looking at ", $params["phone"];
    $params["call_result"] = "by PHP";
    return array("state" => "success", "data" => $params);
    """)
PYTHON = f"""
def {HOOK}(params):
    print("looking at", params["phone"])
    return {{"state": "success", "data": {{**params, "call_result": "by Python"}}}}
"""
PROGRAM = """
#!/bin/sh
echo "looking at $(grep -o '+7[0-9]*' | head -1)" >&2
echo '{"state": "success", "data": {"call_result": "by a program"}}'
"""


@pytest.mark.parametrize(
    ("name", "source", "result"),
    [(".php", PHP, "by PHP"), (".py", PYTHON, "by Python"), ("", PROGRAM, "by a program")],
    ids=["php", "python", "program"],
)
async def test_each_kind_answers_and_prints(host: Path, home: Path, name: str, source: str, result: str) -> None:
    demand_php("php-cgi")
    async with running(home, {f"{HOOK}{name}": source}, socket=str(host), **PATIENT) as customizer:
        for _ in range(2):
            verdict = await customizer.call(HOOK, params(HOOK))
            assert verdict.failure is None
            assert verdict.data is not None
            assert verdict.data["call_result"] == result
            assert verdict.printed == "looking at +79991234567"


TROUBLE = f"""
import os, subprocess, sys, time
from pathlib import Path

def {HOOK}(params):
    here = Path(__file__).parent
    match params["phone"]:
        case "pid": return {{"state": "success", "data": {{**params, "call_result": str(os.getpid())}}}}
        case "fail": raise ValueError("no such client")
        case "die": os._exit(3)
        case "talk": print("x" * 100_000)
        case "hang":
            child = subprocess.Popen(["sleep", "600"])
            (here / "pids").write_text(f"{{os.getpid()}} {{child.pid}}")
            print("before it hung", flush=True)
            time.sleep(600)
        case "large": return {{"state": "success", "data": {{"call_result": "x" * 2_000_000}}}}
    return {{"state": "success", "data": params}}
"""


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class TestTrouble:
    async def test_a_failure_is_told_in_the_files_own_words(self, host: Path, home: Path) -> None:
        async with running(home, {f"{HOOK}.py": TROUBLE}, socket=str(host), **PATIENT) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK, phone="fail"))
            assert verdict.failure == f"ValueError: no such client ({HOOK}.py, line 8)"
            assert "Traceback" in verdict.printed
            assert verdict.data is not None
            assert verdict.data["phone"] == "fail"

    async def test_a_file_that_ends_its_worker_has_a_new_one_at_the_next_call(self, host: Path, home: Path) -> None:
        async with running(home, {f"{HOOK}.py": TROUBLE}, socket=str(host), **PATIENT) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK, phone="die"))
            assert verdict.failure == "the python process ended during the call (exit status 3)"
            assert (await customizer.call(HOOK, params(HOOK))).failure is None

    async def test_what_is_too_late_is_killed_with_all_that_it_started(self, host: Path, home: Path) -> None:
        async with running(home, {f"{HOOK}.py": TROUBLE}, socket=str(host), **PATIENT) as customizer:
            assert (await customizer.call(HOOK, params(HOOK))).failure is None  # it has started
            call = asyncio.create_task(customizer.call(HOOK, params(HOOK, phone="hang")))
            await until(lambda: (home / "pids").is_file() and len((home / "pids").read_text().split()) == 2, 20)
            pids = [int(pid) for pid in (home / "pids").read_text().split()]
            assert all(alive(pid) for pid in pids)
            call.cancel()  # what a time-out does, without waiting for one
            await asyncio.wait([call])
            await until(lambda: not any(alive(pid) for pid in pids), 20)
            assert (await customizer.call(HOOK, params(HOOK))).failure is None

    async def test_a_time_out_is_told_with_what_was_printed_before(self, host: Path, home: Path) -> None:
        settings = {"php_workers": 1, "timeouts": {HOOK: 5}}
        async with running(home, {f"{HOOK}.py": TROUBLE}, socket=str(host), **settings) as customizer:
            assert (await customizer.call(HOOK, params(HOOK))).failure is None
            verdict = await customizer.call(HOOK, params(HOOK, phone="hang"))
            assert verdict.failure == "no answer within 5 s: killed, with all that it started"
            assert verdict.printed == "before it hung"

    async def test_what_is_printed_is_cut_and_counted(self, host: Path, home: Path) -> None:
        async with running(home, {f"{HOOK}.py": TROUBLE}, socket=str(host), **PATIENT) as customizer:
            printed = (await customizer.call(HOOK, params(HOOK, phone="talk"))).printed
            assert printed == "x" * PRINTED_KEPT + "\n[100001 bytes in all]"
            assert (await customizer.call(HOOK, params(HOOK))).printed == ""

    async def test_an_answer_that_is_too_large_is_a_failure(self, host: Path, home: Path) -> None:
        async with running(home, {f"{HOOK}.py": TROUBLE}, socket=str(host), **PATIENT) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK, phone="large"))
            assert verdict.failure is not None
            assert "the answer is larger than 1048576 bytes" in verdict.failure

    async def test_php_that_is_missing_is_told(self, host: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda *_args, **_more: None)
        async with running(home, {f"{HOOK}.php": PHP}, socket=str(host), **PATIENT) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK))
            assert verdict.failure == "there is no PHP on this machine: install php-cgi"


class TestAway:
    async def test_without_a_host_the_unchanged_data_goes_on_until_it_comes(self, tmp_path: Path, home: Path) -> None:
        path = tmp_path / "host.sock"
        async with running(home, {f"{HOOK}.py": TROUBLE}, socket=str(path), **PATIENT) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK))
            assert verdict.failure is not None
            assert f"the host of the customizations at {path} can't be reached" in verdict.failure
            assert verdict.data is not None
            async with hosting(path):
                assert (await customizer.call(HOOK, params(HOOK))).failure is None

    async def test_a_host_that_is_killed_takes_its_workers_along_and_is_found_again(
        self, tmp_path: Path, home: Path
    ) -> None:
        path = tmp_path / "host.sock"

        async def start() -> asyncio.subprocess.Process:
            command = [sys.executable, "-m", "itgrix_kommo", "hooks", "host", "--socket", str(path)]
            process = await asyncio.create_subprocess_exec(*command)
            await until(lambda: accepts(path), 60)
            return process

        process = await start()
        async with running(home, {f"{HOOK}.py": TROUBLE}, socket=str(path), **PATIENT) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK, phone="pid"))
            assert verdict.data is not None
            worker = int(verdict.data["call_result"])
            assert alive(worker)
            process.kill()
            await process.wait()
            await until(lambda: not alive(worker), 20)
            assert (await customizer.call(HOOK, params(HOOK))).failure is not None
            process = await start()
            assert (await customizer.call(HOOK, params(HOOK))).failure is None
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert not path.exists()


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as trial:
        return trial.connect_ex(str(path)) == 0


def mode_of(path: Path) -> int:
    return path.stat().st_mode


class TestSocket:
    async def test_is_for_the_owner_and_his_group(self, host: Path) -> None:
        assert stat.S_IMODE(mode_of(host)) == 0o660

    async def test_a_stale_one_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "host.sock"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        async with hosting(path):
            assert accepts(path)

    async def test_systemd_is_told_once_it_is_there(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(str(tmp_path / "notify"))
            systemd.settimeout(60)
            path = tmp_path / "host.sock"
            command = [sys.executable, "-m", "itgrix_kommo", "hooks", "host", "--socket", str(path)]
            environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
            process = await asyncio.create_subprocess_exec(*command, env=environment)
            assert await asyncio.to_thread(systemd.recv, 100) == b"READY=1"
            assert accepts(path)
            process.terminate()
            assert await process.wait() == 0

    async def test_one_that_can_not_be_made_ends_the_command(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "itgrix_kommo", "hooks", "host", "--socket", str(tmp_path / "no" / "socket")]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, told = await process.communicate()
        assert process.returncode == 1
        assert b"can't be made: No such file or directory: give a path in a directory of this user" in told


RUBBISH = {
    "nothing": b"",
    "half a head": b"k\0",
    "no kind": frames.encoded(frames.KIND, b"cobol"),
    "no text": frames.encoded(frames.KIND, b"\xff\xfe"),
    "a job first": frames.encoded(frames.JOB, b"/etc/passwd\n{}"),
    "endless": b"k" + struct.pack(">L", 2**32 - 1) + b"x" * 1000,
    "two kinds": frames.encoded(frames.KIND, b"python") * 2,
    "HTTP": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10,
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
async def test_rubbish_ends_its_connection_and_nothing_else(host: Path, home: Path, rubbish: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(host)
    writer.write(rubbish)
    writer.write_eof()
    async with asyncio.timeout(30):
        while await reader.read(1000):
            continue
    writer.close()
    async with running(home, {f"{HOOK}": PROGRAM}, socket=str(host), **PATIENT) as customizer:
        assert (await customizer.call(HOOK, params(HOOK))).failure is None


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "bytes at once, where"),
        (frames.encoded(b"z"), "is none: it says b'z'"),
        (frames.encoded(frames.ANSWER), ""),
        (b"", "ended during the call"),
    ],
)
async def test_another_program_at_the_socket_is_no_host(
    tmp_path: Path, home: Path, says: bytes, complaint: str
) -> None:
    path = tmp_path / "host.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(says)
        writer.close()

    async with (
        await asyncio.start_unix_server(answer, path),
        running(home, {f"{HOOK}.py": TROUBLE}, socket=str(path), **PATIENT) as customizer,
    ):
        verdict = await customizer.call(HOOK, params(HOOK))
        assert isinstance(verdict.answer, Failed)
        assert complaint in verdict.answer.words
        assert verdict.data is not None


async def test_too_many_connections_are_turned_away(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("itgrix_kommo.customizations.host.MOST_WORKERS", 1)
    _, first = await asyncio.open_unix_connection(host)
    reader, second = await asyncio.open_unix_connection(host)
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    first.close()
    second.close()
