"""Our webhook in the account: one, whatever was there before, and no trouble where the account has none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from itgrix_kommo.errors import KommoForbidden, KommoRejected
from itgrix_kommo.kommo import subscription as subscription_module
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.subscription import Subscription
from itgrix_kommo.kommo.webhooks import EVENTS
from itgrix_kommo.log import register_secret
from itgrix_kommo.sandbox import Fault, Sandbox
from tests.kommo_account import connect

URL = "https://pbx.example.com:8443"
OURS = f"{URL}/webhooks/kommo/unlikely-a7c1"
WITHIN = 10.0


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox().serve() as served:
        yield served


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[KommoClient]:
    async with connect(sandbox, per_second=7) as connected:
        yield connected


def ours(client: KommoClient) -> Subscription:
    return Subscription(client, URL, "unlikely-a7c1")


def there(sandbox: Sandbox) -> dict[str, Any]:
    return {hook.destination: hook for hook in sandbox.account.webhooks.values()}


def writes(sandbox: Sandbox) -> list[str]:
    seen = (one.method for one in sandbox.audit.requests if one.path == "/api/v4/webhooks")
    return [method for method in seen if method != "GET"]


async def ready() -> None:
    pass


class TestSettling:
    async def test_subscribes_where_there_is_nothing(self, sandbox: Sandbox, client: KommoClient) -> None:
        await ours(client).settle()
        assert set(there(sandbox)[OURS].settings) == set(EVENTS)

    async def test_a_second_time_only_looks(self, sandbox: Sandbox, client: KommoClient) -> None:
        await ours(client).settle()
        subscription = ours(client)
        await subscription.settle()
        assert writes(sandbox) == ["POST"]
        assert subscription.is_there

    async def test_former_secrets_of_ours_go_and_nothing_else(self, sandbox: Sandbox, client: KommoClient) -> None:
        former = f"{URL}/webhooks/kommo/former"
        others = ("https://other.example/webhooks/kommo/x", f"{URL}/webhooks/other", f"{URL}0/webhooks/kommo/x")
        for destination in (former, *others):
            await client.subscribe(destination, ["add_lead"])
        await ours(client).settle()
        assert set(there(sandbox)) == {OURS, *others}

    @pytest.mark.parametrize("same", ["replace", "merge"])
    async def test_what_is_incomplete_is_completed(self, sandbox: Sandbox, client: KommoClient, same: Any) -> None:
        sandbox.switches.same_destination = same
        await client.subscribe(OURS, ["add_contact"])
        await ours(client).settle()
        assert set(there(sandbox)[OURS].settings) == set(EVENTS)

    async def test_what_kommo_has_disabled_is_enabled(self, sandbox: Sandbox, client: KommoClient) -> None:
        await ours(client).settle()
        sandbox.account.disable_webhooks()
        await ours(client).settle()
        assert not there(sandbox)[OURS].disabled


class TestRunning:
    async def test_where_it_may_not_be_it_is_told_once(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subscription_module, "AGAIN_AFTER_REFUSAL", 0.01)
        async with connect(sandbox, token=sandbox.options.user_token) as client:
            subscription = ours(client)
            with capture_logs() as lines:
                task = asyncio.create_task(subscription.run(ready))
                async with asyncio.timeout(WITHIN):
                    while len([one for one in sandbox.audit.requests if one.path == "/api/v4/webhooks"]) < 2:
                        await asyncio.sleep(0.01)
                task.cancel()
            warned = [one for one in lines if one["log_level"] == "warning"]
            assert [one["event"] for one in warned] == ["webhook_not_subscribed"]
            assert "403" in subscription.error
            assert not subscription.is_there
            with pytest.raises(KommoForbidden):
                await subscription.settle()

    async def test_where_kommo_fails_it_is_tried_again(
        self, sandbox: Sandbox, client: KommoClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscription_module, "AGAIN_AFTER", (0.01,))
        sandbox.faults.add(Fault(effect="status", path="/api/v4/webhooks", method="POST", status=500, count=2))
        subscription = ours(client)
        task = asyncio.create_task(subscription.run(ready))
        async with asyncio.timeout(WITHIN):
            while not subscription.is_there:
                await asyncio.sleep(0.01)
        task.cancel()
        assert list(there(sandbox)) == [OURS]
        assert subscription.error == ""

    async def test_again_once_access_was_granted_anew(self, sandbox: Sandbox, client: KommoClient) -> None:
        subscription = ours(client)
        task = asyncio.create_task(subscription.run(ready))
        async with asyncio.timeout(WITHIN):
            while OURS not in there(sandbox):
                await asyncio.sleep(0.01)
            sandbox.account.remove_webhook(OURS)
            subscription.look_again()
            while OURS not in there(sandbox):
                await asyncio.sleep(0.01)
        task.cancel()

    async def test_not_before_kommo_may_be_asked(self, sandbox: Sandbox, client: KommoClient) -> None:
        gate = asyncio.Event()
        task = asyncio.create_task(ours(client).run(gate.wait))
        await asyncio.sleep(0)
        assert not sandbox.audit.requests
        gate.set()
        async with asyncio.timeout(WITHIN):
            while OURS not in there(sandbox):
                await asyncio.sleep(0.01)
        task.cancel()

    async def test_the_secret_is_in_no_word_of_it(self, client: KommoClient) -> None:
        register_secret("unlikely-a7c1")
        subscription = ours(client)
        with capture_logs() as lines:
            await subscription.settle()
            subscription._tell(KommoRejected(f"Kommo refuses POST /api/v4/webhooks (400; {OURS} is no address)"))
        assert "[masked] is no address" in subscription.error
        assert "unlikely-a7c1" not in str(lines)
