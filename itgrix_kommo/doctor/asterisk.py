"""Asterisk: whether it can be reached, lets us in, tells us what we need, and knows the dialplan and the phones."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import ssl
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from itgrix_kommo.ami.link import AmiLink
from itgrix_kommo.ami.snapshot import CHANNEL_LISTS
from itgrix_kommo.ami.wanted import EVENT_MASK
from itgrix_kommo.calls import events as ev
from itgrix_kommo.config import Ami, Config
from itgrix_kommo.doctor.clock import judge_clock
from itgrix_kommo.doctor.examination import Check, Patient, Shared
from itgrix_kommo.doctor.findings import Finding, Verdict, fault, ok, skipped, split, warning
from itgrix_kommo.doctor.line import CONNECT_WITHIN, RELOAD, WRITE_RIGHTS, Line, linked, logged_in
from itgrix_kommo.doctor.phones import employees
from itgrix_kommo.errors import AmiActionFailed, AmiError, AmiLoginRefused, AmiUnavailable

GROUP: Final = "Asterisk"

SLOW: Final = 1.0
"""Seconds for an answer, from which a PBX is overloaded or far away."""

OLDEST, NEWEST = 16, 22
"""Of the major versions of Asterisk on which all of this was tried."""

_VARIABLE: Final = "ITGRIX_DOCTOR"
_NO_CHANNEL: Final = "Itgrix/doctor"
"""Of a technology that no Asterisk has: what is to be dialled there fails before any channel is made."""

_MAJOR: Final = re.compile(r"(?:certified/|Asterisk )?(\d+)[.-]")

# What an action that is missing from ListCommands means, by the class of `write` that would bring it.
_WRITE_NEEDS: Final = (
    ("call", "Setvar", "what `read` grants can't be tried"),
    ("originate", "Originate", "click-to-call can dial nobody"),
    ("reporting", "ShowDialPlan", "the dialplan's contexts can't be listed"),
    ("system", "Filter", "phones can't be listed, and Asterisk sends everything, which costs both sides time"),
)


def checks(patient: Patient) -> list[Check]:
    config = patient.config
    line = patient.share(lambda: patient.stack.enter_async_context(logged_in(config.ami)))
    reached = patient.share(partial(reach, config.ami))
    return [
        Check(GROUP, "reach", reached.get),
        Check(GROUP, "login", partial(login, config.ami, line, reached)),
        Check(GROUP, "version", partial(version, line)),
        Check(GROUP, "answers", partial(answers, line)),
        Check(GROUP, "clock", partial(clock, line)),
        Check(GROUP, "rights", partial(rights, config.ami, line)),
        Check(GROUP, "events", partial(events, config.ami, line)),
        Check(GROUP, "filter", partial(event_filter, config.ami, line)),
        Check(GROUP, "dialplan", partial(dialplan, config, line)),
        Check(GROUP, "autodistribution", partial(autodistribution, line)),
        Check(GROUP, "employees", partial(employees, config, line)),
    ]


async def reach(ami: Ami) -> Finding:
    place = f"{ami.host}:{ami.port}"
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            reader, writer = await asyncio.open_connection(ami.host, ami.port, ssl=True if ami.tls else None)
    except OSError as error:
        return unreached(ami, place, error)
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            banner = await reader.readline()
    except TimeoutError:
        return fault(
            f"{place} takes the connection and says nothing",
            "see that ami.port is that of manager.conf and of no other program (ss -ltnp shows it), and that ami.tls "
            "is as tlsenable says; if Asterisk itself hangs, restart it",
        )
    except (OSError, ValueError):
        banner = b""
    finally:
        writer.transport.abort()
    if not banner.startswith(b"Asterisk Call Manager/"):
        words = f"who answers at {place} is no Asterisk Manager" if banner else f"{place} closes the connection at once"
        return fault(words, "give the port of [general] in manager.conf in ami.port (ss -ltnp shows who listens where)")
    return ok(f"{place} greets as an Asterisk Manager")


def unreached(ami: Ami, place: str, error: OSError) -> Finding:
    """Why there is no connection."""
    match error:
        case TimeoutError():
            return fault(
                f"nobody at {place} answers within {CONNECT_WITHIN:g} s",
                f"compare ami.host and ami.port with manager.conf, and let the firewall pass it (nc -vz {ami.host} "
                f"{ami.port} tries)",
            )
        case ssl.SSLError():
            return fault(
                f"{place} can't be spoken to by TLS: {error.reason or error}",
                "compare tlsenable, tlsbindaddr and tlscertfile in manager.conf with ami.host and ami.port, or set "
                "ami.tls to false on loopback",
            )
        case socket.gaierror():
            return fault(f"ami.host: there is no address of {ami.host} ({error.strerror})", "correct ami.host")
        case _:
            return fault(
                f"nobody listens at {place} ({error.strerror or error})",
                "see that Asterisk runs (systemctl status asterisk) and that [general] in /etc/asterisk/manager.conf "
                f"has enabled = yes, port = {ami.port} and a bindaddr that this host reaches; then type {RELOAD}",
            )


async def login(ami: Ami, line: Shared[Line], reached: Shared[Finding]) -> Finding:
    try:
        await line.get()
    except AmiLoginRefused as error:
        words, remedy = split(str(error))
        return fault(words, f"{remedy}; after a change there type {RELOAD}")
    except AmiUnavailable as error:
        if (await reached.get()).verdict is Verdict.FAULT:
            return skipped("Asterisk is not reached")
        return fault(f"no login: {error}", "mend what is told above, or look into Asterisk's log")
    return ok(f"{ami.username} is let in")


async def version(line: Shared[Line]) -> Finding:
    link = await linked(line)
    try:
        found = (await link.send({"Action": "CoreSettings"})).get("AsteriskVersion")
    except AmiError as error:
        return warning(f"Asterisk does not tell its version: {error}", f"give the user write = {WRITE_RIGHTS}")
    return judge_version(found)


def judge_version(found: str) -> Finding:
    major = _MAJOR.match(found)
    tried = f"tried are {OLDEST} to {NEWEST}"
    if major is None:
        return warning(f"Asterisk calls itself {found!r}; {tried}", "see that calls appear in Kommo as they were")
    number = int(major[1])
    if number < OLDEST:
        return warning(f"Asterisk {found} is older than what this was tried on; {tried}", "update Asterisk")
    if number > NEWEST:
        return warning(f"Asterisk {found} is newer than what this was tried on; {tried}", "update itgrix-kommo")
    return ok(f"Asterisk {found}")


async def answers(line: Shared[Line]) -> Finding:
    link = await linked(line)
    begun = time.perf_counter()
    try:
        await link.send({"Action": "Ping"})
    except AmiError as error:
        return fault(f"Asterisk does not answer a ping: {error}", "look into Asterisk's log: it may hang")
    took = time.perf_counter() - begun
    if took > SLOW:
        return warning(
            f"a ping took {took:.1f} s", "look for what keeps the PBX busy (top, asterisk -rx 'core show uptime')"
        )
    return ok(f"a ping takes {took * 1000:.1f} ms")


async def clock(line: Shared[Line]) -> Finding:
    link = await linked(line)
    try:
        theirs = float((await link.send({"Action": "Ping"})).get("Timestamp"))
    except (AmiError, ValueError):
        return skipped("Asterisk does not tell its time")
    return judge_clock("Asterisk's", theirs, time.time())


async def rights(ami: Ami, line: Shared[Line]) -> Finding:
    """What `write` in manager.conf grants, by the actions that Asterisk offers to this user."""
    link = await linked(line)
    try:
        offered = (await link.send({"Action": "ListCommands"})).headers
    except AmiError as error:
        return fault(f"Asterisk does not list its actions: {error}", f"give [{ami.username}] write = {WRITE_RIGHTS}")
    return judge_rights(ami.username, offered)


def judge_rights(user: str, offered: Mapping[str, object]) -> Finding:
    lacking = [(right, why) for right, action, why in _WRITE_NEEDS if action not in offered]
    if not lacking:
        return ok(f"write has {WRITE_RIGHTS}")
    words = "write lacks " + "; ".join(f"{right}: {why}" for right, why in lacking)
    is_blind = not any(action in offered for action in CHANNEL_LISTS)
    if is_blind:
        words += "; calls that began before the daemon are unknown to it"
    remedy = f"give [{user}] in manager.conf write = {WRITE_RIGHTS} and type {RELOAD}"
    return (fault if is_blind or "Originate" not in offered else warning)(words, remedy)


async def events(ami: Ami, line: Shared[Line]) -> list[Finding]:
    """What `read` in manager.conf grants: an event of each class is provoked and must come past the filter.

    A global variable is set and emptied (class dialplan); a channel of no technology is asked for, which makes none
    (class call). FullyBooted came with the login (class system).
    """
    link = await linked(line)
    heard = await line.get()
    token = secrets.token_hex(8)
    lacking: list[str] = []
    unknown: list[str] = []
    try:
        await link.send({"Action": "Setvar", "Variable": _VARIABLE, "Value": token})
        if not await heard.hears(lambda event: isinstance(event, ev.VarSet) and event.value == token):
            lacking.append("dialplan")
        await link.send({"Action": "Setvar", "Variable": _VARIABLE, "Value": ""})
    except AmiActionFailed:
        unknown.append("dialplan")
    try:
        asked = {"Channel": _NO_CHANNEL, "Application": "Hangup", "Async": "true", "ActionID": token}
        await link.send({"Action": "Originate", **asked})
        if not await heard.hears(lambda event: isinstance(event, ev.OriginateResponse) and event.action_id == token):
            lacking.append("call")
    except AmiActionFailed:
        unknown.append("call")
    if not await heard.has_booted():
        lacking.append("system")
    granted = await _granted(link, ami.username)
    remedy = f"give [{ami.username}] in manager.conf read = {EVENT_MASK} and type {RELOAD}"
    found: list[Finding] = []
    if lacking:
        words = f"events of the class {' and '.join(sorted(lacking))} do not come"
        if lacking == ["system"]:
            found.append(warning(f"{words}: Asterisk's own start and end go unheard", remedy))
        else:
            found.append(fault(f"{words}, though they were provoked: calls go unheard, or in part", remedy))
    if granted is not None and not granted & {"agent", "all"}:
        found.append(fault("read lacks agent: who waits in a queue goes unheard", remedy))
    if unknown:
        words = f"events of the class {' and '.join(unknown)} could not be provoked: write does not allow it"
        found.append(warning(words, f"give [{ami.username}] write = {WRITE_RIGHTS} and type {RELOAD}"))
    return found or [ok("provoked events of the classes call, dialplan and system come")]


async def _granted(link: AmiLink, user: str) -> frozenset[str] | None:
    """The classes of `read`, where we may ask for them."""
    try:
        answer = await link.send({"Action": "Command", "Command": f"manager show user {user}"})
    except AmiError:
        return None
    for output in answer.values("Output"):
        name, _, value = output.partition(":")
        if name.strip() == "read perm":
            return frozenset(value.strip().split(","))
    return None


async def event_filter(ami: Ami, line: Shared[Line]) -> Finding:
    status = (await linked(line)).status
    if status.filtered:
        return ok("Asterisk sends only the events that are of use")
    remedy = f"give [{ami.username}] in manager.conf write = {WRITE_RIGHTS} and type {RELOAD}"
    return warning(f"Asterisk takes no filter: {'; '.join(status.limits)}", remedy)


async def dialplan(config: Config, line: Shared[Line]) -> Finding:
    link = await linked(line)
    context = config.originate.context
    try:
        await link.send_list({"Action": "ShowDialPlan", "Context": context})
    except AmiActionFailed as error:
        if "ermission" in str(error):
            return warning(
                f"whether the context {context} exists can't be seen: {error}",
                f"give [{config.ami.username}] write = {WRITE_RIGHTS} and type {RELOAD}",
            )
        return fault(
            f"the dialplan has no context {context}, where click-to-call dials the client",
            "set originate.context to the context of your phones (asterisk -rx 'dialplan show' lists them all)",
        )
    return ok(f"the context {context} exists, where click-to-call dials the client")


async def autodistribution(line: Shared[Line]) -> Finding:
    """The dialplan's part of it; many do without."""
    link = await linked(line)
    try:
        await link.send_list({"Action": "ShowDialPlan", "Context": "itgrix-responsible"})
    except AmiActionFailed:
        return skipped("not in the dialplan; etc/asterisk/itgrix.conf holds it")
    try:
        await link.send({"Action": "ModuleCheck", "Module": "func_curl.so"})
    except AmiActionFailed as error:
        if "ermission" not in str(error):
            return fault(
                "itgrix-responsible is in the dialplan, but Asterisk has no func_curl.so, so it asks nobody",
                "type asterisk -rx 'module load func_curl.so'; if it is not there, install Asterisk's module package",
            )
    return ok("itgrix-responsible is in the dialplan")
