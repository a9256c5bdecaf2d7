"""Kommo's webhooks over HTTP: who is heard, what is believed, and that the answer never waits."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from aiohttp.test_utils import unused_port

from itgrix_kommo.kommo.webhooks import ClientGone, ClientTold
from tests.web_face import ACCOUNT, ACCOUNT_ID, ANN, WEBHOOK_SECRET, Served, face_of

PATH = f"/webhooks/kommo/{WEBHOOK_SECRET}"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GONE = {"contacts[delete][0][id]": "5501", "contacts[delete][0][type]": "contact"}


@pytest.fixture
async def face(tmp_path: Path) -> AsyncIterator[Served]:
    async with face_of(tmp_path) as served:
        yield served


def form(pairs: dict[str, str], account: int = ACCOUNT_ID) -> bytes:
    return urlencode({**pairs, "account[id]": str(account), "account[subdomain]": "acme"}).encode()


async def post(face: Served, body: bytes, path: str = PATH) -> int:
    return (await face.ask("POST", path, data=body, headers=FORM)).status


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


class TestHeard:
    async def test_a_client_as_kommo_tells_of_him(self, face: Served) -> None:
        pairs = {
            "contacts[update][0][id]": "5502",
            "contacts[update][0][name]": "Иван",
            "contacts[update][0][responsible_user_id]": str(ANN),
            "contacts[update][0][type]": "contact",
            "contacts[update][0][custom_fields][0][code]": "PHONE",
            "contacts[update][0][custom_fields][0][values][0][value]": "+12025550143",
        }
        assert await post(face, form(pairs)) == 200
        await until(lambda: face.phones.changes)
        assert face.phones.changes == [ClientTold("contacts", 5502, "Иван", ANN, ("+12025550143",))]

    async def test_one_that_is_gone(self, face: Served) -> None:
        assert await post(face, form(GONE)) == 200
        await until(lambda: face.phones.changes)
        assert face.phones.changes == [ClientGone("contacts", 5501)]


class TestNotBelieved:
    @pytest.mark.parametrize(
        "body",
        [
            form(GONE, ACCOUNT_ID + 1),
            urlencode(GONE).encode(),
            b"",
            b"\xff\xfe\x00",
            b"&" * 1000,
            b"a=1&" * 30_000,
            b"account" + b"[x]" * 1000 + b"=1",
            form({"contacts[delete][0][id]": "-1"}),
        ],
    )
    async def test_but_answered_all_the_same(self, face: Served, body: bytes) -> None:
        assert await post(face, body) == 200
        await until(lambda: face.face.webhooks.results["ignored"])
        assert not face.phones.changes

    async def test_while_the_account_is_not_known(self, face: Served) -> None:
        face.account_id = None
        assert await post(face, form(GONE)) == 200
        await until(lambda: face.face.webhooks.results["ignored"])
        assert not face.phones.changes


class TestRefused:
    @pytest.mark.parametrize("secret", ["wrong", WEBHOOK_SECRET[:-1], WEBHOOK_SECRET + "x", "%00", "тайна"])
    async def test_another_secret(self, face: Served, secret: str) -> None:
        assert await post(face, form(GONE), f"/webhooks/kommo/{secret}") == 404

    async def test_none_is_configured(self, tmp_path: Path) -> None:
        kommo = {"base_url": ACCOUNT, "access_token": "access-token-of-tests"}
        async with face_of(tmp_path, kommo=kommo, http={"port": unused_port()}) as face:
            for secret in ("", "None", "null"):
                assert await post(face, form(GONE), f"/webhooks/kommo/{secret}") == 404

    async def test_a_body_of_many_megabytes(self, face: Served) -> None:
        large = io.BytesIO(b"a" * 3_000_000)
        assert (await face.ask("POST", PATH, data=large, headers=FORM)).status == 413


class TestPromptness:
    async def test_the_answer_does_not_wait_for_what_comes_of_it(self, face: Served) -> None:
        def slow(_: object) -> None:
            time.sleep(0.05)  # as a phonebook under load would keep the loop

        face.face.webhooks._apply = slow
        assert await asyncio.gather(*(post(face, form(GONE)) for _ in range(30))) == [200] * 30
        await until(lambda: face.face.webhooks.results["read"] == 30)

    async def test_a_flood_loses_the_oldest(self, face: Served) -> None:
        inbox = face.face.webhooks
        for number in range(500):
            inbox._waiting.put_nowait(form({"contacts[delete][0][id]": str(number + 1)}))
        assert await post(face, form(GONE)) == 200
        await until(lambda: ClientGone("contacts", 5501) in face.phones.changes)
        assert inbox._waiting.qsize() == 0
