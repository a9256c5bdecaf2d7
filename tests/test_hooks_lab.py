"""The vendor-style PHP files of etc/customizations, unchanged, on real calls through the real daemon."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.hook_files import EXAMPLES, demand_php
from tests.lab.stage import Lab
from tests.test_daemon_lab import BORIS, Host, a_host, talked

pytestmark = pytest.mark.lab

ALL = ("phone_format", "other_tags", "waiting_time", "trunk_blacklist", "notify_missed_call")


class Listener:
    """The other system that is told of missed calls."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    async def take(self, request: web.Request) -> web.Response:
        self.told.append(await request.json())
        return web.Response()


@asynccontextmanager
async def a_host_with(lab: Lab, directory: Path, examples: Iterable[str], url: str = "") -> AsyncIterator[Host]:
    demand_php("php-cgi")
    hooks = directory / "hooks"
    for example in examples:
        shutil.copytree(EXAMPLES / "php" / example, hooks, dirs_exist_ok=True)
    if url:
        (hooks / "notify_url.txt").write_text(url)
    async with a_host(lab, directory) as host:
        host.config["customizations"] = {"directory": str(hooks), "timeout_s": 10}
        await host.start()
        yield host
        assert "hook_failed" not in host.log()


async def test_an_answered_call_in_the_forms_that_the_files_want(lab: Lab, tmp_path: Path) -> None:
    async with a_host_with(lab, tmp_path, ALL) as host:
        number = await talked(lab)
        (call,) = await host.calls(1)
        (contact,), (lead,) = host.account.contacts.values(), host.account.leads.values()
        national = "8" + number[-10:]
        assert (contact.name, lead.name) == (f"Contact {national}", f"{national} - incoming")
        assert call.params["phone"] == national
        assert re.fullmatch(r"Waited \d+ s", call.params["call_result"])
        for card in (contact, lead):
            assert {host.account.tags[card.kind][tag] for tag in card.tags} == {"Call", "PJSIP/trunk"}


async def test_a_missed_call_is_told_to_another_system(lab: Lab, tmp_path: Path) -> None:
    listener = Listener()
    app = web.Application()
    app.router.add_post("/missed", listener.take)
    async with (
        TestServer(app) as server,
        a_host_with(lab, tmp_path, ALL, str(server.make_url("/missed"))) as host,
    ):
        client = lab.client()
        await client.calls("4957770102")
        await lab.phone(102).rings()
        await client.hangs_up()
        await lab.quiet()
        await host.until(lambda: listener.told)
        (message,) = listener.told
        assert message["phone"] == client.number
        await host.calls(1)


async def test_a_blacklisted_trunk_stays_out_and_an_edited_file_takes_effect(lab: Lab, tmp_path: Path) -> None:
    async with a_host_with(lab, tmp_path, ALL) as host:
        file = tmp_path / "hooks" / "need_registration.php"
        as_it_was = file.read_text()
        file.write_text(as_it_was.replace("'PJSIP/alarm'", "'PJSIP/trunk'"))
        await talked(lab)
        await host.until(lambda: "need_registration said no" in host.log())
        assert not host.account.calls
        file.write_text(as_it_was)
        await talked(lab)
        await host.calls(1)


async def test_who_looks_after_the_trunk_gets_its_missed_calls(lab: Lab, tmp_path: Path) -> None:
    async with a_host_with(lab, tmp_path, ("trunk_responsible",)) as host:
        for name in ("process_call_params", "process_task_creation_params"):
            file = tmp_path / "hooks" / f"{name}.php"
            file.write_text(file.read_text().replace("PJSIP/service", "PJSIP/trunk"))
        client = lab.client()
        await client.calls("4957770101")
        await lab.phone(101).rings()
        await client.hangs_up()
        await lab.quiet()
        (call,) = await host.calls(1)
        await host.until(lambda: host.account.tasks)
        (task,) = host.account.tasks.values()
        assert (call.params["call_responsible"], task.responsible_user_id) == (BORIS, BORIS)
