"""What systemd hears of the daemon: tried with a socket of our own in systemd's place."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from itgrix_kommo import service_manager
from itgrix_kommo.log import register_secret
from itgrix_kommo.service_manager import Condition, ServiceManager

WITHIN = 20.0


class Listener:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(0)
        self.lines: list[str] = []

    def heard(self) -> list[str]:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.lines += self.socket.recv(4096).decode().split("\n")
        return self.lines

    async def hears(self, line: str) -> None:
        async with asyncio.timeout(WITHIN):
            while line not in self.heard():
                await asyncio.sleep(0.02)


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@itgrix-test-{os.getpid()}-{time.monotonic()}"
    listener = Listener(address)
    yield listener
    listener.socket.close()


@contextlib.asynccontextmanager
async def attending(manager: ServiceManager, condition: list[Condition]) -> AsyncIterator[None]:
    task = asyncio.create_task(manager.attend(lambda: condition[-1]))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_manager, "BEAT", 0.02)


@pytest.mark.usefixtures("_brisk")
class TestAttending:
    async def test_it_is_ready_as_soon_as_calls_are_captured_whatever_kommo_does(self, systemd: Listener) -> None:
        told = [Condition(capturing=False, words="not capturing: no link to Asterisk")]
        async with attending(ServiceManager(systemd.address), told):
            await systemd.hears("STATUS=not capturing: no link to Asterisk")
            assert "READY=1" not in systemd.heard()
            told.append(Condition(capturing=True, words="capturing; not registering: Kommo is away"))
            await systemd.hears("READY=1")
            assert "STATUS=capturing; not registering: Kommo is away" in systemd.heard()

    async def test_an_asterisk_that_stays_away_does_not_hold_up_the_start(
        self, systemd: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service_manager, "READY_WITHIN", 0.1)
        async with attending(ServiceManager(systemd.address), [Condition(capturing=False, words="not capturing")]):
            await systemd.hears("READY=1")

    async def test_readiness_and_an_unchanged_status_are_told_once(self, systemd: Listener) -> None:
        async with attending(ServiceManager(systemd.address, watchdog_s=0.08), [Condition(capturing=True, words="a")]):
            async with asyncio.timeout(WITHIN):
                while systemd.heard().count("WATCHDOG=1") < 3:
                    await asyncio.sleep(0.02)
        assert systemd.heard().count("READY=1") == systemd.heard().count("STATUS=a") == 1

    async def test_the_watchdog_is_fed_by_a_loop_that_turns(self, systemd: Listener) -> None:
        async with attending(ServiceManager(systemd.address, watchdog_s=0.08), [Condition(capturing=True, words="")]):
            await systemd.hears("WATCHDOG=1")

    async def test_a_loop_that_is_late_does_not_feed_it_until_it_has_recovered(
        self, systemd: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service_manager, "SANE_LAG", 0.05)
        ill = [True]

        def condition() -> Condition:
            if ill[0]:
                asyncio.get_running_loop().call_soon(time.sleep, 0.2)  # what blocks an event loop, every time
            return Condition(capturing=True, words="")

        task = asyncio.create_task(ServiceManager(systemd.address, watchdog_s=0.01).attend(condition))
        for _ in range(4):
            await asyncio.sleep(0.05)
        assert "READY=1" in systemd.heard()
        assert "WATCHDOG=1" not in systemd.heard()
        ill[0] = False
        await systemd.hears("WATCHDOG=1")
        task.cancel()
        await asyncio.wait([task])


def test_a_reload_is_announced_with_its_time_and_ends_with_readiness(systemd: Listener) -> None:
    manager = ServiceManager(systemd.address)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.reloading()
    manager.ready()
    first, when, last = systemd.heard()
    assert (first, last) == ("RELOADING=1", "READY=1")
    assert before <= int(when.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_the_end_is_announced(systemd: Listener) -> None:
    ServiceManager(systemd.address).stopping()
    assert systemd.heard()[0] == "STOPPING=1"


def test_a_status_is_one_line_without_secrets(systemd: Listener) -> None:
    register_secret("s3cret-of-the-status")
    ServiceManager(systemd.address).status("Kommo says: s3cret-of-the-status\nREADY=1")
    assert systemd.heard() == ["STATUS=Kommo says: [masked]\\nREADY=1"]


class TestEnvironment:
    def test_without_a_service_manager_every_word_goes_nowhere(self) -> None:
        manager = ServiceManager.of_environment({})
        manager.ready()
        manager.stopping()
        asyncio.run(manager.attend(lambda: pytest.fail("nobody asks")))

    @pytest.mark.parametrize(
        ("environment", "fed"),
        [
            ({"WATCHDOG_USEC": "40000"}, True),
            ({"WATCHDOG_USEC": "40000", "WATCHDOG_PID": str(os.getpid())}, True),
            ({"WATCHDOG_USEC": "40000", "WATCHDOG_PID": "1"}, False),
            ({"WATCHDOG_USEC": "soon"}, False),
            ({"WATCHDOG_USEC": "0"}, False),
            ({}, False),
        ],
    )
    @pytest.mark.usefixtures("_brisk")
    async def test_the_watchdog_is_fed_where_one_watches_us(
        self, systemd: Listener, environment: dict[str, str], *, fed: bool
    ) -> None:
        manager = ServiceManager.of_environment({"NOTIFY_SOCKET": systemd.address, **environment})
        told = [Condition(capturing=True, words="1")]
        async with attending(manager, told):
            await systemd.hears("READY=1")
            for word in "2345":  # each takes a beat at least
                told.append(Condition(capturing=True, words=word))
                await systemd.hears(f"STATUS={word}")
        assert ("WATCHDOG=1" in systemd.heard()) is fed

    async def test_a_service_manager_that_is_away_stops_nothing(self, tmp_path: Path) -> None:
        ServiceManager(str(tmp_path / "nobody")).ready()
        ServiceManager("x" * 200).ready()
