"""Several PBX nodes, one Kommo account: daemons on hosts of their own, and a real PostgreSQL between them.

The scenes run side by side, for most of their time is waiting for leases to end.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tests.cluster import LIMIT, a_cluster, kill_in_turn
from tests.daemons import Node, Starter, a_starter, until
from tests.hosts import no_namespaces

IN_A_CROWD = 40.0
"""Seconds that a machine with other things to do may take for what takes seconds."""


async def both_at_work(starter: Starter, directory: Path) -> None:
    """The same clients call both PBXs."""
    async with a_cluster(starter, directory) as cluster:
        for node in cluster.nodes:
            for _ in range(3):
                await cluster.keep(node, range(10))
        await asyncio.gather(*(node.start() for node in cluster.nodes))
        await cluster.registered()
        cluster.assert_clean()
        assert len(cluster.sandbox.account.contacts) == 10
        told = (await cluster.nodes[0].status())["outside"]["nodes"]
        assert (told["mode"], told["nodes"].keys()) == ("together", {"pbx1", "pbx2"})
        assert [one["fixed_share"] for one in told["nodes"].values()] == [2, 2]


async def one_dies(starter: Starter, directory: Path) -> None:
    """What it had handed over is finished by the other; what lay on its disk alone is when it is back."""
    async with a_cluster(starter, directory) as cluster:
        first, second = cluster.nodes
        await second.start()
        await cluster.keep(first, range(40))
        await first.start()
        await cluster.calls(1)
        await first.kill()
        handed_over = cluster.kept
        await cluster.keep(first, range(35, 45))
        await cluster.keep(second, range(10))
        await cluster.calls(handed_over + 10)
        await first.start()
        await cluster.registered()
        cluster.assert_clean()


async def postgresql_is_away(starter: Starter, directory: Path) -> None:
    """Each goes on with calls that nobody else can have, and tells of them afterwards."""
    async with a_cluster(starter, directory) as cluster:
        first, second = cluster.nodes
        await asyncio.gather(first.start(), second.start())
        await cluster.keep(first, range(5))
        await cluster.registered()
        await asyncio.to_thread(cluster.server.stop)
        await cluster.keep(first, range(10, 20))
        await cluster.keep(second, range(20, 30))
        await cluster.calls(cluster.kept)
        await cluster.registered()
        await asyncio.to_thread(cluster.server.start)
        await cluster.keep(second, range(30))
        await cluster.registered()
        cluster.assert_clean()
        assert len(cluster.sandbox.account.contacts) == 30


async def an_older_copy_is_put_back(starter: Starter, directory: Path) -> None:
    """Nothing that a node remembers as sent is sent again."""
    async with a_cluster(starter, directory) as cluster:
        first, second = cluster.nodes
        await asyncio.gather(first.start(), second.start())
        await cluster.keep(first, range(5))
        await cluster.registered()
        await second.kill()
        await cluster.keep(second, range(5, 10))
        await asyncio.to_thread(cluster.server.stop)
        await asyncio.to_thread(cluster.server.copy)
        await asyncio.to_thread(cluster.server.start)
        await second.start()
        await cluster.keep(first, range(20))
        await cluster.registered()
        await asyncio.to_thread(cluster.server.stop)
        await asyncio.to_thread(cluster.server.put_back)
        await asyncio.to_thread(cluster.server.start)
        await cluster.keep(second, range(20))
        await cluster.registered()
        cluster.assert_clean()


async def each_is_killed_in_turn(starter: Starter, directory: Path) -> None:
    """Four under load, each killed at a random moment, PostgreSQL twice."""
    dice = random.Random(11)  # noqa: S311 (the moments of crashes are no secret)
    async with a_cluster(starter, directory, count=4) as cluster:
        await asyncio.gather(*(node.start() for node in cluster.nodes))
        await kill_in_turn(cluster, dice, restarts=True, clients=60, calls=6)
        await cluster.registered()
        cluster.assert_clean()


async def two_have_one_name(starter: Starter, directory: Path) -> None:
    """By mistake: the one that comes later is refused, says so, and sends nothing; the other goes on."""
    async with a_cluster(starter, directory) as cluster:
        first, elsewhere = cluster.nodes[0], cluster.nodes[1].host
        await first.start()
        await cluster.keep(first, range(5))
        await cluster.registered(first)
        mistaken = Node(starter, cluster.sandbox, directory / "pbx2", name=first.name, host=elsewhere, limit=LIMIT)
        await mistaken.start()
        await until(lambda: "node_name_taken" in mistaken.log(), mistaken.log)
        told = (await mistaken.status())["outside"]["nodes"]
        assert told["error"].startswith("node.name: another daemon is pbx1 too"), told
        assert told["mode"] != "together", told
        assert told["share"] == 0, told
        await cluster.keep(first, range(10))
        await cluster.registered(first)
        await mistaken.kill()
        cluster.assert_clean()
        assert "node_name_taken" not in first.log()


async def its_cable_to_postgresql_is_pulled(starter: Starter, directory: Path) -> None:
    """Nothing refuses, all hangs: it goes on by itself with its fixed share, and the other one keeps its own."""
    async with a_cluster(starter, directory) as cluster:
        first, second = cluster.nodes
        await asyncio.gather(first.start(), second.start())
        await cluster.keep(first, range(8))
        await cluster.keep(second, range(8, 16))
        await cluster.calls(2)
        await first.host.to_postgresql.pull()
        pulled = time.monotonic()
        await cluster.keep(first, range(16, 20))
        await cluster.keep(second, range(20, 24))
        await cluster.served(range(20, 24))
        told = (await second.status())["outside"]["nodes"]
        assert (told["mode"], told["share"] >= 2) == ("together", True), told
        await cluster.served(range(16, 20))
        assert time.monotonic() < pulled + 20 + IN_A_CROWD
        told = (await first.status())["outside"]["nodes"]
        assert (told["mode"], told["share"]) == ("alone", 2), told
        await first.host.to_postgresql.plug()
        await cluster.keep(first, range(24))
        await cluster.keep(second, range(24))
        await cluster.registered()
        cluster.assert_clean()


async def its_cable_to_kommo_is_pulled(starter: Starter, directory: Path) -> None:
    """In the midst of writing, so that nobody knows what was done: the other one sees to its calls as well."""
    async with a_cluster(starter, directory) as cluster:
        first, second = cluster.nodes
        await asyncio.gather(first.start(), second.start())
        await cluster.keep(first, range(12))
        await until(lambda: cluster.sandbox.audit.asked("POST", "/api/v4/contacts"), cluster.log)
        await first.host.to_kommo.pull()
        await cluster.keep(second, range(12, 18))
        await cluster.served(range(12, 18))
        await cluster.keep(second, range(6))
        await cluster.served(range(6), 2)
        told = (await first.status())["outside"]["nodes"]
        assert told["mode"] == "cut off from Kommo", told
        await cluster.keep(first, range(12, 15))
        await first.host.to_kommo.plug()
        await cluster.keep(first, range(18))
        await cluster.registered()
        cluster.assert_clean()


async def its_cable_to_kommo_is_loose(starter: Starter, directory: Path) -> None:
    """For some seconds now and then: what was held up arrives with what was sent since, and never too much of it.

    In namespaces alone: a relay takes what is sent, and a daemon can't see that it has not arrived.
    """
    dice = random.Random(5)  # noqa: S311 (the moments are no secret)
    async with a_cluster(starter, directory) as cluster:
        first, second = cluster.nodes
        await asyncio.gather(first.start(), second.start())
        await cluster.keep(first, range(16))
        await cluster.keep(second, range(16, 22))
        await cluster.calls(1)
        for _ in range(6):
            await first.host.to_kommo.pull()
            await asyncio.sleep(dice.uniform(1.0, 5.0))
            await first.host.to_kommo.plug()
            await asyncio.sleep(dice.uniform(1.0, 3.0))
        await cluster.registered()
        cluster.assert_clean()


async def both_its_cables_are_pulled(starter: Starter, directory: Path) -> None:
    """For half a minute, under load: what it had handed over the other one sees to, the rest is told afterwards."""
    async with a_cluster(starter, directory) as cluster:
        first, second = cluster.nodes
        cables = (first.host.to_postgresql, first.host.to_kommo)
        await asyncio.gather(first.start(), second.start())
        await cluster.keep(first, range(12))
        await cluster.keep(second, range(6, 18))
        await cluster.calls(4)
        await asyncio.gather(*(cable.pull() for cable in cables))
        pulled = time.monotonic()
        await cluster.keep(first, range(15, 21))
        await cluster.keep(second, range(21, 24))
        await cluster.calls(12 + 12 + 3)
        await asyncio.sleep(max(0.0, pulled + 30 - time.monotonic()))
        await asyncio.gather(*(cable.plug() for cable in cables))
        await cluster.registered()
        cluster.assert_clean()


async def it_stands_still(starter: Starter, directory: Path) -> None:
    """In the midst of its work, until the other one has done that: it goes on as if no time had passed."""
    async with a_cluster(starter, directory) as cluster:
        first, second = cluster.nodes
        await asyncio.gather(first.start(), second.start())
        await cluster.keep(first, range(15))
        await until(lambda: cluster.sandbox.audit.asked("POST", "/api/v4/contacts"), cluster.log)
        first.freeze()
        await cluster.keep(second, range(10, 20))
        await cluster.calls(15 + 10)
        await cluster.keep(second, range(5))
        first.thaw()
        await cluster.keep(first, range(5))
        await cluster.registered()
        cluster.assert_clean()


Scene = Callable[[Starter, Path], Coroutine[Any, Any, None]]
SCENES: tuple[Scene, ...] = (
    both_at_work,
    one_dies,
    postgresql_is_away,
    an_older_copy_is_put_back,
    each_is_killed_in_turn,
    two_have_one_name,
    its_cable_to_postgresql_is_pulled,
    its_cable_to_kommo_is_pulled,
    both_its_cables_are_pulled,
    it_stands_still,
    *(() if no_namespaces() else (its_cable_to_kommo_is_loose,)),
)


async def test_nodes_share_an_account(tmp_path: Path) -> None:
    """All scenes in one test, for they run side by side."""
    async with a_starter() as starter:
        played = (scene(starter, tmp_path / scene.__name__) for scene in SCENES)
        outcomes = await asyncio.gather(*played, return_exceptions=True)
    failed = [(scene, outcome) for scene, outcome in zip(SCENES, outcomes, strict=True) if outcome is not None]
    assert not failed, "\n".join(f"{scene.__doc__}: {outcome!r}" for scene, outcome in failed)
