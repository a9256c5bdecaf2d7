"""From bytes to stages: where the network cuts the stream is of no matter."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itgrix_kommo.ami.codec import Codec
from itgrix_kommo.ami.decode import decode
from itgrix_kommo.calls.call import Stage, StageName
from itgrix_kommo.calls.numbers import NumberPlan
from itgrix_kommo.calls.tracker import Tracker
from tests.bench.ami_stream import stream

BANNER = b"Asterisk Call Manager/9.0.0\r\n"
NOISE = b"Event: TestEvent\r\nState: x\r\n\r\n\r\n"
STREAMS = {"plain": BANNER + stream(3).replace(b"\r\n\r\n", b"\r\n\r\n" + NOISE, 5), "freepbx": stream(1, freepbx=True)}


def stages(chunks: list[bytes]) -> list[Stage]:
    """What the chunks tell, all of it at one moment."""
    codec, tracker = Codec(), Tracker(NumberPlan(trunks=["PJSIP/trunk"], region="RU"))
    told = []
    for chunk in chunks:
        for frame in codec.feed(chunk):
            if event := decode(frame, 1.0):
                told += tracker.feed(event)
    return told + tracker.advance(60.0)


WHOLE = {name: stages([data]) for name, data in STREAMS.items()}


@pytest.mark.parametrize("name", STREAMS)
def test_the_whole_stream_tells_its_calls(name: str) -> None:
    names = [stage.name for stage in WHOLE[name]]
    calls = {"plain": 3, "freepbx": 1}[name]
    assert [names.count(one) for one in StageName] == [calls] * 4


@pytest.mark.parametrize("name", STREAMS)
@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.floats(0, 1), max_size=40))
def test_split_anywhere_it_tells_the_same(name: str, cuts: list[float]) -> None:
    data = STREAMS[name]
    places = sorted({0, len(data), *(int(cut * len(data)) for cut in cuts)})
    assert stages([data[begin:end] for begin, end in pairwise(places)]) == WHOLE[name]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1460])
def test_in_chunks_of_any_size_it_tells_the_same(size: int) -> None:
    data = STREAMS["plain"]
    assert stages([data[begin : begin + size] for begin in range(0, len(data), size)]) == WHOLE["plain"]
