"""Asterisk: whether it can be reached, lets us in, tells us what we need, and knows the dialplan and the phones."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple

from itgrix_kommo.ami.actions import Reply
from itgrix_kommo.ami.link import AmiLink
from itgrix_kommo.ami.settings import AmiSettings, Pace
from itgrix_kommo.ami.snapshot import CHANNEL_LISTS, ENDPOINT_LISTS
from itgrix_kommo.ami.wanted import EVENT_MASK
from itgrix_kommo.calls import events as ev
from itgrix_kommo.config import Ami, Config, Employee
from itgrix_kommo.doctor.clock import judge_clock
from itgrix_kommo.doctor.examination import Check, Patient, Shared
from itgrix_kommo.doctor.findings import Finding, Verdict, count, fault, ok, skipped, split, warning
from itgrix_kommo.errors import AmiActionFailed, AmiError, AmiLoginRefused, AmiUnavailable

GROUP: Final = "Asterisk"

CONNECT_WITHIN: Final = 6.0
HEAR_WITHIN: Final = 3.0
"""Seconds for an event that was provoked; a busy PBX takes moments."""

SLOW: Final = 1.0
"""Seconds for an answer, from which a PBX is overloaded or far away."""

OLDEST, NEWEST = 16, 22
"""Of the major versions of Asterisk on which all of this was tried."""

WRITE_RIGHTS: Final = "system,call,originate,reporting"
MOST_LINES: Final = 10
"""Of phones that are not as they should be: after an outage it may be all of them."""

RELOAD: Final = "asterisk -rx 'manager reload'"

_VARIABLE: Final = "ITGRIX_DOCTOR"
_NO_CHANNEL: Final = "Itgrix/doctor"
"""Of a technology that no Asterisk has: what is to be dialled there fails before any channel is made."""

_MAJOR: Final = re.compile(r"(?:certified/|Asterisk )?(\d+)[.-]")
_PATIENT: Final = 86_400.0
_BOOTS_WITHIN: Final = 1.5
_UNREACHABLE: Final = re.compile(r"unavailable|invalid|unknown|unreachable|-none-", re.IGNORECASE)

# What an action that is missing from ListCommands means, by the class of `write` that would bring it.
_WRITE_NEEDS: Final = (
    ("call", "Setvar", "what `read` grants can't be tried"),
    ("originate", "Originate", "click-to-call can dial nobody"),
    ("reporting", "ShowDialPlan", "the dialplan's contexts can't be listed"),
    ("system", "Filter", "phones can't be listed, and Asterisk sends everything, which costs both sides time"),
)


class Line:
    """A login of our own: the link, and what came over it."""

    def __init__(self, link: AmiLink) -> None:
        self.link = link
        self.events: list[ev.Event] = []
        self._news = asyncio.Event()

    async def listen(self) -> None:
        async for batch in self.link.batches():
            self.events += [received.event for received in batch]
            self._news.set()

    async def hears(self, wanted: Callable[[ev.Event], bool]) -> bool:
        """Whether such an event has come, or comes within HEAR_WITHIN."""
        try:
            async with asyncio.timeout(HEAR_WITHIN):
                while not any(map(wanted, self.events)):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def has_booted(self) -> bool:
        """Whether Asterisk said FullyBooted, or says it now: a login is answered a moment before."""
        deadline = time.monotonic() + _BOOTS_WITHIN
        status = self.link.status
        while not status.booted and time.monotonic() < deadline:
            await asyncio.sleep(0.05)  # the link tells nobody when its status changes
            status = self.link.status
        return status.booted


class Phone(NamedTuple):
    """A device as Asterisk lists it; `state` is in Asterisk's words."""

    name: str
    is_reachable: bool
    state: str


def checks(patient: Patient) -> list[Check]:
    config = patient.config
    line = patient.share(lambda: patient.stack.enter_async_context(_logged_in(config.ami)))
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


@asynccontextmanager
async def _logged_in(ami: Ami) -> AsyncIterator[Line]:
    """Raises AmiLoginRefused, AmiUnavailable."""
    settings = AmiSettings(ami.host, ami.port, ami.username, ami.secret.get_secret_value(), tls=ami.tls)
    # It connects once: whoever examines wants to hear of the first failure.
    pace = Pace(
        connect_within=CONNECT_WITHIN, answer_within=CONNECT_WITHIN, retry_first=_PATIENT, refused_first=_PATIENT
    )
    line = Line(AmiLink(settings, pace=pace))
    work = [asyncio.create_task(line.link.run()), asyncio.create_task(line.listen())]
    try:
        status = line.link.status
        while not (status.connected and (status.filtered or status.limits)):
            if status.error:
                raise (AmiLoginRefused if status.login_refused else AmiUnavailable)(status.error)
            await asyncio.sleep(0.02)  # the link tells nobody when its status changes
            status = line.link.status
        yield line
    finally:
        for task in work:
            task.cancel()
        await asyncio.wait(work)


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
    link = await _linked(line)
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
    link = await _linked(line)
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
    link = await _linked(line)
    try:
        theirs = float((await link.send({"Action": "Ping"})).get("Timestamp"))
    except (AmiError, ValueError):
        return skipped("Asterisk does not tell its time")
    return judge_clock("Asterisk's", theirs, time.time())


async def rights(ami: Ami, line: Shared[Line]) -> Finding:
    """What `write` in manager.conf grants, by the actions that Asterisk offers to this user."""
    link = await _linked(line)
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
    link = await _linked(line)
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
    status = (await _linked(line)).status
    if status.filtered:
        return ok("Asterisk sends only the events that are of use")
    remedy = f"give [{ami.username}] in manager.conf write = {WRITE_RIGHTS} and type {RELOAD}"
    return warning(f"Asterisk takes no filter: {'; '.join(status.limits)}", remedy)


async def dialplan(config: Config, line: Shared[Line]) -> Finding:
    link = await _linked(line)
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
    link = await _linked(line)
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


async def employees(config: Config, line: Shared[Line]) -> list[Finding]:
    if not config.employees:
        return [
            warning("there are none, so no call finds its employee", "list user_id and extension of each in employees")
        ]
    link = await _linked(line)
    phones: dict[str, Phone] = {}
    refused: list[str] = []
    for listed in ENDPOINT_LISTS:
        try:
            items = await link.send_list({"Action": listed.action})
        except AmiActionFailed as error:
            refused += [str(error)] if "ermission" in str(error) else []
            continue
        for item in items:
            phone = phone_of(listed.technology, listed.header, item)
            phones[phone.name] = phone
    if not phones:
        words = refused[0] if refused else "Asterisk lists no phones at all"
        return [
            warning(f"phones can't be compared: {words}", f"give the user write = {WRITE_RIGHTS} and type {RELOAD}")
        ]
    return judge_employees(config, phones)


def phone_of(technology: str, header: str, item: Reply) -> Phone:
    """A device of PJSIPShowEndpoints, SIPpeers and their like."""
    state = item.get("DeviceState") or item.get("Status") or item.get("Alarm")
    address = item.get("IPaddress")
    reachable = not _UNREACHABLE.search(state) and address != "-none-"
    return Phone(f"{technology}/{item.get(header)}", reachable, state if not reachable and address != "-none-" else "")


def judge_employees(config: Config, phones: Mapping[str, Phone]) -> list[Finding]:
    found: list[Finding] = []
    good = mobiles = 0
    for employee in config.employees:
        device = device_of(config.originate.channel, employee)
        phone = phones.get(device) or next(
            (one for name, one in phones.items() if name.partition("/")[2] == employee.extension), None
        )
        if phone is None and len(employee.extension) > max(config.numbers.internal_max_length, 4):
            mobiles += 1
            continue
        if problem := _problem(employee, device, phone):
            found.append(problem)
        else:
            good += 1
    found.sort(key=lambda finding: finding.verdict is not Verdict.FAULT)
    if len(found) > MOST_LINES:
        rest = len(found) - MOST_LINES + 1
        kind = warning if all(one.verdict is Verdict.WARNING for one in found[MOST_LINES - 1 :]) else fault
        found[MOST_LINES - 1 :] = [
            kind(f"{rest} more are like that", "type itgrix-kommo check again when these are mended")
        ]
    if good or mobiles or not found:
        words = f"{count(good, 'extension')} of {len(config.employees)} with a phone that is registered"
        found.insert(0, ok(f"{words}, {count(mobiles, 'mobile')} without" if mobiles else words))
    return found


def device_of(channel: str, employee: Employee) -> str:
    """What click-to-call rings first, without what follows the device's name: ``PJSIP/101``."""
    device = channel.replace("{extension}", employee.extension).replace("{phone}", "")
    return device.partition("@")[0].partition("&")[0]


def _problem(employee: Employee, device: str, phone: Phone | None) -> Finding | None:
    extension = employee.extension
    if phone is None:
        return fault(
            f"extension {extension} (user {employee.user_id}) has no phone: Asterisk knows no {device}",
            "correct the employee's extension in employees, or originate.channel if the phones are called otherwise "
            "(asterisk -rx 'pjsip show endpoints' lists them)",
        )
    if not phone.is_reachable:
        state = f" ({phone.state})" if phone.state else ""
        return warning(
            f"extension {extension} (user {employee.user_id}): {phone.name} is not registered{state}",
            "switch the phone on, and compare its password with Asterisk's",
        )
    if not device.startswith("Local/") and phone.name != device:
        return warning(
            f"extension {extension} (user {employee.user_id}): click-to-call rings {device}, the phone is {phone.name}",
            "set originate.channel to how your phones are called, such as "
            f'"{phone.name.partition("/")[0]}/{{extension}}"',
        )
    return None


async def _linked(line: Shared[Line]) -> AmiLink:
    return (await line.needed("there is no login at Asterisk")).link
