"""What is known of a call afterwards: verdict, record, status, log; and the queue for the workers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from itgrix_kommo.config import HOOKS, Hook
from itgrix_kommo.customizations import Cancelled, Data, Failed, workers
from itgrix_kommo.customizations.job import Job
from itgrix_kommo.customizations.pool import Pool
from itgrix_kommo.customizations.workers import PhpWorker, Worker
from itgrix_kommo.errors import HookError
from tests.hook_files import params, running, write

HOOK: Hook = "process_call_params"
SOURCE = f"""
import time
def {HOOK}(params):
    print("looking at", params["phone"])
    match params["phone"]:
        case "cancel": return {{"state": "success", "data": []}}
        case "fail": raise ValueError("no such client")
        case "hang": time.sleep(60)
    return {{"state": "success", "data": {{**params, "call_result": "Waited"}}}}
"""


class TestVerdict:
    async def test_is_the_changed_data(self, tmp_path: Path) -> None:
        async with running(tmp_path, {f"{HOOK}.py": SOURCE}) as customizer:
            given = params(HOOK)
            verdict = await customizer.call(HOOK, given)
        assert given == params(HOOK), "what was given is not to be changed"
        assert verdict.data is not None
        assert verdict.data["call_result"] == "Waited"
        assert "call_full" not in verdict.data
        assert verdict.answer == Data(verdict.data)
        assert (verdict.cancelled, verdict.failure) == (False, None)
        assert 0 < verdict.seconds < 3
        assert verdict.printed == "looking at +79991234567"

    async def test_is_the_unchanged_data_where_nobody_is_asked(self, tmp_path: Path) -> None:
        async with running(tmp_path) as customizer:
            for hook in HOOKS:
                verdict = await customizer.call(hook, params(hook))
                assert (verdict.answer, verdict.printed, verdict.cancelled) == (None, "", False)
                assert verdict.data is not None
                assert {"call_full", "call_stage"}.isdisjoint(verdict.data)

    async def test_text_that_no_encoding_knows_is_handed_over_as_far_as_it_goes(self, tmp_path: Path) -> None:
        async with running(tmp_path, {f"{HOOK}.py": SOURCE}) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK, phone="12\udcff"))
        assert verdict.printed == "looking at 12?"


class TestRecord:
    async def test_counts_what_happened(self, tmp_path: Path) -> None:
        async with running(tmp_path, {f"{HOOK}.py": SOURCE}, timeouts={HOOK: 0.4}) as customizer:
            verdicts = [
                await customizer.call(HOOK, params(HOOK, phone=phone)) for phone in ("1", "cancel", "fail", "hang")
            ]
            status = customizer.status()
        answered, cancelled, failed, hung = (verdict.answer for verdict in verdicts)
        assert isinstance(answered, Data)
        assert cancelled == Cancelled()
        assert failed == Failed("ValueError: no such client (process_call_params.py, line 6)")
        assert hung == Failed("no answer within 0.4 s: killed, with all that it started", timed_out=True)
        assert status["enabled"] is True
        assert status["methods"] == {hook: hook == HOOK for hook in HOOKS}
        record = status["hooks"][HOOK]
        assert record.pop("mean_seconds") > 0.1
        assert record == {
            "file": "process_call_params.py",
            "kind": "python",
            "calls": 4,
            "failures": 2,
            "timeouts": 1,
            "cancelled": 1,
            "last_error": hung.words,
        }


class TestLog:
    async def test_tells_hook_and_call(self, tmp_path: Path) -> None:
        async with running(tmp_path, {f"{HOOK}.py": SOURCE}) as customizer:
            with capture_logs() as lines:
                for phone in ("1", "cancel", "fail"):
                    await customizer.call(HOOK, params(HOOK, phone=phone), call_id=f"1.{phone}")
        told = [(line["event"], line["call_id"], line["log_level"]) for line in lines]
        assert {line["hook"] for line in lines} == {HOOK}
        assert told == [
            ("hook_printed", "1.1", "info"),
            ("hook_answered", "1.1", "debug"),
            ("hook_printed", "1.cancel", "info"),
            ("hook_cancelled", "1.cancel", "info"),
            ("hook_printed", "1.fail", "info"),
            ("hook_failed", "1.fail", "warning"),
        ]
        assert lines[0]["text"] == "looking at 1"
        assert lines[3]["meaning"] == "cancelled by customization: the call itself is not written"
        assert lines[5]["consequence"] == "the unchanged data goes on"

    @pytest.mark.parametrize("trace", [True, False])
    async def test_tells_what_went_in_and_out_when_asked_to(self, tmp_path: Path, trace: bool) -> None:  # noqa: FBT001 - pytest passes parameters by name
        async with running(tmp_path, {f"{HOOK}.py": SOURCE}, trace=trace) as customizer:
            with capture_logs() as lines:
                verdict = await customizer.call(HOOK, params(HOOK), call_id="1.1")
        traced = [line for line in lines if line["event"] == "hook_called"]
        assert [(line["params"], line["data"]) for line in traced] == ([(params(HOOK), verdict.data)] if trace else [])


class TestStarting:
    @pytest.mark.parametrize(
        ("program", "words"),
        [
            ("#!/bin/sh\necho no memory >&2; exit 3\n", "ended during the call (exit status 3): no memory"),
            ("#!/no/such/shell\n", "No such file or directory"),
            ("#!/bin/sh\nsleep 60\n", "not ready within 0 s"),
        ],
    )
    async def test_php_that_does_not_come_up_says_why(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: str
    ) -> None:
        if "sleep" in program:
            monkeypatch.setattr(workers, "START_TIMEOUT", 0.3)
        worker = PhpWorker(str(write(tmp_path / "php-cgi", program)))
        with pytest.raises(HookError) as caught:
            await worker.start()
        assert str(caught.value).startswith("php-cgi can't be started: ")
        assert words in str(caught.value)
        assert not worker.ready

    async def test_a_call_tells_why_its_process_does_not_come_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.executable", "/no/such/python")
        async with running(tmp_path, {f"{HOOK}.py": SOURCE}) as customizer:
            verdict = await customizer.call(HOOK, params(HOOK))
        assert verdict.failure is not None
        assert verdict.failure.startswith("python can't be started: [Errno 2] No such file or directory")


class Doorman(Worker):
    """Runs until it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = 0
        self.broken = False

    @property
    def ready(self) -> bool:
        return self.starts > 0 and not self.broken

    async def start(self) -> None:
        self.starts += 1
        if self.broken:
            raise HookError("broken")

    async def run(self, job: Job) -> bytes:
        raise NotImplementedError

    async def close(self) -> None:
        self.broken = True


class TestPool:
    async def test_serves_the_urgent_first_and_the_others_in_order(self) -> None:
        pool = Pool([Doorman()])
        order: list[str] = []

        async def job(name: str, *, urgent: bool) -> None:
            async with pool.worker(urgent=urgent):
                order.append(name)

        async with pool.worker(urgent=False) as worker:
            await worker.start()
            jobs = [asyncio.create_task(job(name, urgent=name.startswith("urgent"))) for name in "abc"]
            jobs += [asyncio.create_task(job(name, urgent=True)) for name in ("urgent 1", "urgent 2")]
            await asyncio.sleep(0)
            jobs[1].cancel()
            await asyncio.sleep(0)
            assert order == []
        await asyncio.gather(*jobs, return_exceptions=True)
        assert order == ["urgent 1", "urgent 2", "a", "c"]
        await pool.close()

    async def test_who_gives_up_as_his_turn_comes_hands_it_on(self) -> None:
        pool = Pool([Doorman()])
        order: list[str] = []

        async def job(name: str) -> None:
            async with pool.worker(urgent=False):
                order.append(name)

        async with pool.worker(urgent=False) as worker:
            await worker.start()
            first, second = asyncio.create_task(job("first")), asyncio.create_task(job("second"))
            await asyncio.sleep(0)
        first.cancel()  # the worker is his already, but he has not run since
        await asyncio.gather(first, second, return_exceptions=True)
        assert order == ["second"]
        await pool.close()

    async def test_a_worker_that_can_not_be_started_is_handed_on_to_be_tried_again(self) -> None:
        worker = Doorman()
        worker.broken = True
        pool = Pool([worker])
        with capture_logs() as lines:
            pool.warm_up()
            async with pool.worker(urgent=False) as found:
                assert found is worker
                assert not found.ready
        assert [line["event"] for line in lines] == ["hook_worker_not_started"]
        await pool.close()

    async def test_closed_it_serves_nobody(self) -> None:
        pool = Pool([Doorman()])
        async with pool.worker(urgent=False) as worker:
            await worker.start()
            waiting = asyncio.create_task(pool.worker(urgent=False).__aenter__())
            await asyncio.sleep(0)
            await pool.close()
            with pytest.raises(HookError, match="being stopped"):
                await waiting
        with pytest.raises(HookError, match="being stopped"):
            async with pool.worker(urgent=False):
                pytest.fail("it served")
