"""Several PBX nodes, one Kommo account: daemons as processes of their own, and a real PostgreSQL between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.sandbox import Sandbox, SandboxOptions
from tests.daemons import Node, Starter, a_starter
from tests.pbx_servers import postgresql
from tests.story import ended, inbound

pytestmark = pytest.mark.xdist_group("databases")


@pytest.fixture
def server() -> Iterator[str]:
    with postgresql() as (address, _):
        yield address


@pytest.fixture
async def starter() -> AsyncIterator[Starter]:
    async with a_starter() as made:
        yield made


def call(client: int, number: int, *, minutes_ago: int = 10) -> Any:
    """An answered call; the linkedid of another client's, or another PBX's, may be the same."""
    begun = float(int(time.time()) - minutes_ago * 60)
    return ended(inbound(f"+7999000{client:04}", linkedid=f"{begun:.0f}.{number * 10}", at=begun))


async def test_two_nodes_register_everything_once(server: str, starter: Starter, tmp_path: Path) -> None:
    async with Sandbox(SandboxOptions()).serve(port=0) as sandbox:
        sandbox.switches.search_delay_s = 2.0
        nodes = []
        for name in ("pbx1", "pbx2"):
            (tmp_path / name).mkdir()
            nodes.append(Node(starter, sandbox, tmp_path / name, name=name, shared_url=server))
        for node in nodes:
            await node.keep(
                *(call(client, number) for client in range(10) for number in (client * 3 + n for n in range(3)))
            )
        try:
            await asyncio.gather(*(node.start() for node in nodes))
            await asyncio.gather(*(node.registered() for node in nodes))
        finally:
            await asyncio.gather(*(node.kill() for node in nodes))
        assert len(sandbox.account.calls) == 60, nodes[0].log()
        assert len(sandbox.account.contacts) == 10
        assert not any(sandbox.audit.duplicates().values()), sandbox.audit.duplicates()
        assert sandbox.audit.breaches == 0
