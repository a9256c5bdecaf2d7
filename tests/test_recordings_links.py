"""Links that can't be guessed, and parts of files as RFC 9110 has them."""

from __future__ import annotations

import base64
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.errors import ConfigError
from itgrix_kommo.recordings import ranges
from itgrix_kommo.recordings.links import Links, Ticket
from itgrix_kommo.recordings.ranges import Span

KEY = b"k" * 32
LINKS = Links("https://pbx.example.com:8077/", KEY)
tickets = st.builds(
    Ticket,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
    st.none() | st.integers(1, 1 << 40),
)
ALPHABET = ascii_letters + digits + "-_"


class TestLinks:
    @given(tickets)
    def test_lead_back_to_what_was_signed(self, ticket: Ticket) -> None:
        signed = LINKS.signed(ticket)
        assert LINKS.read(signed) == ticket
        assert LINKS.link(ticket) == f"https://pbx.example.com:8077/recordings/{signed}.mp3"
        assert set(signed) <= set(ALPHABET)

    def test_are_the_same_for_the_life_of_a_recording(self) -> None:
        """Links stand in the CRM for ever: this one was made by version 1 and has to work with every later one."""
        ticket = Ticket("pbx1/1795344324.0", None)
        assert LINKS.signed(ticket) == Links("https://elsewhere.example.com", KEY).signed(ticket)
        assert LINKS.read("TPIOYBxzWsi9a2dwgRE1MQAAAAAAAAAAcGJ4MS8xNzk1MzQ0MzI0LjA") == ticket

    @given(tickets, st.data())
    def test_a_link_with_any_letter_changed_is_none(self, ticket: Ticket, data: st.DataObject) -> None:
        signed = LINKS.signed(ticket)
        at = data.draw(st.integers(0, len(signed) - 1))
        letter = data.draw(st.sampled_from(ALPHABET).filter(lambda one: one != signed[at]))
        assert LINKS.read(signed[:at] + letter + signed[at + 1 :]) is None

    @given(st.text(max_size=100) | st.binary(max_size=100).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
    def test_whatever_was_not_signed_is_none(self, signed: str) -> None:
        assert LINKS.read(signed) is None

    @pytest.mark.parametrize("ending", ["=", "\n", "A", "!", " "])
    def test_one_link_has_one_spelling(self, ending: str) -> None:
        assert LINKS.read(LINKS.signed(Ticket("1", None)) + ending) is None

    def test_another_key_revokes_all(self) -> None:
        signed = LINKS.signed(Ticket("1", None))
        assert Links("https://pbx.example.com", b"K" * 32).read(signed) is None

    def test_a_key_that_could_be_found_by_trying_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"recordings\.link_secret has 15 bytes.* at least 16"):
            Links("https://pbx.example.com", b"k" * 15)

    def test_end_when_they_say(self) -> None:
        assert not Ticket("1", None).has_expired(1e12)
        assert not Ticket("1", 100).has_expired(99.9)
        assert Ticket("1", 100).has_expired(100)


class TestRanges:
    @pytest.mark.parametrize(
        ("header", "wanted"),
        [
            (None, None),
            ("bytes=0-", (Span(0, 100),)),
            ("bytes=0-0", (Span(0, 1),)),
            ("Bytes = 10-19", (Span(10, 20),)),
            ("bytes=90-1000", (Span(90, 100),)),
            ("bytes=-10", (Span(90, 100),)),
            ("bytes=-1000", (Span(0, 100),)),
            ("bytes=0-9, 20-29,\t-5", (Span(0, 10), Span(20, 30), Span(95, 100))),
            ("bytes=0-9,,20-29", (Span(0, 10), Span(20, 30))),
            ("bytes=0-9,100-", (Span(0, 10),)),
            ("bytes=100-", ()),
            ("bytes=-0", ()),
            ("bytes=100-,200-300", ()),
            ("bytes=9-5", None),
            ("bytes=", None),
            ("bytes=,", None),
            ("bytes", None),
            ("bytes=a-b", None),
            ("bytes=-", None),
            ("bytes=1-2-3", None),
            ("bytes=٣-٤", None),
            ("seconds=0-9", None),
            ("bytes=0-99,0-99", None),
            ("bytes=" + ",".join(f"{at}-{at}" for at in range(17)), None),
            ("bytes=" + "9" * 40 + "-", None),
        ],
    )
    def test_are_read_as_the_rfc_has_them(self, header: str | None, wanted: tuple[Span, ...] | None) -> None:
        assert ranges.requested(header, 100) == wanted

    def test_an_empty_file_has_no_parts(self) -> None:
        assert ranges.requested("bytes=0-", 0) == ()
        assert ranges.requested("bytes=-5", 0) == ()

    @given(st.text(st.sampled_from("bytes=0123456789-, ")) | st.text(), st.integers(0, 1000))
    def test_never_reach_beyond_the_file(self, header: str, size: int) -> None:
        spans = ranges.requested(header, size) or ()
        assert all(0 <= span.begin < span.end <= size for span in spans)
        assert sum(span.length for span in spans) <= size

    @given(st.integers(0, 99), st.integers(0, 150))
    def test_give_what_a_list_would(self, first: int, last: int) -> None:
        everything = bytes(range(100))
        spans = ranges.requested(f"bytes={first}-{last}", 100)
        if last < first:
            assert spans is None
        else:
            assert spans is not None
            ((begin, end),) = spans
            assert everything[begin:end] == everything[first : last + 1]


ETAG = '"abc"'
CHANGED = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"


class TestConditions:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 200),
            ({"If-None-Match": ETAG}, 304),
            ({"If-None-Match": f'"x", W/{ETAG}'}, 304),
            ({"If-None-Match": "*"}, 304),
            ({"If-None-Match": '"x"'}, 200),
            ({"If-None-Match": '"x"', "If-Modified-Since": DATE}, 200),
            ({"If-Modified-Since": DATE}, 304),
            ({"If-Modified-Since": LATER}, 304),
            ({"If-Modified-Since": EARLIER}, 200),
            ({"If-Modified-Since": "yesterday"}, 200),
            ({"If-Modified-Since": ""}, 200),
            ({"If-Match": ETAG}, 200),
            ({"If-Match": "*"}, 200),
            ({"If-Match": f"W/{ETAG}"}, 412),
            ({"If-Match": '"x"'}, 412),
            ({"If-Match": ETAG, "If-Unmodified-Since": EARLIER}, 200),
            ({"If-Unmodified-Since": EARLIER}, 412),
            ({"If-Unmodified-Since": DATE}, 200),
        ],
    )
    def test_are_kept(self, headers: dict[str, str], status: int) -> None:
        assert ranges.status(headers, ETAG, CHANGED) == status

    @pytest.mark.parametrize(
        ("if_range", "still"),
        [(None, True), (ETAG, True), (f"W/{ETAG}", False), ('"x"', False), (DATE, True), (LATER, False), ("?", False)],
    )
    def test_parts_of_another_file_are_not_wanted(self, if_range: str | None, still: bool) -> None:  # noqa: FBT001 - a table
        assert ranges.still_wanted(if_range, ETAG, CHANGED) is still

    @given(st.text())
    def test_no_header_breaks_them(self, text: str) -> None:
        for name in ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"):
            assert ranges.status({name: text}, ETAG, CHANGED) in {200, 304, 412}
        ranges.still_wanted(text, ETAG, CHANGED)
