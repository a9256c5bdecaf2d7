"""The units and the daemon they start; and what the installed program says of it all."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from scripts.installer.host import Host, InstallError, group_of
from scripts.installer.places import (
    COMMAND,
    LOG_DROP_IN,
    LOG_FILE,
    LOGROTATE,
    STATE,
    UNIT_HOME,
    UNITS,
    USER,
    VENV,
    Options,
    Surroundings,
)

ROTATION: Final = f"""{LOG_FILE} {{
    weekly
    rotate 8
    maxsize 100M
    compress
    delaycompress
    missingok
    notifempty
    # systemd holds the file open for the daemon's whole life.
    copytruncate
}}
"""


def service(host: Host, options: Options, around: Surroundings, former: Path | None) -> None:
    """The units, and the daemon itself; where a new version does not come up, the former one does."""
    host.step("The service")
    if around.units:
        _units(host, options, around)
    if not around.booted:
        host.directory(STATE, mode=0o750, owner=USER, group=USER)
        host.is_so(f"by hand it is started so: runuser -u {USER} -- {COMMAND} run")
    elif not options.start:
        host.is_so(f"not started, as asked for: systemctl start {UNITS[0]}")
    elif not host.dry_run and host.ask([str(COMMAND), "config", "check"])[0]:
        host.warn(f"not started, for the configuration is not complete: then systemctl start {UNITS[0]}")
    elif not host.changed and not host.ask(["systemctl", "is-active", *UNITS])[0]:
        host.is_so("it runs")
    else:
        _start(host, former)


def _units(host: Host, options: Options, around: Surroundings) -> None:
    changed = False
    for unit in UNITS:
        changed |= host.file(UNIT_HOME / unit, (options.source / "systemd" / unit).read_text("utf-8"))
    if options.log_file:
        changed |= _log_file(host)
    if changed and around.booted:
        host.run(["systemctl", "daemon-reload"], "let systemd read it")
    if host.ask(["systemctl", "is-enabled", *UNITS])[0]:
        host.run(["systemctl", "enable", *UNITS], "start with the host")
    else:
        host.is_so("it starts with the host")


def _start(host: Host, former: Path | None) -> None:
    restart = ["systemctl", "restart", *UNITS]
    if former is None:
        host.run(restart, "start it")
    elif not host.run(restart, "start it", fatal=False):
        host.link(VENV, former)
        host.run(restart, "go back to the former version")
        raise InstallError(
            f"the new version did not start and the former one runs again: journalctl -u {UNITS[0]} tells why"
        )


def _log_file(host: Host) -> bool:
    """Whether the unit changed by it."""
    if not LOG_FILE.exists():
        host.file(LOG_FILE, "", mode=0o640, group=group_of(Path("/var/log/syslog"), "adm") or "root")
    host.directory(LOG_DROP_IN.parent, mode=0o755)
    host.file(LOGROTATE, ROTATION)
    return host.file(LOG_DROP_IN, f"[Service]\nStandardOutput=append:{LOG_FILE}\nStandardError=append:{LOG_FILE}\n")


def examine(host: Host) -> None:
    """What the installed program itself says of the whole."""
    host.step("Is everything there?")
    command = [str(COMMAND), "check"]
    host.is_so(f"{' '.join(command)} {'would tell' if host.dry_run else 'says:'}")
    if not host.dry_run:
        _, words = host.ask(command)
        print("".join(f"    {line}\n" for line in words.splitlines()), end="")
