"""What comes out of the link: everything, in order, as it came, at the pace of the one who takes it."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from itgrix_kommo.ami.decode import decode
from itgrix_kommo.ami.outbox import Outbox, Received
from itgrix_kommo.ami.wanted import sieve
from itgrix_kommo.calls import events as ev
from tests.ami_server import QUICK, AmiServer, Listener
from tests.bench.ami_stream import plain_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def server() -> AsyncIterator[AmiServer]:
    async with AmiServer() as listening:
        yield listening


def hangup(number: int, padding: str = "") -> bytes:
    return f"Event: Hangup\r\nPrivilege: call,all\r\nUniqueid: {number}\r\nCause: 16\r\nPad: {padding}\r\n\r\n".encode()


def numbers(listener: Listener) -> list[int]:
    return [int(event.channel.uniqueid) for event in listener.all(ev.Hangup)]


class TestOrder:
    async def test_a_call_comes_as_it_was_sent(self, server: AmiServer) -> None:
        call = plain_call(1)
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            server.sessions[0].send("\r\n".join([*call, ""]))
            await listener.hears(ev.Hangup, times=2)
        wanted = sieve(each.strip("\r\n").encode() for each in call)
        heard = [each for each in listener.received if not isinstance(each.event, ev.Resync)]
        # The values of some variables are empty, so the last header ends with a space.
        assert [each.frame.rstrip() for each in heard] == [each.rstrip() for each in wanted]
        assert [each.event for each in heard] == [decode(each.frame, each.event.at) for each in heard]
        assert listener.link.status.messages > len(call) > listener.link.status.events

    async def test_a_chunk_is_one_batch(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            server.sessions[0].send(b"".join(map(hangup, range(50))))
            await listener.hears(ev.Hangup, times=50)
            assert len([batch for batch in listener.batches if isinstance(batch[0].event, ev.Hangup)]) == 1

    async def test_letters_cut_between_chunks_survive(self, server: AmiServer) -> None:
        event = "Event: Newchannel\r\nUniqueid: 1.2\r\nCallerIDName: Жанна\r\n\r\n".encode()
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            for byte in event:
                server.sessions[0].send(bytes([byte]))
                await server.sessions[0].drain()
            assert (await listener.hears(ev.Newchannel)).channel.caller_name == "Жанна"

    async def test_one_who_fails_over_an_event_harms_nobody(self, server: AmiServer) -> None:
        async with Listener(server.port, holding=True) as listener:
            await server.asked("CoreSettings")
            server.sessions[0].send(hangup(1))

            async def clumsy() -> None:
                async for _ in listener.link.batches():
                    raise LookupError

            with pytest.raises(LookupError):
                await clumsy()
            server.sessions[0].send(hangup(2))
            listener.take()
            await listener.hears_that(lambda: 2 in numbers(listener), "the next event")
            assert len(server.sessions) == 1

    async def test_what_was_received_can_be_copied(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            copies: list[Received] = copy.deepcopy(listener.received)
            assert copies == listener.received


class TestBrokenStreams:
    async def test_half_an_event_is_told(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            server.sessions[0].hang_up(hangup(1) + hangup(2)[:30])
            assert (await listener.hears(ev.Resync, times=2)).blind_since is not None
            assert listener.link.status.truncated == 1
            assert numbers(listener) == [1]

    async def test_an_endless_line_ends_the_connection(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            server.sessions[0].send(hangup(1) + b"Event: VarSet\r\nValue: " + b"x" * (2 << 20))
            await listener.is_told("a message of more than 1048576 bytes")
            assert (await listener.hears(ev.Resync, times=2)).blind_since is not None
            assert numbers(listener) == [1]

    async def test_garbage_is_passed_over(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            server.sessions[0].send(bytes(range(256)) + b"\r\n\r\n\r\nResponse: Error\r\n\r\n" + hangup(1))
            await listener.hears(ev.Hangup)
            assert len(server.sessions) == 1


class TestSlowConsumer:
    """`holding` takes nothing; Asterisk goes on sending."""

    pace = replace(QUICK, high_water=1000)

    async def fill(self, server: AmiServer, listener: Listener) -> int:
        """Send until nothing more is read; how many events were sent."""
        await server.asked("PJSIPShowEndpoints")
        session = server.sessions[-1]
        sent = 0
        while listener.link.status.waiting < self.pace.high_water:
            assert listener.link.status.connected, "the link was cut before it was full"
            session.send(b"".join(hangup(number, "x" * 2000) for number in range(sent, sent + 100)))
            sent += 100
            while (
                session.unsent and (status := listener.link.status).connected and status.waiting < self.pace.high_water
            ):
                await asyncio.sleep(0)
        session.send(b"".join(hangup(number, "x" * 2000) for number in range(sent, sent + 10_000)))
        for _ in range(100):
            await asyncio.sleep(0)  # turns of the loop, in which a reader would read
        assert session.unsent > 0
        return sent + 10_000

    async def test_asterisk_waits_and_nothing_is_lost(self, server: AmiServer) -> None:
        async with Listener(server.port, pace=self.pace, holding=True) as listener:
            sent = await self.fill(server, listener)
            # A chunk is 256 KiB at most: what it brought beyond the mark is all that came.
            assert listener.link.status.waiting < self.pace.high_water + 200
            listener.take()
            await listener.hears_that(lambda: len(listener.received) > sent, f"{sent} events")
            assert numbers(listener) == list(range(sent))
            assert len(server.sessions) == 1
            assert listener.link.status.gaps == 0

    async def test_what_was_not_read_meanwhile_is_no_silence(self, server: AmiServer) -> None:
        pace = replace(self.pace, ping_after=0.1, silence_limit=1.0)
        async with Listener(server.port, pace=pace, holding=True) as listener:
            await self.fill(server, listener)
            protocol = listener.link._protocol
            assert protocol is not None
            loop = asyncio.get_running_loop()
            await listener.until(lambda _: loop.time() - protocol.heard_at > pace.silence_limit, "a long pause")
            protocol.resume()
            assert loop.time() - protocol.heard_at < pace.silence_limit

    async def test_silence_while_asterisk_waits_is_no_death(self, server: AmiServer) -> None:
        pace = replace(self.pace, ping_after=0.1, silence_limit=1.0, stall_limit=2.0)
        async with Listener(server.port, pace=pace, holding=True) as listener:
            await self.fill(server, listener)
            await listener.is_told("nobody took the events")

    async def test_beyond_all_patience_the_link_is_cut_and_the_gap_told(self, server: AmiServer) -> None:
        pace = replace(self.pace, ping_after=0.1, stall_limit=2.0)
        async with Listener(server.port, pace=pace, holding=True) as listener:
            sent = await self.fill(server, listener)
            await listener.is_told("nobody took the events for 2 s")
            waiting = listener.link.status.waiting
            # Many times the pause before the next attempt: it comes back only when there is room again.
            await asyncio.sleep(0.1)
            assert len(server.sessions) == 1
            listener.take()
            resync = await listener.hears(ev.Resync, times=2)
            taken = numbers(listener)
            assert taken == list(range(len(taken)))
            assert self.pace.high_water <= waiting <= len(taken) + 10 < sent
            assert resync.blind_since is not None
            assert resync.blind_since >= listener.all(ev.Hangup)[-1].at

    async def test_reading_goes_on_once_most_was_taken(self) -> None:
        outbox_calls: list[str] = []
        outbox = Outbox(8, pause=lambda: outbox_calls.append("pause"), resume=lambda: outbox_calls.append("resume"))
        event = Received(b"", ev.LinkedidEnd(0.0, "1"))
        for size in (0, 3, 3, 3, 3):
            outbox.put([event] * size)
        assert outbox_calls == ["pause"]
        for left in (9, 6, 3, 0):
            assert await outbox.get() == [event] * 3
            assert (outbox.waiting, outbox.full) == (left, left > 2)
        assert outbox_calls == ["pause", "resume"]
        await outbox.drained()
        outbox.put([event])
        outbox.close()
        assert await outbox.get() == [event]
        assert await outbox.get() is None
