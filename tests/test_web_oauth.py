"""Access granted in the browser and ended by Kommo: whose word is taken, and what nobody is told."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from yarl import URL

from itgrix_kommo.errors import KommoUnauthorized, KommoUnreachable
from itgrix_kommo.kommo.consent import (
    STATE_LIFE,
    consent_url,
    is_of_account,
    is_our_state,
    is_uninstall_signature,
    new_state,
)
from itgrix_kommo.kommo.oauth import Integration
from tests.web_face import (
    ACCOUNT,
    ACCOUNT_ID,
    CLIENT_ID,
    CLIENT_SECRET,
    PASSWORD,
    Answer,
    FakeGrants,
    Served,
    face_of,
)

ADMIN = {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}
PATH, LOGIN, UNINSTALLED = "/oauth/kommo", "/oauth/kommo/login", "/oauth/kommo/uninstalled"
REDIRECT = "https://pbx.example.com/oauth/kommo"
INTEGRATION = Integration(CLIENT_ID, CLIENT_SECRET, REDIRECT)
KOMMO = {
    "base_url": ACCOUNT,
    "integration": {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uri": REDIRECT},
}


@pytest.fixture
def grants() -> FakeGrants:
    return FakeGrants()


@pytest.fixture
async def face(tmp_path: Path, grants: FakeGrants) -> AsyncIterator[Served]:
    async with face_of(tmp_path, grants=grants, kommo=KOMMO) as served:
        yield served


async def answered(face: Served, **changed: str | None) -> Answer:
    """Kommo's answer as the browser brings it, apart from what is changed; None omits."""
    given = {
        "code": "def50200abc",
        "state": new_state(INTEGRATION, time.time()),
        "referer": "acme.kommo.com",
        "client_id": CLIENT_ID,
        **changed,
    }
    return await face.ask("GET", PATH, params={name: one for name, one in given.items() if one is not None})


def is_page(answer: Answer, status: int, words: str) -> None:
    """Hold it to be a page for people that holds nothing to run, and nothing of the request."""
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert words in answer.text
    for hidden in ("def50200", CLIENT_SECRET, "<script", "Traceback"):
        assert hidden not in answer.text


class TestLogin:
    async def test_the_administrator_is_sent_to_kommo_with_our_state(self, face: Served) -> None:
        answer = await face.ask("GET", LOGIN, headers=ADMIN, allow_redirects=False)
        url = URL(answer.headers["Location"])
        assert answer.status == 303
        assert str(url.with_query(None)) == "https://www.kommo.com/oauth"
        assert url.query["client_id"] == CLIENT_ID
        assert is_our_state(url.query["state"], INTEGRATION, time.time())

    async def test_nobody_else_is(self, face: Served) -> None:
        (await face.ask("GET", LOGIN, allow_redirects=False)).refuses(401)

    async def test_where_a_token_is_configured_no_grant_is_wanted(self, tmp_path: Path) -> None:
        async with face_of(tmp_path) as face:
            (await face.ask("GET", LOGIN, headers=ADMIN)).refuses(404, "kommo.access_token is configured")
            is_page(await answered(face), 404, "kommo.access_token is configured")


class TestGranted:
    async def test_by_the_code_of_our_own_question(self, face: Served, grants: FakeGrants) -> None:
        is_page(await answered(face), 200, "Access is granted")
        assert grants.codes == ["def50200abc"]
        assert face.access == ["granted"]

    async def test_once(self, face: Served, grants: FakeGrants) -> None:
        state = new_state(INTEGRATION, time.time())
        assert (await answered(face, state=state)).status == 200
        for code in ("def50200abc", "def50200another"):
            is_page(await answered(face, state=state, code=code), 409, "Used already")
        assert grants.codes == ["def50200abc"]

    async def test_again_where_kommo_could_not_be_asked(self, face: Served, grants: FakeGrants) -> None:
        grants.failure = KommoUnreachable("Kommo at https://acme.kommo.com did not answer")
        state = new_state(INTEGRATION, time.time())
        is_page(await answered(face, state=state), 502, "Reload this page")
        grants.failure = None
        assert (await answered(face, state=state)).status == 200

    async def test_not_where_kommo_takes_the_code_no_more(self, face: Served, grants: FakeGrants) -> None:
        grants.failure = KommoUnauthorized("Authorization code has been revoked", status=401)
        is_page(await answered(face), 400, "Authorization code has been revoked")
        assert face.access == []


class TestNotTaken:
    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"state": None}, "We did not ask for it"),
            ({"state": ""}, "We did not ask for it"),
            ({"state": "6921e2f0.abc." + "0" * 64}, "We did not ask for it"),
            ({"state": "..."}, "We did not ask for it"),
            ({"state": "тайна"}, "We did not ask for it"),
            ({"state": "x" * 4000}, "We did not ask for it"),
            ({"referer": "evil.kommo.com"}, "another account"),
            ({"referer": "acme.kommo.com.evil.example"}, "another account"),
            ({"referer": "evil.example/acme.kommo.com"}, "another account"),
            ({"referer": "evil@acme.kommo.com:443"}, "another account"),
            ({"referer": "[::1"}, "another account"),
            ({"referer": ""}, "another account"),
            ({"referer": None}, "another account"),
            ({"client_id": "00000000-0000-4000-8000-000000000000"}, "another integration"),
            ({"code": None}, "It holds no code"),
            ({"code": "with space"}, "It holds no code"),
            ({"code": "a\r\nX: y"}, "It holds no code"),
            ({"code": "a" * 4097}, "It holds no code"),
            ({"code": "<script>alert(1)</script> "}, "It holds no code"),
        ],
    )
    async def test_what_is_no_answer_to_us(
        self, face: Served, grants: FakeGrants, changed: dict[str, Any], words: str
    ) -> None:
        is_page(await answered(face, **changed), 400, words)
        assert grants.codes == []
        assert face.access == []

    async def test_a_state_of_another_secret_or_another_hour(self, face: Served, grants: FakeGrants) -> None:
        theirs = new_state(Integration(CLIENT_ID, "another secret", REDIRECT), time.time())
        old = new_state(INTEGRATION, time.time() - STATE_LIFE - 1)
        coming = new_state(INTEGRATION, time.time() + 3600)
        for state in (theirs, old, coming):
            is_page(await answered(face, state=state), 400, "We did not ask for it")
        assert grants.codes == []

    async def test_a_refusal_of_the_person(self, face: Served, grants: FakeGrants) -> None:
        answer = await answered(face, code=None, error="access_denied")
        is_page(answer, 403, "In Kommo it was chosen not to allow it")
        answer = await answered(face, error="<script>alert(1)</script>")
        is_page(answer, 403, "Kommo answered with an error")
        assert grants.codes == []

    async def test_somebody_who_looks_what_is_there(self, face: Served) -> None:
        is_page(await face.ask("GET", PATH), 400, "Nothing is to be seen here")
        assert (await face.ask("HEAD", PATH)).status == 405
        (await face.ask("POST", PATH)).refuses(405)

    async def test_the_code_is_in_no_log(self, face: Served) -> None:
        with capture_logs() as lines:
            for changed in ({}, {"state": "x"}, {"referer": "evil.example"}, {"error": "access_denied"}):
                await answered(face, **changed)
        assert lines
        assert "def50200" not in str(lines)


class TestUninstalled:
    def query(self, **changed: str) -> dict[str, str]:
        account_id = changed.get("account_id", str(ACCOUNT_ID))
        signature = hmac.digest(CLIENT_SECRET.encode(), f"{CLIENT_ID}|{account_id}".encode(), "sha256").hex()
        return {"client_uuid": CLIENT_ID, "account_id": account_id, "signature": signature, **changed}

    async def test_ends_our_access(self, face: Served, grants: FakeGrants) -> None:
        answer = await face.ask("GET", UNINSTALLED, params=self.query())
        assert answer.status == 200
        assert len(grants.forgotten) == len(face.access) == 1
        assert "uninstalled in Kommo" in face.access[0]

    async def test_a_long_lived_token_is_only_told_of(self, tmp_path: Path) -> None:
        async with face_of(tmp_path) as face:
            assert (await face.ask("GET", UNINSTALLED, params=self.query())).status == 200
            assert "uninstalled in Kommo" in face.access[0]

    @pytest.mark.parametrize(
        ("changed", "status", "words"),
        [
            ({"signature": ""}, 403, "signature"),
            ({"signature": "0" * 64}, 403, "signature"),
            ({"signature": "тайна"}, 403, "signature"),
            ({"client_uuid": "another"}, 403, "signature"),
            ({"account_id": ""}, 400, "account_id"),
            ({"account_id": "-1"}, 400, "account_id"),
            ({"account_id": "0" * 30}, 400, "account_id"),
            ({"account_id": "²"}, 400, "account_id"),
            ({"account_id": "9" * 4000}, 400, "account_id"),
            ({"account_id": "31000002"}, 404, "another account"),
        ],
    )
    async def test_is_not_anybodys_word(
        self, face: Served, grants: FakeGrants, changed: dict[str, str], status: int, words: str
    ) -> None:
        (await face.ask("GET", UNINSTALLED, params=self.query(**changed))).refuses(status, words)
        assert grants.forgotten == face.access == []

    async def test_nor_believed_while_our_account_is_not_known(self, face: Served, grants: FakeGrants) -> None:
        face.account_id = None
        (await face.ask("GET", UNINSTALLED, params=self.query())).refuses(503)
        assert grants.forgotten == []

    async def test_is_told_again_where_the_storage_fails(self, face: Served, grants: FakeGrants) -> None:
        grants.failure = KommoUnreachable("the database is gone")
        answer = await face.ask("GET", UNINSTALLED, params=self.query())
        answer.refuses(503, "try again")
        assert face.access == []

    async def test_without_an_integration_there_is_no_such_door(self, tmp_path: Path) -> None:
        kommo = {"base_url": ACCOUNT, "access_token": "access-token-of-tests"}
        async with face_of(tmp_path, kommo=kommo) as face:
            (await face.ask("GET", UNINSTALLED, params=self.query())).refuses(404)
            is_page(await answered(face), 404, "kommo.integration is not configured")


class TestConsent:
    @pytest.mark.parametrize(
        ("base_url", "page"),
        [
            ("https://acme.kommo.com", "https://www.kommo.com/oauth"),
            ("https://acme.amocrm.ru", "https://www.amocrm.ru/oauth"),
            ("https://acme.amocrm.com", "https://www.amocrm.com/oauth"),
            ("http://127.0.0.1:8078", "http://127.0.0.1:8078/oauth"),
            ("https://evilkommo.com", "https://evilkommo.com/oauth"),
        ],
    )
    def test_is_where_the_account_lives(self, base_url: str, page: str) -> None:
        url = URL(consent_url(base_url, INTEGRATION, "a b&c"))
        assert str(url.with_query(None)) == page
        assert dict(url.query) == {"client_id": CLIENT_ID, "state": "a b&c"}

    def test_hosts_are_compared_as_hosts(self) -> None:
        assert is_of_account("ACME.kommo.com", "https://acme.kommo.com")
        assert is_of_account("https://acme.kommo.com/", "https://acme.kommo.com")
        assert is_of_account("127.0.0.1:8078", "http://127.0.0.1:8078")
        assert not is_of_account("127.0.0.1:8079", "http://127.0.0.1:8078")

    def test_the_signature_of_kommos_documentation(self) -> None:
        message = f"{CLIENT_ID}|{ACCOUNT_ID}".encode()
        signature = hmac.digest(CLIENT_SECRET.encode(), message, "sha256").hex()
        assert is_uninstall_signature(signature, INTEGRATION, ACCOUNT_ID)
        assert not is_uninstall_signature(signature, INTEGRATION, ACCOUNT_ID + 1)
