"""Nodes that share an account and a PostgreSQL: daemons as processes of their own, with their own ports and files."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from tests.daemons import Node, Starter, until
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
        calls: list[Any] = []
        for client in clients:
            number = f"+7999000{client:04}"
            calls.append(ended(inbound(number, linkedid=f"{self._begun:.0f}.{client * 10}", at=self._begun)))
        await node.keep(*calls)
        self.kept += len(calls)

    async def registered(self, *nodes: Node) -> None:
        """Wait until no row waits any more at these nodes; every call is in Kommo then, once, and each client too."""
        await asyncio.gather(*(node.registered() for node in nodes or self.nodes))

    async def calls(self, count: int) -> None:
        await until(lambda: len(self.sandbox.account.calls) >= count, self.log)

    def log(self) -> str:
        return "\n".join(f"{node.name}:\n{node.log()[-3000:]}" for node in self.nodes)

    def assert_clean(self) -> None:
        """No call lost, none doubled, no breach."""
        account, audit = self.sandbox.account, self.sandbox.audit
        assert not any(audit.duplicates().values()), audit.duplicates()
        assert len(account.calls) == self.kept, self.log()
        assert audit.breaches == 0, audit.most_in_a_second


@asynccontextmanager
async def a_cluster(starter: Starter, directory: Path, count: int = 2, **more: Any) -> AsyncIterator[Cluster]:
    async with a_server() as server, Sandbox(SandboxOptions()).serve(port=0) as sandbox:
        sandbox.switches.search_delay_s = 2.0
        nodes = []
        for number in range(1, count + 1):
            home = directory / f"pbx{number}"
            home.mkdir(parents=True)
            nodes.append(Node(starter, sandbox, home, name=home.name, shared_url=server.address, limit=LIMIT, **more))
            await nodes[-1].keep()  # the file is there before its daemon
        try:
            yield Cluster(sandbox, server, nodes)
        finally:
            await asyncio.gather(*(node.kill() for node in nodes))


@asynccontextmanager
async def a_server() -> AsyncIterator[PostgreSql]:
    """Sandboxes answer in this process: nothing may hold it up, or what was sent in time arrives at once."""
    life = ExitStack()
    try:
        yield await asyncio.to_thread(life.enter_context, a_postgresql())
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
