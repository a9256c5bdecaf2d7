"""What a recording is, told by its first bytes, and by its name where the format has no header of its own."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from itgrix_kommo.errors import RecordingUnusable

HEAD: Final = 16 * 1024
"""Bytes of a file's beginning that `recognise` wants to see."""

_OPAQUE: Final = "application/octet-stream"  # no browser plays these, and no registered type fits


@dataclass(frozen=True, slots=True)
class Pcm:
    """Plain 16-bit samples inside the file: where they begin and how many bytes they are."""

    offset: int
    length: int
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.length / (2 * self.rate * self.channels)


@dataclass(frozen=True, slots=True)
class Audio:
    """`demuxer` is ffmpeg's name for the format. `rate` (Hz) is given where the file does not tell it itself.

    `pcm` is None where decoding takes a codec. `endless`: the header's length is wrong, so the file's end counts.
    """

    demuxer: str
    media_type: str
    rate: int | None = None
    pcm: Pcm | None = None
    endless: bool = False

    @property
    def is_mp3(self) -> bool:
        return self.demuxer == "mp3"


class _Headerless(NamedTuple):
    demuxer: str
    rate: int | None
    media_type: str = _OPAQUE
    least: int = 1  # bytes: less than this is no sound


_MP3: Final = Audio("mp3", "audio/mpeg")
_SLIN_RATES: Final = {"12": 12000, "16": 16000, "24": 24000, "32": 32000, "44": 44100, "48": 48000, "96": 96000}

# By Asterisk's file extensions (format_pcm, format_sln, format_gsm, format_g722).
_HEADERLESS: Final = {
    **dict.fromkeys(("sln", "slin", "raw"), _Headerless("s16le", 8000, least=2)),
    **{f"{name}{suffix}": _Headerless("s16le", rate, least=2)
       for name in ("sln", "slin") for suffix, rate in _SLIN_RATES.items()},
    **dict.fromkeys(("ulaw", "ul", "mu", "ulw", "pcm"), _Headerless("mulaw", 8000, "audio/basic")),
    **dict.fromkeys(("alaw", "al", "alw"), _Headerless("alaw", 8000)),
    "gsm": _Headerless("gsm", 8000, "audio/GSM", least=33),
    "g722": _Headerless("g722", None, "audio/G722"),
}  # fmt: skip


def recognise(name: str, head: bytes, size: int) -> Audio:
    """The format of the file `name` of `size` bytes that begins with `head` (its first HEAD bytes, or all of it).

    Raises RecordingUnusable, in words, where there is no sound in it or no way to tell what it is.
    """
    if not size:
        raise RecordingUnusable("the file is empty: nothing was recorded")
    if head[:4] in {b"RIFF", b"RF64"}:
        return _wav(head, size)
    if head[:4] == b"OggS":
        return Audio("ogg", "audio/ogg")
    extension = name.rpartition(".")[2].lower()
    # Silence in µ-law looks like the beginning of an MP3 frame, so these formats are believed by name.
    if head[:3] != b"ID3" and (headerless := _HEADERLESS.get(extension)):
        return _without_header(headerless, size)
    if _is_mp3(head):
        return _MP3
    beginning = head[:12].hex(" ")
    raise RecordingUnusable(
        f"the file is damaged or of no known format: {extension or 'no'} extension, begins {beginning}"
    )


def _without_header(form: _Headerless, size: int) -> Audio:
    if size < form.least:
        raise RecordingUnusable(f"the file has {size} bytes: no sound was recorded")
    if form.demuxer != "s16le" or form.rate is None:
        return Audio(form.demuxer, form.media_type, form.rate)
    pcm = Pcm(offset=0, length=size - size % 2, rate=form.rate, channels=1)
    return Audio(form.demuxer, form.media_type, form.rate, pcm)


def _wav(head: bytes, size: int) -> Audio:
    form: tuple[int, int, int, int] | None = None  # tag, channels, rate, bits
    at = 12
    while at + 8 <= len(head):
        kind, declared = struct.unpack_from("<4sI", head, at)
        at += 8
        if kind == b"fmt " and at + 16 <= len(head):
            tag, channels, rate, bits = struct.unpack_from("<HHI6xH", head, at)
            if tag == 0xFFFE and at + 26 <= len(head):  # extensible: the real tag begins the sub-format's GUID
                tag = struct.unpack_from("<H", head, at + 24)[0]
            form = tag, channels, rate, bits
        elif kind == b"data":
            return _wav_with_data(form, at, declared, size)
        at += declared + declared % 2
    if form is None or size <= at:
        raise RecordingUnusable("the file ends within its header: no sound was recorded")
    return Audio("wav", "audio/wav")  # the data begin further on than we looked


def _wav_with_data(form: tuple[int, int, int, int] | None, offset: int, declared: int, size: int) -> Audio:
    if form is None:
        raise RecordingUnusable("the file is damaged: its WAV header does not tell the format")
    tag, channels, rate, bits = form
    if not channels or not rate:
        raise RecordingUnusable(f"the file is damaged: its WAV header tells {channels} channels at {rate} Hz")
    rest = size - offset
    if rest <= 0:
        raise RecordingUnusable("the file has a header and no sound")
    # Asterisk writes the length when it closes the file (never, if it died), and modulo 4 GiB.
    endless = declared == 0 or size >= 1 << 32
    length = rest if endless else min(declared, rest)
    if tag != 1 or bits != 16 or length < 2 * channels:
        return Audio("wav", "audio/wav", endless=endless)
    pcm = Pcm(offset, length - length % (2 * channels), rate, channels)
    return Audio("wav", "audio/wav", pcm=pcm, endless=endless)


_KBITS_1: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def is_finished_mp3(head: bytes, size: int) -> bool:
    """Whether the mp3 that begins so is all that ffmpeg made: at its end it enters the number of bytes."""
    at = max(head.find(b"Info"), head.find(b"Xing"))
    if at < 0 or len(head) < at + 16:
        return False
    return 0 < int.from_bytes(head[at + 12 : at + 16]) <= size


def _is_mp3(head: bytes) -> bool:
    begin = 0
    if head[:3] == b"ID3" and len(head) >= 10:
        a, b, c, d = head[6:10]
        begin = 10 + (a << 21 | b << 14 | c << 7 | d)
        if begin + 4 > len(head):
            return True  # a long tag, with a picture perhaps
    while (begin := head.find(b"\xff", begin)) >= 0:
        length = _frame_length(head[begin : begin + 4])
        following = head[begin + length : begin + length + 4]
        if length and (len(following) < 4 or _frame_length(following)):
            return True
        begin += 1
    return False


def _frame_length(header: bytes) -> int:
    """Bytes of the Layer III frame that begins so; 0 where none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate, padding = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or rate == 3 or bitrate in {0, 15}:
        return 0
    kbits, samples = (_KBITS_1, 144) if version == 3 else (_KBITS_2, 72)
    return samples * kbits[bitrate] * 1000 // _RATES[version][rate] + padding
