"""The host: what is looked at there, and how it is changed. In a dry run each change is printed and not made."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


class InstallError(Exception):
    """The installation can't go on; the message says what to do. What was done stays, and the next run goes on."""


class Host:
    def __init__(self, *, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.changed = False

    def step(self, title: str) -> None:
        print(f"\n{title}", flush=True)

    def is_so(self, what: str) -> None:
        """Nothing to do."""
        print(f"  = {what}", flush=True)

    def done(self, what: str) -> None:
        self.changed = True
        print(f"  {'~ would: ' if self.dry_run else '+ '}{what}", flush=True)

    def warn(self, what: str) -> None:
        print(f"  ! {what}", flush=True)

    def run(self, command: Sequence[str], what: str, *, fatal: bool = True, secret: str = "") -> bool:
        """Run what changes the host; `secret` goes to its stdin. Raises InstallError where it fails and is `fatal`."""
        self.done(f"{what}: {' '.join(command)}")
        if self.dry_run:
            return True
        code, words = self.ask(command, secret=secret)
        if code == 0:
            return True
        last = " | ".join(line.strip() for line in words.splitlines()[-5:])
        told = f"{what} failed ({command[0]} ended with {code}): {last}"
        if fatal:
            raise InstallError(f"{told}. Mend that and run the installer again: it goes on from here")
        self.warn(told)
        return False

    @staticmethod
    def ask(command: Sequence[str], *, secret: str = "") -> tuple[int, str]:
        """Exit status of a command that changes nothing by itself, and what it printed."""
        try:
            done = subprocess.run(
                command, input=secret, check=False, capture_output=True, text=True, errors="replace",
env=_environment(),
            )  # fmt: skip
        except OSError as error:
            return 127, f"{command[0]}: {error.strerror}"
        return done.returncode, f"{done.stdout}\n{done.stderr}".strip()

    def directory(self, path: Path, *, mode: int, owner: str = "root", group: str = "root") -> None:
        if self._is(path, mode, owner, group) and path.is_dir():
            return self.is_so(f"{path}")
        self.done(f"directory {path}, {_rights(mode, owner, group)}")
        if not self.dry_run:
            path.mkdir(parents=True, exist_ok=True)
            self._own(path, mode, owner, group)
        return None

    def file(
        self, path: Path, text: str, *, mode: int = 0o644, owner: str = "root", group: str = "root", shown: bool = False
    ) -> bool:
        """Have `path` hold `text`, written whole or not at all; whether that changed anything. `shown` in a dry run."""
        if self._is(path, mode, owner, group) and path.read_text("utf-8", "replace") == text:
            self.is_so(f"{path}")
            return False
        self.done(f"write {path}, {_rights(mode, owner, group)}")
        if self.dry_run:
            if shown:
                print("".join(f"      {line}\n" for line in text.splitlines()), end="")
            return True
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            self._own(Path(draft), mode, owner, group)
            Path(draft).replace(path)
        except BaseException as error:
            Path(draft).unlink(missing_ok=True)
            if isinstance(error, OSError) and error.filename is None:
                error.filename = str(path)  # a full disk does not say where it is
            raise
        return True

    def rights(self, path: Path, *, mode: int, owner: str = "root", group: str = "root") -> None:
        """Who may do what with `path`; what is in it stays."""
        if self._is(path, mode, owner, group):
            self.is_so(f"{path}, {_rights(mode, owner, group)}")
            return
        self.done(f"let {path} be {_rights(mode, owner, group)}")
        if not self.dry_run:
            self._own(path, mode, owner, group)

    def link(self, path: Path, target: Path) -> bool:
        """Have `path` lead to `target`, from one moment to the next; whether that changed anything."""
        if path.is_symlink() and path.readlink() == target:
            self.is_so(f"{path} → {target}")
            return False
        self.done(f"link {path} → {target}")
        if not self.dry_run:
            draft = path.with_name(f".{path.name}.new")
            draft.unlink(missing_ok=True)
            draft.symlink_to(target)
            draft.replace(path)
        return True

    def remove(self, path: Path) -> None:
        self.done(f"remove {path}")
        if not self.dry_run:
            shutil.rmtree(path)

    @staticmethod
    def _is(path: Path, mode: int, owner: str, group: str) -> bool:
        try:
            found = path.lstat()
            wanted = (pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid, mode)
        except (OSError, KeyError):
            return False
        return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == wanted

    @staticmethod
    def _own(path: Path, mode: int, owner: str, group: str) -> None:
        os.chown(path, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
        path.chmod(mode)


def _environment() -> dict[str, str]:
    """Ours, without what would let the installed program find the checkout's modules in place of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Raises InstallError where another installer is at work. Leaves no file behind: it is /etc itself that is held."""
    held = os.open("/etc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InstallError("another installer is at work on this host: wait for its end") from None
    finally:
        os.close(held)


def _rights(mode: int, owner: str, group: str) -> str:
    return f"{mode:04o} {owner}:{group}"


def can_ask() -> bool:
    """Whether a person is there to answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def has_user(name: str) -> bool:
    return any(one.pw_name == name for one in pwd.getpwall())


def has_group(name: str) -> bool:
    return any(one.gr_name == name for one in grp.getgrall())


def is_member(user: str, group: str) -> bool:
    try:
        found = grp.getgrnam(group)
        return user in found.gr_mem or pwd.getpwnam(user).pw_gid == found.gr_gid
    except KeyError:
        return False


def read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, empty where there is none."""
    try:
        found: object = json.loads(read(path))
    except ValueError:
        return {}
    return dict(found) if isinstance(found, dict) else {}


def read_object(path: Path, key: str) -> dict[str, Any]:
    """The object under `key` of the one in `path`, empty where there is none."""
    found = read_json(path).get(key)
    return dict(found) if isinstance(found, dict) else {}


def owner_of(path: Path) -> tuple[str, str]:
    return path.owner(), path.group()


def group_of(path: Path, otherwise: str) -> str:
    """The group of `path`, or the one by that name; empty where there is neither."""
    if path.exists() and path.group() != "root":
        return path.group()
    return otherwise if has_group(otherwise) else ""
