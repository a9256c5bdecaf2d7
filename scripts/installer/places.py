"""Where everything is, what was asked for, and what the host turned out to be."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

USER: Final = "itgrix_amo"
HOOKS_USER: Final = "itgrix_amo_hooks"
UNITS: Final = ("itgrix_amo.service", "itgrix_amo_hooks.service")
MANAGER_USER: Final = "itgrix"

HOME: Final = Path("/opt/itgrix_amo")
VERSIONS: Final = HOME / "versions"
VENV: Final = HOME / "venv"
COMMAND: Final = VENV / "bin/itgrix-kommo"
ON_PATH: Final = Path("/usr/local/bin/itgrix-kommo")
ACTIONS: Final = HOME / "customizer/actions"
CONFIG_HOME: Final = Path("/etc/itgrix_amo")
CONFIG: Final = CONFIG_HOME / "config.json"
SECRETS: Final = CONFIG_HOME / "secrets"
STATE: Final = Path("/var/lib/itgrix_amo")
LOG_FILE: Final = Path("/var/log/itgrix_amo.log")
UNIT_HOME: Final = Path("/etc/systemd/system")
LOG_DROP_IN: Final = UNIT_HOME / "itgrix_amo.service.d/log.conf"
LOGROTATE: Final = Path("/etc/logrotate.d/itgrix_amo")

ASTERISK: Final = Path("/etc/asterisk")
MANAGER: Final = ASTERISK / "manager.conf"
FREEPBX_CUSTOM: Final = ASTERISK / "manager_custom.conf"
BLOCK: Final = ("; itgrix-kommo begins", "; itgrix-kommo ends")
"""Lines around what is added to a file that is not ours."""


@dataclass(frozen=True, slots=True)
class System:
    """`family` is "debian" or "rhel"."""

    name: str
    family: str


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. `source` is the checkout; `employees` are pairs of a Kommo user id and an extension."""

    source: Path
    kommo: str = ""
    token: str = ""
    employees: tuple[tuple[int, str], ...] = ()
    packages: bool = True
    log_file: bool = False
    start: bool = True
    check: bool = True


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the host turned out to be. `booted`: systemd runs it; `units`: it has systemd at all."""

    system: System
    freepbx: bool
    units: bool
    booted: bool


def system(os_release: str) -> System | None:
    """What /etc/os-release says; None for one that the installer does not know."""
    facts = dict(word.split("=", 1) for word in shlex.split(os_release, comments=True) if "=" in word)
    kinds = {facts.get("ID", ""), *facts.get("ID_LIKE", "").split()}
    name = facts.get("PRETTY_NAME") or facts.get("NAME") or "an unknown system"
    for family, signs in (("rhel", {"rhel", "fedora", "centos"}), ("debian", {"debian", "ubuntu"})):
        if kinds & signs:
            return System(name, family)
    return None


def settings_of(text: str, name: str) -> dict[str, str]:
    """The settings of one section of an Asterisk configuration file."""
    found: dict[str, str] = {}
    inside = False
    for line in text.splitlines():
        plain = line.split(";")[0].strip()
        if plain.startswith("["):
            inside = plain.startswith(f"[{name}]")
        elif inside and "=" in plain:
            key, value = plain.split("=", 1)
            found[key.strip()] = value.lstrip(">").strip()
    return found


def without_block(text: str) -> str:
    """`text` without what an installer added between the marks of `BLOCK`."""
    begin, end = map(re.escape, BLOCK)
    return re.sub(rf"^{begin}\n(?:.*\n)*?{end}\n?", "", text, flags=re.MULTILINE)


def with_block(text: str, lines: str) -> str:
    before = without_block(text)
    if before and not before.endswith("\n"):
        before += "\n"
    return f"{before}{BLOCK[0]}\n{lines}\n{BLOCK[1]}\n"
