"""The client against a whole Kommo account, as the daemon uses it: who is there, what goes wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from itgrix_kommo.errors import KommoBlocked, KommoForbidden, KommoOverloaded, KommoUnpaid, KommoUnreachable
from itgrix_kommo.kommo.batches import Added, Refused, Unanswered
from itgrix_kommo.kommo.breaker import PROBE_EVERY, Breaker
from itgrix_kommo.kommo.checks import Wanted, examine
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Priority
from itgrix_kommo.kommo.recognition import (
    left_to_change,
)
from itgrix_kommo.sandbox import Fault, Kind, Sandbox
from tests.kommo_account import PHONE, call, connect, contact, created, ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox().serve() as served:
        yield served


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[KommoClient]:
    async with connect(sandbox) as connected:
        yield connected


class TestAccount:
    async def test_all_that_the_start_needs(self, client: KommoClient) -> None:
        report = await examine(client, Wanted(user_ids=frozenset({9100001, 9100009, 9100042})))
        assert report.can_register
        assert report.account is not None
        assert (report.account.id, report.account.is_api_filter_enabled) == (31000001, True)
        assert [kind.id for kind in report.account.task_types] == [1, 2, 3]
        assert (report.phone_field_id, report.pipeline_id, report.status_id) == (801, 7001, 70011)
        assert report.stages == {7001: 70011, 7002: 70021, 7003: 70031}
        assert report.unsorted_pipelines == {7001, 7002}
        assert report.users[9100001].name == "Ann Lee"
        assert [problem.words for problem in report.problems] == [
            "user 9100009 is not active",
            "the account has no user 9100042",
        ]

    async def test_a_token_without_administrators_rights(self, sandbox: Sandbox) -> None:
        async with connect(sandbox, token=sandbox.options.user_token) as client:
            with pytest.raises(KommoForbidden, match="administrator"):
                await client.users()
            report = await examine(client, Wanted())
        assert report.can_register
        assert [problem.what for problem in report.problems] == ["users"]

    async def test_without_incoming_leads_no_pipeline_takes_any(self, sandbox: Sandbox, client: KommoClient) -> None:
        sandbox.switches.is_unsorted_on = False
        assert (await examine(client, Wanted())).unsorted_pipelines == frozenset()

    async def test_a_wrong_token_needs_a_person(self, sandbox: Sandbox) -> None:
        async with connect(sandbox, token="wrong") as client:
            report = await examine(client, Wanted())
        assert not report.can_register
        assert not report.passes
        assert "401" in report.problems[0].words
        assert sandbox.audit.total == 1

    async def test_a_missing_phone_field(self, sandbox: Sandbox, client: KommoClient) -> None:
        sandbox.switches.phone_field = False
        report = await examine(client, Wanted())
        assert [problem.what for problem in report.problems if problem.stops] == ["phone field"]


class TestClients:
    async def test_who_was_created_is_found_by_any_spelling(self, client: KommoClient) -> None:
        [other, ann] = await created(client, contact("+12025550144"), contact("+1 (202) 555-01-43"))
        for spelling in (PHONE, "12025550143", "2025550143", "+1 202 555 0143"):
            assert [found.id for found in await client.find_contacts(spelling)] == [ann]
        found = await client.contact(ann)
        assert found is not None
        assert found.phones() == ["+1 (202) 555-01-43"]
        assert await client.find_contacts("+12025550199") == []
        assert await client.contact(max(ann, other) + 1000) is None

    async def test_digits_in_other_fields_deceive_nobody_and_the_oldest_comes_first(self, client: KommoClient) -> None:
        [_, first, second] = await created(
            client, contact("+12025550199", name="formerly 2025550143"), contact(), contact()
        )
        assert [found.id for found in await client.find_contacts(PHONE)] == [first, second]

    async def test_leads_of_a_contact(self, sandbox: Sandbox, client: KommoClient) -> None:
        [ann] = await created(client, contact())
        bodies: list[dict[str, object]] = [
            {"name": "one", "_embedded": {"contacts": [{"id": ann}]}},
            {"name": "two", "status_id": 143},
        ]
        one, two = ids(await client.create_leads(bodies))
        [found] = await client.find_contacts(PHONE)
        assert found.lead_ids == (one,)
        for filters in ("honoured", "ignored"):
            sandbox.switches.filters = filters
            leads = await client.leads([one, two + 1000])
            assert [(lead.id, lead.is_open, lead.contact_ids) for lead in leads] == [(one, True, (ann,))]
        [closed] = await client.leads([two])
        assert not closed.is_open

    async def test_what_a_body_gets_wrong_is_said_item_by_item(self, client: KommoClient) -> None:
        bad = {"custom_fields_values": [{"field_id": 999999, "values": [{"value": "x"}]}]}
        good, refused = await client.create_contacts([contact(), bad])
        assert isinstance(refused, Refused)
        assert refused.status == 400
        assert "custom_fields_values.0.field_id: NotSupportedChoice" in refused.detail
        assert isinstance(good, Added)
        assert [found.id for found in await client.find_contacts(PHONE)] == [good.id]

    async def test_nulls_of_a_customization_do_no_harm(self, client: KommoClient) -> None:
        await created(client, contact(responsible_user_id=None, first_name=None))

    async def test_short_national_numbers_are_found_without_their_countrys_code(
        self, sandbox: Sandbox, client: KommoClient
    ) -> None:
        [kari, _] = await created(client, contact("22 33 44 55"), contact("+45 22 33 44 55"))
        assert [found.id for found in await client.find_contacts("+4722334455")] == [kari]
        client.region = "NO"
        assert [found.id for found in await client.find_contacts("22334455")] == [kari]
        sandbox.switches.query_search = "last_7_digits"
        assert [found.id for found in await client.find_contacts("+4722334455")] == [kari]

    @pytest.mark.parametrize("filters", ["honoured", "ignored_on_cards"])
    async def test_clients_by_their_ids(self, sandbox: Sandbox, client: KommoClient, filters: Any) -> None:
        sandbox.switches.filters = filters
        [ann, bob, eve] = await created(client, contact(), contact("+12025550144"), contact("+12025550145"))
        sandbox.account.delete_card(Kind.CONTACTS, bob)
        assert (await client.account()).is_api_filter_enabled is (filters == "honoured")
        before = sandbox.audit.total
        assert [found.id for found in await client.contacts([eve, bob, ann])] == [ann, eve]
        assert sandbox.audit.total - before == (1 if filters == "honoured" else 3)
        assert await client.companies([ann]) == []
        assert await client.company(ann) is None

    async def test_everybody_page_by_page(self, client: KommoClient) -> None:
        made = await created(client, *(contact(f"+1202555{number:04}") for number in range(260)))
        pages = [page async for page in client.all_clients("contacts")]
        assert [len(page) for page in pages] == [250, 10]
        assert [found.id for page in pages for found in page] == made
        assert [page async for page in client.all_clients("companies")] == [[]]

    async def test_a_contact_is_changed_and_only_where_something_differs(self, client: KommoClient) -> None:
        [ann, bob] = await created(client, contact(), contact("+12025550144"))
        changes = [{"id": one, "responsible_user_id": 9100002} for one in (ann, bob)]
        assert ids(await client.update_contacts(changes)) == [ann, bob]
        read = await client.contact(ann)
        assert read is not None
        assert read.responsible_user_id == 9100002
        assert left_to_change(read, changes[0]) == {}
        assert left_to_change(read, {"id": ann, "name": "Ann", "tags_to_add": []}) == {"name": "Ann", "tags_to_add": []}
        gone = await client.update_contacts([{"id": 1, "name": "x"}, {"id": bob, "name": "Bob"}])
        assert [type(outcome) for outcome in gone] == [Refused, Added]
        assert [type(outcome) for outcome in await client.update_companies([{"id": ann, "name": "x"}])] == [Refused]


class TestFaults:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault(effect="disconnect", count=2),
            Fault(effect="html", count=2),
            Fault(effect="truncated", count=2),
            Fault(effect="status", status=500, count=2),
            Fault(effect="status", status=504, count=2),
            Fault(effect="status", status=429, retry_after=1, count=2),
        ],
        ids=lambda fault: f"{fault.effect}-{fault.status}",
    )
    async def test_a_read_outlives_two_of_them(self, sandbox: Sandbox, client: KommoClient, fault: Fault) -> None:
        sandbox.faults.add(fault)
        assert (await client.account()).id == 31000001
        assert len(sandbox.audit.requests) == 3
        assert sandbox.audit.impatient == 0

    async def test_silence_is_a_time_out(self, sandbox: Sandbox) -> None:
        sandbox.faults.add(Fault(effect="hang", path="/api/v4/calls", seconds=1))
        async with connect(sandbox, timeout_s=0.5) as client:
            [outcome] = await client.add_calls([call()])
        assert isinstance(outcome, Unanswered)
        assert isinstance(outcome.error, KommoUnreachable)
        assert outcome.error.may_have_happened

    async def test_an_account_that_is_not_paid_for(self, sandbox: Sandbox, client: KommoClient) -> None:
        sandbox.switches.unpaid = True
        with pytest.raises(KommoUnpaid):
            await client.account()

    async def test_minutes_of_waiting_are_told_not_sat_out(self, sandbox: Sandbox, client: KommoClient) -> None:
        sandbox.faults.add(Fault(effect="status", status=429, retry_after=300))
        with pytest.raises(KommoOverloaded) as caught:
            await client.account()
        assert caught.value.retry_after == 300
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.account(priority=Priority.LIVE)
        assert sandbox.audit.total == 1


class TestLimit:
    async def test_many_callers_at_once_break_no_limit(self, sandbox: Sandbox) -> None:
        async with connect(sandbox, per_second=7) as client:
            accounts = await asyncio.gather(*(client.account() for _ in range(25)))
        assert len(accounts) == 25
        assert sandbox.audit.breaches == 0
        assert sandbox.audit.most_in_a_second == 7

    @pytest.mark.parametrize("page", ["html", "json"])
    async def test_a_block_is_known_obeyed_and_its_end_noticed(self, sandbox: Sandbox, page: Any) -> None:
        sandbox.switches.block_body = page
        seconds = [0.0]
        async with connect(sandbox, breaker=Breaker(lambda: seconds[0])) as client:
            await client.account()
            sandbox.limiter.blocked = True
            with pytest.raises(KommoBlocked):
                await client.account()
            for _ in range(5):
                with pytest.raises(KommoBlocked):
                    await client.pipelines()
            assert sandbox.audit.breaches == 1
            seconds[0] += PROBE_EVERY
            sandbox.limiter.reset()
            assert (await client.account()).id == 31000001
            assert await client.pipelines()
