"""The examples in etc/customizations, PHP and Python alike: each directory is one use, ready to be pointed at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from itgrix_kommo.config import Hook
from itgrix_kommo.customizations import CATALOGUE, Customizer, find
from tests.hook_files import EXAMPLES, demand_php, params, running

USES = {
    "trim_to_ten_digits", "other_trunk", "other_tags", "trunk_blacklist", "trunk_responsible", "waiting_time",
    "notify_missed_call", "phone_format",
}  # fmt: skip


@pytest.fixture(params=["php", "python"])
def language(request: pytest.FixtureRequest) -> Path:
    demand_php("php-cgi")
    return EXAMPLES / str(request.param)


def through(trunk: str, hook: Hook, *, result: int = 200, **changes: Any) -> dict[str, Any]:
    """The hook's example as it would be for a call through `trunk`."""
    given = params(hook, **changes)
    given["call_full"]["channel"]["trunk"]["number"] = trunk
    given["call_full"]["result"] = result
    return given


async def data_of(customizer: Customizer, hook: Hook, given: dict[str, Any]) -> dict[str, Any]:
    """What becomes of `given`, which must be what the daemon could give; prints and failures are none of an example."""
    assert CATALOGUE[hook].misfits(given) == []
    verdict = await customizer.call(hook, given)
    assert (verdict.failure, verdict.printed) == (None, "")
    assert verdict.data is not None
    return verdict.data


class TestExamples:
    def test_there_is_one_for_each_use(self, language: Path) -> None:
        assert {path.name for path in language.iterdir()} == USES
        for use in USES:
            found = find(language / use)
            assert found.files
            assert (found.errors, found.warnings) == ((), ())

    @pytest.mark.parametrize(
        ("phone", "dialled"),
        [("+79991234567", "89991234567"), ("8 (999) 123-45-67", "89991234567"), ("102", "102")],
    )
    async def test_trim_to_ten_digits(self, language: Path, phone: str, dialled: str) -> None:
        hook: Hook = "process_originate_params"
        async with running(language / "trim_to_ten_digits", timeout_s=10) as customizer:
            given = params(hook, extension=phone)
            assert await data_of(customizer, hook, given) == {**given, "extension": dialled}

    @pytest.mark.parametrize(
        ("phone", "context"), [("+77011234567", "from-internal-kz"), ("+79991234567", "from-internal")]
    )
    async def test_other_trunk(self, language: Path, phone: str, context: str) -> None:
        hook: Hook = "process_originate_params"
        async with running(language / "other_trunk", timeout_s=10) as customizer:
            given = params(hook, extension=phone)
            assert await data_of(customizer, hook, given) == {**given, "context": context}

    @pytest.mark.parametrize(("trunk", "tag"), [("PJSIP/shop", "PJSIP/shop"), ("", "unknown trunk")])
    async def test_other_tags(self, language: Path, trunk: str, tag: str) -> None:
        contact: Hook = "process_contact_creation_params"
        lead: Hook = "process_lead_creation_params"
        async with running(language / "other_tags") as customizer:
            created = await data_of(customizer, contact, through(trunk, contact))
            assert created == {**CATALOGUE[contact].unchanged(params(contact)), "tags": ["Call", tag]}
            created = await data_of(customizer, lead, through(trunk, lead))
            assert created["_embedded"] == {"contacts": [{"id": 5501}], "tags": [{"name": "Call"}, {"name": tag}]}

    @pytest.mark.parametrize(("trunk", "wanted"), [("PJSIP/alarm", False), ("PJSIP/shop", True), ("", True)])
    async def test_trunk_blacklist(self, language: Path, trunk: str, wanted: bool) -> None:  # noqa: FBT001 - pytest passes parameters by name
        hook: Hook = "need_registration"
        async with running(language / "trunk_blacklist") as customizer:
            assert await data_of(customizer, hook, through(trunk, hook)) == {"result": wanted}

    @pytest.mark.parametrize(
        ("trunk", "result", "user"),
        [("PJSIP/service", 487, 9100002), ("PJSIP/service", 200, 9100001), ("PJSIP/other", 487, 9100001)],
    )
    async def test_trunk_responsible(self, language: Path, trunk: str, result: int, user: int) -> None:
        hooks: tuple[Hook, ...] = ("process_call_params", "process_task_creation_params")
        async with running(language / "trunk_responsible") as customizer:
            for hook in hooks:
                data = await data_of(customizer, hook, through(trunk, hook, result=result))
                assert data == {**CATALOGUE[hook].unchanged(params(hook)), "responsible_user_id": user}

    async def test_waiting_time(self, language: Path) -> None:
        hook: Hook = "process_call_params"
        async with running(language / "waiting_time") as customizer:
            assert (await data_of(customizer, hook, params(hook)))["call_result"] == "Waited 12 s"
            missed = params(hook, call_full=params("process_task_creation_params")["call_full"])
            assert (await data_of(customizer, hook, missed))["call_result"] == "Conversation took place"

    async def test_phone_format(self, language: Path) -> None:
        hook: Hook = "process_client_phone"
        async with running(language / "phone_format") as customizer:
            for phone in ("+79991234567", "79991234567", "89991234567"):
                assert await data_of(customizer, hook, params(hook, phone=phone)) == {"phone": "89991234567"}
            assert await data_of(customizer, hook, params(hook, phone="+14155550100")) == {"phone": "+14155550100"}

    async def test_notify_missed_call(self, language: Path, tmp_path: Path) -> None:
        hook: Hook = "post_registration"
        told: list[tuple[str, Any]] = []

        async def hear(request: web.Request) -> web.Response:
            told.append((request.method, json.loads(await request.text())))
            return web.Response()

        application = web.Application()
        application.router.add_route("*", "/calls", hear)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        directory = shutil.copytree(language / "notify_missed_call", tmp_path / "actions")
        (directory / "notify_url.txt").write_text(f"http://127.0.0.1:{port}/calls\n")
        try:
            async with running(directory) as customizer:
                assert await data_of(customizer, hook, params(hook)) == {}
                assert told == [("POST", {"phone": "+79991234567", "at": "2026-03-02 10:15:00"})]
                answered = params(hook, call_full=params("process_call_params")["call_full"])
                assert await data_of(customizer, hook, answered) == {}
                assert len(told) == 1
                await runner.cleanup()
                verdict = await customizer.call(hook, params(hook))
                assert verdict.failure is not None
                assert verdict.data == {}
        finally:
            await runner.cleanup()
