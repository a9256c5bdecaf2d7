"""Asterisk's manager user for the daemon: what it may do, and which events it is told."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scripts.installer.host import Host, InstallError, owner_of, read, read_object
from scripts.installer.places import (
    ASTERISK,
    CONFIG,
    FREEPBX_CUSTOM,
    MANAGER,
    MANAGER_USER,
    SECRETS,
    VENV,
    Surroundings,
    settings_of,
    with_block,
)


def asterisk(host: Host, around: Surroundings) -> None:
    """A manager user of our own: what it may do, and which events it is told."""
    host.step("Asterisk's manager user")
    ami = read_object(CONFIG, "ami")
    if ami and (ami.get("username"), ami.get("secret")) != (MANAGER_USER, {"credential": "ami_secret"}):
        host.is_so(f"{CONFIG} names another one: nothing is written")
        return
    owner, group = owner_of(MANAGER)
    text = read(MANAGER)
    if around.freepbx:
        mine, including = ASTERISK / "itgrix_manager.conf", FREEPBX_CUSTOM
    elif re.search(r'^\s*#(?:try)?include\s*[<"]?manager\.d/\*\.conf', text, re.MULTILINE):
        mine, including = ASTERISK / "manager.d/itgrix.conf", None
    else:
        mine, including = ASTERISK / "itgrix_manager.conf", MANAGER
    wanted = manager_user(read(SECRETS / "ami_secret").strip(), [] if host.dry_run else _filters())
    # Not for the group: the customizations' user is in it.
    changed = host.file(mine, wanted, mode=0o600, owner=owner, group=group)
    if including is not None:
        former = read(including)
        mode = including.stat().st_mode & 0o7777 if including.exists() else 0o640
        its_owner, its_group = owner_of(including if including.exists() else MANAGER)
        included = with_block(former, f"#include {mine.name}")
        changed |= host.file(including, included, mode=mode, owner=its_owner, group=its_group)
    if settings_of(text, "general").get("enabled", "no").lower() not in {"yes", "true", "on", "1", "y", "t"}:
        host.warn(f"Asterisk's manager interface is off: set enabled = yes under [general] in {MANAGER}")
    if host.ask(["asterisk", "-rx", "core show version"])[0]:
        host.is_so("Asterisk is not running: it reads this when it starts")
    elif changed:
        host.run(["asterisk", "-rx", "manager reload"], "let Asterisk read it")
    else:
        host.is_so("Asterisk has read it")


def manager_user(secret: str, filters: Sequence[str]) -> str:
    """The file with the user; `filters` are regular expressions, and an event that none of them matches is not sent."""
    return (
        "; Written by itgrix-kommo's installer, which writes it anew at each upgrade.\n"
        f"[{MANAGER_USER}]\n"
        f"secret = {secret}\n"
        "deny = 0.0.0.0/0.0.0.0\n"
        "permit = 127.0.0.1/255.255.255.255\n"
        "read = system,call,dialplan,agent,cel\n"
        "write = system,call,originate,reporting\n"
        "writetimeout = 5000\n"
        "; What the daemon listens to, and nothing else.\n" + "".join(f"eventfilter = {one}\n" for one in filters)
    )


def _filters() -> list[str]:
    """As the installed program has them; this one's Python knows none of its libraries."""
    program = "from itgrix_kommo.ami.wanted import server_filters as f; print(*f(), sep='\\n')"
    code, words = Host.ask([str(VENV / "bin/python"), "-I", "-c", program])
    if code:
        raise InstallError(f"the program just installed can't be asked for its events: {words}")
    return words.splitlines()
