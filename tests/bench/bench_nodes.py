"""Several nodes on one account, for long: `python -m tests.bench.bench_nodes chaos|full|ratios [--minutes 10]`.

chaos   four nodes under load, each killed in turn at random moments, PostgreSQL restarted twice: no call lost, none
        doubled, no breach
full    four nodes at full backlog against the account's limit: requests a second, and never a breach
ratios  registrations a second of one, two and four nodes, all sharing the limit of one account
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path

from tests.cluster import Cluster, a_cluster, kill_in_turn
from tests.daemons import a_starter

BACKLOG = 160


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


async def ratio(cluster: Cluster) -> float:
    """Registrations a second of an even backlog of clients whom Kommo does not know, from the start to the last."""
    for number, node in enumerate(cluster.nodes):
        each = BACKLOG // len(cluster.nodes)
        await cluster.keep(node, range(number * each, (number + 1) * each))
    begun = time.monotonic()
    await asyncio.gather(*(node.start() for node in cluster.nodes))
    await cluster.calls(cluster.kept)
    return cluster.kept / (time.monotonic() - begun)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["chaos", "full", "ratios"])
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    async with a_starter() as starter:
        if given.what != "ratios":
            with tempfile.TemporaryDirectory() as home:
                async with a_cluster(starter, Path(home), count=4) as cluster:
                    await (chaos if given.what == "chaos" else full)(cluster, given.minutes)
            return
        first = 0.0
        for count in (1, 2, 4):
            with tempfile.TemporaryDirectory() as home:
                async with a_cluster(starter, Path(home), count=count) as cluster:
                    cluster.sandbox.switches.requests_per_second = 1000
                    rate = await ratio(cluster)
            first = first or rate
            print(f"{count} nodes: {rate:.1f} registrations/s, ×{rate / first:.2f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
