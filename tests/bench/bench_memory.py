"""What a live call costs: memory at many concurrent calls, and the CPU of journalling every frame.

    python -m tests.bench.bench_memory [--calls N]

Exits with 1 where a call takes more than 20 KB, or the journal makes taking events in dearer by more than 1.3.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from itgrix_kommo.ami.codec import Codec
from itgrix_kommo.ami.decode import decode
from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.storage.journal import Journal
from tests.bench.ami_stream import FIRST, freepbx_call, plain_call, stream
from tests.bench.bench_ami import chunks, cpu_seconds
from tests.model_people import People, client_calls, connected, rung
from tests.worlds import plan

MOST_KB = 20.0
MOST_CPU = 1.3
RUNS = 9


def of_stream(make: Callable[[int], list[str]], call: int) -> Iterator[ev.Event]:
    """A call until somebody hangs up, as the wire tells it."""
    for text in make(call):
        event = decode(text.removesuffix("\r\n").encode(), float(FIRST + call))
        if isinstance(event, ev.HangupRequest):
            return
        if event is not None:
            yield event


def of_group(call: int) -> Iterator[ev.Event]:
    """Three phones ring, most of them through Local channels; one is answered."""
    people = People(Random(call), float(FIRST + call))  # noqa: S311 -- the same calls whenever they are measured
    client = client_calls(people)
    attempts = [rung(people, client, extension) for extension in people.phones(3)]
    for attempt in attempts:
        people.pbx.ring(attempt)
    connected(people, attempts[0])
    for attempt in attempts[1:]:
        people.pbx.cancel(attempt)
    return (event for _, event in people.pbx.told)


KINDS: dict[str, Callable[[int], Iterator[ev.Event]]] = {
    "plain": lambda call: of_stream(plain_call, call),
    "FreePBX": lambda call: of_stream(freepbx_call, call),
    "a group of three": of_group,
}


def kilobytes(kind: Callable[[int], Iterator[ev.Event]], calls: int) -> float:
    """KB that the tracker holds for each of so many calls at once, by what the interpreter took for it."""
    tracker = Tracker(plan())
    gc.collect()
    tracemalloc.start()
    for call in range(calls):
        for event in kind(call):
            tracker.feed(event)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if len(tracker.calls) != calls:
        raise RuntimeError(f"{len(tracker.calls)} calls are live, not {calls}: what was measured is something else")
    return held / 1024 / calls


def taken_in(parts: list[bytes], journal: Journal | None) -> int:
    """All that the daemon does with a chunk before effects: frame, decode, journal, track; the number of stages."""
    codec, tracker = Codec(), Tracker(plan(), grace=0.0)
    stages = 0
    for at, part in enumerate(parts):
        batch = [(frame, event) for frame in codec.feed(part) if (event := decode(frame, float(at))) is not None]
        if journal is not None:
            journal.append((event.at, frame) for frame, event in batch)
        for _, event in batch:
            stages += len(tracker.feed(event))
        stages += len(tracker.advance(float(at)))
    return stages


def journal_factor(data: bytes) -> float:
    """How many times the CPU the journal makes it, the best run with it against the best without."""
    parts = chunks(data)
    without, with_it = [], []
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(Path(directory))
        for _ in range(RUNS):
            without.append(cpu_seconds(lambda: taken_in(parts, None))[0])
            with_it.append(cpu_seconds(lambda: taken_in(parts, journal))[0])
        journal.close()
    return min(with_it) / min(without)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=1000, help="concurrent calls")
    options = parser.parse_args()
    sizes = {name: kilobytes(kind, options.calls) for name, kind in KINDS.items()}
    for name, size in sizes.items():
        print(f"{options.calls} live calls, {name}: {size:.1f} KB a call (at most {MOST_KB:.0f})")
    streams = {"plain": stream(options.calls // 5), "FreePBX": stream(options.calls // 20, freepbx=True)}
    factors = {name: journal_factor(data) for name, data in streams.items()}
    for name, factor in factors.items():
        print(f"journal on against off, {name} calls: {factor:.2f} times the CPU (at most {MOST_CPU})")
    return int(max(sizes.values()) > MOST_KB or max(factors.values()) > MOST_CPU)


if __name__ == "__main__":
    sys.exit(main())
