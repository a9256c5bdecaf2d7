"""What a recording is, by its first bytes and its name."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from itgrix_kommo.errors import RecordingUnusable
from itgrix_kommo.recordings.audio import Audio, Pcm, is_finished_mp3, recognise

# A Layer III frame of MPEG-2.5, 8 kHz, 32 kbit/s: 288 bytes.
FRAME = bytes.fromhex("ffe348c4") + bytes(284)
FIRST_MPEG_1_FRAME = bytes.fromhex("fffb90c4") + bytes(413)  # 44.1 kHz, 128 kbit/s


def wav(
    *, tag: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, declared: int = 1000, before: bytes = b""
) -> bytes:
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    if tag == 0xFFFE:
        form += struct.pack("<HHIH", 22, bits, 4, 1) + bytes.fromhex("000000001000800000aa00389b71")
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + before
    return b"RIFF" + struct.pack("<I", 36 + declared) + b"WAVE" + chunks + b"data" + struct.pack("<I", declared)


class TestWav:
    @pytest.mark.parametrize(
        ("head", "size", "pcm"),
        [
            (wav(), 1044, Pcm(44, 1000, 8000, 1)),
            (wav(channels=2, rate=48000), 1044, Pcm(44, 1000, 48000, 2)),
            (wav(tag=0xFFFE), 1068, Pcm(68, 1000, 8000, 1)),
            (wav(before=b"LIST\x03\0\0\0abc\0"), 1056, Pcm(56, 1000, 8000, 1)),
            (wav(declared=2000), 1044, Pcm(44, 1000, 8000, 1)),
            (wav(declared=500), 1044, Pcm(44, 500, 8000, 1)),
            (wav(declared=999), 1043, Pcm(44, 998, 8000, 1)),
            (wav(declared=0), 1044, Pcm(44, 1000, 8000, 1)),
            (wav(declared=5), (1 << 32) + 44, Pcm(44, 1 << 32, 8000, 1)),
            (wav(bits=8), 1044, None),
            (wav(tag=7, bits=8), 1044, None),
            (wav(tag=0x31, bits=0), 1044, None),
            (wav(declared=1), 45, None),
        ],
    )
    def test_plain_samples_are_found(self, head: bytes, size: int, pcm: Pcm | None) -> None:
        found = recognise("call.wav", head, size)
        assert (found.demuxer, found.media_type, found.pcm) == ("wav", "audio/wav", pcm)

    def test_a_wrong_length_is_known_as_such(self) -> None:
        assert recognise("call.wav", wav(declared=0), 1044).endless
        assert recognise("call.wav", wav(), 1 << 32).endless
        assert not recognise("call.wav", wav(), 1044).endless

    def test_samples_far_behind_a_long_chunk_are_left_to_ffmpeg(self) -> None:
        head = wav(before=b"LIST" + struct.pack("<I", 100_000))[:60]
        assert recognise("call.wav", head, 200_000) == Audio("wav", "audio/wav")
        with pytest.raises(RecordingUnusable, match="ends within its header"):
            recognise("call.wav", head, 90_000)

    def test_ten_seconds_are_ten_seconds(self) -> None:
        found = recognise("call.sln16", b"\0" * 10, 320_001)
        assert found.pcm == Pcm(0, 320_000, 16000, 1)
        assert found.pcm.seconds == 10


class TestMp3:
    @pytest.mark.parametrize(
        "head",
        [
            FRAME * 3,
            FRAME,
            FIRST_MPEG_1_FRAME * 2,
            b"junk\xff\x00" + FRAME * 2,
            b"ID3\x04\0\0\0\0\0\x05tag.." + FRAME * 2,
            b"ID3\x04\0\0\0\0\x7f\x7f" + b"picture",
        ],
    )
    def test_is_known_whatever_it_is_called(self, head: bytes) -> None:
        for name in ("call.mp3", "call.wav", "call"):
            assert recognise(name, head, 100_000).is_mp3

    @pytest.mark.parametrize("header", ["ffe340c4", "ffe3f8c4", "ffe34cc4", "ffeb48c4", "ffe548c4", "ff"])
    def test_headers_that_can_not_be_are_none(self, header: str) -> None:
        with pytest.raises(RecordingUnusable, match="of no known format"):
            recognise("call.mp3", bytes.fromhex(header) + bytes(2000), 2004)

    def test_silence_in_ulaw_is_no_mp3(self) -> None:
        assert recognise("call.ulaw", b"\xff" * 1000, 1000).demuxer == "mulaw"
        assert recognise("call.ulaw", b"ID3\x04\0\0\0\0\0\0" + FRAME * 2, 1000).is_mp3

    def test_is_finished_when_all_its_bytes_are_there(self) -> None:
        head = FRAME[:13] + b"Info" + struct.pack(">III", 15, 100, 5000) + bytes(100)
        assert is_finished_mp3(head, 5000)
        assert not is_finished_mp3(head, 4999)
        assert not is_finished_mp3(head.replace(struct.pack(">I", 5000), bytes(4)), 5000)
        assert not is_finished_mp3(head[:25], 5000)
        assert not is_finished_mp3(FRAME, 5000)


@given(
    st.sampled_from(["a.wav", "a.WAV", "a.mp3", "a.gsm", "a.ulaw", "a.sln", "a.ogg", "a", ""]),
    st.binary(max_size=200)
    | st.binary(max_size=200).map(lambda rest: b"RIFF\0\0\0\0WAVEfmt " + rest)
    | st.binary(max_size=200).map(lambda rest: wav()[:36] + rest)
    | st.binary(max_size=50).map(lambda rest: b"ID3" + rest),
    st.integers(0, 1 << 33),
)
@example("a.wav", wav()[:40], 40)
def test_no_bytes_at_all_break_it(name: str, head: bytes, more: int) -> None:
    size = len(head) + more
    try:
        found = recognise(name, head, size)
    except RecordingUnusable as error:
        assert str(error)  # noqa: PT017 - either is well, as long as nothing else is raised
        return
    if found.pcm is not None:
        assert found.pcm.offset + found.pcm.length <= size
        assert found.pcm.seconds >= 0
