"""The administrator's doors, opened as `curl` opens them, and everything that does not open them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from itgrix_kommo.web.status import Grade, Part
from tests.web_face import PASSWORD, Served, face_of


@pytest.fixture
async def face(tmp_path: Path) -> AsyncIterator[Served]:
    async with face_of(tmp_path) as served:
        yield served


async def curl(face: Served, path: str, *options: str) -> tuple[int, str]:
    """Status and body, by the real curl."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", "5", "-w", "\n%{http_code}", *options, face.url + path,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    body, _, status = output.decode().rpartition("\n")
    return int(status), body


def digest(challenge: str, **changed: str) -> dict[str, str]:
    """An answer to a challenge by the RFC, apart from what is changed."""
    nonce = re.search(r'nonce="([^"]+)"', challenge)
    assert nonce
    algorithm = "SHA-256" if "SHA-256" in challenge else "MD5"

    def hashed(text: str) -> str:
        if algorithm == "MD5":
            return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        return hashlib.sha256(text.encode()).hexdigest()

    given = {
        "username": "admin", "realm": "itgrix-kommo", "nonce": nonce[1], "uri": "/status", "nc": "00000001",
        "cnonce": "abc", "qop": "auth", "algorithm": algorithm, "password": PASSWORD, "method": "GET", **changed,
    }  # fmt: skip
    first = hashed(f"{given['username']}:{given['realm']}:{given.pop('password')}")
    second = hashed(f"{given.pop('method')}:{given['uri']}")
    middle = f"{given['nonce']}:{given['nc']}:{given['cnonce']}:{given['qop']}"
    given.setdefault("response", hashed(f"{first}:{middle}:{second}"))
    return {"Authorization": "Digest " + ", ".join(f'{name}="{value}"' for name, value in given.items())}


async def challenges(face: Served, headers: dict[str, str] | None = None) -> list[str]:
    async with face.http.get(face.url + "/status", headers=headers) as answer:
        assert answer.status == 401
        return answer.headers.getall("WWW-Authenticate")


class TestCurl:
    async def test_digest(self, face: Served) -> None:
        status, body = await curl(face, "/status", "--digest", "-u", f"admin:{PASSWORD}")
        assert (status, json.loads(body)["app_status"]) == (200, "Ok")

    async def test_basic_on_the_host_itself(self, face: Served) -> None:
        assert (await curl(face, "/status", "-u", f"admin:{PASSWORD}"))[0] == 200

    @pytest.mark.parametrize("way", ["--digest", "--basic"])
    @pytest.mark.parametrize("login", ["admin:wrong", f"root:{PASSWORD}", "admin:"])
    async def test_wrong_ones(self, face: Served, way: str, login: str) -> None:
        assert (await curl(face, "/status", way, "-u", login))[0] == 401

    async def test_basic_behind_a_proxy_that_nobody_trusts(self, face: Served) -> None:
        behind = ("-H", "X-Forwarded-For: 127.0.0.1", "-H", "X-Forwarded-Proto: https")
        assert (await curl(face, "/status", "-u", f"admin:{PASSWORD}", *behind))[0] == 403
        assert (await curl(face, "/status", "--digest", "-u", f"admin:{PASSWORD}", *behind))[0] == 200

    async def test_basic_behind_a_trusted_proxy_with_tls(self, tmp_path: Path) -> None:
        http = {"port": unused_port(), "admin": {"password": PASSWORD}, "trusted_proxies": ["127.0.0.1/32"]}
        async with face_of(tmp_path, http=http) as face:
            behind = ("-u", f"admin:{PASSWORD}", "-H", "X-Forwarded-For: 203.0.113.7", "-H")
            assert (await curl(face, "/status", *behind, "X-Forwarded-Proto: https"))[0] == 200
            assert (await curl(face, "/status", *behind, "X-Forwarded-Proto: http"))[0] == 403

    async def test_who_guesses_does_not_fill_the_log(self, face: Served) -> None:
        wrong = {"Authorization": "Basic " + base64.b64encode(b"admin:guessed").decode()}
        with capture_logs() as lines:
            for _ in range(80):
                (await face.ask("GET", "/status", headers=wrong)).refuses(401)
        assert [line["event"] for line in lines].count("admin_refused") == 60


class TestDigest:
    async def test_both_algorithms_are_offered_the_better_first(self, face: Served) -> None:
        ways = [way.split(",")[0] for way in await challenges(face)]
        assert ways == ["Digest algorithm=SHA-256", "Digest algorithm=MD5", 'Basic realm="itgrix-kommo"']
        assert len(await challenges(face, {"X-Forwarded-For": "203.0.113.7"})) == 2

    @pytest.mark.parametrize("which", [0, 1])
    async def test_each_of_them(self, face: Served, which: int) -> None:
        challenge = (await challenges(face))[which]
        assert (await face.ask("GET", "/status", headers=digest(challenge))).status == 200

    async def test_an_answer_counts_once(self, face: Served) -> None:
        challenge = (await challenges(face))[0]
        headers = digest(challenge)
        assert (await face.ask("GET", "/status", headers=headers)).status == 200
        again = await challenges(face, headers)
        assert all("stale=true" in way for way in again[:2])
        next_one = digest(challenge, nc="00000002")
        assert (await face.ask("GET", "/status", headers=next_one)).status == 200

    async def test_a_challenge_lasts_for_minutes(self, face: Served) -> None:
        now = face.face.door._now()
        challenge = (await challenges(face))[0]
        face.face.door._now = lambda: now + 301
        assert "stale=true" in (await challenges(face, digest(challenge)))[0]

    @pytest.mark.parametrize(
        "changed",
        [
            {"uri": "/metrics"},
            {"method": "POST"},
            {"realm": "another"},
            {"qop": "auth-int"},
            {"nonce": "made.up.nonce"},
            {"nonce": ""},
            {"nc": "1"},
            {"nc": "00000000"},
            {"algorithm": "SHA-512"},
            {"response": ""},
            {"response": "0" * 64},
        ],
    )
    async def test_what_does_not_fit(self, face: Served, changed: dict[str, str]) -> None:
        challenge = (await challenges(face))[0]
        (await face.ask("GET", "/status", headers=digest(challenge, **changed))).refuses(401)

    @pytest.mark.parametrize(
        "header",
        [
            "Digest",
            "Digest ,,,",
            "Digest username=",
            'Digest username="' + "\\" * 3000,
            "Basic",
            "Basic ????",
            "Basic /w==",
            "Basic ÿ",
            "Negotiate x",
        ],
    )
    async def test_what_is_no_login(self, face: Served, header: str) -> None:
        (await face.ask("GET", "/status", headers={"Authorization": header})).refuses(401)

    async def test_no_password_no_entry(self, tmp_path: Path) -> None:
        async with face_of(tmp_path, http={"port": unused_port()}) as face:
            for given in ("admin:", "admin:None"):
                headers = {"Authorization": "Basic " + base64.b64encode(given.encode()).decode()}
                (await face.ask("GET", "/status", headers=headers)).refuses(403, "http.admin.password")

    async def test_many_clients_make_nothing_grow(self, face: Served) -> None:
        for _ in range(1005):
            nonce = face.face.door._nonce()
            face.face.door._counted(nonce, 1)
        assert len(face.face.door._counts) <= 1000


ADMIN = {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}


class TestStatus:
    async def test_in_the_vendors_shape(self, face: Served) -> None:
        body = (await face.ask("GET", "/status", headers=ADMIN)).json
        assert (body["app_state"], body["app_status"]) == ("", "Ok")
        assert body["customizer"]["enabled"] is True
        assert body["customizer"]["methods"]["process_originate_params"] is False
        assert len(body["customizer"]["methods"]) == 13

    async def test_each_outside_thing_and_its_last_error(self, face: Served) -> None:
        face.outside.part = Part("login refused", Grade.ERROR, stops=True, facts={"connected": False})
        body = (await face.ask("GET", "/status", headers=ADMIN)).json
        assert (body["app_state"], body["app_status"]) == ("stopped", "Error")
        assert body["outside"]["asterisk"]["error"] == "login refused"
        face.outside.part = Part(facts={"connected": True})
        body = (await face.ask("GET", "/status", headers=ADMIN)).json
        assert (body["app_state"], body["app_status"]) == ("", "Ok")
        assert (body["outside"]["asterisk"]["error"], body["outside"]["asterisk"]["last_error"]) == (
            None,
            "login refused",
        )
        assert body["outside"]["asterisk"]["connected"] is True

    async def test_holds_no_secret(self, face: Served) -> None:
        text = (await face.ask("GET", "/status", headers=ADMIN)).text
        assert "of-tests" not in text.replace(str(face.directory), "")


class TestMetrics:
    async def test_are_read_by_prometheus_own_reader(self, face: Served) -> None:
        await face.call()
        await face.call({"extension": "101", "phone": "1"})
        answer = await face.ask("GET", "/metrics", headers=ADMIN)
        assert answer.headers["Content-Type"].startswith("text/plain")
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in families.values()
            for sample in family.samples
        }
        assert values["itgrix_live_calls",] == 2
        assert values["itgrix_originates_total", "started"] == 1
        assert values["itgrix_originates_total", "refused"] == 1
        assert values["itgrix_http_request_duration_seconds_count", "POST", "/originate", "202"] == 1
        for name, family in families.items():
            assert re.fullmatch(r"itgrix_[a-z_]+", name)
            assert family.documentation.endswith(".")
            assert family.type in {"gauge", "counter", "histogram"}

    async def test_labels_do_not_grow_with_what_is_asked(self, face: Served) -> None:
        for path in ("/nowhere", "/webhooks/kommo/guess", "/originate/some-id"):
            await face.ask("GET", path)
        await face.ask("PROPFIND", "/status")
        text = (await face.ask("GET", "/metrics", headers=ADMIN)).text
        assert "nowhere" not in text
        assert "guess" not in text
        assert 'path="/originate/{originate_id}"' in text
        assert 'method="other"' in text


class TestHealth:
    async def test_is_open_and_fails_with_the_reason(self, face: Served) -> None:
        answer = await face.ask("GET", "/healthz")
        assert (answer.status, answer.json["status"]) == (200, "ok")
        face.outside.fault = "no link to Asterisk"
        answer = await face.ask("GET", "/healthz")
        assert (answer.status, answer.json["capturing_fault"]) == (503, "no link to Asterisk")
