"""A PBX that becomes one of several, and gets another name, with calls half written into Kommo; as its user does it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from itgrix_kommo.sandbox import Fault, Sandbox, SandboxOptions
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.registrations import Registrations, State
from tests.cluster import LIMIT, Cluster, a_server
from tests.daemons import Node, a_starter, until

NOTES = "/api/v4/leads/notes"


async def test_every_call_is_in_kommo_once_whatever_its_pbx_was_called(tmp_path: Path) -> None:
    async with a_starter() as starter, a_server() as server, Sandbox(SandboxOptions()).serve(port=0) as sandbox:
        node = Node(starter, sandbox, tmp_path, limit=LIMIT)
        cluster = Cluster(sandbox, server, [node])
        faults = sandbox.faults

        # Alone, and called as all are: one call is registered, one written and not known to be, one refused.
        await cluster.keep(node, [0])
        await node.start()
        await cluster.registered()
        faults.add(Fault(effect="disconnect", method="POST", path=NOTES, committed=True))
        await cluster.keep(node, [1])
        await until(lambda: not faults.armed, cluster.log)
        faults.add(Fault(effect="status", status=400, method="POST", path="/api/v4/contacts"))
        await cluster.keep(node, [2])
        await until(lambda: "registration_failed" in node.log(), cluster.log)
        await node.kill()
        await cluster.keep(node, [3])

        # A second PBX comes, and both get names of their own.
        node.call_it("madrid", server.address)
        await node.start()
        await until(lambda: "type itgrix-kommo nodes rename pbx1" in node.log(), cluster.log)
        await node.gone()
        told = json.loads(await node.command("nodes", "rename", "pbx1", "--json"))
        assert told["here"] == {"registrations": 4, "waiting": 2, "failed": 1, "handed": 0}
        faults.add(Fault(effect="status", status=503, method="POST", path=NOTES, count=None))
        before = len(sandbox.audit.asked("POST", NOTES))
        await node.start()
        await until(lambda: len(sandbox.audit.asked("POST", NOTES)) > before, cluster.log)

        # And another one, while what is handed over and begun waits for Kommo.
        await node.kill()
        await cluster.keep(node, [4])
        node.call_it("lisbon", server.address)
        told = json.loads(await node.command("nodes", "rename", "madrid", "--json"))
        assert (told["here"]["waiting"], told["here"]["failed"]) == (1, 1)
        assert told["shared"]["waiting"] >= 1
        faults.clear()
        (failed,) = [one for one in json.loads(await node.command("registrations", "list", "--json")) if is_failed(one)]
        await node.command("registrations", "retry", str(failed["id"]))
        await node.start()
        await cluster.registered()
        await node.kill()

        cluster.assert_clean()
        named = Counter(str(note.params["uniq"]).rpartition("-")[0] for note in sandbox.account.calls)
        assert named == {"": 3, "madrid": 1, "lisbon": 1}  # as they were begun
        assert await states(node) == {State.DONE: 5}


def is_failed(row: dict[str, Any]) -> bool:
    return bool(row["state"] == State.FAILED)


async def states(node: Node) -> dict[State, int]:
    database = await Database.open(node.url, beside_daemon=True)
    counts = await Registrations(database, node.name).counts()
    await database.close()
    return {state: count for state, count in counts.items() if count}
