"""FastCGI's bytes, however they are cut, and what hook.php writes, likewise."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.customizations import fastcgi
from itgrix_kommo.customizations.php import Transcript
from itgrix_kommo.customizations.process import Head
from itgrix_kommo.errors import HookError


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(ends)]


class TestRequest:
    def test_is_what_the_specification_says(self) -> None:
        assert fastcgi.request({"A": "bc"}, b"body") == b"".join((
            b"\x01\x01\x00\x01\x00\x08\x00\x00", b"\x00\x01\x01\x00\x00\x00\x00\x00",
            b"\x01\x04\x00\x01\x00\x05\x00\x00", b"\x01\x02Abc",
            b"\x01\x04\x00\x01\x00\x00\x00\x00",
            b"\x01\x05\x00\x01\x00\x04\x00\x00", b"body",
            b"\x01\x05\x00\x01\x00\x00\x00\x00",
        ))  # fmt: skip

    def test_long_names_and_values_have_long_lengths(self) -> None:
        request = fastcgi.request({"N" * 127: "v" * 128}, b"")
        assert b"\x7f\x80\x00\x00\x80" + b"N" * 127 + b"v" * 128 in request

    def test_long_bodies_are_several_records(self) -> None:
        records = list(fastcgi.Records().feed(fastcgi.request({}, b"x" * 200_000)))
        body = [record.content for record in records if record.kind == fastcgi.STDIN]
        assert b"".join(body) == b"x" * 200_000
        assert body[-1] == b""
        assert max(map(len, body)) <= 0xFFFF


class TestRecords:
    @given(
        st.lists(st.tuples(st.sampled_from([3, 6, 7]), st.binary(max_size=300), st.integers(0, 7)), max_size=6),
        st.lists(st.integers(0, 5000)),
    )
    def test_come_out_however_they_were_cut(self, sent: list[tuple[int, bytes, int]], places: list[int]) -> None:
        data = b"".join(
            bytes([1, kind, 0, 1, *divmod(len(content), 256), padding, 0]) + content + b"\0" * padding
            for kind, content, padding in sent
        )
        records = fastcgi.Records()
        found = [record for part in cut(data, places) for record in records.feed(part)]
        assert found == [fastcgi.Record(kind, content) for kind, content, _ in sent]

    def test_of_another_protocol_are_refused(self) -> None:
        with pytest.raises(HookError, match="no FastCGI"):
            list(fastcgi.Records().feed(b"HTTP/1.1 400 Bad Request\r\n"))


class TestTranscript:
    @given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=50), st.lists(st.integers(0, 500)))
    def test_tells_the_reply_from_what_was_printed(
        self, printed: bytes, body: bytes, after: bytes, places: list[int]
    ) -> None:
        head = Head(1000)
        transcript = Transcript(head, page=True)
        reply = transcript.marker + b"A%d\n" % len(body) + body
        for part in cut(b"Content-type: text/html\r\n\r\n" + printed + reply + after, places):
            transcript.feed(part)
        assert transcript.reply() == (b"A", body)
        assert bytes(head.data) == printed

    @pytest.mark.parametrize("text", [b"", b"X: y\r\n", b"X: y\r\n\r\nprinted only"])
    def test_without_a_reply_is_a_failure(self, text: bytes) -> None:
        transcript = Transcript(Head(1000), page=True)
        transcript.feed(text)
        with pytest.raises(HookError, match="without an answer"):
            transcript.reply()

    def test_a_reply_cut_short_is_a_failure(self) -> None:
        transcript = Transcript(Head(1000), page=False)
        transcript.feed(transcript.marker + b"A10\n123")
        with pytest.raises(HookError, match="without an answer"):
            transcript.reply()


class TestHead:
    def test_keeps_the_beginning_and_counts_all(self) -> None:
        head = Head(5)
        for part in (b"abc", b"def", b"ghi"):
            head.feed(part)
        assert head.take() == "abcde\n[9 bytes in all]"
        assert head.take() == ""

    def test_shows_bytes_that_are_no_text(self) -> None:
        head = Head(10)
        head.feed(b"a\xffb")
        assert head.take() == "a\\xffb"
