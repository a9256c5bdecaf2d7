"""The link's life: logging in, staying alive, coming back, and telling what it missed."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from itgrix_kommo.ami import link as link_module
from itgrix_kommo.ami.decode import encode_endpoints, encode_resync
from itgrix_kommo.ami.link import AmiLink
from itgrix_kommo.ami.settings import AmiSettings, LinkStatus, Pace
from itgrix_kommo.ami.wanted import EVENT_MASK, server_filters
from itgrix_kommo.calls import events as ev
from tests.ami_server import (
    BOOTED,
    QUICK,
    REFUSED,
    SUCCESS,
    WITHIN,
    AmiServer,
    Headers,
    Listener,
    channel_item,
    listing,
    md5_key,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HANGUP = "Event: Hangup\r\nPrivilege: call,all\r\nChannel: PJSIP/101-1\r\nUniqueid: {}\r\nCause: 16\r\n\r\n"
NOISE = "Event: RTCPSent\r\nPrivilege: reporting,all\r\nSSRC: 1\r\n\r\n"
AUTHENTICATION_FAILED = "Response: Error\r\nActionID: {id}\r\nMessage: Authentication failed\r\n\r\n"


@pytest.fixture
async def server() -> AsyncIterator[AmiServer]:
    async with AmiServer() as listening:
        yield listening


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One for 127.0.0.1 that nobody vouches for, with its key beside it."""
    path = tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=pbx",
         "-addext", "subjectAltName=IP:127.0.0.1", "-out", path, "-keyout", tmp_path / "key.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


class TestLogin:
    async def test_answers_the_challenge_and_keeps_the_secret_off_the_wire(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            login = await server.asked("Login")
            assert login["Key"] == md5_key("s3cr3t")
            assert login["Events"] == EVENT_MASK
            assert b"s3cr3t" not in b"".join(server.sessions[0].raw)

    async def test_tells_what_it_found(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.until(lambda status: bool(status.asterisk_version), "the version of Asterisk")
            status = listener.link.status
            assert (status.connected, status.error, status.limits, status.filtered) == (True, "", (), True)
            assert (status.ami_version, status.asterisk_version, status.connections) == ("9.0.0", "22.10.0", 1)

    async def test_gives_the_secret_where_there_is_no_challenge(self, server: AmiServer) -> None:
        server.answers["Challenge"] = REFUSED
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            login = await server.asked("Login")
            assert (login["Secret"], "Key" in login) == ("s3cr3t", False)

    async def test_a_refusal_is_told_in_asterisks_words_and_waits_long(self, server: AmiServer) -> None:
        server.answers["Login"] = AUTHENTICATION_FAILED
        with capture_logs() as lines:
            async with Listener(server.port) as listener:
                status = await listener.is_told("Authentication failed")
                assert status.login_refused
                assert not status.connected
        (warning,) = [line for line in lines if line["log_level"] == "warning"]
        assert "Authentication failed" in warning["reason"]
        assert warning["next_attempt_s"] >= Pace().refused_first / 2
        assert len(server.sessions) == 1

    async def test_a_refusal_that_was_cured_is_forgotten(self, server: AmiServer) -> None:
        server.answers["Login"] = AUTHENTICATION_FAILED
        async with Listener(server.port, pace=replace(QUICK, refused_first=0.01)) as listener:
            await listener.is_told("Authentication failed")
            server.answers["Login"] = SUCCESS + BOOTED
            await listener.hears(ev.Resync)
            assert not listener.link.status.login_refused

    async def test_the_secret_is_in_no_log_and_no_repr(self, server: AmiServer) -> None:
        server.answers["Login"] = AUTHENTICATION_FAILED
        with capture_logs() as lines:
            async with Listener(server.port) as listener:
                await listener.is_told("Authentication failed")
        assert "s3cr3t" not in repr(lines)
        assert "s3cr3t" not in repr(listener.link.settings)

    async def test_tls(self, certificate: Path) -> None:
        key = certificate.with_name("key.pem")
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(certificate, key)
        trusting = ssl.create_default_context(cafile=str(certificate))
        async with AmiServer(tls=ours) as server:
            async with Listener(server.port, tls=trusting) as listener:
                await listener.hears(ev.Resync)
            async with Listener(server.port, tls=True) as distrusting:
                await distrusting.is_told("CERTIFICATE_VERIFY_FAILED")


class TestNoAsterisk:
    async def test_it_is_found_once_it_is_there(self, server: AmiServer) -> None:
        await server.shut()
        async with Listener(server.port) as listener:
            await listener.is_told("Connect call failed")
            await server.open()
            await listener.hears(ev.Resync)

    async def test_the_first_failure_is_a_warning_and_its_repetitions_are_not(self, server: AmiServer) -> None:
        server.banner = b"SSH-2.0-OpenSSH_9.2\r\nResponse: x\r\n\r\n"
        with capture_logs() as lines:
            async with Listener(server.port):
                await server.until(lambda: len(server.sessions) > 3, "several attempts")
        assert [line["log_level"] for line in lines if "no link" in line["event"]][:3] == ["warning", "debug", "debug"]

    async def test_who_greets_otherwise_is_not_asterisk(self, server: AmiServer) -> None:
        server.banner = b"HTTP/1.1 400 Bad Request\r\n\r\nResponse: x\r\n\r\n"
        async with Listener(server.port) as listener:
            await listener.is_told("is no Asterisk Manager")

    async def test_who_does_not_greet_is_given_up(self, server: AmiServer) -> None:
        server.banner = b""
        async with Listener(server.port, pace=replace(QUICK, connect_within=0.05)) as listener:
            await listener.is_told("greeted as Asterisk does within 0.05 s")
            await server.until(lambda: server.sessions[0].over, "the end of the connection")

    async def test_who_closes_before_greeting_is_told(self, server: AmiServer) -> None:
        server.banner = b""
        async with Listener(server.port) as listener:
            await server.until(lambda: bool(server.sessions), "a connection")
            server.sessions[0].hang_up()
            await listener.is_told("Asterisk closed it")

    async def test_an_endless_greeting_is_given_up(self, server: AmiServer) -> None:
        server.banner = b"x" * (2 << 20)
        async with Listener(server.port) as listener:
            await listener.is_told("a message of more than 1048576 bytes")

    async def test_an_answer_that_never_comes_ends_the_attempt(self, server: AmiServer) -> None:
        server.answers["Login"] = None
        async with Listener(server.port, pace=replace(QUICK, answer_within=0.05)) as listener:
            await listener.is_told("did not answer Login within 0.05 s")
            server.answers["Login"] = SUCCESS + BOOTED
            await listener.hears(ev.Resync)

    async def test_stopping_while_it_waits_to_come_back_leaves_nothing_behind(self, server: AmiServer) -> None:
        async with Listener(server.port, pace=replace(QUICK, retry_first=0.2)) as listener:
            await listener.hears(ev.Resync)
            server.sessions[0].hang_up()
            await listener.is_told("connection was lost")
        assert listener.link.status.error == "the link was stopped"
        assert len(asyncio.all_tasks()) == 1
        assert len(server.sessions) == 1

    async def test_it_can_be_stopped_at_any_moment(self, server: AmiServer) -> None:
        for turns in range(1, 100):
            async with Listener(server.port):
                for _ in range(turns):
                    await asyncio.sleep(0)
        for turns in range(30):
            async with Listener(server.port) as listener:
                await listener.hears(ev.Resync)
                server.sessions[-1].hang_up()
                for _ in range(turns):
                    await asyncio.sleep(0)

    async def test_a_fault_of_our_own_is_not_taken_for_asterisks(
        self, server: AmiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def faulty() -> list[str]:
            raise ZeroDivisionError

        monkeypatch.setattr(link_module, "server_filters", faulty)
        link = AmiLink(AmiSettings("127.0.0.1", server.port, "itgrix", "s3cr3t"), pace=QUICK)
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(link.run(), WITHIN)


class TestFilters:
    async def test_asterisk_is_asked_for_what_is_wanted_only(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            assert [each["Filter"] for each in server.sessions[0].asked("Filter")] == server_filters()

    async def test_a_user_who_may_not_filter_hears_everything(self, server: AmiServer) -> None:
        server.answers["Filter"] = REFUSED
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            status = listener.link.status
            assert (status.connected, status.filtered) == (True, False)
            assert "refused Filter: Permission denied" in status.limits[0]
            assert len(server.sessions[0].asked("Filter")) == 1

    async def test_filters_that_are_taken_in_part_are_not_used(self, server: AmiServer) -> None:
        def answer(action: Headers) -> str:
            return SUCCESS if "Newchannel" in action["Filter"] else REFUSED

        server.answers["Filter"] = answer
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            assert len(server.sessions) == 2
            assert server.sessions[1].asked("Filter") == []
            assert "it sends everything" in listener.link.status.limits[0]


class TestResync:
    async def test_shows_what_exists(self, server: AmiServer) -> None:
        server.answers["CoreShowChannels"] = listing("CoreShowChannelsComplete", channel_item("1.2", bridge="b-1"))
        bridge = "Event: BridgeListItem\r\nBridgeUniqueid: b-1\r\nBridgeType: basic\r\nBridgeTechnology: native_rtp\r\n"
        server.answers["BridgeList"] = listing("BridgeListComplete", f"{bridge}BridgeCreator: <unknown>\r\n")
        async with Listener(server.port) as listener:
            resync = await listener.hears(ev.Resync)
        (live,) = resync.channels
        assert live.channel == ev.Channel("PJSIP/101-1.2", "1.2", "1.2", 6, "101", "", "", "", "internal", "102")
        assert (live.application, live.app_data, live.bridge_id) == ("Dial", "PJSIP/102", "b-1")
        assert live.started_at == resync.at - 65
        assert resync.bridges == (ev.Bridge("b-1", "basic", "native_rtp", ""),)
        assert resync.asked_at <= resync.at
        assert resync.blind_since is None

    async def test_stands_in_the_stream_where_the_answer_ended(self, server: AmiServer) -> None:
        def answer(_: Headers) -> str:
            before, end = listing("CoreShowChannelsComplete", channel_item("1.2")).split("Event: CoreShowChannelsC")
            return f"{before}{HANGUP.format('1.1')}Event: CoreShowChannelsC{end}{HANGUP.format('1.3')}"

        server.answers["CoreShowChannels"] = answer
        async with Listener(server.port) as listener:
            await listener.hears(ev.Hangup, times=2)
        kinds = [type(event).__name__ for event in listener.events]
        assert kinds == ["Hangup", "Resync", "Hangup"]
        assert [event.channel.uniqueid for event in listener.all(ev.Hangup)] == ["1.1", "1.3"]

    async def test_is_not_for_others_to_tell(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            told = await listener.hears(ev.Resync)
            forged = told._replace(at=told.at - 60, channels=())
            server.sessions[0].send(
                encode_resync(forged) + b"\r\n\r\n" + encode_endpoints(ev.Endpoints(1.0, frozenset()))
            )
            server.sessions[0].send("\r\n\r\n" + HANGUP.format("1.1"))
            await listener.hears(ev.Hangup)
        assert [type(event).__name__ for event in listener.events] == ["Resync", "Hangup"]

    async def test_tells_since_when_events_were_missed(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            server.sessions[0].send(HANGUP.format("1.1"))
            last = await listener.hears(ev.Hangup)
            server.sessions[0].hang_up()
            resync = await listener.hears(ev.Resync, times=2)
            assert resync.blind_since is not None
            assert last.at <= resync.blind_since <= resync.asked_at
            assert listener.link.status.gaps == 1

    async def test_tells_since_when_the_former_daemon_was_deaf(self, server: AmiServer) -> None:
        async with Listener(server.port, blind_since=1_795_344_324.0, pace=replace(QUICK, look_every=0.01)) as listener:
            assert (await listener.hears(ev.Resync)).blind_since == 1_795_344_324.0
            assert (await listener.hears(ev.Resync, times=2)).blind_since is None

    async def test_a_gap_lasts_until_it_was_looked_into(self, server: AmiServer) -> None:
        async with Listener(server.port, pace=replace(QUICK, answer_within=0.05)) as listener:
            await listener.hears(ev.Resync)
            answer, server.answers["CoreShowChannels"] = server.answers["CoreShowChannels"], None
            lost_at = time.time()
            server.sessions[0].hang_up()
            await listener.is_told("did not answer CoreShowChannels")
            server.answers["CoreShowChannels"] = answer
            second = await listener.hears(ev.Resync, times=2)
            assert second.blind_since is not None
            assert second.blind_since <= lost_at
            assert len(server.sessions) > 2

    async def test_a_look_from_time_to_time_is_no_gap(self, server: AmiServer) -> None:
        async with Listener(server.port, pace=replace(QUICK, look_every=0.02)) as listener:
            assert (await listener.hears(ev.Resync, times=3)).blind_since is None
            assert listener.link.status.gaps == 0

    async def test_the_list_that_needs_fewer_rights_tells_the_same(self, server: AmiServer) -> None:
        server.answers["CoreShowChannels"] = REFUSED
        item = channel_item("1.2").replace("CoreShowChannel", "Status").replace("BridgeId: ", "BridgeID: b-1")
        item = item.replace("ApplicationData", "Data").replace("Duration: 00:01:05", "Seconds: 65")
        server.answers["Status"] = listing("StatusComplete", item)
        server.answers["BridgeList"] = REFUSED
        async with Listener(server.port) as listener:
            resync = await listener.hears(ev.Resync)
        (live,) = resync.channels
        assert (live.application, live.app_data, live.bridge_id) == ("Dial", "PJSIP/102", "b-1")
        assert live.started_at == resync.at - 65
        assert resync.bridges == ()

    async def test_a_user_who_may_not_look_is_told(self, server: AmiServer) -> None:
        server.answers["CoreShowChannels"] = server.answers["Status"] = REFUSED
        async with Listener(server.port) as listener:
            await listener.until(lambda status: bool(status.limits), "a limit")
            assert "calls that began before us stay unknown" in listener.link.status.limits[0]
            server.sessions[0].send(HANGUP.format("1.1"))
            await listener.hears(ev.Hangup)
            assert listener.all(ev.Resync) == []

    async def test_another_look_follows_when_asterisk_has_booted(self, server: AmiServer) -> None:
        server.answers["Login"] = SUCCESS
        async with Listener(server.port, pace=replace(QUICK, boot_grace=0.01)) as listener:
            await listener.hears(ev.Resync)
            server.sessions[0].send(BOOTED)
            await listener.hears(ev.Resync, times=2)


class TestEndpoints:
    pjsip = listing(
        "EndpointListComplete", *(f"Event: EndpointList\r\nObjectType: endpoint\r\nObjectName: {n}\r\n" for n in "12")
    )
    sip = listing("PeerlistComplete", "Event: PeerEntry\r\nChanneltype: SIP\r\nObjectName: old\r\n")
    analog = listing("DAHDIShowChannelsComplete", "Event: DAHDIShowChannels\r\nDAHDIChannel: 3\r\n")

    async def test_are_named_as_channels_are(self, server: AmiServer) -> None:
        server.answers |= {"PJSIPShowEndpoints": self.pjsip, "SIPpeers": self.sip, "DAHDIShowChannels": self.analog}
        async with Listener(server.port) as listener:
            assert (await listener.hears(ev.Endpoints)).names == {"PJSIP/1", "PJSIP/2", "SIP/old", "DAHDI/3"}

    async def test_are_told_again_only_when_they_change(self, server: AmiServer) -> None:
        server.answers["PJSIPShowEndpoints"] = self.pjsip
        async with Listener(server.port, pace=replace(QUICK, look_every=0.01)) as listener:
            await listener.hears(ev.Endpoints)
            await server.asked("PJSIPShowEndpoints", times=3)
            server.answers["PJSIPShowEndpoints"] = REFUSED
            await server.asked("PJSIPShowEndpoints", times=6)
            assert len(listener.all(ev.Endpoints)) == 1
            server.answers["SIPpeers"] = self.sip
            assert (await listener.hears(ev.Endpoints, times=2)).names == {"SIP/old"}


class TestKeepAlive:
    async def test_any_byte_is_life(self, server: AmiServer) -> None:
        server.answers["Ping"] = lambda _: NOISE
        async with Listener(server.port, pace=replace(QUICK, ping_after=0.02, silence_limit=0.1)) as listener:
            await server.asked("Ping", times=12)
            assert listener.link.status.connected
            assert len(server.sessions) == 1

    async def test_who_answers_no_ping_is_gone(self, server: AmiServer) -> None:
        server.answers["Ping"] = None
        async with Listener(server.port, pace=replace(QUICK, ping_after=0.02, silence_limit=0.1)) as listener:
            await listener.hears(ev.Resync)
            await listener.is_told("was silent for")
            assert len(server.sessions[0].asked("Ping")) > 2
            assert (await listener.hears(ev.Resync, times=2)).blind_since is not None

    async def test_pings_leave_nothing_behind(self, server: AmiServer) -> None:
        server.answers["Ping"] = lambda _: NOISE
        async with Listener(server.port, pace=replace(QUICK, ping_after=0.01)) as listener:
            await server.asked("Ping", times=20)
            assert listener.link._protocol is not None
            assert listener.link._protocol._pending == {}

    async def test_the_kernel_watches_as_well(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            protocol = listener.link._protocol
            assert protocol is not None
            connection = protocol._transport.get_extra_info("socket")
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000

    async def test_asterisk_tells_that_it_stops(self, server: AmiServer) -> None:
        async with Listener(server.port) as listener:
            await listener.hears(ev.Resync)
            shutdown = "Event: Shutdown\r\nPrivilege: system,all\r\nShutdown: Cleanly\r\nRestart: False\r\n\r\n"
            server.sessions[0].hang_up((shutdown + HANGUP.format("1.1")).encode())
            await listener.hears(ev.Hangup)
            await listener.is_told("shutting down")


class TestPace:
    def test_pauses_double_up_to_a_ceiling(self) -> None:
        pace = Pace(retry_first=1.0, retry_ceiling=5.0)
        assert [pace.pause(n, refused=False, dice=0.5) for n in (1, 2, 3, 4, 5000)] == [1.0, 2.0, 4.0, 5.0, 5.0]

    def test_pauses_are_spread(self) -> None:
        pace = Pace(retry_first=1.0)
        assert [pace.pause(1, refused=False, dice=dice) for dice in (0.0, 1.0)] == [0.5, 1.5]

    def test_a_refused_login_waits_much_longer(self) -> None:
        assert Pace().pause(1, refused=True, dice=0.0) >= 30

    def test_the_status_begins_as_not_connected(self) -> None:
        assert LinkStatus() == LinkStatus(connected=False, error="", connections=0)
        assert AmiSettings("pbx", 5038, "a", "b").tls is False
