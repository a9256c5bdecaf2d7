"""Several nodes on one account, for long: `python -m tests.bench.bench_nodes chaos|full|ratios|limited`.

chaos   four nodes under load, each killed in turn at random moments, PostgreSQL restarted twice: no call lost, none
        doubled, no breach
full    four nodes at full backlog against the account's limit: requests a second, and never a breach
ratios  registrations a second of one, two and four nodes where neither Kommo nor they themselves limit their requests
limited the same where all share the limit of one account
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path

from itgrix_kommo.kommo.limiter import MOST_PER_SECOND
from tests.cluster import LIMIT, Cluster, a_cluster, kill_in_turn
from tests.daemons import Starter, a_starter, until

BACKLOGS = {"ratios": 2400, "limited": 160}


def told(cluster: Cluster, since: float) -> str:
    account, audit = cluster.sandbox.account, cluster.sandbox.audit
    doubled = sum(len(groups) for groups in audit.duplicates().values())
    took = time.monotonic() - since
    return (
        f"{took:6.0f} s  {cluster.kept} calls ended, {len(account.calls)} in Kommo, {len(account.contacts)} contacts; "
        f"{audit.total} requests ({audit.total / took:.2f}/s), {audit.most_in_a_second} at most in a second, "
        f"{audit.breaches} breaches, {doubled} doubled"
    )


async def chaos(cluster: Cluster, minutes: float) -> None:
    dice, begun, restarted = random.Random(), time.monotonic(), 0  # noqa: S311
    await asyncio.gather(*(node.start() for node in cluster.nodes))
    while time.monotonic() < begun + minutes * 60:
        restarts = time.monotonic() > begun + (restarted + 1) * minutes * 20  # after a third, and after two
        await kill_in_turn(cluster, dice, restarts=restarts, clients=60, calls=2)
        restarted += restarts
        print(told(cluster, begun), flush=True)
        await asyncio.sleep(30)
    await cluster.registered()
    print(told(cluster, begun))
    cluster.assert_clean()


async def full(cluster: Cluster, minutes: float) -> None:
    each = int(minutes * 60)  # with two searches for each client it lasts longer than that
    for number, node in enumerate(cluster.nodes):
        await cluster.keep(node, range(number * each, (number + 1) * each))
    begun = time.monotonic()
    await asyncio.gather(*(node.start() for node in cluster.nodes))
    while time.monotonic() < begun + minutes * 60:
        await asyncio.sleep(15)
        print(told(cluster, begun), flush=True)


async def rate(cluster: Cluster, backlog: int) -> tuple[float, float]:
    """Registrations a second of an even backlog of clients whom Kommo does not know, from the first request on.

    The second is how much of a core the sandbox, which is in this process, was busy meanwhile.
    """
    each = backlog // len(cluster.nodes)
    for number, node in enumerate(cluster.nodes):
        await cluster.keep(node, range(number * each, (number + 1) * each))
    await asyncio.gather(*(node.start() for node in cluster.nodes))
    await until(lambda: cluster.sandbox.audit.total, cluster.log)
    begun, busy = time.monotonic(), time.process_time()
    await cluster.calls(cluster.kept)
    took = time.monotonic() - begun
    return cluster.kept / took, (time.process_time() - busy) / took


async def ratios(starter: Starter, backlog: int, limit: int) -> None:
    """`limit` is the sandbox's, in requests a second."""
    first = 0.0
    for count in (1, 2, 4):
        with tempfile.TemporaryDirectory() as home:
            async with a_cluster(starter, Path(home), count=count) as cluster:
                cluster.sandbox.switches.requests_per_second = limit
                reached, busy = await rate(cluster, backlog)
                asked = cluster.sandbox.audit.total
        first = first or reached
        print(
            f"{count} nodes: {reached:.1f} registrations/s, ×{reached / first:.2f}; {asked} requests, "
            f"the sandbox busy for {busy:.0%} of a core",
            flush=True,
        )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["chaos", "full", "ratios", "limited"])
    parser.add_argument("--minutes", type=float, default=10.0, help="of chaos and full")
    parser.add_argument("--limit", type=int, default=LIMIT, help="requests a second of all nodes in these two")
    given = parser.parse_args()
    if given.what in BACKLOGS:
        limitless = given.what == "ratios"
        async with a_starter("tests.bench.limitless_start" if limitless else "tests.warm_start") as starter:
            await ratios(starter, BACKLOGS[given.what], 1_000_000 if limitless else MOST_PER_SECOND)
        return
    async with a_starter() as starter:
        with tempfile.TemporaryDirectory() as home:
            async with a_cluster(starter, Path(home), count=4, limit=given.limit) as cluster:
                await (chaos if given.what == "chaos" else full)(cluster, given.minutes)


if __name__ == "__main__":
    asyncio.run(main())
