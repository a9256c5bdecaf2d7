"""Frames to events: every event the tracker hears, and every text a caller may send."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.ami import decode as decode_module
from itgrix_kommo.ami import wanted
from itgrix_kommo.ami.codec import MAX_LINE, Codec
from itgrix_kommo.ami.decode import decode, encode_endpoints, encode_resync
from itgrix_kommo.ami.headers import headers
from itgrix_kommo.calls import events as ev
from tests.bench.ami_stream import Leg, freepbx_call, plain_call, shown

AT = 1_795_344_324.5
CLIENT = Leg("PJSIP/trunk-00000001", "1795344324.1", "1795344324.1", "79991234567", "Ann", "<unknown>", "in", "7495", 4)
PHONE = Leg("PJSIP/101-00000002", "1795344324.2", "1795344324.1", "101", "<unknown>", "79991234567", "internal", "", 5)
client = ev.Channel(
    "PJSIP/trunk-00000001", "1795344324.1", "1795344324.1", 4, "79991234567", "Ann", "", "", "in", "7495"
)
phone = ev.Channel(
    "PJSIP/101-00000002", "1795344324.2", "1795344324.1", 5, "101", "", "79991234567", "", "internal", ""
)
BRIDGE = (
    "BridgeUniqueid: b-1\r\nBridgeType: basic\r\nBridgeTechnology: simple_bridge\r\nBridgeCreator: <unknown>\r\n"
    "BridgeName: <unknown>\r\nBridgeNumChannels: 1\r\nBridgeVideoSourceMode: none\r\n"
)
bridge = ev.Bridge("b-1", "basic", "simple_bridge", "")
HOLDING = BRIDGE.replace("b-1", "b-2").replace("basic", "holding")
holding = ev.Bridge("b-2", "holding", "simple_bridge", "")


def frame(name: str, body: str = "") -> bytes:
    return f"Event: {name}\r\nPrivilege: call,all\r\n{body}".removesuffix("\r\n").encode()


def prefixed(prefix: str, body: str) -> str:
    return "".join(f"{prefix}{line}\r\n" for line in body.split("\r\n") if line)


EVENTS: list[tuple[str, str, ev.Event]] = [
    ("Newchannel", shown(CLIENT), ev.Newchannel(AT, client)),
    ("Newstate", shown(CLIENT), ev.Newstate(AT, client)),
    ("NewCallerid", f"{shown(CLIENT)}CID-CallingPres: 0 (Allowed)\r\n", ev.NewCallerid(AT, client)),
    (
        "Newexten",
        f"{shown(CLIENT)}Extension: 7495\r\nApplication: Dial\r\nAppData: PJSIP/101,30\r\n",
        ev.Newexten(AT, client, "Dial", "PJSIP/101,30"),
    ),
    ("Rename", "Channel: a\r\nNewname: b\r\nUniqueid: 1.2\r\n", ev.Rename(AT, "1.2", "b")),
    ("HangupRequest", f"{shown(CLIENT)}Cause: 16\r\n", ev.HangupRequest(AT, client, 16, soft=False)),
    ("SoftHangupRequest", shown(CLIENT), ev.HangupRequest(AT, client, 0, soft=True)),
    ("Hangup", f"{shown(CLIENT)}Cause: 17\r\nCause-txt: User busy\r\n", ev.Hangup(AT, client, 17)),
    (
        "DialBegin",
        f"{shown(CLIENT)}{shown(PHONE, 'Dest')}DialString: 101\r\n",
        ev.DialBegin(AT, client, phone, "101"),
    ),
    ("DialBegin", f"{shown(PHONE, 'Dest')}DialString: 101\r\n", ev.DialBegin(AT, None, phone, "101")),
    (
        "DialState",
        f"{shown(CLIENT)}{shown(PHONE, 'Dest')}DialStatus: RINGING\r\n",
        ev.DialState(AT, client, phone, "RINGING"),
    ),
    (
        "DialEnd",
        f"{shown(CLIENT)}{shown(PHONE, 'Dest')}DialStatus: CANCEL\r\nForward: Local/102@in\r\n",
        ev.DialEnd(AT, client, phone, "CANCEL", "Local/102@in"),
    ),
    ("BridgeCreate", BRIDGE, ev.BridgeCreate(AT, bridge)),
    ("BridgeEnter", BRIDGE + shown(CLIENT), ev.BridgeEnter(AT, bridge, client, "")),
    ("BridgeEnter", f"{HOLDING}{shown(CLIENT)}SwapUniqueid: 9.9\r\n", ev.BridgeEnter(AT, holding, client, "9.9")),
    ("BridgeLeave", BRIDGE + shown(CLIENT), ev.BridgeLeave(AT, bridge, client)),
    ("BridgeDestroy", BRIDGE, ev.BridgeDestroy(AT, bridge)),
    ("BridgeMerge", prefixed("To", BRIDGE) + prefixed("From", HOLDING), ev.BridgeMerge(AT, bridge, holding)),
    (
        "LocalBridge",
        f"{shown(CLIENT, 'LocalOne')}{shown(PHONE, 'LocalTwo')}Context: a\r\nExten: b\r\nLocalOptimization: Yes\r\n",
        ev.LocalBridge(AT, client, phone),
    ),
    (
        "LocalOptimizationBegin",
        f"{shown(CLIENT, 'LocalOne')}{shown(PHONE, 'LocalTwo')}{shown(CLIENT, 'Source')}DestUniqueId: 1.2\r\nId: 1\r\n",
        ev.LocalOptimizationBegin(AT, client, phone, client),
    ),
    (
        "LocalOptimizationBegin",
        f"{shown(CLIENT, 'LocalOne')}{shown(PHONE, 'LocalTwo')}DestUniqueId: 1.2\r\nId: 1\r\n",
        ev.LocalOptimizationBegin(AT, client, phone, None),
    ),
    (
        "LocalOptimizationEnd",
        f"{shown(CLIENT, 'LocalOne')}{shown(PHONE, 'LocalTwo')}Success: Yes\r\nId: 1\r\n",
        ev.LocalOptimizationEnd(AT, client, phone),
    ),
    (
        "BlindTransfer",
        (
            f"Result: Success\r\n{shown(PHONE, 'Transferer')}{shown(CLIENT, 'Transferee')}{BRIDGE}"
            "IsExternal: Yes\r\nContext: internal\r\nExtension: 102\r\n"
        ),
        ev.BlindTransfer(AT, "Success", phone, client, "internal", "102"),
    ),
    (
        "AttendedTransfer",
        (
            f"Result: Success\r\n{shown(PHONE, 'OrigTransferer')}{prefixed('Orig', BRIDGE)}"
            f"{shown(CLIENT, 'SecondTransferer')}{prefixed('Second', BRIDGE)}"
            f"DestType: Bridge\r\nDestBridgeUniqueid: b-1\r\n"
            f"{shown(CLIENT, 'Transferee')}{shown(PHONE, 'TransferTarget')}"
        ),
        ev.AttendedTransfer(AT, "Success", phone, client, client, phone, "Bridge"),
    ),
    ("Pickup", shown(CLIENT) + shown(PHONE, "Target"), ev.Pickup(AT, client, phone)),
    ("ParkedCall", f"{shown(CLIENT, 'Parkee')}ParkingSpace: 701\r\n", ev.Parking(AT, "parked", client, None)),
    (
        "UnParkedCall",
        f"{shown(CLIENT, 'Parkee')}{shown(PHONE, 'Parker')}ParkingSpace: 701\r\n{shown(PHONE, 'Retriever')}",
        ev.Parking(AT, "unparked", client, phone),
    ),
    ("ParkedCallTimeOut", shown(CLIENT, "Parkee"), ev.Parking(AT, "timeout", client, None)),
    ("ParkedCallGiveUp", shown(CLIENT, "Parkee"), ev.Parking(AT, "giveup", client, None)),
    ("Hold", f"{shown(CLIENT)}MusicClass: default\r\n", ev.Hold(AT, client, on=True)),
    ("Unhold", shown(CLIENT), ev.Hold(AT, client, on=False)),
    (
        "VarSet",
        f"{shown(CLIENT)}Variable: __FROM_DID\r\nValue: 7495\r\n",
        ev.VarSet(AT, "1795344324.1", "FROM_DID", "7495"),
    ),
    ("VarSet", f"{shown(CLIENT)}Variable: DIALSTATUS\r\nValue: ", ev.VarSet(AT, "1795344324.1", "DIALSTATUS", "")),
    ("VarSet", "Channel: none\r\nUniqueid: none\r\nVariable: A\r\nValue: b\r\n", ev.VarSet(AT, "", "A", "b")),
    ("QueueCallerJoin", f"{shown(CLIENT)}Queue: sales\r\nPosition: 1\r\n", ev.QueueCaller(AT, "join", client, "sales")),
    ("QueueCallerLeave", f"{shown(CLIENT)}Queue: sales\r\n", ev.QueueCaller(AT, "leave", client, "sales")),
    ("QueueCallerAbandon", f"{shown(CLIENT)}Queue: sales\r\n", ev.QueueCaller(AT, "abandon", client, "sales")),
    ("CEL", "EventName: LINKEDID_END\r\nUniqueID: 1.2\r\nLinkedID: 1.1\r\n", ev.LinkedidEnd(AT, "1.1")),
    (
        "OriginateResponse",
        "ActionID: ours-1\r\nResponse: Failure\r\nChannel: PJSIP/101\r\nReason: 3\r\nUniqueid: <null>\r\n",
        ev.OriginateResponse(AT, success=False, uniqueid="", channel_name="PJSIP/101", reason=3, action_id="ours-1"),
    ),
    (
        "OriginateResponse",
        "ActionID: ours-1\r\nResponse: Success\r\nChannel: PJSIP/101-1\r\nReason: 4\r\nUniqueid: 1.2\r\n",
        ev.OriginateResponse(
            AT, success=True, uniqueid="1.2", channel_name="PJSIP/101-1", reason=4, action_id="ours-1"
        ),
    ),
]


class TestEvents:
    @pytest.mark.parametrize(("name", "body", "event"), EVENTS, ids=[name for name, _, _ in EVENTS])
    def test_is_understood(self, name: str, body: str, event: ev.Event) -> None:
        assert decode(frame(name, body), AT) == event

    def test_every_wanted_event_is_here(self) -> None:
        assert {name for name, _, _ in EVENTS} == wanted.EVENTS | {"VarSet", "Newexten", "CEL"}

    def test_headers_in_another_order_are_read_alike(self) -> None:
        body = "".join(f"{line}\r\n" for line in reversed(shown(CLIENT).split("\r\n")) if line)
        assert decode(frame("Newstate", body), AT) == ev.Newstate(AT, client)

    def test_what_is_not_for_the_tracker_is_none(self) -> None:
        assert decode(b"Event: FullyBooted\r\nStatus: Fully Booted", AT) is None
        assert decode(b"Response: Success", AT) is None
        assert decode(b"", AT) is None
        assert decode(frame("CEL", "EventName: CHAN_END\r\nLinkedID: 1.1"), AT) is None

    def test_an_event_without_its_headers_is_empty(self) -> None:
        assert decode(b"Event: Hangup", AT) == ev.Hangup(AT, ev.Channel("", "", "", 0, *[""] * 6), 0)

    def test_the_streams_decode_to_what_happened(self) -> None:
        for call in (plain_call(1), freepbx_call(1)):
            received = Codec().feed("\r\n".join([*call, ""]).encode())
            events = [decode(each, AT) for each in received]
            assert None not in events
            bridged = [each.channel.name for each in events if isinstance(each, ev.BridgeEnter)]
            assert bridged == ["PJSIP/101-00000003", "PJSIP/trunk-00000002"]
            assert [each.cause for each in events if isinstance(each, ev.Hangup)] == [16, 16]
            names = {each.channel.caller_name for each in events if isinstance(each, ev.BridgeEnter)}
            assert "Иван Петров" in names


def named(caller: bytes) -> str:
    event = decode(frame("Newstate", shown(CLIENT)).replace(b": Ann\r\n", b": " + caller + b"\r\n"), AT)
    assert isinstance(event, ev.Newstate)
    assert event.channel._replace(caller_name="Ann") == client
    return event.channel.caller_name


class TestTexts:
    def test_utf_8(self) -> None:
        assert named("Жанна".encode()) == "Жанна"

    def test_cyrillic_of_windows(self) -> None:
        assert named("Жанна 2".encode("cp1251")) == "Жанна 2"

    def test_letters_of_western_europe(self) -> None:
        assert named("Conceição".encode("latin-1")) == "Conceição"

    def test_a_byte_without_meaning_is_replaced(self) -> None:
        assert named(b"\x98\xc6") == "�Ж"

    def test_control_characters_become_spaces(self) -> None:
        assert named(b"A\x00B\x1b[31mC\x7f") == "A B [31mC "

    def test_a_line_break_of_its_own_ends_no_header(self) -> None:
        assert named(b"A\nUniqueid: 6.6\rB") == "A Uniqueid: 6.6 B"

    def test_a_name_may_look_like_a_header(self) -> None:
        assert named(b"Uniqueid: 6.6") == "Uniqueid: 6.6"

    def test_what_asterisk_escapes_is_given_back(self) -> None:
        assert named(rb"O\'Brien \"Bob\" \\ \n\?\x") == 'O\'Brien "Bob" \\  ?\\x'

    def test_the_first_of_two_headers_counts(self) -> None:
        assert decode(frame("Rename", "Uniqueid: 1.2\r\nNewname: a\r\nUniqueid: 6.6\r\n"), AT) == ev.Rename(
            AT, "1.2", "a"
        )

    @pytest.mark.parametrize("cause", ["", "x", "-1", "1e3", "²", "9" * 5000, "16 "])
    def test_a_malformed_number_is_zero(self, cause: str) -> None:
        event = decode(frame("Hangup", f"{shown(CLIENT)}Cause: {cause}\r\nCause-txt: x"), AT)
        assert event == ev.Hangup(AT, client, 0)

    @given(st.binary(max_size=200), st.sampled_from(EVENTS), st.data())
    def test_no_bytes_raise(self, garbage: bytes, sample: tuple[str, str, Any], data: st.DataObject) -> None:
        good = frame(sample[0], sample[1])
        place = data.draw(st.integers(0, len(good)))
        mutated = good[:place] + garbage + good[place + data.draw(st.integers(0, 40)) :]
        decode(mutated, AT)
        named(garbage.replace(b"\r\n", b""))
        headers(mutated)


class TestHeaders:
    def test_all_are_kept_also_empty_ones(self) -> None:
        assert headers(b"Response: Success\r\nActionID: \r\nMessage:\r\nJunk") == {
            "Response": "Success",
            "ActionID": "",
            "Message": "",
            "Junk": "",
        }

    def test_repeated_ones_become_a_list(self) -> None:
        assert headers(b"Variable: A=1\r\nVariable: B=2\r\nVariable: C=") == {"Variable": ["A=1", "B=2", "C="]}


class TestOwnFrames:
    resync = ev.Resync(
        AT,
        AT - 1,
        (ev.LiveChannel(client._replace(caller_name="Жанна\r\n"), "Dial", "PJSIP/101", "b-1", AT - 60),) * 400,
        (bridge, holding),
        None,
    )

    def test_a_resync_is_read_back(self) -> None:
        assert decode(encode_resync(self.resync), AT) == self.resync
        blind = self.resync._replace(blind_since=AT - 5, channels=())
        assert decode(encode_resync(blind), AT) == blind

    def test_endpoints_are_read_back(self) -> None:
        endpoints = ev.Endpoints(AT, frozenset({"PJSIP/101", "SIP/trunk"}))
        assert decode(encode_endpoints(endpoints), AT) == endpoints

    def test_they_pass_the_codec_whatever_their_size(self) -> None:
        own = encode_resync(self.resync)
        assert len(own) > MAX_LINE > decode_module.BODY_PART
        assert Codec().feed(own + b"\r\n\r\n") == [own]

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "Body: 1",
            'Body: {"channels": 1}',
            'Body: {"channels": [[[], 1]], "bridges": []}',
            'Body: {"names": {}}',
            'Body: {"asked_at": "x", "blind_since": null, "channels": [], "bridges": []}',
            'Body: {"asked_at": NaN, "blind_since": null, "channels": [], "bridges": []}',
            'Body: {"asked_at": 1, "blind_since": [], "channels": [], "bridges": []}',
            'Body: {"asked_at": 1, "blind_since": null, "channels": [], "bridges": [[1, 2, 3, 4]]}',
            'Body: {"asked_at": 1, "blind_since": null, "bridges": [], "channels": [[["", 1, ""], "", "", "", 1]]}',
            "Body: " + "[" * 30_000,
        ],
    )
    def test_damaged_ones_are_none(self, body: str) -> None:
        assert decode(f"Event: ItgrixResync\r\n{body}".encode(), AT) is None
        assert decode(f"Event: ItgrixEndpoints\r\n{body}".encode(), AT) is None

    def test_names_that_are_no_text_are_passed_over(self) -> None:
        assert decode(b'Event: ItgrixEndpoints\r\nBody: {"names": ["PJSIP/1", 2]}', AT) == ev.Endpoints(
            AT, frozenset({"PJSIP/1"})
        )
