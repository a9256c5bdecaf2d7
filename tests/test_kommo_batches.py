from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.errors import KommoFault, KommoNotFound, KommoRejected, KommoUnreachable
from itgrix_kommo.kommo.batches import (
    Added,
    Batch,
    Outcome,
    Refused,
    Unanswered,
    gather,
    halves,
    settle,
    settle_failed,
    settle_rejected,
    to_send_again,
)

CALLS = "POST /api/v4/calls"


def batch(*request_ids: str) -> Batch:
    return Batch({request_id: {} for request_id in request_ids})


def call(request_id: object = "0", **more: object) -> dict[str, object]:
    return {"id": 8801, "entity_id": 6601, "entity_type": "lead", "request_id": request_id, **more}


def unknown(request_id: object = "0") -> dict[str, object]:
    return {"title": "Entity not found", "status": 263, "detail": "No such phone", "request_id": request_id}


def body(calls: object = (), errors: object = ()) -> dict[str, object]:
    as_lists = [list(items) if isinstance(items, tuple) else items for items in (calls, errors)]
    return {"errors": as_lists[1], "_embedded": {"calls": as_lists[0]}}


def rejected(problem: object) -> KommoRejected:
    return KommoRejected("Kommo refuses it", status=400, problem=problem)


def kinds(outcomes: list[Outcome]) -> list[type]:
    return [type(outcome) for outcome in outcomes]


class TestGather:
    def test_items_are_numbered_through_and_travel_in_parts(self) -> None:
        parts = gather([{"name": str(number)} for number in range(101)]).in_parts(50)
        assert [len(part.items) for part in parts] == [50, 50, 1]
        assert parts[2].body == [{"name": "100", "request_id": "100"}]

    def test_a_given_request_id_is_kept_and_the_callers_body_untouched(self) -> None:
        given_body = {"request_id": 17, "name": "x"}
        assert gather([given_body]).body == [{"request_id": "17", "name": "x"}]
        assert given_body == {"request_id": 17, "name": "x"}

    def test_the_same_request_id_twice_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'1' is given twice"):
            gather([{"request_id": "1"}, {}])

    def test_nothing_is_no_request(self) -> None:
        assert gather([]).in_parts(50) == []

    def test_where_kommo_takes_no_names_the_place_is_the_name(self) -> None:
        links = Batch({"a": {"entity_id": 1}, "b": {"entity_id": 2}}, is_named=False)
        assert links.body == [{"entity_id": 1}, {"entity_id": 2}]
        assert [links.own_name(told) for told in ("0", 1, 2, "b", None)] == ["a", "b", None, None, None]
        assert [part.is_named for part in (links.only(["a"]), *links.in_parts(1))] == [False] * 3


class TestSettle:
    def test_items_are_matched_by_name_not_by_place(self) -> None:
        answer = body((call("b", id=2), call("a", id=1)), (unknown("c"),))
        assert settle(CALLS, "calls", batch("a", "b", "c"), answer) == [
            Added("a", 1, "leads", 6601),
            Added("b", 2, "leads", 6601),
            Refused("c", 263, "Entity not found", "No such phone"),
        ]

    def test_what_is_named_in_neither_may_have_been_written(self) -> None:
        [first, second] = settle(CALLS, "calls", batch("0", "1"), body((call("1"),)))
        assert isinstance(first, Unanswered)
        assert isinstance(first.error, KommoUnreachable)
        assert first.error.may_have_happened
        assert isinstance(second, Added)

    def test_what_is_named_in_both_is_written(self) -> None:
        assert kinds(settle(CALLS, "calls", batch("0"), body((call(),), (unknown(),)))) == [Added]

    def test_a_single_item_needs_no_name(self) -> None:
        nameless = {"id": 5502}
        answer = {"_embedded": {"contacts": [nameless]}}
        assert settle("POST /api/v4/contacts", "contacts", batch("uid-17.1"), answer) == [Added("uid-17.1", 5502)]
        assert kinds(settle("POST /api/v4/contacts", "contacts", batch("a", "b"), answer)) == [Unanswered] * 2

    def test_types_are_read_kindly(self) -> None:
        answer = body(
            (call(7, id="8801", entity_id="6601", entity_type="contact"),), ({**unknown(8), "status": "263"},)
        )
        assert settle(CALLS, "calls", batch("7", "8"), answer) == [
            Added("7", 8801, "contacts", 6601),
            Refused("8", 263, "Entity not found", "No such phone"),
        ]

    @pytest.mark.parametrize(
        "answer",
        [
            None,
            [],
            "x",
            {},
            {"_embedded": []},
            {"_embedded": {"calls": {}}},
            body(("x", None)),
            body((call("foreign"),)),
            body((call(id=None),)),
            body((call(id=True),)),
            body("calls", "errors"),
        ],
    )
    def test_nonsense_leaves_everything_open(self, answer: object) -> None:
        assert kinds(settle(CALLS, "calls", batch("0", "1"), answer)) == [Unanswered] * 2

    def test_what_is_changed_may_be_named_by_its_id_alone(self) -> None:
        changes = Batch({"a": {"id": 5501}, "b": {"id": "5502"}, "c": {"id": 5503}, "d": {"id": 5503}})
        answer = {"_embedded": {"contacts": [{"id": number} for number in (5502, 5501, 5503, 9)]}}
        outcomes = settle("PATCH /api/v4/contacts", "contacts", changes, answer)
        assert outcomes[:2] == [Added("a", 5501), Added("b", 5502)]
        assert kinds(outcomes[2:]) == [Unanswered] * 2  # which of the two it was can't be told

    def test_links_are_named_by_their_ends(self) -> None:
        ends = [{"entity_id": 6601 + n, "to_entity_id": 5501, "to_entity_type": "contacts"} for n in (0, 1)]
        answer = {"_embedded": {"links": [{**ends[1], "entity_type": "leads"}, {"odd": 1}]}}
        links = Batch({"a": ends[0], "b": ends[1]}, is_named=False)
        first, second = settle("POST /api/v4/leads/link", "links", links, answer)
        assert isinstance(first, Unanswered)
        assert second == Added("b", 6602, "contacts", 5501)

    @pytest.mark.parametrize(
        ("cards", "lead", "contact"),
        [
            ({"leads": [{"id": 6604}], "contacts": [{"id": 5504}]}, 6604, 5504),
            ({"leads": [], "contacts": None}, 0, None),
            ([], 0, None),
        ],
    )
    def test_an_incoming_lead_tells_its_uid_and_what_it_hides(
        self, cards: object, lead: int, contact: int | None
    ) -> None:
        answer = {"_embedded": {"unsorted": [{"uid": "4005c1", "request_id": "0", "_embedded": cards}]}}
        outcomes = settle("POST /api/v4/leads/unsorted/sip", "unsorted", batch("0"), answer)
        assert outcomes == [Added("0", lead, "contacts", contact, "4005c1")]

    @given(
        st.lists(st.integers(0, 8).map(str), min_size=1, unique=True),
        st.lists(st.integers(0, 8)),
        st.lists(st.integers(0, 8)),
    )
    def test_each_item_has_exactly_one_outcome_in_order(
        self, ids: list[str], done: list[int], refused: list[int]
    ) -> None:
        answer = body([call(one) for one in done], [unknown(one) for one in refused])
        outcomes = settle(CALLS, "calls", batch(*ids), answer)
        assert [outcome.request_id for outcome in outcomes] == ids
        for outcome in outcomes:
            number = int(outcome.request_id)
            expected = Added if number in done else Refused if number in refused else Unanswered
            assert type(outcome) is expected


class TestRejected:
    def test_unknown_phones_come_with_400_and_are_matched_the_same(self) -> None:
        outcomes = settle_rejected(CALLS, "calls", batch("0"), rejected(body((), (unknown(),))))
        assert outcomes == [Refused("0", 263, "Entity not found", "No such phone")]

    def test_the_items_with_validation_errors_are_refused_and_the_others_may_go_again(self) -> None:
        fault = {"code": "NotBlank", "path": "params.source", "detail": "This value should not be blank."}
        problem = {
            "validation-errors": [{"request_id": "1", "errors": [fault]}],
            "title": "Bad Request",
            "detail": "Request validation failed",
        }
        error = rejected(problem)
        outcomes = settle_rejected(CALLS, "calls", batch("0", "1"), error)
        assert outcomes == [
            Unanswered("0", error),
            Refused("1", 400, "Request validation failed", "params.source: NotBlank: This value should not be blank."),
        ]
        assert not error.may_have_happened

    @pytest.mark.parametrize("problem", [None, [], {"title": "Bad Request", "detail": "Error code 244"}])
    def test_who_was_sent_alone_is_the_culprit(self, problem: Any) -> None:
        [outcome] = settle_rejected(CALLS, "calls", batch("0"), rejected(problem))
        assert isinstance(outcome, Refused)
        assert outcome.detail == "Kommo refuses it"
        assert outcome.title == ("Error code 244" if problem else "")

    def test_of_several_that_are_refused_unnamed_the_culprit_is_not_known(self) -> None:
        error = rejected({"title": "Bad Request"})
        assert settle_rejected(CALLS, "calls", batch("0", "1"), error) == [
            Unanswered("0", error),
            Unanswered("1", error),
        ]

    def test_items_without_names_are_told_by_their_place(self) -> None:
        fault = {"code": "NotSupportedChoice", "path": "to_entity_id", "detail": "No."}
        problem = {"validation-errors": [{"request_id": "1", "errors": [fault]}, {"request_id": "7", "errors": []}]}
        links = Batch({"a": {}, "b": {}}, is_named=False)
        outcomes = settle_rejected("POST /api/v4/leads/link", "links", links, rejected(problem))
        assert kinds(outcomes) == [Unanswered, Refused]

    def test_a_path_that_knows_nothing_is_no_item_of_ours(self) -> None:
        error = KommoNotFound("Pipeline not found", status=404)
        [outcome] = settle_rejected("POST /api/v4/leads", "leads", batch("0"), error)
        assert outcome == Refused("0", 404, "", "Pipeline not found")


class TestSendingAgain:
    def test_without_the_culprits_where_they_are_named(self) -> None:
        outcomes: list[Outcome] = [
            Unanswered("0", rejected(None)),
            Refused("1", 400, "", ""),
            Unanswered("2", rejected(None)),
        ]
        assert to_send_again(batch("0", "1", "2"), outcomes) == [batch("0", "2")]

    def test_in_halves_where_nobody_is_named(self) -> None:
        outcomes = [Unanswered(name, rejected(None)) for name in "012"]
        assert to_send_again(batch("0", "1", "2"), outcomes) == [batch("0", "1"), batch("2")]
        assert halves(batch("0", "1")) == [batch("0"), batch("1")]

    def test_never_what_may_have_been_written_nor_what_was_refused(self) -> None:
        lost = KommoUnreachable("lost", may_have_happened=True)
        assert to_send_again(batch("0", "1"), [Unanswered("0", lost), Refused("1", 400, "", "")]) == []


class TestFailed:
    def test_the_error_is_every_items(self) -> None:
        error = KommoFault("x", status=500, may_have_happened=True)
        assert settle_failed(batch("0", "1"), error) == [Unanswered("0", error), Unanswered("1", error)]
