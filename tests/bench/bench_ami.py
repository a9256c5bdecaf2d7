"""How many events a second the link takes in, against stock panoramisk with twelve exact callbacks on the same bytes.

    python -m tests.bench.bench_ami [--calls N] [--trace FILE …]

Without a trace, the streams are made up after real ones (`ami_stream`); a trace is bytes as they came from the wire.
Each figure is the median of several rounds, by CPU time, one process, one core.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import panoramisk

from itgrix_kommo.ami.codec import Codec
from itgrix_kommo.ami.decode import decode
from itgrix_kommo.calls.numbers import NumberPlan
from itgrix_kommo.calls.tracker import Tracker
from tests.bench.ami_stream import stream

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 64 * 1024
RUNS = 9
CALLBACKS = (
    "Newchannel", "Newstate", "Newexten", "VarSet", "DialBegin", "DialEnd",
    "BridgeEnter", "BridgeLeave", "Hangup", "HangupRequest", "AttendedTransfer", "BlindTransfer",
)  # fmt: skip


def chunks(data: bytes) -> list[bytes]:
    return [data[begin : begin + CHUNK] for begin in range(0, len(data), CHUNK)]


def cpu_seconds(run: Callable[[], int]) -> tuple[float, int]:
    """CPU seconds of one run, and what it counted; what other processes take meanwhile is not in it."""
    gc.collect()
    begun = time.process_time()
    counted = run()
    return time.process_time() - begun, counted


def stock(parts: list[bytes]) -> Callable[[], int]:
    """panoramisk as it comes: its protocol, its dispatcher, a callback that does nothing but count."""

    def run() -> int:
        heard = 0

        def callback(_manager: object, _message: object) -> None:
            nonlocal heard
            heard += 1

        loop = asyncio.new_event_loop()
        manager = panoramisk.Manager(loop=loop)
        for name in CALLBACKS:
            manager.register_event(name, callback)
        protocol = panoramisk.manager.AMIProtocol()
        protocol.connection_made(None)
        protocol.factory = manager
        protocol.encoding = "utf8"
        for part in parts:
            protocol.data_received(part)
        loop.close()
        return heard

    return run


def framing(parts: list[bytes]) -> Callable[[], int]:
    """Bytes to wanted frames, nothing more."""

    def run() -> int:
        codec = Codec()
        return sum(len(codec.feed(part)) for part in parts)

    return run


def typed(parts: list[bytes]) -> Callable[[], int]:
    """Bytes to typed events: what the link does before it hands over."""

    def run() -> int:
        codec = Codec()
        heard = 0
        for part in parts:
            for frame in codec.feed(part):
                heard += decode(frame, 0.0) is not None
        return heard

    return run


def tracked(parts: list[bytes]) -> Callable[[], int]:
    """Bytes to the stages of calls; time passes between chunks as it does between batches."""

    def run() -> int:
        codec = Codec()
        tracker = Tracker(NumberPlan(trunks=["PJSIP/trunk"], region="RU"), grace=0.0)
        stages = 0
        for at, part in enumerate(parts):
            for frame in codec.feed(part):
                event = decode(frame, float(at))
                if event is not None:
                    stages += len(tracker.feed(event))
            stages += len(tracker.advance(float(at)))
        return stages

    return run


CONTENDERS: dict[str, Callable[[list[bytes]], Callable[[], int]]] = {
    "codec": framing,
    "codec + decode": typed,
    "codec + decode + tracker": tracked,
}
"""What is measured beside stock panoramisk: a name, and what runs once over the chunks."""


def compare(name: str, data: bytes) -> None:
    """In turn, round after round, so that a machine whose speed drifts drifts for all; the median ratio is told."""
    parts = chunks(data)
    everything = Codec(keep=list)
    events = sum(len(everything.feed(part)) for part in parts)
    print(f"{name}: {events} events, {len(data) / 1e6:.1f} MB")
    runs = {"stock panoramisk": stock(parts), **{label: make(parts) for label, make in CONTENDERS.items()}}
    rounds = [{label: cpu_seconds(run) for label, run in runs.items()} for _ in range(RUNS)]
    for label in runs:
        rate = events / median(one[label][0] for one in rounds)
        ratios = sorted(one["stock panoramisk"][0] / one[label][0] for one in rounds)
        spread = f"{median(ratios):.1f} x  ({ratios[0]:.1f} to {ratios[-1]:.1f})" if label in CONTENDERS else ""
        print(f"  {label:<24} {rate:>10,.0f} events/s   {rounds[0][label][1]} out   {spread}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=100, help="calls in each made-up stream")
    parser.add_argument("--trace", type=Path, nargs="*", default=[], help="recorded bytes to measure as well")
    options = parser.parse_args()
    logging.disable()
    compare("plain calls", stream(options.calls))
    compare("FreePBX-style calls", stream(options.calls // 3, freepbx=True))
    for trace in options.trace:
        compare(trace.name, trace.read_bytes())


if __name__ == "__main__":
    main()
