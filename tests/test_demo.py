"""The demo: it says whether what Kommo holds is true, ends by itself, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from itgrix_kommo.storage.trace import read_trace, write_trace
from tests.demo.calls import KNOWN, PLACED
from tests.demo.ledger import Contact, Held, Ledger, compare
from tests.demo.pbx import TRACE

WITHIN = 60.0


def true_ledger() -> Ledger:
    """What Kommo must hold."""
    calls = [(placed.client, expected) for placed in PLACED for expected in placed.expected]
    held = [
        Held(number, call.direction, client, call.result, call.status, round(call.talk), call.user_id, "contact")
        for number, (client, call) in enumerate(calls)
    ]
    strangers = {f"Contact {placed.client}" for placed in PLACED if placed.client} - {f"Contact {one}" for one in KNOWN}
    contacts = [Contact(name, ()) for name in [*KNOWN.values(), *sorted(strangers)]]
    return Ledger(held, contacts, 0, 0, {})


class TestCompare:
    def test_what_was_placed(self) -> None:
        verdict = compare(PLACED, true_ledger())
        assert (verdict.wrong, len(verdict.right)) == ([], 15)

    def test_nothing_at_all(self) -> None:
        verdict = compare(PLACED, Ledger([], [], 0, 0, {}))
        assert not verdict.right
        assert sum("must be there, and is not" in line for line in verdict.wrong) == 15
        assert sum("is missing" in line for line in verdict.wrong) == 14

    @pytest.mark.parametrize(
        "change",
        [
            {"direction": "out"},
            {"result": "No answer"},
            {"status": 6},
            {"user_id": 0},
            {"duration": 0},
            {"duration": 60},
            {"phone": "+70000000000"},
        ],
    )
    def test_one_call_that_is_otherwise(self, change: dict[str, object]) -> None:
        ledger = true_ledger()
        ledger.calls[0] = replace(ledger.calls[0], **change)  # type: ignore[arg-type]  # any field
        verdict = compare(PLACED, ledger)
        assert 0 not in verdict.right
        assert len(verdict.right) == 14
        assert [line.partition(":")[0] for line in verdict.wrong] == [PLACED[0].story, ledger.calls[0].phone]

    def test_a_call_twice(self) -> None:
        ledger = true_ledger()
        ledger.calls.append(replace(ledger.calls[0], note_id=99))
        (line,) = compare(PLACED, ledger).wrong
        assert "is there, and must not be so" in line

    def test_a_call_between_colleagues(self) -> None:
        ledger = true_ledger()
        ledger.calls.append(Held(99, "out", "105", "Talked", 4, 1, 0, "contact"))
        (line,) = compare(PLACED, ledger).wrong
        assert line.startswith("105: ")

    def test_a_client_twice(self) -> None:
        ledger = true_ledger()
        ledger.contacts.append(ledger.contacts[-1])
        (line,) = compare(PLACED, ledger).wrong
        assert line.startswith("contact Contact +")


def _as_from_a_terminal() -> None:
    """Who runs the tests in the background has Ctrl-C ignored by all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.demo", *arguments,
        cwd=Path(__file__).parent.parent, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        preexec_fn=_as_from_a_terminal,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def told(process: asyncio.subprocess.Process, words: str) -> str:
    """All the output up to the line with these words."""
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(WITHIN):
        while not lines or words not in lines[-1]:
            line = (await process.stdout.readline()).decode()
            assert line, "".join(lines)
            lines.append(line)
    return "".join(lines)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.fixture(autouse=True)
def _demos_keep_their_logs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


class TestDemo:
    async def test_recorded_calls(self) -> None:
        async with running("--traces", "--speed", "10") as process:
            async with asyncio.timeout(WITHIN):
                out = (await process.communicate())[0].decode()
        assert process.returncode == 0, out
        assert "✓ Kommo holds all 15 calls as they were placed, and nothing else" in out
        assert "healthz answers 200" in out
        assert "\x1b" not in out
        for placed in PLACED:
            assert out.count(f"{placed.story} → ") == len(placed.expected), out

    async def test_calls_that_kommo_does_not_hold(self, tmp_path: Path) -> None:
        """A trace that stops in the middle: exit status 1, and the calls that are missing by name."""
        async with running("--traces", "--speed", "10", "--trace", str(half_a_trace(tmp_path))) as process:
            async with asyncio.timeout(WITHIN):
                out = (await process.communicate())[0].decode()
        assert process.returncode == 1, out
        assert "✗ Kommo does not hold what was placed" in out
        assert f"{PLACED[-1].story}: a call out, Busy" in out

    async def test_kept_until_ctrl_c_and_then_all_gone(self) -> None:
        async with running("--traces", "--speed", "10", "--keep") as process:
            out = await told(process, "Ctrl-C ends it")
            found = re.search(r"pid (\d+)", out)
            assert found is not None, out
            assert is_there(int(found[1]))
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(WITHIN):
                assert await process.wait() == 0
            assert not is_there(int(found[1]))

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    async def test_stopped_in_the_middle_leaves_nothing(self, number: signal.Signals) -> None:
        async with running("--traces", "--speed", "0.1") as process:
            out = await told(process, "at a time")
            found = re.search(r"pid (\d+)", out)
            assert found is not None, out
            process.send_signal(number)
            assert "stopped" in await told(process, "stopped")
            async with asyncio.timeout(WITHIN):
                assert await process.wait() == 130
            assert not is_there(int(found[1]))

    @pytest.mark.lab
    async def test_calls_on_a_real_asterisk(self) -> None:
        async with running() as process:
            async with asyncio.timeout(2 * WITHIN):
                out = (await process.communicate())[0].decode()
        assert process.returncode == 0, out
        assert "a real Asterisk 22" in out
        assert "NOTHING BELOW IS A LIVE CALL" not in out
        assert "✓ Kommo holds all 15 calls as they were placed, and nothing else" in out

    async def test_without_an_asterisk_it_says_so_loudly(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # A machine where no root can be built: there is no debootstrap, no apt and no cache.
        monkeypatch.setenv("ITGRIX_CACHE", str(tmp_path))
        monkeypatch.setenv("PATH", str(bare_path(tmp_path)))
        async with running("--speed", "10") as process:
            async with asyncio.timeout(WITHIN):
                out = (await process.communicate())[0].decode()
        assert process.returncode == 0, out
        assert "There is no real Asterisk here" in out
        assert "NOTHING BELOW IS A LIVE CALL" in out


def half_a_trace(directory: Path) -> Path:
    recorded = list(read_trace(TRACE))
    write_trace(directory / "half.trace", recorded[: len(recorded) // 2])
    return directory / "half.trace"


def bare_path(directory: Path) -> Path:
    """A directory of programs with `setpriv` alone, which starts the daemon."""
    programs = directory / "bin"
    programs.mkdir()
    (programs / "setpriv").symlink_to("/usr/bin/setpriv")
    return programs
