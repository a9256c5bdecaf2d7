"""The sandbox's page: what it shows, and that nothing in it can act."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import aiohttp
import pytest

from itgrix_kommo.sandbox import Fault
from tests.test_sandbox import BORIS, PHONE, Api, opened, phones

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOSTILE = """</td><script>alert(1)</script><img src=x onerror="alert(2)">'"{{ 7*7 }}"""


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as opened_api:
        yield opened_api


class Seen(HTMLParser):
    """The tags, attributes and text that a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


async def filled(api: Api, words: str) -> None:
    """One of everything, with `words` wherever a client may put words."""
    contact = await api.contact(PHONE, name=words, tags_to_add=[{"name": words}])
    lead = await api.lead(contact, name=words)
    call = {
        "direction": "inbound",
        "phone": PHONE,
        "duration": 83,
        "source": words,
        "uniq": words,
        "call_result": words,
    }
    await api.post("/v4/calls", [call | {"call_responsible": words, "link": "javascript:alert(3)"}])
    await api.post("/v4/calls", [call | {"link": "https://pbx.example.com/1.mp3?a=1&b=2"}])
    await api.task(text=words, entity_id=lead, entity_type="leads", responsible_user_id=BORIS)
    await api.post("/v2/events/", {"add": [{"type": "phone_call", "phone_number": words}]})
    entry = {"source_uid": words, "source_name": words, "metadata": {"phone": words, "uniq": "1"}}
    hidden = {"leads": [{"name": words}], "contacts": [{"name": words, "custom_fields_values": phones(words)}]}
    assert (await api.post("/v4/leads/unsorted/sip", [entry | {"_embedded": hidden}])).status == 200
    await api.ask("GET", "/v4/contacts", params={"query": words})


class TestPage:
    async def test_an_empty_account(self, api: Api) -> None:
        answer = await api.get("/")
        assert (answer.status, answer.content_type) == (200, "text/html")
        for words in ("Acme", "No call yet.", "Nobody known yet.", "Nothing has been asked yet."):
            assert words in answer.body

    async def test_all_that_happened(self, api: Api) -> None:
        await filled(api, "Maria Gomez")
        text = Seen((await api.get("/")).body).text
        for words in ("Maria Gomez", PHONE, "1:23", "Sales: Initial contact", "Boris Kim", "everybody", "pending"):
            assert words in text
        assert "/api/v4/calls" in text

    async def test_alarms(self, api: Api) -> None:
        api.sandbox.faults.add(Fault(effect="truncated", path="/never"))
        api.sandbox.limiter.blocked = True
        text = Seen((await api.get("/")).body).text
        assert "armed: truncated" in text
        assert "blocked: every request gets 403" in text

    async def test_only_the_newest_are_shown(self, api: Api) -> None:
        await api.post("/v4/contacts", [{"name": f"client{n:03}"} for n in range(60)])
        text = (await api.get("/")).body
        assert "client059" in text
        assert "client019" not in text


class TestSafety:
    async def test_words_stay_words(self, api: Api) -> None:
        await filled(api, HOSTILE)
        page = Seen((await api.get("/")).body)
        assert len(page.named("script")) == 1
        assert page.named("img") == []
        assert not [attrs for _, attrs in page.tags if any(name.startswith("on") or name == "style" for name in attrs)]
        assert page.text.count(HOSTILE) >= 8
        assert "49" not in page.text.split("Contacts")[1].split("Leads")[0]

    async def test_only_web_links_become_links(self, api: Api) -> None:
        await filled(api, "x")
        links = Seen((await api.get("/")).body).named("a")
        assert [link["href"] for link in links] == ["https://pbx.example.com/1.mp3?a=1&b=2"]
        assert "noopener" in str(links[0]["rel"])

    async def test_the_policy(self, api: Api) -> None:
        first, second = await api.get("/"), await api.get("/")
        policies = [answer.headers["Content-Security-Policy"] for answer in (first, second)]
        nonces = [re.findall(r"'nonce-([^']+)'", policy) for policy in policies]
        assert nonces[0] != nonces[1]
        assert len(set(nonces[0])) == 1
        for part in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert part in policies[0]
        assert "unsafe" not in policies[0]
        page = Seen(first.body)
        assert {attrs["nonce"] for attrs in page.named("script") + page.named("style")} == set(nonces[0])
        assert first.headers["X-Content-Type-Options"] == "nosniff"

    async def test_nothing_from_elsewhere(self, api: Api) -> None:
        page = Seen((await api.get("/")).body)
        sources = [
            attrs.get("src") or attrs.get("href") for tag, attrs in page.tags if tag in {"script", "link", "img"}
        ]
        assert sources == ["data:,", None]

    async def test_extreme_times(self, api: Api) -> None:
        lead = await api.lead()
        note = {"note_type": "call_in", "created_at": 2**32 - 1, "params": {"duration": 2**31 - 1, "source": "x"}}
        assert (await api.post(f"/v4/leads/{lead}/notes", [note])).status == 200
        await api.task(complete_till=2**32 - 1)
        assert (await api.get("/")).status == 200

    async def test_what_is_no_unicode(self, api: Api) -> None:
        event = b'{"add": [{"type": "phone_call", "phone_number": "5\\ud800"}]}'
        answer = await api.ask("POST", "/v2/events/", data=event, headers={"Content-Type": "application/json"})
        assert answer.status == 200
        for path in ("/", "/sandbox/tables", "/sandbox/audit"):
            assert (await api.get(path)).status == 200


class TestFragment:
    async def test_only_when_something_changed(self, api: Api) -> None:
        first = await api.get("/sandbox/tables")
        tag = first.headers["ETag"]
        assert (await api.get("/sandbox/tables", headers={"If-None-Match": tag})).status == 304
        await api.contact(name="Somebody")
        changed = await api.get("/sandbox/tables", headers={"If-None-Match": tag})
        assert changed.status == 200
        assert "Somebody" in changed.body
        assert changed.headers["ETag"] != tag

    async def test_no_token_is_needed(self, api: Api) -> None:
        async with aiohttp.ClientSession(api.sandbox.url) as session, session.get("/sandbox/tables") as response:
            assert response.status == 200
            assert "<script" not in await response.text()
