"""A million random and mutated events: nothing is raised, and nothing grows.

    python -m tests.bench.bench_storm [--events N] [--seed N]

Legal worlds follow each other, an hour apart; in most of them some or many events are mutated, others are invented.
What the tracker keeps is looked at between worlds, and once more when all is quiet.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from random import Random

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.live_calls import GRACE, REMEMBER_ENDED
from itgrix_kommo.calls.tracker import Tracker
from tests.storm import storm
from tests.story import T0
from tests.worlds import SCRIPTS, World, plan

APART = 3600.0
CALM = (0.3, 0.7, 0.95, 1.0)


def worlds(random: Random) -> Iterator[list[ev.Event]]:
    """The events of world after world, each with ids and times of its own."""
    start = T0
    while True:
        world = World(random, random.choices(sorted(SCRIPTS), k=random.randint(1, 4)), start=start)
        yield world.events
        start = world.pbx.now + APART


def kept(tracker: Tracker) -> dict[str, int]:
    """How much of what the tracker holds, and how many notes its calls have."""
    sizes = {name: len(held) for name, held in vars(tracker._live).items() if isinstance(held, dict | list)}
    notes = sum(len(call.notes) for call in tracker.calls.values())
    return sizes | {"rooms": len(tracker._live.rooms), "notes": notes}


def play(events: int, seed: int) -> tuple[int, dict[str, int], dict[str, int]]:
    """The number of stages that so many events led to, the most that was kept of anything, and what is left."""
    random = Random(seed)  # noqa: S311 -- the same storm whenever it is asked for
    tracker = Tracker(plan())
    fed = stages = 0
    most: dict[str, int] = {}
    now = 0.0
    for legal in worlds(random):
        for event in storm(random, legal, calm=random.choice(CALM)):
            stages += len(tracker.feed(event))
            now = event.at
            fed += 1
        stages += len(tracker.sweep(now + APART / 2))
        most = {name: max(size, most.get(name, 0)) for name, size in kept(tracker).items()}
        if fed >= events:
            break
    stages += len(tracker.feed(ev.Resync(now + APART, now + APART, (), (), now)))
    stages += len(tracker.sweep(now + APART + GRACE))
    tracker.sweep(now + APART + 2 * REMEMBER_ENDED)
    return stages, most, kept(tracker)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    begun = time.perf_counter()
    stages, most, left = play(options.events, options.seed)
    taken = time.perf_counter() - begun
    print(f"{options.events} events in {taken:.0f} s, {stages} stages, no exception")
    print("the most that was kept:", ", ".join(f"{name} {size}" for name, size in most.items()))
    print("left in the end:       ", ", ".join(f"{name} {size}" for name, size in left.items()))


if __name__ == "__main__":
    main()
