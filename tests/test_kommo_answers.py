from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.errors import (
    KommoError,
    KommoFault,
    KommoForbidden,
    KommoNotFound,
    KommoOverloaded,
    KommoRejected,
    KommoTooHeavy,
    KommoUnauthorized,
    KommoUnpaid,
    KommoUnreachable,
)
from itgrix_kommo.kommo.answers import LONGEST_PAUSE, MOST_WORDS, Answer, interpret, noun_of

VALIDATION = {
    "validation-errors": [
        {
            "request_id": "0",
            "errors": [
                {
                    "code": "NotSupportedChoice",
                    "path": "custom_fields_values.0.field_id",
                    "detail": "The value you selected is not a valid choice.",
                },
                {"code": "InvalidType", "path": "status_id", "detail": "This value should be of type array."},
            ],
        }
    ],
    "title": "Bad Request",
    "type": "https://httpstatus.es/400",
    "status": 400,
    "detail": "Request validation failed",
}


def refusal(status: int, body: Any = None, *, request: str = "POST /api/v4/contacts") -> KommoError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(KommoError) as caught:
        interpret(request, status, raw)
    return caught.value


class TestSuccess:
    def test_json_is_the_body(self) -> None:
        assert interpret("GET /x", 200, b'{"id": 1}') == Answer("GET /x", 200, {"id": 1})

    @pytest.mark.parametrize(("status", "raw"), [(204, b""), (200, b""), (202, b" \n")])
    def test_nothing_is_an_answer_too(self, status: int, raw: bytes) -> None:
        assert interpret("GET /x", status, raw).body is None

    @pytest.mark.parametrize("raw", [b"<html><h1>Welcome</h1>", b'{"id": 1', b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
    def test_nonsense_may_have_been_carried_out(self, raw: bytes) -> None:
        error = refusal(200, raw)
        assert isinstance(error, KommoUnreachable)
        assert (error.status, error.may_have_happened) == (200, True)
        assert "POST /api/v4/contacts" in str(error)


class TestErrors:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (302, KommoUnreachable),
            (400, KommoRejected),
            (401, KommoUnauthorized),
            (402, KommoUnpaid),
            (403, KommoForbidden),
            (404, KommoNotFound),
            (405, KommoRejected),
            (408, KommoUnreachable),
            (413, KommoTooHeavy),
            (422, KommoRejected),
            (429, KommoOverloaded),
            (500, KommoFault),
            (502, KommoFault),
            (504, KommoTooHeavy),
        ],
    )
    def test_each_status_has_its_class(self, status: int, kind: type[KommoError]) -> None:
        body = {"title": "Some title", "status": status, "detail": "Some detail"}
        error = refusal(status, body)
        assert type(error) is kind
        assert (error.status, error.may_have_happened) == (status, status >= 500)
        assert f"{status}; Some title; Some detail" in str(error)
        assert "POST /api/v4/contacts" in str(error)

    @pytest.mark.parametrize("raw", [b"", b"<html>502</html>", b"[]", b'"x"', b"null", b"17"])
    def test_errors_without_words_keep_their_class(self, raw: bytes) -> None:
        assert isinstance(refusal(400, raw), KommoRejected)
        assert isinstance(refusal(502, raw), KommoFault)
        assert isinstance(refusal(429, raw), KommoOverloaded)

    def test_validation_errors_in_words(self) -> None:
        error = refusal(400, VALIDATION)
        assert isinstance(error, KommoRejected)
        assert error.problem == VALIDATION
        assert str(error) == (
            "Kommo refuses POST /api/v4/contacts (400; Bad Request; Request validation failed; "
            "contacts[0].custom_fields_values.0.field_id: NotSupportedChoice: "
            "The value you selected is not a valid choice.; "
            "contacts[0].status_id: InvalidType: This value should be of type array.)"
        )

    @pytest.mark.parametrize(
        ("body", "seconds"),
        [
            ({"retry_after": 300}, 300),
            ({"retry_after": "2.5"}, 2.5),
            ({"retry_after": 10**400}, None),
            ({"retry_after": 1e300}, LONGEST_PAUSE),
            ({"retry_after": -1}, None),
            ({"retry_after": "soon"}, None),
            ({"retry_after": None}, None),
            ({"retry_after": float("nan")}, None),
            ({"retry_after": [1]}, None),
            ({}, None),
        ],
    )
    def test_retry_after_is_believed_within_reason(self, body: dict[str, Any], seconds: float | None) -> None:
        error = refusal(429, body)
        assert isinstance(error, KommoOverloaded)
        assert error.retry_after == seconds

    def test_foreign_words_forge_no_log_line_and_stay_short(self) -> None:
        words = str(refusal(400, {"title": "a\r\nERROR forged\x1b[31m", "detail": "x" * 10_000}))
        assert "a ERROR forged [31m" in words
        assert words.isprintable()
        assert len(words) < MOST_WORDS + 100

    @given(
        st.integers(100, 599),
        st.one_of(
            st.binary(),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                lambda inner: (
                    st.lists(inner)
                    | st.dictionaries(
                        st.sampled_from(
                            ["title", "detail", "validation-errors", "errors", "request_id", "path", "code", "hint"]
                        ),
                        inner,
                    )
                ),
                max_leaves=20,
            ).map(lambda value: json.dumps(value).encode()),
        ),
    )
    def test_any_answer_is_an_answer_or_one_of_our_errors(self, status: int, raw: bytes) -> None:
        try:
            interpret("POST /api/v4/calls", status, raw)
        except KommoError as error:
            assert str(error).isprintable()  # noqa: PT017 (whether it is raised at all is not the question)


class TestPages:
    def test_a_list_is_found_and_204_is_empty(self) -> None:
        assert Answer("GET /x", 200, {"_embedded": {"users": [1]}}).embedded("users") == [1]
        assert Answer("GET /x", 204, None).embedded("users") == []

    @pytest.mark.parametrize("body", [None, [], {}, "x", {"_embedded": []}, {"_embedded": {"users": {}}}])
    def test_another_shape_makes_no_sense(self, body: Any) -> None:
        with pytest.raises(KommoUnreachable, match=r"no list _embedded\.users"):
            Answer("GET /x", 200, body).embedded("users")

    def test_of_the_next_link_only_the_query_counts(self) -> None:
        link = "https://evil.example.com/steal?page=2&limit=50&filter%5Bid%5D%5B%5D=7"
        answer = Answer("GET /x", 200, {"_links": {"next": {"href": link}}})
        assert answer.next_query() == [("page", "2"), ("limit", "50"), ("filter[id][]", "7")]

    @pytest.mark.parametrize("body", [None, [], {}, {"_links": {}}, {"_links": {"next": None}}])
    def test_the_last_page_has_none(self, body: Any) -> None:
        assert Answer("GET /x", 200, body).next_query() is None

    @pytest.mark.parametrize("href", ["https://[broken?page=2", "/x?" + "a=1&" * 101])
    def test_a_link_that_is_none_makes_no_sense(self, href: str) -> None:
        with pytest.raises(KommoUnreachable, match=r"_links\.next\.href"):
            Answer("GET /x", 200, {"_links": {"next": {"href": href}}}).next_query()


class TestNouns:
    @pytest.mark.parametrize(
        ("request_line", "noun"),
        [("POST /api/v4/contacts", "contacts"), ("PATCH /api/v4/leads/12", "leads"), ("GET /1", "items")],
    )
    def test_items_are_called_by_the_path(self, request_line: str, noun: str) -> None:
        assert noun_of(request_line) == noun
