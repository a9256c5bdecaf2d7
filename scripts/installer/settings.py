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
    host.directory(SECRETS, mode=0o700 if around.booted else 0o750, group="root" if around.booted else USER)
    unit = (options.source / "systemd" / UNITS[0]).read_text("utf-8")
    for name in re.findall(r"^LoadCredential=(\w+):", unit, re.MULTILINE):
        known = read(SECRETS / name).strip()
        if name == "kommo_access_token" and options.token:
            known = options.token
        if name in MADE and not known:
            known = secrets.token_urlsafe(24)
        _secret(host, name, known, around)


def _secret(host: Host, name: str, value: str, around: Surroundings) -> None:
    # systemd hands out copies; where it does not run, the daemon reads the files themselves.
    mode, group = (0o600, "root") if around.booted else (0o640, USER)
    host.file(SECRETS / name, f"{value}\n" if value else "", mode=mode, group=group)


def configuration(host: Host, options: Options, around: Surroundings) -> None:
    """Write config.json where there is none of ours; what is there is kept as it is."""
    host.step("Configuration")
    there = read_json(CONFIG)
    if CONFIG.exists() and (not there or {"ami", "kommo"} & set(there)):
        host.is_so(f"{CONFIG} is kept as it is")
        host.rights(CONFIG, mode=0o640, group=USER)
        if _differs(there, options):
            host.warn(f"its account or employees are other than given, and stay: edit {CONFIG}")
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
            host.rights(vendors, mode=0o640, group=USER)
    begun = read_json(draft) if not host.dry_run else {}
    _put_away(host, begun, around)
    text = json.dumps(completed(begun, options, units=around.units), indent=2, ensure_ascii=False) + "\n"
    host.file(CONFIG, text, mode=0o640, group=USER, shown=True)
    if not host.dry_run:
        draft.unlink(missing_ok=True)


def _differs(there: dict[str, Any], options: Options) -> bool:
    """Whether another account or other employees were given than are configured."""
    kommo, employees = there.get("kommo"), there.get("employees")
    address = str(kommo.get("base_url", "")).rstrip("/") if isinstance(kommo, dict) else ""
    listed = [one for one in employees if isinstance(one, dict)] if isinstance(employees, list) else []
    known = [(one.get("user_id"), one.get("extension")) for one in listed]
    return options.kommo not in {"", address} or any(one not in known for one in options.employees)


def _put_away(host: Host, begun: dict[str, Any], around: Surroundings) -> None:
    """Have secrets that were imported as text in files of their own, as all others are."""
    for section, key, name in (
        (begun.get("database"), "url", "pbx_database_url"),
        (begun.get("http", {}).get("admin"), "password", "admin_password"),
    ):
        if isinstance(section, dict) and isinstance(value := section.get(key), str) and PLACEHOLDER not in value:
            _secret(host, name, value, around)
            section[key] = {"credential": name}


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
        "http": {"admin": {**begun.get("http", {}).get("admin", {}), "password": {"credential": "admin_password"}}},
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
