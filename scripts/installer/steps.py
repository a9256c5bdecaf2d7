"""The host, its packages and users, and the program: each step looks first.

So a second run changes nothing, and one after a failure goes on where that was.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import stat
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from scripts.installer.host import Host, InstallError, group_of, has_group, has_user, is_member, read, read_object
from scripts.installer.places import (
    ACTIONS,
    ASTERISK,
    COMMAND,
    CONFIG,
    CONFIG_HOME,
    HOME,
    HOOKS_USER,
    MANAGER,
    ON_PATH,
    STATE,
    UNITS,
    USER,
    VENV,
    VERSIONS,
    Options,
    Surroundings,
    system,
)

ROOM_WANTED: Final = 600 * 1024 * 1024
"""Bytes: a virtual environment takes some 200 MiB, and an upgrade has two of them for a while."""


def look(host: Host, options: Options) -> Surroundings:
    """Refuse what can't work before anything is touched."""
    host.step("The host")
    if os.geteuid() != 0:
        raise InstallError("only root may install: run it with sudo")
    found = system(read(Path("/etc/os-release")))
    if found is None:
        raise InstallError("this is neither a Debian nor a RHEL family: see the README for installing by hand")
    freepbx = Path("/etc/freepbx.conf").exists()
    if not MANAGER.is_file():
        raise InstallError(f"{MANAGER} is missing: install on the host that Asterisk runs on")
    units = shutil.which("systemctl") is not None
    booted = Path("/run/systemd/system").is_dir()
    how = "systemd" if booted else "systemd, not running here" if units else "no systemd: nothing starts it by itself"
    host.is_so(f"{found.name}, {'FreePBX' if freepbx else 'Asterisk'}, {how}")
    closed = [one for one in Path(sys.executable).resolve().parents if not one.stat().st_mode & stat.S_IXOTH]
    if closed:
        raise InstallError(
            f"{sys.executable} can't be run by the service's user, who may not enter {closed[0]}: "
            "give a Python of the system, as PYTHON=/usr/bin/python3 scripts/install"
        )
    host.is_so(f"Python {'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}")
    for place in (HOME.parent, CONFIG_HOME.parent, STATE.parent, ASTERISK):
        if not os.access(place, os.W_OK):
            raise InstallError(f"{place} can't be written: is its file system mounted read-only? (mount -o remount,rw)")
    if (room := shutil.disk_usage(HOME.parent).free) < ROOM_WANTED:
        raise InstallError(f"{HOME.parent} has {room >> 20} MiB left, {ROOM_WANTED >> 20} are needed: make room there")
    written = max(path.stat().st_mtime for path in (options.source / "pyproject.toml", options.source / "README.md"))
    if time.time() < written - 86400:
        raise InstallError(
            f"the clock says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, before this version was made: certificates would "
            "be refused and calls misdated: set it (timedatectl set-ntp true)"
        )
    _look_for_port(host, booted=booted)
    return Surroundings(found, freepbx, units, booted)


def _look_for_port(host: Host, *, booted: bool) -> None:
    http = read_object(CONFIG, "http")
    address = (str(http.get("host", "127.0.0.1")), http.get("port", 8077))
    if booted and host.ask(["systemctl", "is-active", UNITS[0]])[0] == 0:
        return
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
        except (OSError, OverflowError, TypeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no port"
            host.warn(f"port {address[1]} at {address[0]}: {why}: stop what uses it, or set http.port")


def packages(host: Host, options: Options, around: Surroundings) -> None:
    host.step("Packages")
    missing: dict[str, tuple[str, bool]] = {}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if host.ask([sys.executable, "-c", "import ensurepip, venv"])[0]:
        name = f"python{version}-venv" if around.system.family == "debian" else f"python{version}"
        missing["Python's venv"] = (name, True)
    if shutil.which("ffmpeg") is None:
        missing["ffmpeg"] = ("ffmpeg" if around.system.family == "debian" else "ffmpeg-free", False)
    if any(ACTIONS.glob("*.php")) and not (shutil.which("php-cgi") or shutil.which("php")):
        missing["PHP for the customizations"] = ("php-cgi" if around.system.family == "debian" else "php-cli", False)
    if not missing:
        host.is_so("ffmpeg, Python's venv and PHP where it is wanted are there")
        return
    if not options.packages:
        for what, (name, needed) in missing.items():
            if needed:
                raise InstallError(f"{what} is missing: install {name}")
            host.warn(f"{what} is missing: install {name} when you can")
        return
    install = ["dnf", "install", "-y"]
    if around.system.family == "debian":
        install = ["apt-get", "install", "-y", "--no-install-recommends"]
        host.run(["apt-get", "update"], "read the package lists", fatal=False)
    for what, (name, needed) in missing.items():
        if not host.run([*install, name], what, fatal=needed) and around.system.family == "rhel":
            host.warn(f"{name} is in EPEL: dnf install epel-release, then run the installer again")


def users(host: Host) -> None:
    host.step("Users")
    shell = shutil.which("nologin") or "/usr/sbin/nologin"
    for name, home in ((HOOKS_USER, "/nonexistent"), (USER, str(STATE))):
        if has_user(name):
            host.is_so(f"user {name}")
            continue
        group = ["--gid", name] if has_group(name) else ["--user-group"]
        command = ["useradd", "--system", *group, "--no-create-home", "--home-dir", home, "--shell", shell, name]
        host.run(command, f"user {name}")
    recordings = group_of(Path("/var/spool/asterisk"), "asterisk")
    memberships = [(USER, HOOKS_USER, "to ask the host of the customizations")]
    memberships += [(who, recordings, "to read the recordings") for who in (USER, HOOKS_USER) if recordings]
    for who, joined, why in memberships:
        if is_member(who, joined):
            host.is_so(f"{who} is in {joined}, {why}")
        else:
            host.run(["usermod", "--append", "--groups", joined, who], f"{who} into {joined}, {why}")
    if not recordings:
        host.warn(f"there is no group asterisk: let {USER} read the recordings by another way")


def program(host: Host, options: Options) -> Path | None:
    """Build the virtual environment beside the former one, then let the link lead to it; the former one, for a retreat.

    An environment is whole when it has its mark: one that was interrupted is made anew.
    """
    host.step("The program")
    host.directory(HOME, mode=0o755)
    host.directory(VERSIONS, mode=0o755)
    former = VENV.resolve() if VENV.is_symlink() and VENV.exists() else None
    wanted = VERSIONS / _fingerprint(options.source)
    mark = wanted / ".whole"
    if mark.exists():
        host.is_so(f"{wanted}")
    else:
        if wanted.exists():
            host.warn(f"{wanted} was interrupted: made anew")
            host.remove(wanted)
        pip = [str(wanted / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        lock = options.source / "requirements.lock"
        host.run([sys.executable, "-m", "venv", str(wanted)], "a virtual environment")
        host.run([*pip, "--require-hashes", "-r", str(lock)], "what it depends on, as locked")
        host.run([*pip, "--no-deps", str(options.source)], "itgrix-kommo itself")
        host.run([str(wanted / "bin/itgrix-kommo"), "version"], "does it run")
        host.done(f"mark {wanted} as whole")
        if not host.dry_run:
            mark.touch()
    host.link(VENV, wanted)
    host.link(ON_PATH, COMMAND)
    host.file(HOME / "README.md", (options.source / "README.md").read_text("utf-8"))
    if ACTIONS.is_dir():
        host.is_so(f"{ACTIONS}")
    else:
        host.directory(ACTIONS.parent, mode=0o755)
        host.directory(ACTIONS, mode=0o2750, group=HOOKS_USER)
    for old in sorted(VERSIONS.iterdir()) if VERSIONS.is_dir() else ():
        if old not in {wanted, former}:
            host.remove(old)
    return former if former != wanted else None


def _fingerprint(source: Path) -> str:
    """Names an environment after all that goes into it."""
    digest = hashlib.sha256(f"{sys.version_info[:3]} {sys.executable}".encode())
    files = [source / "pyproject.toml", source / "requirements.lock"]
    files += [path for path in sorted((source / "itgrix_kommo").rglob("*")) if path.is_file()]
    for path in files:
        if path.suffix != ".pyc":
            digest.update(f"\n{path.relative_to(source)}\n".encode() + path.read_bytes())
    version = re.search(r'^version = "(.+)"$', (source / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    return f"{version[1] if version else 'unknown'}-{digest.hexdigest()[:12]}"
