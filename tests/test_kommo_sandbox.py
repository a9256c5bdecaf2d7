"""The client against a whole Kommo account, as the daemon uses it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from itgrix_kommo.errors import KommoBlocked, KommoForbidden, KommoOverloaded, KommoUnpaid, KommoUnreachable
from itgrix_kommo.kommo.batches import Added, Refused, Unanswered
from itgrix_kommo.kommo.breaker import PROBE_EVERY, Breaker
from itgrix_kommo.kommo.checks import Wanted, examine
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import Limiter, Priority
from itgrix_kommo.kommo.retry import Backoff
from itgrix_kommo.kommo.transport import LongLivedToken, Transport
from itgrix_kommo.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PHONE = "+12025550143"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox().serve() as served:
        yield served


@asynccontextmanager
async def connect(
    sandbox: Sandbox, *, per_second: int = 6, token: str | None = None, **more: Any
) -> AsyncIterator[KommoClient]:
    tokens = LongLivedToken(token or sandbox.options.admin_token)
    async with Transport(sandbox.url, tokens, Limiter(per_second), **more) as transport:
        yield KommoClient(transport, retry=Backoff(attempts=3, first=0.01, patience=10))


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[KommoClient]:
    async with connect(sandbox) as connected:
        yield connected


def contact(phone: str = PHONE, **more: object) -> dict[str, object]:
    field = {"field_code": "PHONE", "values": [{"value": phone, "enum_code": "WORK"}]}
    return {"name": f"Contact {phone}", "custom_fields_values": [field], **more}


def call(phone: str = PHONE, **more: object) -> dict[str, object]:
    return {"direction": "inbound", "phone": phone, "duration": 54, "source": "itgrix_amo", "uniq": "17.1", **more}


async def created(client: KommoClient, *bodies: dict[str, object]) -> list[int]:
    outcomes = await client.create_contacts(bodies)
    ids = [outcome.id for outcome in outcomes if isinstance(outcome, Added)]
    assert len(ids) == len(bodies), outcomes
    return ids


class TestAccount:
    async def test_all_that_the_start_needs(self, client: KommoClient) -> None:
        report = await examine(client, Wanted(user_ids=frozenset({9100001, 9100009, 9100042})))
        assert report.can_register
        assert report.account is not None
        assert (report.account.id, report.account.is_api_filter_enabled) == (31000001, True)
        assert [kind.id for kind in report.account.task_types] == [1, 2, 3]
        assert (report.phone_field_id, report.pipeline_id, report.status_id) == (801, 7001, 70011)
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
        transport = client._transport
        answer = await transport.request(
            "POST",
            "/api/v4/leads",
            body=[{"name": "one", "_embedded": {"contacts": [{"id": ann}]}}, {"name": "two", "status_id": 143}],
            priority=Priority.REGISTRATION,
        )
        one, two = (lead["id"] for lead in answer.embedded("leads"))
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
        assert isinstance(good, Unanswered)
        assert not good.error.may_have_happened
        assert await client.find_contacts(PHONE) == []

    async def test_nulls_of_a_customization_do_no_harm(self, client: KommoClient) -> None:
        await created(client, contact(responsible_user_id=None, first_name=None))


class TestCalls:
    async def test_a_call_lands_on_the_card_that_kommo_chooses(self, client: KommoClient) -> None:
        [ann] = await created(client, contact())
        [outcome] = await client.add_calls([call(link=None, call_status=4, call_responsible=9100001)])
        assert isinstance(outcome, Added)
        assert (outcome.entity_type, outcome.entity_id) == ("contacts", ann)
        [note] = await client.notes("contacts", ann)
        assert (note.id, note.uniq, note.note_type) == (outcome.id, "17.1", "call_in")

    async def test_nobody_has_this_phone(self, client: KommoClient) -> None:
        [outcome] = await client.add_calls([call()])
        assert isinstance(outcome, Refused)
        assert outcome.status == 263

    @pytest.mark.parametrize("status", [200, 400])
    async def test_one_bad_call_never_takes_its_batch_down(
        self, sandbox: Sandbox, client: KommoClient, status: int
    ) -> None:
        sandbox.switches.mixed_calls_status = 200 if status == 200 else 400
        await created(client, contact())
        outcomes = await client.add_calls([call("+12025550199", request_id="stranger"), call(request_id="ann")])
        assert [(type(outcome), outcome.request_id) for outcome in outcomes] == [(Refused, "stranger"), (Added, "ann")]

    async def test_call_notes_on_chosen_cards(self, client: KommoClient) -> None:
        [ann] = await created(client, contact())
        params = {"uniq": "17.2", "duration": 5, "source": "itgrix_amo", "phone": PHONE, "link": None}
        body = {"entity_id": ann, "note_type": "call_out", "params": params, "created_by": 9100001}
        [outcome] = await client.add_call_notes("contacts", [body])
        assert isinstance(outcome, Added)
        assert [note.uniq for note in await client.notes("contacts", ann)] == ["17.2"]
        del params["duration"]
        [refused] = await client.add_call_notes("contacts", [body])
        assert isinstance(refused, Refused)
        assert "params.duration: FieldMissing" in refused.detail

    async def test_a_write_whose_answer_was_lost_is_recognised_afterwards(
        self, sandbox: Sandbox, client: KommoClient
    ) -> None:
        [ann] = await created(client, contact())
        sandbox.faults.add(Fault(effect="disconnect", path="/api/v4/calls", committed=True))
        [outcome] = await client.add_calls([call(uniq="17.3")])
        assert isinstance(outcome, Unanswered)
        assert outcome.error.may_have_happened
        assert [note.uniq for note in await client.notes("contacts", ann)] == ["17.3"]
        assert len(sandbox.audit.asked("POST", "/api/v4/calls")) == 1


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
