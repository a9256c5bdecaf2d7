from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.kommo.webhooks import (
    EVENTS,
    MOST_PAIRS,
    Change,
    ClientGone,
    ClientTold,
    LeadGone,
    LeadTold,
    changes_of,
)
from itgrix_kommo.sandbox import Kind, Sandbox
from tests.kommo_account import PHONE, connect, contact, created, ids

if TYPE_CHECKING:
    from collections.abc import Iterable

ACCOUNT = 31000001


def told(form: str | Iterable[tuple[str, str]]) -> list[Change]:
    pairs = parse_qsl(form.replace("\n", "")) if isinstance(form, str) else form
    return changes_of([*pairs, ("account[id]", str(ACCOUNT))], ACCOUNT)


class TestForm:
    def test_a_contact_with_all_its_phones(self) -> None:
        form = """contacts[update][0][id]=5502&contacts[update][0][name]=Ann&contacts[update][0][type]=contact
&contacts[update][0][responsible_user_id]=9100001&contacts[update][0][old_responsible_user_id]=9100002
&contacts[update][0][custom_fields][0][id]=801&contacts[update][0][custom_fields][0][code]=PHONE
&contacts[update][0][custom_fields][0][values][0][value]=%2B12025550143
&contacts[update][0][custom_fields][0][values][0][enum]=9001
&contacts[update][0][custom_fields][0][values][1]=5550143
&contacts[update][0][custom_fields][1][code]=EMAIL&contacts[update][0][custom_fields][1][values][0][value]=a@b"""
        assert told(form) == [ClientTold("contacts", 5502, "Ann", 9100001, ("+12025550143", "5550143"))]

    def test_companies_come_among_the_contacts(self) -> None:
        form = "contacts[add][0][id]=5601&contacts[add][0][type]=company&contacts[delete][0][id]=5602"
        changes = told(form + "&contacts[delete][0][type]=company")
        assert changes == [ClientTold("companies", 5601, "", 0, ()), ClientGone("companies", 5602)]

    def test_leads(self) -> None:
        form = """leads[status][0][id]=6601&leads[status][0][name]=L&leads[status][0][status_id]=142
&leads[status][0][pipeline_id]=7001&leads[status][0][responsible_user_id]=9100001&leads[delete][0][id]=6602"""
        assert told(form) == [LeadTold(6601, "L", 7001, 142, 9100001), LeadGone(6602)]

    @pytest.mark.parametrize(
        "form",
        [
            "",
            "contacts=1",
            "contacts=1&contacts[add][0][id]=1",
            "contacts[add]=1",
            "contacts[add][0]=1",
            "contacts[add][0][name]=x",
            "contacts[add][0][id]=-1",
            "contacts[add][0][id]=٣",
            "contacts[add][0][id]=99999999999999999999",
            "contacts[add][0][id]=1&contacts[add][0][type]=customer",
            "contacts[note][0][id]=1",
            "leads[note][0][note][id]=1",
            "leads[add][0][name]=x",
            "leads[add][0][id]=1",
            "leads[note][0][id]=1&leads[note][0][status_id]=2",
            "task[add][0][id]=1",
        ],
    )
    def test_what_is_of_no_use_is_nothing(self, form: str) -> None:
        assert told(form) == []

    @pytest.mark.parametrize(
        "fields",
        [
            "[custom_fields]=1",
            "[custom_fields][0]=1",
            "[custom_fields][0][code]=PHONE",
            "[custom_fields][0][code]=PHONE&contacts[add][0][custom_fields][0][values]=1",
            "[custom_fields][0][code]=PHONE&contacts[add][0][custom_fields][0][values][0][x]=1",
        ],
    )
    def test_odd_fields_are_no_phones(self, fields: str) -> None:
        form = f"contacts[add][0][id]=5502&contacts[add][0]{fields}"
        assert told(form) == [ClientTold("contacts", 5502, "", 0, ())]

    @pytest.mark.parametrize("account", ["", "account[id]=31000002", "account=31000001", "account[id]=x"])
    def test_of_another_account_nothing_is_believed(self, account: str) -> None:
        assert changes_of(parse_qsl(f"contacts[delete][0][id]=5502&{account}"), ACCOUNT) == []

    def test_a_flood_and_a_tower_are_no_webhooks(self) -> None:
        gone = [("contacts[delete][0][id]", "5502")]
        assert told(gone) == [ClientGone("contacts", 5502)]
        assert told([*gone, *[("x", "1")] * MOST_PAIRS]) == []
        assert told([*gone, ("contacts" + "[delete]" * 8, "1"), ("x" + "[y]" * 5000, "1")]) == told(gone)

    def test_numbers_that_php_leaves_to_itself(self) -> None:
        assert told([("contacts[delete][][id]", "5502"), ("a[]", "1")]) == [ClientGone("contacts", 5502)]

    @given(st.lists(st.tuples(st.text(alphabet="contacts[]ad0id", max_size=40), st.text(max_size=5)), max_size=30))
    def test_nothing_breaks_it(self, form: list[tuple[str, str]]) -> None:
        changes_of(form, ACCOUNT)


async def test_what_the_account_sends_is_understood() -> None:
    forms: asyncio.Queue[list[tuple[str, str]]] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        forms.put_nowait([(key, str(value)) for key, value in (await request.post()).items()])
        return web.Response()

    async def next_changes() -> list[Change]:
        async with asyncio.timeout(5):
            return changes_of(await forms.get(), ACCOUNT)

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with Sandbox().serve() as sandbox, connect(sandbox) as client:
            await client.subscribe(f"http://127.0.0.1:{runner.addresses[0][1]}/hook", EVENTS)
            [ann] = await created(client, contact(responsible_user_id=9100001))
            assert await next_changes() == [ClientTold("contacts", ann, f"Contact {PHONE}", 9100001, (PHONE,))]
            [lead] = ids(await client.create_leads([{"name": "L"}]))
            assert await next_changes() == [LeadTold(lead, "L", 7001, 70011, 9100001)]
            await client.update_leads([{"id": lead, "status_id": 143, "pipeline_id": 7001}])
            assert await next_changes() == [LeadTold(lead, "L", 7001, 143, 9100001)]
            assert await next_changes() == [LeadTold(lead, "L", 7001, 143, 9100001)]
            sandbox.account.delete_card(Kind.CONTACTS, ann)
            assert await next_changes() == [ClientGone("contacts", ann)]
            sandbox.account.delete_card(Kind.LEADS, lead)
            assert await next_changes() == [LeadGone(lead)]
    finally:
        await runner.cleanup()
