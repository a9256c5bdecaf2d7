"""The sandbox's grants: codes, pairs of tokens and how they replace each other."""

from __future__ import annotations

import base64
import hmac
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from yarl import URL

from itgrix_kommo.sandbox import ManualClock, Sandbox, SandboxOptions
from tests.test_sandbox import ANN, PROBLEM, Answer, Api, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MINUTE, DAY = 60, 24 * 60 * 60


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as opened_api:
        yield opened_api


def asked(sandbox: Sandbox, **more: object) -> dict[str, Any]:
    options = sandbox.options
    return {
        "client_id": options.client_id,
        "client_secret": options.client_secret,
        "redirect_uri": options.redirect_uri,
        **more,
    }


async def by_code(api: Api, code: str = "") -> Answer:
    code = code or api.sandbox.tokens.issue_code(ANN)
    return await api.post("/oauth2/access_token", asked(api.sandbox, grant_type="authorization_code", code=code))


async def refreshed(api: Api, token: str) -> Answer:
    body = asked(api.sandbox, grant_type="refresh_token", refresh_token=token)
    return await api.post("/oauth2/access_token", body)


class TestConsent:
    async def test_the_way_back(self, api: Api) -> None:
        client_id = api.sandbox.options.client_id
        path = f"/oauth?client_id={client_id}&state=x%26y&mode=popup"
        answer = await api.get(path, allow_redirects=False)
        back = URL(answer.headers["Location"])
        assert answer.status == 302
        assert str(back.with_query(None)) == api.sandbox.options.redirect_uri
        assert {name: back.query[name] for name in ("state", "referer", "client_id")} == {
            "state": "x&y",
            "referer": URL(api.sandbox.url).authority,
            "client_id": client_id,
        }
        assert (await by_code(api, back.query["code"])).status == 200

    async def test_an_unknown_integration(self, api: Api) -> None:
        assert (await api.get("/oauth?client_id=other")).status == 404


class TestCodes:
    async def test_a_pair_of_tokens(self, api: Api) -> None:
        answer = await by_code(api)
        assert answer.status == 200
        assert (answer.body["token_type"], answer.body["expires_in"]) == ("Bearer", DAY)
        assert answer.body["refresh_token"].startswith("def50200")
        account = await api.get("/v4/account", token=answer.body["access_token"])
        assert (account.status, account.body["current_user_id"]) == (200, ANN)

    async def test_the_access_token_is_a_jwt(self, api: Api) -> None:
        _, claims, _ = (await by_code(api)).body["access_token"].split(".")
        content = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        assert (content["account_id"], content["exp"] - content["iat"]) == (31000001, DAY)
        assert content["api_domain"]

    async def test_a_trailing_slash(self, api: Api) -> None:
        body = asked(api.sandbox, grant_type="authorization_code", code=api.sandbox.tokens.issue_code(ANN))
        assert (await api.post("/oauth2/access_token/", body)).status == 200

    async def test_used_once(self, api: Api) -> None:
        code = api.sandbox.tokens.issue_code(ANN)
        assert (await by_code(api, code)).status == 200
        answer = await by_code(api, code)
        assert (answer.status, answer.content_type) == (400, PROBLEM)
        assert answer.body["hint"] == "Authorization code has been revoked"

    async def test_twenty_minutes(self, api: Api) -> None:
        in_time, late = api.sandbox.tokens.issue_code(ANN), api.sandbox.tokens.issue_code(ANN)
        api.clock.advance(20 * MINUTE - 2)
        assert (await by_code(api, in_time)).status == 200
        answer = await by_code(api, late)
        assert (answer.status, answer.body["hint"]) == (400, "Authorization code has expired")

    @pytest.mark.parametrize(
        ("change", "status", "hint"),
        [
            ({"code": "nonsense"}, 400, "Cannot decrypt the authorization code"),
            ({"client_secret": "wröng"}, 401, "Client authentication failed"),
            ({"client_id": "other"}, 401, "Client authentication failed"),
            ({"redirect_uri": "https://evil.example"}, 400, "Redirect URI"),
            ({"redirect_uri": None}, 400, "Check the `redirect_uri` parameter"),
            ({"grant_type": "password"}, 400, "Check the `grant_type` parameter"),
        ],
    )
    async def test_refusals(self, api: Api, change: dict[str, Any], status: int, hint: str) -> None:
        code = api.sandbox.tokens.issue_code(ANN)
        body = asked(api.sandbox, grant_type="authorization_code", code=code) | change
        answer = await api.post("/oauth2/access_token", body)
        assert answer.status == answer.body["status"] == status
        assert answer.body["hint"].startswith(hint)
        assert answer.body["type"] == "https://developers.amocrm.ru/v3/errors/OAuthProblemJson"

    @pytest.mark.parametrize("raw", [b"", b"{", b"[]"])
    async def test_no_body(self, api: Api, raw: bytes) -> None:
        answer = await api.ask("POST", "/oauth2/access_token", data=raw, headers={"Content-Type": "application/json"})
        assert answer.status == 400


class TestRotation:
    async def test_each_refresh_gives_a_new_pair(self, api: Api) -> None:
        first = (await by_code(api)).body
        second = (await refreshed(api, first["refresh_token"])).body
        assert len({first["access_token"], second["access_token"]}) == 2
        assert len({first["refresh_token"], second["refresh_token"]}) == 2

    async def test_a_lost_answer_may_be_asked_again(self, api: Api) -> None:
        first = (await by_code(api)).body
        await refreshed(api, first["refresh_token"])  # the answer that never arrived
        again = await refreshed(api, first["refresh_token"])
        assert again.status == 200
        assert (await api.get("/v4/account", token=again.body["access_token"])).status == 200

    @pytest.mark.parametrize("use", ["access_token", "refresh_token"])
    async def test_the_old_one_dies_when_the_new_pair_is_used(self, api: Api, use: str) -> None:
        first = (await by_code(api)).body
        second = (await refreshed(api, first["refresh_token"])).body
        if use == "access_token":
            assert (await api.get("/v4/account", token=second[use])).status == 200
        else:
            assert (await refreshed(api, second[use])).status == 200
        answer = await refreshed(api, first["refresh_token"])
        assert (answer.status, answer.body["hint"]) == (401, "Token has been revoked")

    async def test_lifetimes(self, api: Api) -> None:
        pair = (await by_code(api)).body
        api.clock.advance(DAY - 2)
        assert (await api.get("/v4/account", token=pair["access_token"])).status == 200
        assert (await api.get("/v4/account", token=pair["access_token"])).status == 401
        assert (await refreshed(api, pair["refresh_token"])).status == 200
        api.clock.advance(90 * DAY)
        assert (await refreshed(api, pair["refresh_token"])).body["hint"] == "Refresh token has expired"
        assert (await refreshed(api, "nonsense")).status == 401

    async def test_a_disabled_integration(self, api: Api) -> None:
        pair = (await by_code(api)).body
        api.sandbox.tokens.revoke_all()
        assert (await api.get("/v4/account", token=pair["access_token"])).status == 401
        assert (await refreshed(api, pair["refresh_token"])).status == 401


def hooked(url: str) -> SandboxOptions:
    return SandboxOptions(uninstall_hook=url, clock=ManualClock())


class TestUninstalling:
    async def test_the_hook_is_told_with_a_signature_and_the_tokens_end(self) -> None:
        told: list[web.Request] = []

        async def hear(request: web.Request) -> web.Response:
            told.append(request)
            return web.Response()

        app = web.Application()
        app.router.add_get("/hook", hear)
        async with (
            TestServer(app) as server,
            opened(hooked(str(server.make_url("/hook")))) as api,
        ):
            answer = await api.post("/sandbox/uninstall", {})
            assert answer.body["status"] == 200
            options = api.sandbox.options
            message = f"{options.client_id}|{options.account_id}".encode()
            assert dict(told[0].query) == {
                "client_uuid": options.client_id,
                "account_id": str(options.account_id),
                "signature": hmac.digest(options.client_secret.encode(), message, "sha256").hex(),
            }
            assert told[0].headers["User-Agent"] == "amoService-oAuth-Code-Sender/1.0"
            assert (await api.get("/v4/account")).status == 401

    async def test_nobody_hears_it(self) -> None:
        async with opened(hooked(f"http://127.0.0.1:{unused_port()}/")) as api:
            assert (await api.post("/sandbox/uninstall", {})).body["status"] == 0
