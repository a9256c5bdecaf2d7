"""The player: an Asterisk to whoever logs in, and a trace to the daemon's link."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from typing import Any

import pytest

from itgrix_kommo.calls.events import Endpoints, Hangup, Newchannel, Resync
from itgrix_kommo.errors import TraceError
from itgrix_kommo.sandbox.player import LONGEST_PAUSE, MAX_ACTION, Player
from itgrix_kommo.storage.trace import Recorded, parse, read_trace
from tests.ami_server import Listener
from tests.demo.pbx import TRACE

WITHIN = 5.0
NEW = "Event: Newchannel\r\nChannel: PJSIP/{}-00000001\r\nChannelState: 0\r\nUniqueid: {}\r\nLinkedid: {}"


def told(*channels: str, apart: float = 0.0) -> list[Recorded]:
    """A trace in which channels of these devices are born, so many seconds after one another."""
    frames = (NEW.format(name, number, number).encode() for number, name in enumerate(channels, 1))
    return [Recorded(1_763_810_000.0 + number * apart, frame) for number, frame in enumerate(frames)]


def player(recorded: list[Recorded] | None = None, **settings: Any) -> Player:
    return Player(told("101") if recorded is None else recorded, username="itgrix", secret="s3cr3t", **settings)


class Client:
    """A client by hand: says lines, hears messages."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        assert await self._in_time(self.reader.readline()) == b"Asterisk Call Manager/11.0.0\r\n"
        return self

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()

    async def says(self, *lines: str) -> dict[str, str]:
        """Send an action; the next message."""
        self.writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        return await self.hears()

    async def hears(self) -> dict[str, str]:
        raw = await self._in_time(self.reader.readuntil(b"\r\n\r\n"))
        return dict(line.split(": ", 1) for line in raw.decode().strip().split("\r\n"))

    async def is_cut(self) -> bool:
        rest: bytes = await self._in_time(self.reader.read())
        return rest == b""

    async def logs_in(self) -> None:
        answer = await self.says("Action: Login", "Username: itgrix", "Secret: s3cr3t")
        assert answer == {"Response": "Success", "Message": "Authentication accepted"}
        assert (await self.hears())["Event"] == "FullyBooted"

    @staticmethod
    async def _in_time(awaited: Any) -> Any:
        async with asyncio.timeout(WITHIN):
            return await awaited


class TestLogin:
    async def test_a_plain_secret(self) -> None:
        async with player().serve() as playing:
            client = await Client(playing.port).open()
            await client.logs_in()
            await client.close()

    async def test_the_answer_to_a_challenge(self) -> None:
        async with player().serve() as playing:
            client = await Client(playing.port).open()
            challenge = (await client.says("Action: challenge", "AuthType: MD5"))["Challenge"]
            key = hashlib.md5(f"{challenge}s3cr3t".encode(), usedforsecurity=False).hexdigest()
            login = ("Action: Login", "Username: itgrix", "AuthType: md5", f"Key: {key}", "ActionID: 7")
            assert await client.says(*login) == {
                "Response": "Success",
                "ActionID": "7",
                "Message": "Authentication accepted",
            }
            await client.close()

    @pytest.mark.parametrize(
        "login",
        [
            ("Username: itgrix", "Secret: wrong"),
            ("Username: somebody", "Secret: s3cr3t"),
            ("Username: itgrix",),
            # A key made of no challenge at all.
            ("Username: itgrix", "AuthType: MD5", f"Key: {hashlib.md5(b's3cr3t').hexdigest()}"),  # noqa: S324 (AMI's)
        ],
    )
    async def test_anything_else_is_refused_and_cut(self, login: tuple[str, ...]) -> None:
        async with player().serve() as playing:
            client = await Client(playing.port).open()
            answer = await client.says("Action: Login", *login)
            assert (answer["Response"], answer["Message"]) == ("Error", "Authentication failed")
            assert await client.is_cut()
            await client.close()

    async def test_nothing_is_told_before(self) -> None:
        async with player().serve() as playing:
            client = await Client(playing.port).open()
            for action in ("CoreShowChannels", "Ping", "Challenge"):
                assert (await client.says(f"Action: {action}"))["Message"] == "Permission denied"
            assert playing.times_played == 0
            await client.close()


class TestAnswers:
    async def test_an_asterisk_at_rest(self) -> None:
        async with player([]).serve() as playing:
            client = await Client(playing.port).open()
            await client.logs_in()
            for action, complete in (
                ("CoreShowChannels", "CoreShowChannelsComplete"),
                ("Status", "StatusComplete"),
                ("BridgeList", "BridgeListComplete"),
            ):
                assert (await client.says(f"Action: {action}", "ActionID: a1"))["EventList"] == "start"
                assert await client.hears() == {
                    "Event": complete,
                    "ActionID": "a1",
                    "EventList": "Complete",
                    "ListItems": "0",
                }
            assert (await client.says("Action: Ping"))["Ping"] == "Pong"
            assert (await client.says("Action: Filter", "Operation: Add", "Filter: x"))["Response"] == "Success"
            assert "Invalid/unknown command: Originate" in (await client.says("Action: Originate"))["Message"]
            assert (await client.says("Action: Logoff"))["Response"] == "Goodbye"
            assert await client.is_cut()
            await client.close()

    async def test_the_devices_are_those_of_the_trace(self) -> None:
        async with player(told("102", "trunk", "101", "102")).serve() as playing:
            client = await Client(playing.port).open()
            await client.logs_in()
            await client.says("Action: PJSIPShowEndpoints")
            names = [(await client.hears())["ObjectName"] for _ in range(3)]
            assert names == ["101", "102", "trunk"]
            assert (await client.hears())["ListItems"] == "3"
            assert (await client.says("Action: SIPpeers"))["Response"] == "Error"
            await client.close()

    async def test_an_endless_action_ends_the_connection_alone(self) -> None:
        async with player().serve() as playing:
            hostile, client = await Client(playing.port).open(), await Client(playing.port).open()
            hostile.writer.write(b"x" * (2 * MAX_ACTION))
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await hostile.hears()
            await client.logs_in()
            for each in (hostile, client):
                each.writer.close()

    async def test_an_action_id_can_not_forge_a_message(self) -> None:
        async with player([]).serve() as playing:
            client = await Client(playing.port).open()
            await client.logs_in()
            answer = await client.says("Action: Ping", "ActionID: 1\nEvent: Hangup\rx")
            assert answer["ActionID"] == "1 Event: Hangup x"
            await client.close()


class TestPlaying:
    async def test_every_client_hears_it_once_it_has_asked_what_exists(self) -> None:
        async with player(told("101", "102")).serve() as playing:
            for times in (1, 2):
                async with Listener(playing.port) as listener:
                    await listener.hears(Newchannel, times=2)
                    async with asyncio.timeout(WITHIN):
                        await playing.played(times)
                    first = listener.events.index(await listener.hears(Resync))
                    assert first < listener.events.index(await listener.hears(Newchannel))

    async def test_who_does_not_ask_hears_it_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("itgrix_kommo.sandbox.player.PATIENCE", 0.05)
        async with player(told("101")).serve() as playing:
            client = await Client(playing.port).open()
            await client.logs_in()
            assert (await client.hears())["Channel"] == "PJSIP/101-00000001"
            await client.close()

    async def test_a_real_trace_reaches_the_link_whole(self) -> None:
        recorded = list(read_trace(TRACE))
        hangups = sum(frame.startswith(b"Event: Hangup\r\n") for _, frame in recorded)
        assert hangups > 20
        async with player(recorded, speed=1000).serve() as playing, Listener(playing.port) as listener:
            await listener.hears(Hangup, times=hangups)
            assert len(listener.all(Hangup)) == hangups
            assert {"PJSIP/101", "PJSIP/trunk"} <= set((await listener.hears(Endpoints)).names)
            assert listener.link.status.gaps == 0

    async def test_the_times_are_the_clients_own(self) -> None:
        begun = time.time()
        async with player(told("101")).serve() as playing, Listener(playing.port) as listener:
            assert begun <= (await listener.hears(Newchannel)).at <= time.time()

    def test_pauses_are_the_recorded_ones_divided(self) -> None:
        assert list(player(told("101", "102", "103", apart=3.0), speed=2).pauses()) == [0.0, 1.5, 1.5]

    def test_pauses_of_strange_times(self) -> None:
        moments = [10.0, 9.0, 1e9, math.nan, 5.0, math.inf, 7.0]
        recorded = [Recorded(at, b"Event: Hangup") for at in moments]
        assert list(player(recorded).pauses()) == [0.0, 0.0, LONGEST_PAUSE, 0.0, 0.0, LONGEST_PAUSE, 0.0]

    @pytest.mark.parametrize("speed", [0, -1, math.nan, math.inf])
    def test_a_speed_that_is_none(self, speed: float) -> None:
        with pytest.raises(ValueError, match="above 0"):
            player(speed=speed)

    def test_what_the_link_wrote_into_its_journal_is_left_out(self) -> None:
        own = [Recorded(1.0, b"Event: ItgrixResync\r\nAt: 1"), Recorded(2.0, b"Event: ItgrixEndpoints\r\nNames: x")]
        assert player([*own, *told("101")]).recorded == told("101")

    def test_a_trace_that_is_none_is_told_with_its_place(self) -> None:
        with pytest.raises(TraceError, match="x:1: a message without its time"):
            player(list(parse(b"Event: Hangup\n\n", "x")))
