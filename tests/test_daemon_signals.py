"""The daemon's process: signals, a second one beside it, its port taken, its disk full."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from itgrix_kommo.storage.registrations import State
from tests.played import Host, a_host, frames_of

DECLINED = "in_declined"
CLIENT = "+79990100095"


async def registrations(host: Host) -> dict[str, int]:
    found: dict[str, int] = (await host.health())["registrations"]
    return found


async def until_state(host: Host, state: State) -> None:
    async with asyncio.timeout(60):
        while not (await registrations(host)).get(state.value, 0):
            await asyncio.sleep(0.05)


async def reloaded(host: Host, event: str = "configuration_reloaded") -> dict[str, object]:
    begun = len(host.lines)
    host.write_config()
    host.send(signal.SIGHUP)
    await host.until(lambda: host.logged(event, begun))
    return dict(host.logged(event, begun)[0])


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Somebody else writes, and does not come to an end."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


class TestReload:
    async def test_what_changed_is_taken_over_or_named_and_nothing_in_flight_is_lost(self, tmp_path: Path) -> None:
        async with a_host(frames_of(DECLINED), tmp_path) as host:
            host.account.switches.unpaid = True
            await host.start()
            await until_state(host, State.WAITING)
            host.config["numbers"]["blacklist"] = [{"match": "client", "pattern": CLIENT}]
            host.config["logging"]["level"] = "warning"
            host.config["ami"]["port"] = 1
            begun = len(host.lines)
            await reloaded(host, "configuration_needs_restart")
            (told,) = host.logged("configuration_needs_restart", begun)
            assert told["keys"] == ["ami.port"]
            assert not host.logged("configuration_reloaded", begun)  # it is no warning, and so is the level now
            host.account.switches.unpaid = False
            await until_state(host, State.SKIPPED)
            assert host.account.calls == []
            (listed,) = await host.json("calls", "list")
            assert "blacklist" in listed["reason"]
            assert (await host.health())["status"] == "ok"

    async def test_a_refused_file_changes_nothing(self, tmp_path: Path) -> None:
        async with a_host([], tmp_path) as host:
            await host.start()
            good = host.config["ami"]["port"]
            host.config["ami"]["port"] = 70000
            host.config["language"] = "ru"
            told = await reloaded(host, "configuration_refused")
            assert "ami.port" in str(told["error"])
            host.path.write_text("{")
            begun = len(host.lines)
            host.send(signal.SIGHUP)
            await host.until(lambda: host.logged("configuration_refused", begun))
            host.config["ami"]["port"] = good
            assert (await reloaded(host))["changed"] == ["language"]
            await host.stop()

    async def test_everything_is_logged_on_demand(self, tmp_path: Path) -> None:
        async with a_host([], tmp_path) as host:
            await host.start()
            await host.until(lambda: host.logged("account_in_order"))
            for level in ("debug", "info"):
                begun = len(host.lines)
                host.send(signal.SIGUSR1)
                await host.until(lambda begun=begun: host.logged("log_level", begun))  # type: ignore[misc]
                assert host.logged("log_level", begun)[0]["now"] == level
                await reloaded(host)
            assert host.logged("kommo_request") == []


class TestStopping:
    async def test_the_second_signal_ends_it_at_once_and_loses_nothing(self, tmp_path: Path) -> None:
        async with a_host(frames_of(DECLINED), tmp_path) as host:
            await host.start()
            with locked(tmp_path / "itgrix.db"):
                await host.until(lambda: host.logged("call_not_kept"))
                host.send(signal.SIGTERM)
                await host.until(lambda: host.logged("stopping"))
                host.send(signal.SIGTERM)
                assert await host.ended() == 0
            assert host.logged("stopped_at_once")
            assert not host.logged("not_all_kept")
            host.player.recorded.clear()
            await host.start()
            await host.until(lambda: len(host.account.calls) == 1)
            await host.stop()
            assert len(host.account.calls) == 1


class TestAnotherInItsPlace:
    async def test_a_second_daemon_on_the_same_file_is_refused_until_the_first_is_gone(self, tmp_path: Path) -> None:
        async with a_host([], tmp_path) as host:
            await host.start()
            second = Host(host.player, host.sandbox, tmp_path)
            await second.launch()
            assert await second.ended() == 1
            told = "".join(second.lines).replace("\n", "")
            assert f"another daemon (pid {host.pid}) uses {tmp_path}/itgrix.db" in told
            await host.kill()
            await second.start()
            await second.stop()

    async def test_calls_are_captured_while_its_port_is_taken(self, tmp_path: Path) -> None:
        async with a_host(frames_of(DECLINED), tmp_path) as host:
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                host.config["http"]["port"] = taken.getsockname()[1]
                await host.launch()
                await host.until(lambda: len(host.account.calls) == 1)
                (told,) = host.logged("http_not_served")
            assert "ss -ltnp" in told["error"]
            assert f"(pid {os.getpid()})" in told["error"]
            await host.until(lambda: host.logged("serving"))
            await host.stop()


class TestFullDisk:
    async def test_calls_are_captured_and_all_is_written_once_there_is_room(self, tmp_path: Path) -> None:
        """The limit on the size of files stands for a full disk: writing fails at the same place."""
        async with a_host(frames_of(DECLINED, "internal_answered", "in_answered"), tmp_path, speed=2.0) as host:
            await host.start()
            limits = resource.prlimit(host.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(host.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
            await host.until(lambda: host.logged("journal_not_written"))
            await host.until(lambda: len(host.logged("call_ended")) == 3)
            await host.until(lambda: host.logged("call_not_kept"))
            health = await host.health()
            assert (health["status"], health["capturing_fault"]) == ("degraded", "")
            assert "of it wait in memory" in " ".join(health["troubles"])
            assert host.account.calls == []
            resource.prlimit(host.pid, resource.RLIMIT_FSIZE, limits)
            await host.until(lambda: host.logged("journal_written_again"))
            await host.until(lambda: len(host.account.calls) == 2)
            assert (await host.health())["troubles"] == []
            assert {one["standing"] for one in await host.json("calls", "list")} == {"done", "skipped"}
            trace = await host.json("calls", "show", host.account.calls[0].params["uniq"], "--events")
            assert trace["events"][0]["headers"]["Event"] == "Newchannel"
            await host.stop()
            assert json.loads(host.lines[-1])["event"] == "stopped"
