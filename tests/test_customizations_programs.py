"""Any program: JSON on its stdin, JSON on its stdout, one process for each call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.config import Hook
from itgrix_kommo.customizations import Verdict
from tests.hook_files import ended, number_in, params, running, runs, until, write

HOOK: Hook = "process_client_phone"
OK = """echo '{"state": "success", "data": {"phone": "123"}}'"""


def sh(body: str) -> str:
    return f"#!/bin/sh\n{body}\n"


async def asked(directory: Path, source: str, name: str = f"{HOOK}.sh", **settings: Any) -> Verdict:
    async with running(directory, {name: source}, php_workers=1, **settings) as customizer:
        return await customizer.call(HOOK, params(HOOK), call_id="1.1")


class TestPrograms:
    @pytest.mark.parametrize("name", [HOOK, f"{HOOK}.sh"])
    async def test_read_and_write_json(self, tmp_path: Path, name: str) -> None:
        verdict = await asked(tmp_path, """
            #!/usr/bin/env python3
            import json, os, sys
            params = json.load(sys.stdin)
            print("to the log", os.getcwd(), file=sys.stderr)
            print(json.dumps({"state": "success", "data": {"phone": "8" + params["phone"][-10:]}}))
            """, name)  # fmt: skip
        assert (verdict.data, verdict.failure) == ({"phone": "89991234567"}, None)
        assert verdict.printed == f"to the log {tmp_path}"

    async def test_need_not_read_their_input(self, tmp_path: Path) -> None:
        assert (await asked(tmp_path, sh(OK))).data == {"phone": "123"}

    async def test_may_open_their_input_by_name_and_twice(self, tmp_path: Path) -> None:
        body = f"grep -q call_full /dev/stdin && grep -q call_full /dev/stdin && {OK}"
        assert (await asked(tmp_path, sh(body))).data == {"phone": "123"}

    async def test_may_leave_something_running(self, tmp_path: Path) -> None:
        """What goes on in the background holds stdout open; the answer is there all the same."""
        verdict = await asked(tmp_path, sh(f"sleep 30 & echo $! > child; {OK}"))
        assert verdict.data == {"phone": "123"}
        assert verdict.seconds < 3
        child = await number_in(tmp_path / "child")
        assert runs(child)
        # Nobody else ends it.
        killer = await asyncio.create_subprocess_exec("kill", str(child))
        await killer.wait()
        await ended(child)

    async def test_take_effect_at_the_next_call_when_edited(self, tmp_path: Path) -> None:
        async with running(tmp_path, {HOOK: sh(OK)}) as customizer:
            assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "123"}
            write(tmp_path / HOOK, sh(OK.replace("123", "456")))
            assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "456"}

    async def test_see_a_clean_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ITGRIX_SECRET", "kommo-token-77")
        printed = (await asked(tmp_path, sh(f"env >&2; {OK}"))).printed
        names = {line.partition("=")[0] for line in printed.splitlines()}
        assert {"PATH", "LANG"} <= names <= {"HOME", "LANG", "PATH", "PWD", "OLDPWD", "SHLVL", "TZ", "_"}


class TestBadPrograms:
    @pytest.mark.parametrize(
        ("source", "words"),
        [
            (sh(""), "no answer"),
            (sh("echo rubbish"), "no JSON"),
            (sh(f"echo working; {OK}"), "no JSON"),
            (sh(f"{OK}; exit 3"), f"{HOOK}.sh failed (exit status 3)"),
            (sh("kill -9 $$"), f"{HOOK}.sh failed (killed by signal 9)"),
            (sh("""echo '{"state": "success", "data": {"phone": NaN}}'"""), "NaN is no number"),
            (sh('printf \'{"state": "\\377"}\''), "no valid UTF-8"),
            (sh("head -c 52428800 /dev/zero"), "larger than 1048576 bytes"),
            (sh("for i in 1 2 3 4 5 6 7; do s=$s[[[[[[[[[[; e=$e]]]]]]]]]]; done; echo $s$e"), "deeper than 64 levels"),
            (OK, "its first line names no interpreter"),
            ("#!/no/such/shell\n", "the interpreter of its first line does not exist"),
        ],
    )
    async def test_fail_in_words_and_the_unchanged_data_goes_on(self, tmp_path: Path, source: str, words: str) -> None:
        verdict = await asked(tmp_path, source)
        assert verdict.failure is not None
        assert words in verdict.failure
        assert verdict.data == {"phone": "+79991234567"}

    async def test_that_are_being_written_say_so(self, tmp_path: Path) -> None:
        path = write(tmp_path / HOOK, sh(OK))
        with path.open("a"):
            async with running(tmp_path) as customizer:
                verdict = await customizer.call(HOOK, params(HOOK))
        assert verdict.failure == f"{HOOK} can't be started: it is being written: close it first"

    async def test_that_may_no_longer_be_run_say_so(self, tmp_path: Path) -> None:
        async with running(tmp_path, {HOOK: sh(OK)}) as customizer:
            (tmp_path / HOOK).chmod(0o644)
            verdict = await customizer.call(HOOK, params(HOOK))
        assert verdict.failure == f"{HOOK} can't be started: Permission denied"

    async def test_fifty_megabytes_on_stderr_are_read_and_dropped(self, tmp_path: Path) -> None:
        verdict = await asked(tmp_path, sh(f"head -c 52428800 /dev/zero | tr '\\0' x >&2; {OK}"))
        assert verdict.data == {"phone": "123"}
        assert verdict.printed.endswith("[52428800 bytes in all]")

    @pytest.mark.parametrize(
        "hanging",
        ["sleep 60", "trap '' TERM HUP INT; sleep 60; sleep 60", "yes", "sleep 60 & wait", "(sleep 60)"],
    )
    async def test_what_hangs_is_killed_with_all_that_it_started(self, tmp_path: Path, hanging: str) -> None:
        source = sh(f"(trap '' TERM; echo $$ > pid; sleep 60) & sh -c 'echo $$ > child; exec sleep 60' & {hanging}")
        async with running(tmp_path, {HOOK: source}, timeout_s=1) as customizer:
            call = asyncio.create_task(customizer.call(HOOK, params(HOOK)))
            pids = [await number_in(tmp_path / "pid"), await number_in(tmp_path / "child")]
            assert (await call).failure == "no answer within 1 s: killed, with all that it started"
            for pid in pids:
                await ended(pid)

    async def test_what_still_runs_is_killed_when_all_is_stopped(self, tmp_path: Path) -> None:
        async with running(tmp_path, {HOOK: sh("echo $$ > pid; sleep 60")}, timeout_s=60) as customizer:
            call = asyncio.create_task(customizer.call(HOOK, params(HOOK)))
            waiting = [asyncio.create_task(customizer.call(HOOK, params(HOOK))) for _ in range(4)]
            pid = await number_in(tmp_path / "pid")
            await customizer.stop()
            assert (
                await call
            ).failure == f"{HOOK} failed (killed by signal 9): what it printed on stderr is in the log"
            failures = {(await other).failure for other in waiting}
            assert "the customizations are being stopped" in failures
            await until(lambda: not runs(pid))
