"""The configuration and its secrets: made where they are missing, kept where they are not."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from typing import Any, Final

from scripts.installer.host import Host, read, read_json
from scripts.installer.places import (
    COMMAND,
    CONFIG,
    CONFIG_HOME,
    MANAGER,
    MANAGER_USER,
    SECRETS,
    UNITS,
    USER,
    Options,
    Surroundings,
    settings_of,
)

MADE: Final = ("ami_secret", "admin_password")
"""Secrets that nobody has to know beforehand."""

PLACEHOLDER: Final = "FILL IN"


def credentials(host: Host, options: Options, around: Surroundings) -> None:
    """One file for each credential of the unit; empty is: not given."""
    host.step("Secrets")
    host.directory(CONFIG_HOME, mode=0o750, group=USER)
    # systemd hands out copies; where it does not run, the daemon reads the files themselves.
    mode, group = (0o600, "root") if around.booted else (0o640, USER)
    host.directory(SECRETS, mode=0o700 if around.booted else 0o750, group=group)
    unit = (options.source / "systemd" / UNITS[0]).read_text("utf-8")
    for name in re.findall(r"^LoadCredential=(\w+):", unit, re.MULTILINE):
        known = read(SECRETS / name).strip()
        if name == "kommo_access_token" and options.token:
            known = options.token
        if name in MADE and not known:
            known = secrets.token_urlsafe(24)
        host.file(SECRETS / name, f"{known}\n" if known else "", mode=mode, group=group)


def configuration(host: Host, options: Options, around: Surroundings) -> None:
    """Write config.json where there is none of ours; what is there is kept as it is."""
    host.step("Configuration")
    there = read_json(CONFIG)
    if CONFIG.exists() and (not there or {"ami", "kommo"} & set(there)):
        host.is_so(f"{CONFIG} is kept as it is")
        host.rights(CONFIG, mode=0o640, group=USER)
        if options.kommo or options.employees:
            host.warn(f"the account and the employees that were given are not written into it: edit {CONFIG}")
        return
    draft = CONFIG.with_name("config.json.draft")
    source = ["import", str(CONFIG), "--output"] if there else ["init"]
    command = [str(COMMAND), "config", *source, str(draft), "--force"]
    host.run(command, "begin a configuration with the vendor's own" if there else "begin a configuration")
    if there:
        vendors = CONFIG.with_name("config.json.vendor")
        host.done(f"keep the vendor's as {vendors}")
        if not host.dry_run:
            shutil.copy2(CONFIG, vendors)
    begun = read_json(draft) if not host.dry_run else {}
    text = json.dumps(completed(begun, options, units=around.units), indent=2, ensure_ascii=False) + "\n"
    host.file(CONFIG, text, mode=0o640, group=USER, shown=True)
    if not host.dry_run:
        draft.unlink(missing_ok=True)


def completed(begun: dict[str, Any], options: Options, *, units: bool) -> dict[str, Any]:
    """`begun` with what the installer knows in place of what is not filled in yet."""
    general = settings_of(read(MANAGER), "general")
    known: dict[str, dict[str, Any]] = {
        "ami": {
            "host": "127.0.0.1",
            "port": int(general.get("port", "5038")) if general.get("port", "5038").isdecimal() else 5038,
            "username": MANAGER_USER,
            "secret": {"credential": "ami_secret"},
        },
        "kommo": {
            "access_token": {"credential": "kommo_access_token"},
        },
        "http": {"admin": {"password": {"credential": "admin_password"}}},
    }
    if options.kommo:
        known["kommo"]["base_url"] = options.kommo
    if units:
        known["customizations"] = {"socket": "/run/itgrix_amo_hooks/socket"}
    document: dict[str, Any] = json.loads(json.dumps(begun))
    for section, values in known.items():
        document[section] = {**document.get(section, {}), **values}
    if options.employees:
        listed = [{"user_id": user, "extension": extension, "numbers": []} for user, extension in options.employees]
        document["employees"] = listed
    elif PLACEHOLDER in json.dumps(document.get("employees", [])):
        document["employees"] = []
    return document
