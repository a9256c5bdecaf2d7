"""Python files in waiting Python processes."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.config import Hook
from itgrix_kommo.customizations import Verdict
from tests.hook_files import ended, number_in, params, running, runs, write

HOOK: Hook = "process_client_phone"
OK = "{'state': 'success', 'data': {'phone': '123'}}"


async def asked(directory: Path, source: str, **changes: Any) -> Verdict:
    async with running(directory, {f"{HOOK}.py": source}) as customizer:
        return await customizer.call(HOOK, params(HOOK, **changes), call_id="1.1")


class TestFiles:
    async def test_a_plain_function(self, tmp_path: Path) -> None:
        verdict = await asked(tmp_path, """
            def process_client_phone(params):
                assert params["call_full"]["channel"]["type"] == "incoming"
                return {"state": "success", "data": {"phone": "8" + params["phone"][-10:]}}
            """)  # fmt: skip
        assert (verdict.data, verdict.failure) == ({"phone": "89991234567"}, None)

    async def test_a_coroutine_function(self, tmp_path: Path) -> None:
        source = f"""
            import asyncio
            async def {HOOK}(params):
                await asyncio.sleep(0)
                return {OK}
            """
        async with running(tmp_path, {f"{HOOK}.py": source}, php_workers=1) as customizer:
            for _ in range(3):
                assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "123"}

    async def test_what_is_printed_goes_to_the_log(self, tmp_path: Path) -> None:
        verdict = await asked(tmp_path, f"""
            import os, subprocess, sys
            def {HOOK}(params):
                print("печать", os.getcwd(), sys.stdin.read())
                print("err", file=sys.stderr)
                os.write(1, b"raw ")
                subprocess.run(["echo", "of a child"])
                return {OK}
            """)  # fmt: skip
        assert verdict.data == {"phone": "123"}
        for text in ("печать", str(tmp_path), "err", "raw", "of a child"):
            assert text in verdict.printed

    async def test_neighbours_are_imported_from_the_files_own_directory(self, tmp_path: Path) -> None:
        write(tmp_path / "phones.py", "def short(phone): return phone[-4:]\n")
        verdict = await asked(tmp_path, f"""
            from phones import short
            def {HOOK}(params):
                return {{"state": "success", "data": {{"phone": short(params["phone"])}}}}
            """)  # fmt: skip
        assert verdict.data == {"phone": "4567"}

    async def test_modules_stay_loaded_until_one_is_edited(self, tmp_path: Path) -> None:
        write(tmp_path / "phones.py", "tail = '1'\n")
        source = f"""
            from phones import tail
            calls = 0
            def {HOOK}(params):
                global calls
                calls += 1
                return {{"state": "success", "data": {{"phone": "11" + tail + str(calls)}}}}
            """
        async with running(tmp_path, {f"{HOOK}.py": source}, php_workers=1) as customizer:

            async def phone() -> object:
                data = (await customizer.call(HOOK, params(HOOK))).data
                return data and data["phone"]

            assert [await phone(), await phone()] == ["1111", "1112"]
            write(tmp_path / "phones.py", "tail = '3'\n")  # the same second, the same size
            assert [await phone(), await phone()] == ["1131", "1132"]
            write(tmp_path / f"{HOOK}.py", source.replace('"11"', '"22"'))
            assert await phone() == "2231"
        assert not (tmp_path / "__pycache__").exists()

    async def test_files_share_no_names(self, tmp_path: Path) -> None:
        source = "def answer(): return {result}\ndef {hook}(params): return {{'state': 'success', 'data': answer()}}\n"
        files = {
            f"{HOOK}.py": source.format(hook=HOOK, result={"phone": "123"}),
            "need_registration.py": source.format(hook="need_registration", result={"result": False}),
        }
        async with running(tmp_path, files, php_workers=1) as customizer:
            for _ in range(2):
                assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "123"}
                verdict = await customizer.call("need_registration", params("need_registration"))
                assert verdict.data == {"result": False}


class TestBadFiles:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("return None", "it returned null"),
            ("return {'phone': '1'}", "state: missing"),
            ("return params['fone']", "KeyError: 'fone' (process_client_phone.py, line 2)"),
            ("import os.missing", "ModuleNotFoundError"),
            ("import sys; sys.exit(3)", "it ended by sys.exit(3) before it returned an answer"),
            ("raise KeyboardInterrupt", "KeyboardInterrupt"),
            ("return {'state': 'success', 'data': {'x': float('nan')}}", "not JSON compliant"),
            ("return {'state': 'success', 'data': {'x': object()}}", "type object is not JSON serializable"),
            ("return {'state': 'success', 'data': {'phone': chr(0xd800)}}", "no valid UTF-8"),
            ("a = []; a.append(a); return a", "Circular reference"),
            ("a = []\n    for _ in range(100): a = [a]\n    return a", "deeper than 64 levels"),
            ("a = []\n    for _ in range(100_000): a = [a]\n    return a", "RecursionError"),
            ("return process_client_phone(params)", "RecursionError"),
            ("return {'state': 'success', 'data': {'x': 'x' * 50_000_000}}", "larger than 1048576 bytes"),
            ("import os; os._exit(3)", "the python process ended during the call (exit status 3)"),
            ("import os; os.kill(os.getpid(), 11)", "the python process ended during the call (killed by signal 11)"),
            ("import sys; sys.stdout.close(); return {}", "the python process ended during the call (exit status 1)"),
            ("yield 1", "type generator is not JSON serializable"),
        ],
    )
    async def test_fail_in_words_and_the_unchanged_data_goes_on(self, tmp_path: Path, body: str, words: str) -> None:
        files = {
            f"{HOOK}.py": f"def {HOOK}(params):\n    {body}\n",
            "need_registration.py": (
                "def need_registration(params): return {'state': 'success', 'data': {'result': False}}\n"
            ),
        }
        async with running(tmp_path, files, php_workers=1) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK))
            assert verdict.failure is not None
            assert words in verdict.failure
            assert verdict.data == {"phone": "+79991234567"}
            after = await customizer.call("need_registration", params("need_registration"))
            assert (after.data, after.failure) == ({"result": False}, None)

    async def test_a_syntax_error_is_told_with_its_line_until_it_is_mended(self, tmp_path: Path) -> None:
        async with running(tmp_path, {f"{HOOK}.py": "x = 1\ndef ("}, php_workers=1) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK))
            assert verdict.failure is not None
            assert verdict.failure.startswith("SyntaxError: ")
            assert "process_client_phone.py, line 2" in verdict.failure
            write(tmp_path / f"{HOOK}.py", f"x = 1\ndef {HOOK}(params): return {OK}\n")
            assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "123"}

    async def test_a_file_without_the_function_says_so(self, tmp_path: Path) -> None:
        verdict = await asked(tmp_path, "def phone(params): pass\n")
        assert verdict.failure is not None
        assert f"no function {HOOK}: define one, as def {HOOK}(params)" in verdict.failure

    async def test_of_a_fork_the_parent_alone_answers(self, tmp_path: Path) -> None:
        source = f"""
            import os
            def {HOOK}(params):
                if os.fork() == 0:
                    return {{"state": "success", "data": {{"phone": "999"}}}}
                os.wait()
                return {OK}
            """
        async with running(tmp_path, {f"{HOOK}.py": source}, php_workers=1) as customizer:
            for _ in range(3):
                assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "123"}


class TestTime:
    async def test_what_hangs_is_killed_with_all_that_it_started(self, tmp_path: Path) -> None:
        source = f"""
            import os, signal, subprocess, time
            def {HOOK}(params):
                if not os.path.exists("stop"):
                    return {OK}
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                child = subprocess.Popen(["sh", "-c", "trap '' TERM; echo $$ > child; sleep 60"])
                while True:
                    try: time.sleep(60)
                    except BaseException: pass
            """
        async with running(tmp_path, {f"{HOOK}.py": source}, timeout_s=1.5, php_workers=1) as customizer:
            (tmp_path / "stop").touch()
            call = asyncio.create_task(customizer.call(HOOK, params(HOOK)))
            child = await number_in(tmp_path / "child")
            assert runs(child)
            assert (await call).failure == "no answer within 1.5 s: killed, with all that it started"
            await ended(child)
            (tmp_path / "stop").unlink()
            assert (await customizer.call(HOOK, params(HOOK))).data == {"phone": "123"}

    async def test_who_rings_does_not_wait_behind_calls_that_are_over(self, tmp_path: Path) -> None:
        source = f"""
            import os, time
            def {HOOK}(params):
                while not os.path.exists("go"): time.sleep(0.01)
                with open("order", "a") as file: file.write(params["call_stage"] + "\\n")
                return {OK}
            """
        async with running(tmp_path, {f"{HOOK}.py": source}, timeout_s=30, php_workers=1) as customizer:
            stages = ["call_ended"] * 5 + ["conversation_requested"]
            calls = [asyncio.create_task(customizer.call(HOOK, params(HOOK, call_stage=stage))) for stage in stages]
            await asyncio.sleep(0)  # all of them stand in the queue
            (tmp_path / "go").touch()
            verdicts = await asyncio.gather(*calls)
            assert {verdict.failure for verdict in verdicts} == {None}
            order = (tmp_path / "order").read_text().split()
        assert order.index("conversation_requested") <= 1

    async def test_who_rings_waits_for_a_worker_no_longer_than_for_the_answer(self, tmp_path: Path) -> None:
        source = f"""
            import os, time
            def {HOOK}(params):
                time.sleep(60)
            """
        async with running(tmp_path, {f"{HOOK}.py": source}, timeout_s=0.5, php_workers=1) as customizer:
            over = [asyncio.create_task(customizer.call(HOOK, params(HOOK))) for _ in range(3)]
            await asyncio.sleep(0)
            ringing = [
                asyncio.create_task(customizer.call(HOOK, params(HOOK, call_stage="conversation_requested")))
                for _ in range(3)
            ]
            failures = [(await call).failure for call in ringing]
            assert (
                "no worker was free within 0.5 s: raise customizations.php_workers, or look for slow files" in failures
            )
            assert {(await call).failure for call in over} == {
                "no answer within 0.5 s: killed, with all that it started"
            }


class TestEnvironment:
    async def test_our_secrets_and_packages_are_not_in_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ITGRIX_SECRET", "kommo-token-77")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
        verdict = await asked(tmp_path, f"""
            import json, os, sys
            def {HOOK}(params):
                print(json.dumps(sorted(os.environ)), json.dumps(sys.path), "itgrix_kommo" in sys.modules)
                return {OK}
            """)  # fmt: skip
        assert "ITGRIX_SECRET" not in verdict.printed
        assert "elsewhere" not in verdict.printed
        assert verdict.printed.endswith("False")
        names = verdict.printed.partition("]")[0]
        assert set(names.strip("[").replace('"', "").split(", ")) <= {"HOME", "LANG", "LC_CTYPE", "PATH", "TZ"}

    async def test_a_daemon_that_is_killed_takes_its_waiting_workers_along(self, tmp_path: Path) -> None:
        write(tmp_path / f"{HOOK}.py", f"""
            import os
            def {HOOK}(params):
                with open("pid", "w") as file: file.write(str(os.getpid()) + "\\n")
                return {OK}
            """)  # fmt: skip
        program = """
            import asyncio, os, signal, sys
            from pathlib import Path
            from tests.hook_files import params, running
            async def main():
                async with running(Path(sys.argv[1])) as customizer:
                    await customizer.call("process_client_phone", params("process_client_phone"))
                    os.kill(os.getpid(), signal.SIGKILL)
            asyncio.run(main())
            """
        script = write(tmp_path / "daemon.py", program)
        root = Path(__file__).parents[1]
        daemon = await asyncio.create_subprocess_exec(
            sys.executable, script, tmp_path, env={**os.environ, "PYTHONPATH": str(root)}
        )
        assert await daemon.wait() == -9
        await ended(await number_in(tmp_path / "pid"))
