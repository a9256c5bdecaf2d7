"""Unfiltered AMI streams as an Asterisk with all classes on sends them: header sets, order and counts of real calls.

`plain_call` is one inbound call with a recording: 84 events, 44 of them VarSet. `freepbx_call` is the same through a
FreePBX-style dialplan: 294 events, the rest of them dialplan steps and variables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST = 1_795_344_324
"""The Unix second at which the first call begins."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One channel as the headers show it."""

    name: str
    uniqueid: str
    linkedid: str
    number: str
    caller_name: str
    connected: str
    context: str
    exten: str
    state: int = 0
    priority: int = 1


STATES = {0: "Down", 4: "Ring", 5: "Ringing", 6: "Up"}


def shown(leg: Leg, prefix: str = "") -> str:
    """The fourteen headers that Asterisk shows of a channel."""
    return (
        f"{prefix}Channel: {leg.name}\r\n{prefix}ChannelState: {leg.state}\r\n"
        f"{prefix}ChannelStateDesc: {STATES[leg.state]}\r\n{prefix}CallerIDNum: {leg.number}\r\n"
        f"{prefix}CallerIDName: {leg.caller_name}\r\n{prefix}ConnectedLineNum: {leg.connected}\r\n"
        f"{prefix}ConnectedLineName: <unknown>\r\n{prefix}Language: en\r\n{prefix}AccountCode: \r\n"
        f"{prefix}Context: {leg.context}\r\n{prefix}Exten: {leg.exten}\r\n{prefix}Priority: {leg.priority}\r\n"
        f"{prefix}Uniqueid: {leg.uniqueid}\r\n{prefix}Linkedid: {leg.linkedid}\r\n"
    )


def event(name: str, body: str, privilege: str = "call,all") -> str:
    return f"Event: {name}\r\nPrivilege: {privilege}\r\n{body}\r\n"


def varset(leg: Leg, variable: str, value: str) -> str:
    return event("VarSet", f"{shown(leg)}Variable: {variable}\r\nValue: {value}\r\n", "dialplan,all")


def newexten(leg: Leg, application: str, data: str) -> str:
    body = f"{shown(leg)}Extension: {leg.exten}\r\nApplication: {application}\r\nAppData: {data}\r\n"
    return event("Newexten", body, "dialplan,all")


def bridge(call: int, channels: int) -> str:
    return (
        f"BridgeUniqueid: 6a1f3c52-8d2e-4b17-9c0a-{call:012x}\r\nBridgeType: basic\r\n"
        f"BridgeTechnology: simple_bridge\r\nBridgeCreator: <unknown>\r\nBridgeName: <unknown>\r\n"
        f"BridgeNumChannels: {channels}\r\nBridgeVideoSourceMode: none\r\n"
    )


def _legs(call: int) -> tuple[Leg, Leg]:
    first, second = f"{FIRST + call}.{2 * call}", f"{FIRST + call}.{2 * call + 1}"
    number = f"7999{call % 10_000_000:07d}"
    client = Leg(
        f"PJSIP/trunk-{2 * call:08x}", first, first, number, "Иван Петров", "<unknown>", "from-trunk", "74951234567"
    )
    phone = Leg(f"PJSIP/101-{2 * call + 1:08x}", second, first, "101", "<unknown>", number, "from-internal", "")
    return client, phone


def _setup(client: Leg, variables: int) -> list[str]:
    """A channel appears, rings, and carries `variables` settings nobody asked for."""
    ringing = replace(client, state=4)
    return [
        event("Newchannel", shown(client)),
        event("Newstate", shown(ringing)),
        *(varset(ringing, f"SIPURI{n}", f"sip:{client.number}@203.0.113.{n}:5060") for n in range(variables)),
    ]


def _ring(client: Leg, phone: Leg) -> list[str]:
    ringing = replace(phone, state=5)
    return [
        event("Newchannel", shown(phone)),
        varset(phone, "DIALEDPEERNUMBER", "101/sip:101@192.0.2.17:5060"),
        newexten(phone, "AppDial", "(Outgoing Line)"),
        event("NewConnectedLine", shown(phone)),
        event("DialBegin", f"{shown(client)}{shown(phone, 'Dest')}DialString: 101/sip:101@192.0.2.17:5060\r\n"),
        event("Newstate", shown(ringing)),
        event("DeviceStateChange", "Device: PJSIP/101\r\nState: RINGING\r\n"),
        event("DialState", f"{shown(client)}{shown(ringing, 'Dest')}DialStatus: RINGING\r\n"),
    ]


def _talk(call: int, client: Leg, phone: Leg) -> list[str]:
    return [
        event("Newstate", shown(phone)),
        event("DeviceStateChange", "Device: PJSIP/101\r\nState: INUSE\r\n"),
        event("DialEnd", f"{shown(client)}{shown(phone, 'Dest')}DialStatus: ANSWER\r\n"),
        varset(client, "DIALSTATUS", "ANSWER"),
        event("BridgeCreate", bridge(call, 0)),
        event("BridgeEnter", bridge(call, 1) + shown(phone)),
        varset(phone, "BRIDGEPEER", client.name),
        event("BridgeEnter", bridge(call, 2) + shown(client)),
        varset(client, "BRIDGEPEER", phone.name),
    ]


def _part(call: int, client: Leg, phone: Leg, statistics: int) -> list[str]:
    return [
        *(varset(leg, f"RTPAUDIOQOS{n}", "ssrc=1;themssrc=2;lp=0;rxjitter=0.0001;rxcount=500;txjitter=0.0002")
          for leg in (client, phone) for n in range(statistics // 2)),
        event("HangupRequest", f"{shown(client)}Cause: 16\r\n"),
        event("BridgeLeave", bridge(call, 1) + shown(client)),
        event("BridgeLeave", bridge(call, 0) + shown(phone)),
        event("BridgeDestroy", bridge(call, 0)),
        event("SoftHangupRequest", f"{shown(phone)}Cause: 16\r\n"),
        event("MixMonitorStop", shown(client)),
        event("Hangup", f"{shown(phone)}Cause: 16\r\nCause-txt: Normal Clearing\r\n"),
        event("Hangup", f"{shown(client)}Cause: 16\r\nCause-txt: Normal Clearing\r\n"),
        event("DeviceStateChange", "Device: PJSIP/101\r\nState: NOT_INUSE\r\n"),
        event("DeviceStateChange", "Device: PJSIP/trunk\r\nState: NOT_INUSE\r\n"),
        event("ContactStatus", "URI: sip:101@192.0.2.17:5060\r\nContactStatus: Reachable\r\n", "system,all"),
    ]  # fmt: skip


def plain_call(call: int) -> list[str]:
    """The 84 events of inbound call number `call`."""
    client, phone = _legs(call)
    up, phone_up = replace(client, state=6), replace(phone, state=6)
    recording = f"/var/spool/asterisk/monitor/in-{client.number}-{client.uniqueid}.wav"
    return [
        *_setup(client, 13),
        newexten(client, "NoOp", "inbound"),
        newexten(client, "Set", "CHANNEL(language)=en"),
        newexten(client, "MixMonitor", f"{recording},b"),
        event("MixMonitorStart", shown(client)),
        varset(client, "MIXMONITOR_FILENAME", recording),
        newexten(client, "Dial", "PJSIP/101,30,tT"),
        *(varset(client, name, "") for name in ("DIALSTATUS", "DIALEDPEERNUMBER", "ANSWEREDTIME", "DIALEDTIME")),
        *_ring(client, phone),
        *_talk(call, up, phone_up),
        *(event("RTCPSent", f"{shown(up)}SSRC: 0x{call:08x}\r\nPT: 200(SR)\r\nReportCount: 1\r\n", "reporting,all")
          for _ in range(9)),
        *_part(call, up, phone_up, 22),
    ]  # fmt: skip


def freepbx_call(call: int) -> list[str]:
    """The 294 events of an inbound call through FreePBX's contexts and macros."""
    client, phone = _legs(call)
    up, phone_up = replace(client, state=6), replace(phone, state=6)
    name = f"in-74951234567-{client.number}-20261122-101500-{client.uniqueid}"
    recording = f"/var/spool/asterisk/monitor/2026/11/22/{name}.wav"
    steps = [
        part
        for n in range(95)
        for part in (
            newexten(
                client, ("Set", "ExecIf", "GotoIf", "NoOp", "Gosub")[n % 5], f"__STEP{n}=${{IF($[{n}=1]?yes:no)}}"
            ),
            varset(client, f"MACRO_DEPTH{n}", str(n)),
        )
    ]
    return [
        *_setup(client, 19),
        varset(client, "__FROM_DID", "74951234567"),
        *steps,
        varset(client, "AMPUSER", "101"),
        newexten(client, "Set", f"CDR(recordingfile)={name}.wav"),
        newexten(client, "MixMonitor", f"2026/11/22/{name}.wav,abi(LOCAL_MIXMON_ID),"),
        event("MixMonitorStart", shown(client)),
        varset(client, "MIXMONITOR_FILENAME", recording),
        newexten(client, "Dial", "PJSIP/101/sip:101@192.0.2.17:5060,,HhTtrM(auto-blkvm)b(func-apply-sipheaders^s^1)"),
        *(varset(client, name, "") for name in ("DIALSTATUS", "DIALEDPEERNUMBER", "ANSWEREDTIME", "DIALEDTIME")),
        *_ring(client, phone),
        *(varset(phone, f"SIPADDHEADER{n}", "Alert-Info: <http://www.notused.com>") for n in range(14)),
        *_talk(call, up, phone_up),
        *_part(call, up, phone_up, 30),
    ]


def stream(calls: int, *, freepbx: bool = False) -> bytes:
    """What Asterisk sends after its greeting for `calls` calls, one after the other."""
    make = freepbx_call if freepbx else plain_call
    return "\r\n".join(part for call in range(calls) for part in make(call)).encode() + b"\r\n"
