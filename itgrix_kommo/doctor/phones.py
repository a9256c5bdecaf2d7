"""The employees' phones: whether Asterisk has each, and it is switched on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from itgrix_kommo.ami.actions import Reply
from itgrix_kommo.ami.snapshot import ENDPOINT_LISTS
from itgrix_kommo.config import Config, Employee
from itgrix_kommo.doctor.examination import Shared
from itgrix_kommo.doctor.findings import Finding, Verdict, count, fault, ok, warning
from itgrix_kommo.doctor.line import RELOAD, WRITE_RIGHTS, Line, linked
from itgrix_kommo.errors import AmiActionFailed

MOST_LINES: Final = 10
"""Of phones that are not as they should be: after an outage it may be all of them."""

_UNREACHABLE: Final = re.compile(r"unavailable|invalid|unknown|unreachable|-none-", re.IGNORECASE)


class Phone(NamedTuple):
    """A device as Asterisk lists it; `state` is in Asterisk's words."""

    name: str
    is_reachable: bool
    state: str


async def employees(config: Config, line: Shared[Line]) -> list[Finding]:
    if not config.employees:
        return [
            warning("there are none, so no call finds its employee", "list user_id and extension of each in employees")
        ]
    link = await linked(line)
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
