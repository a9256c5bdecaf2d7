"""Actions: answered, refused, late, lost or not even sent, and never sent twice."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.ami import protocol as protocol_module
from itgrix_kommo.ami.actions import MAX_LINE, Action, Reply, check, originate
from itgrix_kommo.calls import events as ev
from itgrix_kommo.errors import AmiActionFailed, AmiActionTimeout, AmiProtocolError, AmiUnavailable
from tests.ami_server import QUICK, REFUSED, SUCCESS, AmiServer, Listener, listing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from itgrix_kommo.ami.link import AmiLink

PEERS = ("Event: PeerEntry\r\nObjectName: a\r\n", "Event: PeerEntry\r\nObjectName: b\r\n")


@pytest.fixture
async def server() -> AsyncIterator[AmiServer]:
    async with AmiServer() as listening:
        yield listening


@pytest.fixture
async def listener(server: AmiServer) -> AsyncIterator[Listener]:
    async with Listener(server.port) as connected:
        await connected.hears(ev.Resync)
        await server.asked("DAHDIShowChannels")
        yield connected


@pytest.fixture
def link(listener: Listener) -> AmiLink:
    return listener.link


def pending(link: AmiLink) -> int:
    assert link._protocol is not None
    return len(link._protocol._pending)


class TestAnswers:
    async def test_an_answer_is_read(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Getvar"] = "Response: Success\r\nActionID: {id}\r\nVariable: A\r\nValue: \r\n\r\n"
        reply = await link.send({"Action": "Getvar", "Variable": "A"})
        assert (reply.get("Response"), reply.get("Variable"), reply.get("Value")) == ("Success", "A", "")
        assert (reply.get("None"), reply.values("None")) == ("", [])

    async def test_repeated_headers_are_kept_both_ways(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Command"] = "Response: Success\r\nActionID: {id}\r\nOutput: one\r\nOutput: two\r\n\r\n"
        reply = await link.send({"Action": "Command", "Variable": ["A=1", "B=2"]})
        assert reply.values("Output") == ["one", "two"]
        assert reply.get("Output") == "one"
        assert b"Variable: A=1\r\nVariable: B=2\r\n" in server.sessions[0].raw[-1]

    async def test_a_refusal_is_told_in_asterisks_words(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Originate"] = REFUSED
        with pytest.raises(AmiActionFailed, match="refused Originate: Permission denied"):
            await link.send({"Action": "Originate"})

    async def test_a_refusal_without_words_is_one_too(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Originate"] = "Response: Error\r\nActionID: {id}\r\n\r\n"
        with pytest.raises(AmiActionFailed, match="no reason given"):
            await link.send({"Action": "Originate"})

    async def test_a_list_is_read_to_its_end(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["SIPpeers"] = listing("PeerlistComplete", *PEERS)
        assert [peer.get("ObjectName") for peer in await link.send_list({"Action": "SIPpeers"})] == ["a", "b"]

    async def test_a_list_may_end_without_saying_so(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["SIPpeers"] = listing("PeerlistComplete", *PEERS).replace("EventList: Complete\r\n", "")
        assert len(await link.send_list({"Action": "SIPpeers"})) == 2

    async def test_answers_find_those_who_asked(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Getvar"] = None
        asked = [asyncio.create_task(link.send({"Action": "Getvar", "Variable": name})) for name in "abc"]
        await server.asked("Getvar", times=3)
        for question in reversed(server.sessions[0].asked("Getvar")):
            answer = f"Response: Success\r\nActionID: {question['ActionID']}\r\nValue: {question['Variable']}\r\n\r\n"
            server.sessions[0].send(answer)
        assert [(await each).get("Value") for each in asked] == ["a", "b", "c"]

    async def test_events_in_between_are_no_answers(self, server: AmiServer, listener: Listener) -> None:
        response = "Event: OriginateResponse\r\nActionID: {id}\r\nResponse: Failure\r\nReason: 3\r\n\r\n"
        server.answers["Originate"] = response + SUCCESS
        assert (await listener.link.send({"Action": "Originate", "ActionID": "ours"})).get("Response") == "Success"
        assert (await listener.hears(ev.OriginateResponse)).action_id == "ours"

    async def test_an_answer_counts_once(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Getvar"] = "Response: Success\r\nActionID: {id}\r\nValue: first\r\n\r\n" + REFUSED
        assert (await link.send({"Action": "Getvar"})).get("Value") == "first"
        server.answers["Getvar"] = SUCCESS
        await link.send({"Action": "Getvar"})
        assert len(server.sessions) == 1

    async def test_a_list_without_end_is_given_up(
        self, server: AmiServer, link: AmiLink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(protocol_module, "MAX_LIST", 1)
        server.answers["SIPpeers"] = listing("PeerlistComplete", *PEERS)
        with pytest.raises(AmiProtocolError, match="SIPpeers lists more than 1 items"):
            await link.send_list({"Action": "SIPpeers"})

    async def test_an_answer_can_be_copied(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Getvar"] = SUCCESS
        reply = await link.send({"Action": "Getvar"})
        assert copy.copy(reply) == copy.deepcopy(reply) == reply


class TestNoAnswer:
    async def test_a_late_answer_is_ignored(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Getvar"] = None
        with pytest.raises(AmiActionTimeout, match=r"did not answer Getvar within 0\.01 s"):
            await link.send({"Action": "Getvar"}, within=0.01)
        assert pending(link) == 0
        late = await server.asked("Getvar")
        server.sessions[0].send(SUCCESS.replace("{id}", late["ActionID"]))
        server.answers["Getvar"] = SUCCESS
        assert (await link.send({"Action": "Getvar"})).get("ActionID") != late["ActionID"]

    async def test_a_late_list_is_ignored(self, server: AmiServer, listener: Listener) -> None:
        server.answers["SIPpeers"] = None
        with pytest.raises(AmiActionTimeout):
            await listener.link.send_list({"Action": "SIPpeers"}, within=0.01)
        late = (await server.asked("SIPpeers", times=2))["ActionID"]
        heard = len(listener.received)
        server.sessions[0].send(listing("PeerlistComplete", *PEERS).replace("{id}", late))
        server.answers["Getvar"] = SUCCESS
        await listener.link.send({"Action": "Getvar"})
        assert len(listener.received) == heard

    async def test_half_a_list_is_none(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["SIPpeers"] = listing("PeerlistComplete", *PEERS).partition("Event: PeerlistComplete")[0]
        with pytest.raises(AmiActionTimeout):
            await link.send_list({"Action": "SIPpeers"}, within=0.05)
        assert pending(link) == 0

    async def test_a_lost_connection_ends_the_wait_at_once(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Getvar"] = None
        asked = asyncio.create_task(link.send({"Action": "Getvar"}))
        await server.asked("Getvar")
        server.sessions[0].hang_up()
        with pytest.raises(AmiUnavailable, match="Getvar got no answer: the connection was lost"):
            await asked

    async def test_who_gives_up_leaves_nothing_behind(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Getvar"] = None
        asked = asyncio.create_task(link.send({"Action": "Getvar"}))
        await server.asked("Getvar")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert pending(link) == 0

    async def test_without_a_link_nothing_is_sent_then_or_later(self, server: AmiServer, listener: Listener) -> None:
        await server.shut()
        await listener.is_told("Connect call failed")
        with pytest.raises(AmiUnavailable, match=r"no link to Asterisk at 127\.0\.0\.1.*Connect call failed"):
            await listener.link.send({"Action": "Originate"})
        await server.open()
        await listener.hears(ev.Resync, times=2)
        assert all(session.asked("Originate") == [] for session in server.sessions)

    async def test_what_got_no_answer_is_not_sent_again(self, server: AmiServer, listener: Listener) -> None:
        server.answers["Originate"] = None
        asked = asyncio.create_task(listener.link.send({"Action": "Originate"}))
        await server.asked("Originate")
        server.sessions[0].hang_up()
        with pytest.raises(AmiUnavailable):
            await asked
        await listener.hears(ev.Resync, times=2)
        await server.asked("DAHDIShowChannels", session=1)
        assert server.sessions[1].asked("Originate") == []

    async def test_before_the_login_nothing_is_sent(self, server: AmiServer) -> None:
        server.answers["Login"] = None
        async with Listener(server.port, pace=replace(QUICK)) as listener:
            await server.asked("Login")
            with pytest.raises(AmiUnavailable, match="not connected yet"):
                await listener.link.send({"Action": "Originate"})

    async def test_an_id_is_waited_for_once(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Getvar"] = None
        first = asyncio.create_task(link.send({"Action": "Getvar", "ActionID": "x"}))
        await server.asked("Getvar")
        with pytest.raises(AmiProtocolError, match="already waited for"):
            await link.send({"Action": "Getvar", "ActionID": "x"})
        first.cancel()


class TestChecks:
    @pytest.mark.parametrize(
        ("action", "words"),
        [
            ({"Action": "Getvar", "Variable": "a\r\nAction: Originate"}, "the value of Variable holds a line break"),
            ({"Action": "Getvar", "Variable": ["a", "b\n"]}, "the value of Variable holds a line break"),
            ({"Action": "Getvar", "Variable": "a\0"}, "line break or NUL"),
            ({"Action": "Getvar\r\nX: y"}, "a plain name"),
            ({"Action": "Getvar", "X\r\nY": "a"}, "can't be the name of a header"),
            ({"Action": "Getvar", "X: Y": "a"}, "can't be the name of a header"),
            ({"Action": "Getvar", "": "a"}, "can't be the name of a header"),
            ({"Variable": "a"}, "a plain name"),
            ({"Action": ["Getvar"]}, "a plain name"),
            ({"Action": "Getvar", "Variable": "x" * MAX_LINE}, "1022 at most"),
            ({"Action": "Getvar", "Variable": "\ud800"}, "no valid Unicode"),
        ],
    )
    async def test_what_would_be_read_otherwise_is_not_sent(
        self, server: AmiServer, link: AmiLink, action: Action, words: str
    ) -> None:
        sent = len(server.sessions[0].actions)
        with pytest.raises(AmiProtocolError, match=words):
            await link.send(action)
        server.answers["Getvar"] = SUCCESS
        await link.send({"Action": "Getvar"})
        assert len(server.sessions[0].actions) == sent + 1
        assert pending(link) == 0

    def test_the_message_does_not_repeat_the_value(self) -> None:
        with pytest.raises(AmiProtocolError) as caught:
            check({"Action": "Login", "Secret": "s3cr3t\n"})
        assert "s3cr3t" not in str(caught.value)

    @given(st.dictionaries(st.text(max_size=8), st.text() | st.lists(st.text(), max_size=3), max_size=4))
    def test_what_passes_has_as_many_lines_as_values(self, more: dict[str, str | list[str]]) -> None:
        action: dict[str, str | list[str]] = {"Action": "Getvar", **more}
        try:
            check(action)
        except AmiProtocolError:
            return
        lines = [
            f"{name}: {value}"
            for name, values in action.items()
            for value in ([values] if isinstance(values, str) else values)
        ]
        written = "\r\n".join(lines).encode()
        assert len(written.splitlines()) >= len(lines)
        assert [line.encode() for line in lines] == written.split(b"\r\n")


class TestOriginate:
    async def test_rings_one_and_then_the_other(self, server: AmiServer, link: AmiLink) -> None:
        server.answers["Originate"] = SUCCESS
        action = originate(
            channel="PJSIP/101",
            context="from-internal",
            exten="79991234567",
            caller_id='"7999" <101>',
            timeout_s=12.5,
            variables={"ITGRIX_ORIGINATE": "abc", "__X": "1"},
            action_id="ours-1",
        )
        assert (await link.send(action)).get("Response") == "Success"
        headers = dict(line.split(": ", 1) for line in server.sessions[0].raw[-1].decode().strip().split("\r\n"))
        variables = [line for line in server.sessions[0].raw[-1].split(b"\r\n") if line.startswith(b"Variable")]
        assert headers == {
            "Action": "Originate",
            "ActionID": "ours-1",
            "Channel": "PJSIP/101",
            "Context": "from-internal",
            "Exten": "79991234567",
            "Priority": "1",
            "CallerID": '"7999" <101>',
            "Timeout": "12500",
            "Async": "true",
            "Variable": "__X=1",
        }
        assert variables == [b"Variable: ITGRIX_ORIGINATE=abc", b"Variable: __X=1"]

    def test_only_what_is_given_is_written(self) -> None:
        action = originate(channel="PJSIP/101", context="a", exten="b")
        assert {"CallerID", "ActionID", "Variable"}.isdisjoint(action)

    @pytest.mark.parametrize(("name", "value"), [("A", "1,B=2"), ("A", '"'), ("A", "\\"), ("A,B", "1"), ("A=B", "1")])
    def test_variables_that_would_be_taken_apart_are_refused(self, name: str, value: str) -> None:
        with pytest.raises(AmiProtocolError, match="can't be set"):
            originate(channel="PJSIP/101", context="a", exten="b", variables={name: value})


class TestReply:
    def test_reads_one_message(self) -> None:
        assert Reply.read(b"Response: Success\r\nA: 1").headers == {"Response": "Success", "A": "1"}
