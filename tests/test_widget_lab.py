"""The whole way of a click: the zip as the command builds it, a real browser, the daemon, a real Asterisk, the CRM."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.headless_browser import open_page
from tests.kommo_page import kommo_page
from tests.lab.stage import Lab
from tests.test_daemon_lab import ANN, a_host
from tests.web_face import signed

pytestmark = pytest.mark.lab


async def built(config: Path) -> bytes:
    """The widget for this configuration."""
    target = config.with_name("widget.zip")
    arguments = ("widget", "build", "--config", str(config), "--output", str(target))
    command = await asyncio.create_subprocess_exec(sys.executable, "-m", "itgrix_kommo", *arguments)
    assert await command.wait() == 0
    return target.read_bytes()


async def test_a_click_in_kommo_becomes_a_talk_and_a_row(lab: Lab, tmp_path: Path) -> None:
    async with (
        a_host(lab, tmp_path) as host,
        open_page(tmp_path / "profile") as browser,
        kommo_page(browser, host.sandbox.url) as kommo,
    ):
        options = host.sandbox.options
        integration = {"client_id": options.client_id, "client_secret": options.client_secret}
        host.config["kommo"].update(
            base_url=kommo.origin, integration={**integration, "redirect_uri": options.redirect_uri}
        )
        kommo.token = lambda: signed(
            key=options.client_secret,
            iss=kommo.origin,
            aud="http://127.0.0.1:8077",
            client_uuid=options.client_id,
            account_id=options.account_id,
            user_id=ANN,
        )
        await host.start()
        await host.until(lambda: "account_in_order" in host.log())
        kommo.upload(await built(host.file))
        client = lab.client()
        await kommo.opens(phones=[client.number])

        await kommo.clicks(client.number)
        await lab.phone(101).rings()
        await kommo.shows(state="employee_ringing")
        assert not client.legs
        await lab.phone(101).answers()
        await client.rings()
        await kommo.shows(state="client_ringing")
        await client.answers()
        await client.talks(to=lab.phone(101))
        await kommo.shows(state="talking", line="Talking")
        await client.hangs_up()
        await kommo.shows(state="ended", line="Talked", tone="is-good")

        await lab.quiet()
        (call,) = await host.calls(1)
        assert (call.params["phone"], call.note_type) == (client.number, "call_out")
