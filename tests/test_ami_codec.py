"""Bytes to frames: the same ones however they are cut, in bounded memory and linear time, and only those wanted."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.ami import codec as codec_module
from itgrix_kommo.ami import wanted
from itgrix_kommo.ami.codec import MAX_LINE, Codec
from itgrix_kommo.ami.wanted import sieve
from tests.bench.ami_stream import freepbx_call, plain_call, stream

BANNER = b"Asterisk Call Manager/9.0.0\r\n"
HANGUP = b"Event: Hangup\r\nUniqueid: 1.2\r\nCause: 16"
NEWSTATE = b"Event: Newstate\r\nUniqueid: 1.2"
END = b"\r\n\r\n"


def everything(**bounds: int) -> Codec:
    return Codec(keep=list, **bounds)


def varset(name: bytes) -> bytes:
    return b"Event: VarSet\r\nUniqueid: 1.2\r\nVariable: " + name + b"\r\nValue: x"


def newexten(application: bytes, data: bytes) -> bytes:
    return b"Event: Newexten\r\nUniqueid: 1.2\r\nApplication: " + application + b"\r\nAppData: " + data


class TestFrames:
    def test_a_message_ends_with_a_blank_line(self) -> None:
        assert everything().feed(HANGUP + END + NEWSTATE + END) == [HANGUP, NEWSTATE]

    def test_an_unfinished_message_waits_for_its_end(self) -> None:
        codec = everything()
        assert codec.feed(HANGUP + END + NEWSTATE[:9]) == [HANGUP]
        assert codec.feed(NEWSTATE[9:] + END) == [NEWSTATE]

    def test_the_end_may_be_cut_at_any_place(self) -> None:
        for cut in range(len(END) + 1):
            codec = everything()
            frames = codec.feed(HANGUP + END[:cut]) + codec.feed(END[cut:] + NEWSTATE + END)
            assert frames == [HANGUP, NEWSTATE]

    def test_the_banner_is_no_message(self) -> None:
        codec = everything()
        assert codec.feed(BANNER + HANGUP + END) == [HANGUP]
        assert codec.version == "9.0.0"

    def test_without_a_banner_the_first_message_is_complete(self) -> None:
        codec = everything()
        assert codec.feed(HANGUP + END) == [HANGUP]
        assert codec.version is None

    def test_a_long_first_line_is_no_banner(self) -> None:
        codec = everything()
        line = b"Asterisk Call Manager/" + b"1" * codec_module.MAX_BANNER
        assert codec.feed(line) == []
        assert codec.feed(b"\r\n" + HANGUP + END) == [line + b"\r\n" + HANGUP]
        assert codec.version is None

    def test_a_stray_line_break_before_an_event_is_dropped(self) -> None:
        assert everything().feed(HANGUP + END + b"\r\n" + NEWSTATE + END) == [HANGUP, NEWSTATE]
        assert everything().feed(HANGUP + END + END + b"\r\n" + NEWSTATE + END) == [HANGUP, NEWSTATE]

    def test_an_empty_last_value_is_kept(self) -> None:
        frame = b"Event: VarSet\r\nVariable: DIALSTATUS\r\nValue: "
        assert Codec().feed(frame + END) == [frame]

    def test_a_letter_cut_in_two_survives(self) -> None:
        frame = "Event: Newchannel\r\nCallerIDName: Ж".encode()
        codec = everything()
        assert codec.feed(frame[:-1]) == []
        assert codec.feed(frame[-1:] + END) == [frame]

    def test_messages_are_counted_also_those_not_wanted(self) -> None:
        codec = Codec()
        codec.feed(HANGUP + END + varset(b"ANSWEREDTIME") + END)
        assert codec.messages == 2

    @given(st.lists(st.sampled_from([HANGUP, NEWSTATE, b"", b"\r\n", b"x", END, b"\r", b"\n", BANNER])), st.data())
    def test_any_cut_gives_the_same_frames(self, pieces: list[bytes], data: st.DataObject) -> None:
        self.assert_cut_does_not_matter(b"".join(pieces), data)

    @given(st.binary(max_size=600), st.data())
    def test_any_cut_of_garbage_gives_the_same_frames(self, garbage: bytes, data: st.DataObject) -> None:
        self.assert_cut_does_not_matter(garbage, data)

    @staticmethod
    def assert_cut_does_not_matter(received: bytes, data: st.DataObject) -> None:
        whole = everything(max_message=200, max_line=50)
        expected = whole.feed(received)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(received)), max_size=8)))
        cut = everything(max_message=200, max_line=50)
        frames = [
            frame for begin, end in pairwise([0, *cuts, len(received)]) for frame in cut.feed(received[begin:end])
        ]
        assert frames == expected
        assert cut.version == whole.version
        assert (cut.fault is None) == (whole.fault is None)
        assert cut.close() == whole.close()


class TestBounds:
    def test_an_endless_message_is_given_up(self) -> None:
        codec = everything(max_message=100)
        assert codec.feed(HANGUP + END + b"x" * 104) == [HANGUP]
        codec.feed(b"x")
        assert codec.fault == "a message of more than 100 bytes"
        assert codec.feed(HANGUP + END) == []
        assert codec.close() is False

    def test_a_message_of_the_greatest_size_passes(self) -> None:
        codec = everything(max_message=100)
        frame = b"x" * 100
        assert codec.feed(frame + END[:3]) == []
        assert codec.feed(END[3:]) == [frame]

    def test_what_precedes_an_oversized_message_is_kept(self) -> None:
        codec = everything(max_message=100)
        assert codec.feed(HANGUP + END + b"x" * 101 + END + NEWSTATE + END) == [HANGUP]
        assert codec.fault == "a message of more than 100 bytes"

    def test_a_line_beyond_reason_is_given_up(self) -> None:
        codec = everything()
        assert codec.feed(HANGUP + END + b"Event: Hangup\r\nX: " + b"x" * MAX_LINE + END) == [HANGUP]
        assert codec.fault == f"a line of more than {MAX_LINE} bytes"

    def test_many_short_lines_may_be_longer_than_one_line(self) -> None:
        codec = everything()
        frame = b"\r\n".join([b"Output: " + b"x" * 100] * 1000)
        assert codec.feed(frame + END) == [frame]

    def test_an_endless_line_costs_linear_time(self) -> None:
        def spent(size: int) -> float:
            codec = everything(max_message=1 << 30)
            begun = time.process_time()
            for _ in range(size):
                codec.feed(b"x" * 256)
            return time.process_time() - begun

        # Quadratic work would take 64 times as long for eight times as much; the bound leaves room for a busy machine.
        small = min(spent(4_000) for _ in range(3))
        assert min(spent(32_000) for _ in range(3)) < 24 * small


class TestClose:
    def test_half_an_event_is_told(self) -> None:
        codec = everything()
        codec.feed(HANGUP)
        assert codec.close() is True
        assert codec.close() is False

    def test_a_stray_line_break_is_no_half_event(self) -> None:
        codec = everything()
        codec.feed(BANNER + HANGUP + END + b"\r\n")
        assert codec.close() is False


class TestSieve:
    @pytest.mark.parametrize("name", sorted(wanted.EVENTS | wanted.LIFE_EVENTS))
    def test_wanted_events_pass(self, name: str) -> None:
        frame = f"Event: {name}\r\nUniqueid: 1.2".encode()
        assert sieve([frame, frame[:-1]]) == [frame, frame[:-1]]

    def test_others_are_dropped(self) -> None:
        assert sieve([b"Event: RTCPSent\r\nA: b", b"Event: Hangups\r\nA: b", b"Event: TestEvent", b"", b"x: y"]) == []

    def test_an_event_without_headers_passes_by_its_name(self) -> None:
        assert sieve([b"Event: Hangup"]) == [b"Event: Hangup"]

    @pytest.mark.parametrize("name", [b"DIALSTATUS", b"_FROM_DID", b"__FROM_DID", b"ITGRIX_ORIGINATE", b"__ITGRIX_X"])
    def test_variables_of_interest_pass(self, name: bytes) -> None:
        assert sieve([varset(name)]) == [varset(name)]

    @pytest.mark.parametrize("name", [b"ANSWEREDTIME", b"DIALSTATUSES", b"XITGRIX_A", b"", b"dialstatus"])
    def test_other_variables_are_dropped(self, name: bytes) -> None:
        assert sieve([varset(name)]) == []

    def test_a_variable_may_be_the_last_header_or_none(self) -> None:
        assert sieve([b"Event: VarSet\r\nVariable: DIALSTATUS"]) == [b"Event: VarSet\r\nVariable: DIALSTATUS"]
        assert sieve([b"Event: VarSet\r\nValue: DIALSTATUS"]) == []

    def test_applications_that_place_a_caller_pass(self) -> None:
        frames = [newexten(b"Dial", b"PJSIP/101"), newexten(b"Queue", b"700")]
        assert sieve(frames) == frames

    def test_other_applications_are_dropped(self) -> None:
        assert sieve([newexten(b"NoOp", b""), newexten(b"MixMonitor", b"a.wav"), newexten(b"", b"Dial")]) == []

    def test_only_the_end_of_a_call_passes_from_cel(self) -> None:
        ended = b"Event: CEL\r\nEventName: LINKEDID_END\r\nLinkedID: 1.2"
        assert sieve([ended, ended.replace(b"LINKEDID_END", b"CHAN_END")]) == [ended]
        assert sieve([b"Event: CEL\r\nEventName: LINKEDID_END"]) == [b"Event: CEL\r\nEventName: LINKEDID_END"]

    def test_answers_pass(self) -> None:
        frames = [b"Response: Success\r\nPing: Pong", b"Event: CoreShowChannel\r\nActionID: 7\r\nChannel: a"]
        assert sieve(frames) == frames

    def test_the_made_up_streams_have_the_sizes_of_real_calls(self) -> None:
        assert len(plain_call(1)) == 84
        assert sum(part.startswith("Event: VarSet") for part in plain_call(1)) == 44
        assert len(freepbx_call(1)) == 294


class TestServerFilters:
    """Asterisk's expressions are POSIX; with the one class they use spelt out, Python reads them alike."""

    expressions = tuple(re.compile(each.replace("[[:space:]]", r"\s"), re.DOTALL) for each in wanted.server_filters())

    def passes(self, frame: bytes) -> bool:
        return any(each.search(frame.decode() + "\r\n") for each in self.expressions)

    def test_each_fits_into_one_line_of_an_action(self) -> None:
        assert all(len(each) <= wanted.MAX_FILTER for each in wanted.server_filters())

    def test_asterisk_sends_what_the_sieve_keeps_and_nothing_else(self) -> None:
        received = Codec(keep=list).feed(stream(2) + stream(2, freepbx=True))
        assert [frame for frame in received if self.passes(frame)] == sieve(received)

    @pytest.mark.parametrize("name", sorted(wanted.EVENTS | wanted.LIFE_EVENTS))
    def test_every_wanted_event_is_asked_for(self, name: str) -> None:
        assert self.passes(f"Event: {name}\r\nPrivilege: call,all\r\n".encode())

    def test_names_are_matched_in_full(self) -> None:
        assert not self.passes(b"Event: HangupHandlerRun\r\nChannel: a")
        assert not self.passes(varset(b"DIALSTATUSES"))
        assert self.passes(varset(b"__FROM_DID"))
        assert self.passes(varset(b"ITGRIX_ORIGINATE"))
        assert self.passes(b"Event: CEL\r\nPrivilege: call,all\r\nEventName: LINKEDID_END\r\n")
