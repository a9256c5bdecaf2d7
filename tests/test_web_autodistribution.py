"""What a dialplan is told: over real HTTP, whatever Kommo and the customization do meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from itgrix_kommo.errors import KommoUnreachable
from itgrix_kommo.kommo.listings import Client
from itgrix_kommo.web.caller_names import caller_name
from tests.web_face import ANN, AUTODISTRIBUTION_TOKEN, ORIGINATE_TOKEN, Served, face_of

KNOWN = "+79991234567"
CLIENT = Client("contacts", 5501, "Иван Петров", ANN, (KNOWN,))
HOOK = "customize_autodistribution"


@pytest.fixture
async def face(tmp_path: Path) -> AsyncIterator[Served]:
    async with face_of(tmp_path) as served:
        served.phones.clients[KNOWN] = CLIENT
        yield served


async def told(face: Served, caller: str = KNOWN) -> str:
    answer = await face.ask("GET", "/autodistribution", params={"from": caller, "trunk": "PJSIP/trunk"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    return answer.text


def hook(expression: str, seen: Path | None = None) -> dict[str, str]:
    keep = f"import json, pathlib; pathlib.Path({str(seen)!r}).write_text(json.dumps(params))" if seen else "pass"
    return {HOOK: f'def {HOOK}(params):\n    {keep}\n    return {{"state": "success", "data": {expression}}}\n'}


class TestTheAnswer:
    async def test_is_the_responsibles_extension_and_the_clients_name(self, face: Served) -> None:
        assert await told(face) == "101;Иван Петров"

    async def test_is_empty_for_who_is_unknown(self, face: Served) -> None:
        assert await told(face, "+79990000000") == ""

    @pytest.mark.parametrize("caller", ["", "anonymous", "x" * 64, "${SHELL(id)}", "+7 999"])
    async def test_is_empty_for_what_is_no_number(self, face: Served, caller: str) -> None:
        assert await told(face, caller) == ""

    async def test_is_empty_where_the_responsible_has_no_phone(self, face: Served) -> None:
        face.phones.clients[KNOWN] = Client("contacts", 5501, "Ivan", 77, (KNOWN,))
        assert await told(face) == ""

    async def test_is_empty_in_time_while_kommo_hangs(self, face: Served) -> None:
        face.phones.hangs = True
        begun = time.monotonic()
        assert await told(face) == ""
        assert time.monotonic() - begun < 1.0

    async def test_is_empty_while_kommo_fails(self, face: Served) -> None:
        face.phones.fails = KommoUnreachable("away")
        assert await told(face) == ""
        assert face.face.autodistribution.results == {"failed": 1}

    async def test_is_json_for_who_asks_for_it(self, face: Served) -> None:
        answer = await face.ask(
            "GET", "/autodistribution", params={"from": KNOWN}, headers={"Accept": "application/json"}
        )
        assert answer.json == {"number": "101", "name": "Иван Петров"}

    async def test_fits_a_dialplan_whatever_the_name(self, face: Served) -> None:
        face.phones.clients[KNOWN] = Client("contacts", 1, '${SHELL(id)};"Evil", Inc\r\n', ANN, (KNOWN,))
        assert await told(face) == "101;SHELL(id) Evil Inc"

    async def test_without_a_number_to_ask_for(self, face: Served) -> None:
        (await face.ask("GET", "/autodistribution")).refuses(400, "from")
        (await face.ask("GET", "/autodistribution", params={"from": "1" * 200})).refuses(400)


class TestTheCustomization:
    async def test_sends_the_call_elsewhere(self, tmp_path: Path) -> None:
        async with face_of(tmp_path, hook('{"number": "102", "name": "VIP: " + params["name"]}')) as face:
            face.phones.clients[KNOWN] = CLIENT
            assert await told(face) == "102;VIP: Иван Петров"

    async def test_is_given_what_was_found(self, tmp_path: Path) -> None:
        seen = tmp_path / "seen"
        async with face_of(tmp_path, hook("params", seen)) as face:
            face.phones.clients[KNOWN] = CLIENT
            assert await told(face) == "101;Иван Петров"
        assert json.loads(seen.read_text()) == {
            "number": "101",
            "name": "Иван Петров",
            "from": KNOWN,
            "trunk": "PJSIP/trunk",
            "request_data": {"from": KNOWN, "trunk": "PJSIP/trunk"},
            "entity": {
                "id": 5501,
                "type": "contacts",
                "name": "Иван Петров",
                "phones": [KNOWN],
                "is_new": False,
                "responsible": {"id": ANN, "name": "Ann", "phones": ["101"]},
                "responsible_id": ANN,
            },
            "error": "",
        }

    async def test_is_asked_for_unknown_callers_too(self, tmp_path: Path) -> None:
        async with face_of(tmp_path, hook('{"number": "102", "name": params["error"]}')) as face:
            assert await told(face, "+79990000000") == "102;not found"

    async def test_is_asked_when_kommo_hangs_and_still_in_time(self, tmp_path: Path) -> None:
        async with face_of(tmp_path, hook('{"number": "102", "name": params["error"]}')) as face:
            await told(face)  # its worker runs from now on
            face.phones.hangs = True
            begun = time.monotonic()
            assert await told(face) == "102;Kommo did not answer"
            assert time.monotonic() - begun < 1.0

    async def test_that_hangs_delays_nobody(self, tmp_path: Path) -> None:
        code = {HOOK: f"import time\ndef {HOOK}(params):\n    time.sleep(30)\n"}
        async with face_of(tmp_path, code) as face:
            face.phones.clients[KNOWN] = CLIENT
            begun = time.monotonic()
            assert await told(face) == "101;Иван Петров"
            assert time.monotonic() - begun < 1.0

    async def test_with_a_long_time_out_of_its_own_delays_nobody_either(self, tmp_path: Path) -> None:
        code = {HOOK: f"import time\ndef {HOOK}(params):\n    time.sleep(30)\n"}
        more = {"directory": str(tmp_path / "actions"), "timeouts": {HOOK: 20}}
        async with face_of(tmp_path, code, customizations=more) as face:
            face.phones.clients[KNOWN] = CLIENT
            begun = time.monotonic()
            assert await told(face) == "101;Иван Петров"
            assert time.monotonic() - begun < 1.0

    @pytest.mark.parametrize("number", ["101&PJSIP/102", "${X}", "101,30", "1" * 50, "101 102"])
    async def test_gives_no_number_that_a_dialplan_would_take_apart(self, tmp_path: Path, number: str) -> None:
        async with face_of(tmp_path, hook(f'{{"number": {number!r}, "name": "x"}}')) as face:
            assert await told(face) == ""


class TestWhoMayAsk:
    async def test_a_program_with_the_token(self, face: Served) -> None:
        headers = {"Authorization": f"Bearer {AUTODISTRIBUTION_TOKEN}", "X-Forwarded-For": "203.0.113.7"}
        assert (await face.ask("GET", "/autodistribution?from=1", headers=headers)).status == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": f"Bearer {ORIGINATE_TOKEN}"},
            {"Authorization": "Bearer wrong"},
            {"X-Forwarded-For": "127.0.0.1"},
            {"x-forwarded-for": ""},
            {"Forwarded": "for=127.0.0.1"},
            {"Via": "1.1 proxy"},
            {"X-Real-IP": "127.0.0.1"},
            {"X-Forwarded-Host": "localhost"},
        ],
    )
    async def test_nobody_who_only_says_so(self, face: Served, headers: dict[str, str]) -> None:
        (await face.ask("GET", "/autodistribution?from=1", headers=headers)).refuses(401)

    async def test_a_trusted_proxys_word_makes_nobody_local(self, tmp_path: Path) -> None:
        http = {"port": 1, "trusted_proxies": ["127.0.0.0/8"]}
        async with face_of(tmp_path, http={**http, "port": _free()}) as face:
            for claimed in ("127.0.0.1", "203.0.113.7"):
                answer = await face.ask("GET", "/autodistribution?from=1", headers={"X-Forwarded-For": claimed})
                answer.refuses(401)


def _free() -> int:
    return aiohttp.test_utils.unused_port()


class TestManyAtOnce:
    async def test_a_thousand_callers_while_kommo_hangs(self, face: Served) -> None:
        face.phones.hangs = True
        face.http.connector._limit = 0  # type: ignore[union-attr]  # all at once, not a hundred after the other
        async with asyncio.timeout(60):  # far less than Kommo hangs
            answers = await asyncio.gather(*(told(face, f"+7999000{n:04}") for n in range(1000)))
        assert answers == [""] * 1000


class TestNames:
    @pytest.mark.parametrize(
        ("name", "shown"),
        [
            ("Anna", "Anna"),
            ("", ""),
            ("  Anna \t  B. \n", "Anna B."),
            ("Константин Константинопольский", "Константин Константи"),
            ('a;b,c"d${e}f', "a b c d e f"),
            ("Anna\x00\x1b[31m\u202eevil", "Anna [31mevil"),
            ("x" * 19 + "e\u0301y", "x" * 19 + "é"),
            ("x" * 19 + "q\u0301y", "x" * 19),
            ("x" * 18 + "👨\u200d👩\u200d👧", "x" * 18),
            ("x" * 19 + "👍🏽", "x" * 19),
            ("x" * 19 + "🇪🇸", "x" * 19),
            ("x" * 18 + "🇪🇸🇷🇺", "x" * 18 + "🇪🇸"),
            ("x" * 19 + " y", "x" * 19),
            ("\u0301" * 30, ""),
        ],
    )
    def test_are_cut_between_what_people_see_as_letters(self, name: str, shown: str) -> None:
        assert caller_name(name) == shown
        assert len(caller_name(name)) <= 20
