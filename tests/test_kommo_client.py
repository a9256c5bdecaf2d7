from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from itgrix_kommo.errors import (
    KommoError,
    KommoFault,
    KommoForbidden,
    KommoNotFound,
    KommoOverloaded,
    KommoRejected,
    KommoUnauthorized,
    KommoUnreachable,
)
from itgrix_kommo.kommo.answers import Answer
from itgrix_kommo.kommo.batches import Added, Refused, Unanswered
from itgrix_kommo.kommo.checks import Wanted, examine
from itgrix_kommo.kommo.client import SEARCH_PAGES, KommoClient, UnsortedState
from itgrix_kommo.kommo.limiter import Priority
from itgrix_kommo.kommo.retry import Backoff
from itgrix_kommo.kommo.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence


class Asked(NamedTuple):
    request: str
    params: dict[str, list[str]]
    body: Any
    priority: Priority


class ScriptedTransport(Transport):
    """Gives what `answers` hold in order: a body, None for 204, or an error to raise."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        priority: Priority,
        params: Sequence[tuple[str, str]] = (),
        body: object = None,
    ) -> Answer:
        query: dict[str, list[str]] = {}
        for key, value in params:
            query.setdefault(key, []).append(value)
        made = body() if callable(body) else body
        self.asked.append(Asked(f"{method} {path}", query, made, priority))
        answer = self.answers.pop(0)
        if isinstance(answer, KommoError):
            raise answer
        return Answer(f"{method} {path}", 204 if answer is None else 200, answer)


def client_of(transport: Transport, pauses: list[float] | None = None) -> KommoClient:
    async def sleep(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)

    return KommoClient(transport, retry=Backoff(attempts=3, first=1, patience=10, dice=lambda: 0.5), sleep=sleep)


def embedded(noun: str, *items: object, following: str | None = None) -> dict[str, Any]:
    links = {} if following is None else {"next": {"href": following}}
    return {"_page": 1, "_links": links, "_embedded": {noun: list(items)}}


def contact(contact_id: int, *phones: str, **more: object) -> dict[str, Any]:
    values = [{"field_id": 801, "field_code": "PHONE", "values": [{"value": phone} for phone in phones]}]
    return {"id": contact_id, "name": f"Contact {contact_id}", "custom_fields_values": values, **more}


class TestReading:
    async def test_a_list_is_read_page_by_page_as_kommo_links_them(self) -> None:
        transport = ScriptedTransport(
            embedded("users", {"id": 1}, following="https://acme.kommo.com/api/v4/users?page=2&limit=250"),
            embedded("users", {"id": 2}, following="https://acme.kommo.com/api/v4/users?page=3&limit=250"),
            None,
        )
        assert [user.id for user in await client_of(transport).users()] == [1, 2]
        assert [asked.params for asked in transport.asked] == [
            {"limit": ["250"]},
            {"page": ["2"], "limit": ["250"]},
            {"page": ["3"], "limit": ["250"]},
        ]

    async def test_links_in_a_circle_end_and_are_told(self) -> None:
        page = embedded("contacts", following="/x?page=1")
        transport = ScriptedTransport(*[page] * SEARCH_PAGES)
        with capture_logs() as logs:
            assert await client_of(transport).find_contacts("+12025550143") == []
        assert len(transport.asked) == SEARCH_PAGES
        assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["kommo_list_cut"]

    async def test_the_priority_goes_along(self) -> None:
        transport = ScriptedTransport({"id": 31000001})
        await client_of(transport).account(priority=Priority.LIVE)
        assert transport.asked[0].priority is Priority.LIVE

    @pytest.mark.parametrize("body", [None, [], {"name": "no id"}, "x"])
    async def test_an_answer_of_another_shape_is_no_answer(self, body: object) -> None:
        with pytest.raises(KommoUnreachable, match="GET /api/v4/account makes no sense"):
            await client_of(ScriptedTransport(body)).account()

    async def test_one_odd_item_is_named_by_its_key(self) -> None:
        with pytest.raises(KommoUnreachable, match="users: id: Field required"):
            await client_of(ScriptedTransport(embedded("users", {"id": 1}, {}))).users()

    async def test_pipelines_in_the_order_of_the_account(self) -> None:
        transport = ScriptedTransport(embedded("pipelines", {"id": 7002, "sort": 2}, {"id": 7001, "sort": 1}))
        assert [pipeline.id for pipeline in await client_of(transport).pipelines()] == [7001, 7002]

    async def test_what_is_not_there_is_none(self) -> None:
        client = client_of(ScriptedTransport(None, None))
        assert await client.contact(1) is None
        assert await client.lead(1) is None


class TestRetry:
    async def test_a_read_is_tried_again_with_pauses(self) -> None:
        pauses: list[float] = []
        transport = ScriptedTransport(KommoFault("x", status=500), KommoUnreachable("x"), {"id": 31000001})
        assert (await client_of(transport, pauses).account()).id == 31000001
        assert pauses == [1, 2]

    async def test_until_its_attempts_are_used_up(self) -> None:
        last = KommoFault("last", status=500)
        with pytest.raises(KommoFault) as caught:
            await client_of(ScriptedTransport(KommoFault("x"), KommoFault("x"), last)).account()
        assert caught.value is last

    @pytest.mark.parametrize("error", [KommoUnauthorized("x", status=401), KommoOverloaded("x", retry_after=300)])
    async def test_what_needs_a_person_or_minutes_is_told_at_once(self, error: KommoError) -> None:
        pauses: list[float] = []
        with pytest.raises(type(error)):
            await client_of(ScriptedTransport(error), pauses).account()
        assert pauses == []

    async def test_a_write_is_never_repeated(self) -> None:
        error = KommoUnreachable("lost", may_have_happened=True)
        transport = ScriptedTransport(error)
        assert await client_of(transport).add_calls([{}]) == [Unanswered("0", error)]
        assert len(transport.asked) == 1


class TestFindContacts:
    async def test_asked_by_the_tail_and_with_leads(self) -> None:
        transport = ScriptedTransport(None)
        assert await client_of(transport).find_contacts("+1 (202) 555-0143") == []
        assert transport.asked[0].request == "GET /api/v4/contacts"
        assert transport.asked[0].params == {"query": ["2025550143"], "with": ["leads"], "limit": ["50"]}

    async def test_only_who_has_the_phone_the_oldest_first(self) -> None:
        transport = ScriptedTransport(
            embedded(
                "contacts",
                contact(9, "+1 202 555 0143"),
                contact(4, "+12025550144"),
                {"id": 2, "name": "2025550143", "custom_fields_values": None},
                following="/api/v4/contacts?page=2",
            ),
            embedded("contacts", contact(7, "x", "2025550143"), contact(3, "2025550143", is_deleted=True)),
        )
        assert [found.id for found in await client_of(transport).find_contacts("+12025550143")] == [7, 9]

    @pytest.mark.parametrize("phone", ["", "anonymous", "+"])
    async def test_who_hides_his_number_is_not_looked_for(self, phone: str) -> None:
        assert await client_of(ScriptedTransport()).find_contacts(phone) == []

    async def test_companies_are_found_alike(self) -> None:
        transport = ScriptedTransport(embedded("companies", contact(5601, "+12025550143")))
        assert [found.id for found in await client_of(transport).find_companies("+12025550143")] == [5601]
        assert transport.asked[0].request == "GET /api/v4/companies"


class TestLeads:
    async def test_asked_for_together(self) -> None:
        transport = ScriptedTransport(embedded("leads", {"id": 6602}, {"id": 6601}))
        assert [lead.id for lead in await client_of(transport).leads([6602, 6601, 6601])] == [6601, 6602]
        assert transport.asked[0].params["filter[id][]"] == ["6601", "6602"]

    async def test_one_by_one_for_good_once_kommo_shows_that_it_ignores_the_filter(self) -> None:
        transport = ScriptedTransport(embedded("leads", {"id": 1}, {"id": 6601}), {"id": 6601}, None, {"id": 6603})
        client = client_of(transport)
        assert [lead.id for lead in await client.leads([6601, 6602])] == [6601]
        assert [lead.id for lead in await client.leads([6603])] == [6603]
        assert [asked.request for asked in transport.asked[1:]] == [
            "GET /api/v4/leads/6601",
            "GET /api/v4/leads/6602",
            "GET /api/v4/leads/6603",
        ]

    async def test_more_than_a_page_in_pages_and_none_without_asking(self) -> None:
        transport = ScriptedTransport(*[embedded("leads", {"id": 1}), embedded("leads", {"id": 300})])
        assert [lead.id for lead in await client_of(transport).leads(range(1, 301))] == [1, 300]
        assert [len(asked.params["filter[id][]"]) for asked in transport.asked] == [250, 50]
        assert await client_of(ScriptedTransport()).leads([]) == []


class TestWriting:
    async def test_outcomes_come_in_the_order_of_the_bodies_over_all_batches(self) -> None:
        transport = ScriptedTransport(
            *(
                embedded("contacts", *({"id": 1000 + number, "request_id": str(number)} for number in reversed(part)))
                for part in (range(50), range(50, 60))
            )
        )
        outcomes = await client_of(transport).create_contacts([{"name": "x"}] * 60)
        assert outcomes == [Added(str(number), 1000 + number) for number in range(60)]
        assert [len(asked.body) for asked in transport.asked] == [50, 10]

    async def test_a_failure_stops_what_would_follow_and_that_surely_did_not_happen(self) -> None:
        error = KommoFault("broken", status=500, may_have_happened=True)
        transport = ScriptedTransport(error)
        outcomes = await client_of(transport).add_calls([{}] * 51)
        assert len(transport.asked) == 1
        assert outcomes[0] == Unanswered("0", error)
        last = outcomes[50]
        assert isinstance(last, Unanswered)
        assert isinstance(last.error, KommoUnreachable)
        assert "was not sent" in str(last.error)
        assert not last.error.may_have_happened

    async def test_a_call_of_nobody_is_refused_with_kommos_own_status(self) -> None:
        problem = {"errors": [{"title": "Entity not found", "status": 263, "detail": "D", "request_id": "0"}]}
        transport = ScriptedTransport(KommoRejected("no", status=400, problem=problem))
        assert await client_of(transport).add_calls([{"phone": "1"}]) == [Refused("0", 263, "Entity not found", "D")]

    async def test_call_notes_go_to_their_cards(self) -> None:
        transport = ScriptedTransport(embedded("notes", {"id": 8802, "entity_id": 6601, "request_id": "17.1"}))
        body = {"entity_id": 6601, "note_type": "call_in", "params": {}, "request_id": "17.1"}
        assert await client_of(transport).add_call_notes("leads", [body]) == [Added("17.1", 8802, None, 6601)]
        assert transport.asked[0].request == "POST /api/v4/leads/notes"
        assert transport.asked[0].body == [body]


class TestUnsorted:
    async def test_page_by_page_until_they_are_older(self) -> None:
        def entries(*times: int, following: str | None = None) -> dict[str, Any]:
            return embedded("unsorted", *({"uid": str(at), "created_at": at} for at in times), following=following)

        transport = ScriptedTransport(entries(9, 8, following="/x?page=2"), entries(7, 6, following="/x?page=3"))
        assert [one.uid for one in await client_of(transport).recent_unsorted(7)] == ["9", "8", "7"]
        assert transport.asked[0].params == {
            "filter[category][]": ["sip"],
            "order[created_at]": ["desc"],
            "limit": ["250"],
        }
        transport = ScriptedTransport(entries(9, 8, following="/x?page=2"), None)
        assert [one.uid for one in await client_of(transport).recent_unsorted(7)] == ["9", "8"]

    @pytest.mark.parametrize("gone", [None, KommoNotFound("Unsorted not found", status=404)])
    async def test_one_that_waits_no_more_is_told_by_its_lead(self, gone: Any) -> None:
        accepted = {"id": 6604, "status_id": 70011}
        for lead, state in (
            (accepted, UnsortedState.ACCEPTED),
            ({**accepted, "is_deleted": True}, UnsortedState.DECLINED),
            (None, UnsortedState.DECLINED),
        ):
            client = client_of(ScriptedTransport(gone, lead))
            assert await client.unsorted_state("4005c1", 6604) is state


class TestNotes:
    async def test_the_newest_first_and_of_the_asked_types_even_where_filters_are_ignored(self) -> None:
        notes = [
            {"id": 1, "note_type": "call_in", "params": {"uniq": "17.1"}},
            {"id": 3, "note_type": "common", "params": {"text": "x"}},
            {"id": 2, "note_type": "call_out", "params": {"uniq": "17.2"}},
        ]
        transport = ScriptedTransport(embedded("notes", *notes))
        found = await client_of(transport).notes("contacts", 5501)
        assert [note.uniq for note in found] == ["17.2", "17.1"]
        assert transport.asked[0].request == "GET /api/v4/contacts/5501/notes"
        assert transport.asked[0].params["filter[note_type][]"] == ["call_in", "call_out"]


USERS = embedded("users", {"id": 9100001, "name": "Ann Lee"}, {"id": 9100002, "rights": {"is_active": False}})
FIELDS = embedded("custom_fields", {"id": 801, "code": "PHONE", "enums": [{"id": 9001, "value": "WORK"}]})
STATUSES = [
    {"id": 142, "sort": 10000},
    {"id": 70011, "sort": 20},
    {"id": 70010, "sort": 10, "type": 1},
    {"id": 70012, "sort": 30},
]
PIPELINES = embedded(
    "pipelines",
    {"id": 7003, "sort": 3, "is_archive": True, "_embedded": {"statuses": STATUSES}},
    {"id": 7002, "name": "Empty", "sort": 2, "_embedded": {"statuses": [{"id": 142}]}},
    {"id": 7001, "name": "Sales", "sort": 1, "is_main": True, "_embedded": {"statuses": STATUSES}},
)
GOOD = ({"id": 31000001}, USERS, FIELDS, PIPELINES)


class TestChecks:
    async def test_a_good_account_has_no_problems_and_its_main_stage_is_found(self) -> None:
        report = await examine(client_of(ScriptedTransport(*GOOD)), Wanted(user_ids=frozenset({9100001})))
        assert report.problems == ()
        assert report.can_register
        assert not report.passes
        assert report.account is not None
        assert (report.phone_field_id, report.pipeline_id, report.status_id) == (801, 7001, 70011)
        assert report.users[9100001].name == "Ann Lee"

    async def test_configured_stages_are_kept(self) -> None:
        wanted = Wanted(pipeline_id=7001, status_id=70012)
        report = await examine(client_of(ScriptedTransport(*GOOD)), wanted)
        assert (report.pipeline_id, report.status_id) == (7001, 70012)

    @pytest.mark.parametrize(
        ("wanted", "words"),
        [
            (Wanted(pipeline_id=7009), "no pipeline 7009"),
            (Wanted(pipeline_id=7003), "no pipeline 7003, or it is archived"),
            (Wanted(status_id=70010), r"pipeline 7001 \(Sales\) has no stage 70010"),
            (Wanted(status_id=142), "no stage 142 that takes new leads"),
            (Wanted(pipeline_id=7002), r"pipeline 7002 \(Empty\) has no stage"),
        ],
    )
    async def test_a_stage_that_is_none_stops_the_registering(self, wanted: Wanted, words: str) -> None:
        report = await examine(client_of(ScriptedTransport(*GOOD)), wanted)
        [problem] = report.problems
        assert problem.what == "pipelines"
        assert re.search(words, problem.words)
        assert not report.can_register
        assert not report.passes
        assert (report.pipeline_id, report.status_id) == (None, None)
        assert "business.pipeline_id" in problem.remedy

    async def test_an_account_without_a_main_pipeline(self) -> None:
        report = await examine(client_of(ScriptedTransport(*GOOD[:3], embedded("pipelines"))), Wanted())
        assert [problem.words for problem in report.problems] == ["the account has no main pipeline"]

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            (None, "no field with the code PHONE"),
            (embedded("custom_fields", {"id": 802, "code": "EMAIL"}), "no field with the code PHONE"),
            (embedded("custom_fields", {"id": 801, "code": "PHONE"}), "has no WORK"),
        ],
    )
    async def test_without_the_phone_field_nothing_is_registered(self, fields: object, words: str) -> None:
        report = await examine(client_of(ScriptedTransport(GOOD[0], USERS, fields, PIPELINES)), Wanted())
        [problem] = report.problems
        assert words in problem.words
        assert not report.can_register
        assert report.phone_field_id is None

    async def test_employees_that_kommo_does_not_know_are_told_and_stop_nothing(self) -> None:
        wanted = Wanted(user_ids=frozenset({9100001, 9100002, 9100009}))
        report = await examine(client_of(ScriptedTransport(*GOOD)), wanted)
        assert [problem.words for problem in report.problems] == [
            "user 9100002 is not active",
            "the account has no user 9100009",
        ]
        assert report.can_register

    async def test_a_token_of_no_administrator_sees_no_users_and_still_registers(self) -> None:
        transport = ScriptedTransport(GOOD[0], KommoForbidden("no right", status=403), FIELDS, PIPELINES)
        report = await examine(client_of(transport), Wanted(user_ids=frozenset({9100001})))
        [problem] = report.problems
        assert (problem.what, problem.words, problem.stops) == ("users", "no right", False)
        assert report.can_register
        assert report.pipeline_id == 7001

    @pytest.mark.parametrize("good", range(4))
    @pytest.mark.parametrize("error", [KommoUnauthorized("token", status=401), KommoUnreachable("away")])
    async def test_an_error_ends_the_examination_and_is_told(self, good: int, error: KommoError) -> None:
        transport = ScriptedTransport(*GOOD[:good], *[error] * 3)
        report = await examine(client_of(transport), Wanted())
        [problem] = report.problems
        assert problem.what == ["account", "users", "phone field", "pipelines"][good]
        assert problem.words == str(error)
        assert not report.can_register
        assert report.passes is isinstance(error, KommoUnreachable)
