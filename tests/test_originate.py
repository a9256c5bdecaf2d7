"""Click-to-call over HTTP: who may, what is dialled, what is refused, how often, and what the log says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp.test_utils import unused_port

from itgrix_kommo.ami.settings import LinkStatus
from itgrix_kommo.errors import AmiActionFailed, AmiActionTimeout
from tests.web_face import (
    ACCOUNT,
    ACCOUNT_ID,
    ANN,
    ASKED,
    BORIS,
    BY_TOKEN,
    CLIENT_SECRET,
    ORIGINATE_TOKEN,
    Served,
    by_widget,
    face_of,
    signed,
)


@pytest.fixture
async def face(tmp_path: Path) -> AsyncIterator[Served]:
    async with face_of(tmp_path) as served:
        yield served


class TestAnOrder:
    async def test_reaches_asterisk_once(self, face: Served) -> None:
        answer = await face.call()
        assert answer.status == 202
        click_id = answer.json["originate_id"]
        assert answer.headers["Location"] == f"/originate/{click_id}"
        assert len(click_id) >= 24
        assert face.originated == {
            "Action": "Originate",
            "ActionID": click_id,
            "Channel": "PJSIP/101",
            "Context": "from-internal",
            "Exten": "+79991234567",
            "Priority": "1",
            "CallerID": '"+79991234567" <101>',
            "Timeout": "30000",
            "Async": "true",
            "Variable": [f"ITGRIX_ORIGINATE={click_id}"],
        }

    async def test_by_the_users_id(self, face: Served) -> None:
        assert (await face.call({"user_id": BORIS, "phone": "8 (999) 123-45-67"})).status == 202
        assert (face.originated["Channel"], face.originated["Exten"]) == ("PJSIP/102", "+79991234567")

    async def test_can_be_asked_after_by_who_gave_it(self, face: Served) -> None:
        click_id = (await face.call()).json["originate_id"]
        answer = await face.ask("GET", f"/originate/{click_id}", headers=BY_TOKEN)
        assert answer.json["state"] == "queued"
        assert (answer.json["extension"], answer.json["phone"]) == ("101", "+79991234567")
        stranger = await face.ask("GET", f"/originate/{click_id}", headers=by_widget())
        stranger.refuses(404)
        (await face.ask("GET", f"/originate/{click_id}")).refuses(401)
        (await face.ask("GET", "/originate/another", headers=BY_TOKEN)).refuses(404)

    async def test_is_in_the_log_whatever_becomes_of_it(self, face: Served) -> None:
        with structlog.testing.capture_logs() as log:
            await face.call()
            await face.call({"extension": "101", "phone": "+1"})
        started, refused = (line for line in log if line["event"].startswith("originate_"))
        assert (started["event"], started["by"], started["address"]) == ("originate_started", "program", "127.0.0.1")
        assert (started["extension"], started["dialled"]) == ("101", "+79991234567")
        assert (refused["event"], refused["status"], refused["phone"]) == ("originate_refused", 400, "+1")

    async def test_also_if_nobody_knows_who_gives_it(self, face: Served) -> None:
        with structlog.testing.capture_logs() as log:
            await face.call(headers={"Authorization": "Bearer wrong"})
            await face.call({"phone": "+79991234567"}, by_widget(account_id=1))
            await face.call({"phone": "+79991234567"})
            await face.call([])
        lines = [line for line in log if line["event"] == "originate_refused"]
        assert [(line["by"], line["status"], line["address"]) for line in lines] == [
            ("unknown", 401, "127.0.0.1"),
            ("unknown", 401, "127.0.0.1"),
            ("program", 400, "127.0.0.1"),
            ("program", 400, "127.0.0.1"),
        ]
        assert face.face.clicks.results["refused"] == 4

    async def test_strangers_do_not_fill_the_log(self, face: Served) -> None:
        now = time.time()
        face.face.clicks._now = lambda: now
        with structlog.testing.capture_logs() as log:
            for _ in range(100):
                await face.call(headers={})
            now += 60
            await face.call(headers={})
        lines = [line for line in log if line["event"] == "originate_refused"]
        assert len(lines) == 61
        assert lines[-1]["left_out_before"] == 40


class TestRefused:
    @pytest.mark.parametrize(
        ("phone", "status"),
        [
            ("", 400),
            ("hello", 400),
            ("+7999123456\r\nAction: Command", 400),
            ("+79991234567\n", 400),
            ("${SHELL(id)}", 400),
            ("+79991234567,1,System(id)", 400),
            ("+7999123456７", 400),
            ("*7299", 400),
            ("+7999#", 400),
            ("+" + "9" * 60, 400),
            ("112", 400),
            ("101", 400),
            ("+7", 400),
        ],
    )
    async def test_what_is_no_number(self, face: Served, phone: str, status: int) -> None:
        (await face.call({"extension": "101", "phone": phone})).refuses(status, "phone")
        assert not face.asterisk.actions

    @pytest.mark.parametrize(
        "body",
        [
            [],
            "text",
            {},
            {"phone": "+79991234567"},
            {"extension": 101, "phone": "+79991234567"},
            {"extension": "101", "phone": 79991234567},
            {"extension": "101", "user_id": ANN, "phone": "+79991234567"},
            {"extension": "101", "phone": "+79991234567", "channel": "PJSIP/+79990000000@trunk"},
            {"user_id": -1, "phone": "+79991234567"},
            {"user_id": True, "phone": "+79991234567"},
        ],
    )
    async def test_another_body(self, face: Served, body: Any) -> None:
        (await face.call(body)).refuses(400)
        assert not face.asterisk.actions

    async def test_what_is_no_json(self, face: Served) -> None:
        headers = {**BY_TOKEN, "Content-Type": "application/json"}
        for body in (b"", b"{", b"\xff\xfe", b"[" * 5000):
            (await face.ask("POST", "/originate", data=body, headers=headers)).refuses(400)

    async def test_another_type_of_body(self, face: Served) -> None:
        (await face.ask("POST", "/originate", data={"phone": "+79991234567"}, headers=BY_TOKEN)).refuses(415)

    async def test_a_large_body(self, face: Served) -> None:
        (await face.call({**ASKED, "phone": "9" * 100_000})).refuses(413)

    async def test_nobody_has_the_extension(self, face: Served) -> None:
        (await face.call({"extension": "199", "phone": "+79991234567"})).refuses(404, "employees")
        (await face.call({"user_id": 7, "phone": "+79991234567"})).refuses(404, "user_id 7")

    async def test_a_number_that_no_pattern_allows(self, tmp_path: Path) -> None:
        async with face_of(tmp_path, originate={"allowed": ["+7XXXXXXXXXX"]}) as face:
            (await face.call({"extension": "101", "phone": "+442079460000"})).refuses(403, "originate.allowed")
            assert (await face.call()).status == 202

    async def test_a_colleague_is_called_where_a_pattern_allows_it(self, tmp_path: Path) -> None:
        async with face_of(tmp_path, originate={"allowed": ["1XX"]}) as face:
            assert (await face.call({"extension": "101", "phone": "102"})).status == 202

    async def test_without_asterisk(self, face: Served) -> None:
        face.asterisk.status = LinkStatus(error="connection refused")
        (await face.call()).refuses(503, "connection refused")

    @pytest.mark.parametrize(
        ("failure", "words"),
        [(AmiActionFailed("Permission denied"), "nothing was dialled"), (AmiActionTimeout("silent"), "nobody knows")],
    )
    async def test_asterisk_does_not_take_it(self, face: Served, failure: Exception, words: str) -> None:
        face.asterisk.failure = failure
        (await face.call()).refuses(503, words)
        assert len(face.face.clicks.clicks) == 0


class TestCredentials:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer "},
            {"Authorization": f"Basic {ORIGINATE_TOKEN}"},
            {"Authorization": f"Bearer {ORIGINATE_TOKEN[:-1]}"},
            {"Authorization": f"Bearer {ORIGINATE_TOKEN}x"},
            {"Authorization": "Bearer тайна"},
            {"X-Auth-Token": ""},
            {"X-Auth-Token": "a.b.c"},
            {"X-Auth-Token": "a" * 5000},
        ],
    )
    async def test_wrong_ones(self, face: Served, headers: dict[str, str]) -> None:
        answer = await face.call(headers=headers)
        answer.refuses(401)
        assert "WWW-Authenticate" in answer.headers
        assert not face.asterisk.actions

    async def test_no_token_is_configured(self, tmp_path: Path) -> None:
        async with face_of(tmp_path, http={"port": unused_port()}) as face:
            (await face.call(headers={"Authorization": "Bearer "})).refuses(401)
            (await face.call(headers={"Authorization": "Bearer None"})).refuses(401)

    async def test_kommos_user_rings_his_own_phone(self, face: Served) -> None:
        assert (await face.call({"phone": "+79991234567"}, by_widget(user_id=BORIS))).status == 202
        assert face.originated["Channel"] == "PJSIP/102"

    async def test_kommos_user_rings_nobody_elses(self, face: Served) -> None:
        (await face.call(ASKED, by_widget(user_id=BORIS))).refuses(403, "own user's phone")
        (await face.call({"phone": "+79991234567"}, by_widget(user_id=77))).refuses(404, "77")

    @pytest.mark.parametrize(
        ("claims", "words"),
        [
            ({"iss": "https://other.kommo.com"}, "iss"),
            ({"aud": "https://elsewhere.example.com"}, "aud"),
            ({"aud": ["https://elsewhere.example.com"]}, "aud"),
            ({"account_id": ACCOUNT_ID + 1}, "account"),
            ({"client_uuid": "another"}, "client_uuid"),
            ({"iat": int(time.time()) - 7200, "exp": int(time.time()) - 3600}, "expired"),
            ({"nbf": int(time.time()) + 6 * 3600}, "not valid yet"),
            ({"iat": int(time.time()) + 6 * 3600}, "not valid yet"),
            ({"exp": int(time.time()) + 100_000}, "longer"),
            ({"iat": int(time.time()) - 900, "nbf": 0}, "before this daemon's start"),
            ({"jti": None}, "jti"),
            ({"exp": None}, "exp"),
            ({"user_id": "nobody"}, "user_id"),
            ({"key": "another-secret"}, "signature"),
            ({"key": ""}, "signature"),
            ({"header": {"alg": "none"}}, "HS256"),
            ({"header": {"alg": "HS512"}}, "HS256"),
            ({"header": {"alg": "hs256"}}, "HS256"),
            ({"header": {"alg": ["HS256"]}}, "HS256"),
            ({"header": {"alg": "HS256", "crit": ["exp"]}}, "HS256"),
        ],
    )
    async def test_a_token_of_kommo_that_does_not_hold(self, face: Served, claims: dict[str, Any], words: str) -> None:
        (await face.call({"phone": "+79991234567"}, by_widget(**claims))).refuses(401, words)
        assert not face.asterisk.actions

    async def test_none_without_a_signature(self, face: Served) -> None:
        token = signed(header={"alg": "none"}).rpartition(".")[0]
        for end in (".", ".AA", ""):
            (await face.call({"phone": "+79991234567"}, {"X-Auth-Token": token + end})).refuses(401)

    async def test_a_changed_claim_breaks_the_signature(self, face: Served) -> None:
        head, _, tail = signed().split(".")
        _, other, _ = signed(user_id=BORIS).split(".")
        (await face.call({"phone": "+79991234567"}, {"X-Auth-Token": f"{head}.{other}.{tail}"})).refuses(401)

    async def test_each_token_is_good_for_one_call(self, face: Served) -> None:
        headers = by_widget()
        click_id = (await face.call({"phone": "+79991234567"}, headers)).json["originate_id"]
        (await face.call({"phone": "+79991234567"}, headers)).refuses(401, "used already")
        progress = f"/originate/{click_id}"
        # To ask after that call is the same purpose, with the same token or with a new one.
        assert (await face.ask("GET", progress, headers=headers)).status == 200
        fresh = by_widget()
        assert (await face.ask("GET", progress, headers=fresh)).status == 200
        (await face.call({"phone": "+79991234567"}, fresh)).refuses(401, "used already")
        assert len(face.asterisk.actions) == 1

    async def test_a_refused_request_uses_its_token_up(self, face: Served) -> None:
        headers = by_widget()
        (await face.call({"phone": "no number"}, headers)).refuses(400)
        (await face.call({"phone": "+79991234567"}, headers)).refuses(401, "used already")

    async def test_many_at_once_with_one_token(self, face: Served) -> None:
        headers = by_widget()
        answers = await asyncio.gather(*(face.call({"phone": "+79991234567"}, headers) for _ in range(20)))
        assert sorted(answer.status for answer in answers) == [202] + [401] * 19
        assert len(face.asterisk.actions) == 1

    async def test_the_account_is_not_known_yet(self, face: Served) -> None:
        face.account_id = None
        (await face.call({"phone": "+79991234567"}, by_widget())).refuses(503, "not known yet")
        assert (await face.call()).status == 202

    async def test_secrets_are_never_told(self, face: Served) -> None:
        headers = by_widget()
        with structlog.testing.capture_logs() as log:
            answers = [await face.call(headers={"Authorization": "Bearer wrong"})]
            answers += [await face.call({"phone": "1"}, headers), await face.call({"phone": "1"}, headers)]
        told = repr(log) + repr(answers)
        assert ORIGINATE_TOKEN not in told
        assert CLIENT_SECRET not in told
        assert headers["X-Auth-Token"] not in told


class TestRates:
    async def test_of_one_user(self, tmp_path: Path) -> None:
        async with face_of(tmp_path, originate={"per_user_per_minute": 2}) as face:
            assert [(await face.call()).status for _ in range(2)] == [202, 202]
            refused = await face.call()
            refused.refuses(429, "by one user")
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
            assert (await face.call({"user_id": BORIS, "phone": "+79991234567"})).status == 202

    async def test_of_all_together(self, tmp_path: Path) -> None:
        async with face_of(tmp_path, originate={"per_minute": 3}) as face:
            bodies = [{"user_id": user, "phone": "+79991234567"} for user in (ANN, BORIS)] * 2
            answers = await asyncio.gather(*(face.call(body) for body in bodies))
            assert sorted(answer.status for answer in answers) == [202, 202, 202, 429]
            assert len(face.asterisk.actions) == 3


def answering(expression: str) -> dict[str, str]:
    code = f'def process_originate_params(params):\n    return {{"state": "success", "data": {expression}}}\n'
    return {"process_originate_params": code}


class TestTheCustomization:
    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ('{"extension": "8" + params["extension"][-10:]}', {"Exten": "89991234567"}),
            ('{"extension": "98" + params["extension"][-10:]}', {"Exten": "989991234567"}),
            ('{"context": "other-trunk"}', {"Context": "other-trunk"}),
            ('{"channel": "Local/101@from-internal/n"}', {"Channel": "Local/101@from-internal/n"}),
            ('{"channel": "PJSIP/+79990000001@trunk"}', {"Channel": "PJSIP/+79990000001@trunk"}),
            ('{"channel": "PJSIP/101-softphone"}', {"Channel": "PJSIP/101-softphone"}),
            ('{"channel": "SIP/101@192.168.10.20"}', {"Channel": "SIP/101@192.168.10.20"}),
            ('{"channel": "PJSIP/101@74957770100"}', {"Channel": "PJSIP/101@74957770100"}),
            ('{"caller_id": "\\"Ann\\" <101>", "priority": "2"}', {"CallerID": '"Ann" <101>', "Priority": "2"}),
        ],
    )
    async def test_changes_how_it_is_dialled(self, tmp_path: Path, change: str, expected: dict[str, str]) -> None:
        async with face_of(tmp_path, answering(f"{{**params, **{change}}}")) as face:
            answer = await face.call()
            assert answer.status == 202, answer.body
            assert face.originated.items() >= expected.items()

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ('{"extension": "+442079460000"}', "extension"),
            ('{"extension": "*72" + "+79991234567"}', "extension"),
            ('{"extension": "*79991234567"}', "extension"),
            ('{"extension": "79991234567#99"}', "extension"),
            ('{"extension": "79991234567&PJSIP/2"}', "extension"),
            ('{"extension": "${EXTEN}"}', "extension"),
            ('{"extension": "112"}', "extension"),
            ('{"channel": "PJSIP/101&PJSIP/+442079460000@trunk"}', "channel"),
            ('{"channel": "PJSIP/+442079460000@trunk"}', "channel"),
            ('{"channel": "Local/00442079460000@from-internal"}', "channel"),
            ('{"channel": "PJSIP/trunk/sip:+442079460000@trunk"}', "channel"),
            ('{"channel": "Local/+442079460000@from-internal/79990000001"}', "channel"),
            ('{"channel": "PJSIP/+44-20-7946-0000@trunk"}', "channel"),
            ('{"channel": "DAHDI/g1/9w00442079460000"}', "channel"),
            ('{"channel": "Local/*72442079460000@from-internal"}', "channel"),
            ('{"channel": "PJSIP/101,30,U(x)"}', "channel"),
            ('{"channel": "101"}', "channel"),
            ('{"context": "from internal"}', "context"),
            ('{"context": "x,s,1"}', "context"),
            ('{"caller_id": "${SHELL(id)}"}', "caller_id"),
            ('{"caller_id": "x" * 500}', "caller_id"),
            ('{"priority": 0}', "priority"),
        ],
    )
    async def test_may_not_lead_elsewhere(self, tmp_path: Path, change: str, field: str) -> None:
        async with face_of(
            tmp_path, answering(f"{{**params, **{change}}}"), originate={"allowed": ["+7XXXXXXXXXX"]}
        ) as face:
            (await face.call()).refuses(403, f"{field}: this is not dialled")
            assert not face.asterisk.actions

    @pytest.mark.parametrize("change", [r'{"context": "x\r\nAction: Command"}', r'{"caller_id": "x\r\nVariable: A=1"}'])
    async def test_a_line_break_never_reaches_asterisk(self, tmp_path: Path, change: str) -> None:
        async with face_of(tmp_path, answering(f"{{**params, **{change}}}")) as face:
            await face.call()
            assert all("\n" not in str(value) and "\r" not in str(value) for value in face.originated.values())

    async def test_cancels(self, tmp_path: Path) -> None:
        async with face_of(tmp_path, answering("{}")) as face:
            (await face.call()).refuses(403, "cancelled by customization")
            assert not face.asterisk.actions

    async def test_that_fails_changes_nothing(self, tmp_path: Path) -> None:
        async with face_of(
            tmp_path, {"process_originate_params": "def process_originate_params(p):\n    1 / 0\n"}
        ) as face:
            assert (await face.call()).status == 202
            assert face.originated["Exten"] == "+79991234567"

    async def test_is_given_the_request(self, tmp_path: Path) -> None:
        seen = tmp_path / "seen"
        code = f"""
import json, pathlib
def process_originate_params(params):
    pathlib.Path({str(seen)!r}).write_text(json.dumps(params))
    return {{"state": "success", "data": params}}
"""
        async with face_of(tmp_path, {"process_originate_params": code}) as face:
            await face.call({"user_id": ANN, "phone": "8-999-123-45-67"})
        assert '"request_data": {"user_id": 9100001, "phone": "8-999-123-45-67"}' in seen.read_text()


class TestPagesOfTheAccount:
    async def test_may_read_answers_and_refusals(self, face: Served) -> None:
        for headers in (BY_TOKEN, {}):
            answer = await face.call(headers={**headers, "Origin": ACCOUNT})
            assert answer.headers["Access-Control-Allow-Origin"] == ACCOUNT
            assert answer.headers["Vary"] == "Origin"

    async def test_are_told_so_before(self, face: Served) -> None:
        asked = {"Origin": ACCOUNT, "Access-Control-Request-Method": "POST"}
        for path in ("/originate", "/originate/some-id"):
            answer = await face.ask("OPTIONS", path, headers=asked)
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == ACCOUNT
            assert "X-Auth-Token" in answer.headers["Access-Control-Allow-Headers"]

    @pytest.mark.parametrize(
        "origin",
        ["https://evil.example.com", "null", ACCOUNT + ".evil.com", "http://acme.kommo.com", ACCOUNT + "/", "*"],
    )
    async def test_no_others(self, face: Served, origin: str) -> None:
        refused = await face.ask("OPTIONS", "/originate", headers={"Origin": origin})
        refused.refuses(403)
        answer = await face.call(headers={**BY_TOKEN, "Origin": origin})
        for one in (refused, answer):
            assert "Access-Control-Allow-Origin" not in one.headers
