"""Nodes that share an account and a PostgreSQL: daemons on hosts of their own, where those may be made."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from tests.daemons import Node, Starter, until
from tests.hosts import Address, a_network
from tests.pbx_servers import PostgreSql, a_postgresql
from tests.story import ended, inbound

LIMIT = 5
"""Of the account's seven requests a second: a crowded machine holds up one of several processes longer than the others,
and what they sent apart arrives together.
"""


class Cluster:
    """Nodes that share an account and a PostgreSQL; each call is told apart from all others by its `number`."""

    def __init__(self, sandbox: Sandbox, server: PostgreSql, nodes: Sequence[Node]) -> None:
        self.sandbox = sandbox
        self.server = server
        self.nodes = nodes
        self.kept = 0
        self._begun = float(int(time.time()) - 3600)

    async def keep(self, node: Node, clients: Sequence[int]) -> None:
        """An answered call of each client has ended at this node. Two nodes' calls may be counted alike."""
        self._begun += 1.0
        begun = self._begun
        calls = (inbound(_number(client), linkedid=f"{begun:.0f}.{client * 10}", at=begun) for client in clients)
        await node.keep(*map(ended, calls))
        self.kept += len(clients)

    async def registered(self, *nodes: Node) -> None:
        """Wait until no row waits any more at these nodes; every call is in Kommo then, once, and each client too."""
        await asyncio.gather(*(node.registered() for node in nodes or self.nodes))

    async def calls(self, count: int) -> None:
        await until(lambda: len(self.sandbox.account.calls) >= count, self.log)

    async def served(self, clients: Sequence[int], count: int = 1) -> None:
        """Wait until Kommo has so many calls of each of these."""

        def are_there() -> bool:
            calls = Counter(call.params["phone"] for call in self.sandbox.account.calls)
            return all(calls[_number(client)] >= count for client in clients)

        await until(are_there, self.log)

    def log(self) -> str:
        return "\n".join(f"{node.name}:\n{node.log()[-3000:]}" for node in self.nodes)

    def assert_clean(self) -> None:
        """No call lost, none doubled, no breach."""
        account, audit = self.sandbox.account, self.sandbox.audit
        assert not any(audit.duplicates().values()), audit.duplicates()
        assert len(account.calls) == self.kept, self.log()
        assert audit.breaches == 0, audit.most_in_a_second


def _number(client: int) -> str:
    return f"+7999000{client:04}"


@asynccontextmanager
async def a_cluster(
    starter: Starter, directory: Path, count: int = 2, *, limit: int = LIMIT, **more: Any
) -> AsyncIterator[Cluster]:
    async with (
        a_network(count, starter.certificate) as network,
        a_server(network.database, network.within) as server,
        Sandbox(SandboxOptions()).serve(at=network.kommo, tls=network.tls) as sandbox,
    ):
        sandbox.switches.search_delay_s = 2.0
        nodes = []
        for number, host in enumerate(network.hosts, 1):
            home = directory / f"pbx{number}"
            home.mkdir(parents=True)
            nodes.append(Node(starter, sandbox, home, name=home.name, host=host, limit=limit, **more))
            await nodes[-1].keep()  # the file is there before its daemon
        try:
            yield Cluster(sandbox, server, nodes)
        finally:
            await asyncio.gather(*(node.kill() for node in nodes))


@asynccontextmanager
async def a_server(at: Address | None = None, within: Sequence[str] = ()) -> AsyncIterator[PostgreSql]:
    """Sandboxes answer in this process: nothing may hold it up, or what was sent in time arrives at once."""
    life = ExitStack()
    try:
        yield await asyncio.to_thread(life.enter_context, a_postgresql(at, within))
    finally:
        await asyncio.to_thread(life.close)


async def kill_in_turn(cluster: Cluster, dice: random.Random, *, restarts: bool, clients: int, calls: int) -> None:
    """Each node under load is killed at a random moment and started again; PostgreSQL too, at two of these."""
    for turn, node in enumerate(dice.sample(cluster.nodes, len(cluster.nodes))):
        for one in cluster.nodes:
            await cluster.keep(one, dice.sample(range(clients), calls))
        await asyncio.sleep(dice.uniform(1.0, 3.0))
        await node.kill()
        if restarts and turn % 2:
            await asyncio.to_thread(cluster.server.stop)
            await asyncio.sleep(dice.uniform(0.0, 2.0))
            await asyncio.to_thread(cluster.server.start)
        await node.start()
