"""Whose rights count: the daemon's user, also when root examines."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

SERVICE_USER: Final = "itgrix_amo"
"""As systemd/itgrix_amo.service names it."""

READ, WRITE, ENTER = 4, 2, 1


class Person(NamedTuple):
    name: str
    uid: int
    groups: frozenset[int]

    def may(self, path: Path, wanted: int) -> bool:
        """Whether `path` and the directories on the way to it let him. Raises OSError where it can't be found out."""
        if self.uid == os.geteuid():
            modes = ((READ, os.R_OK), (WRITE, os.W_OK), (ENTER, os.X_OK))
            return os.access(path, sum(mode for bit, mode in modes if wanted & bit))
        if self.uid == 0:
            return True
        real = path.resolve(strict=True)
        return all(self._lets(one, ENTER) for one in real.parents) and self._lets(real, wanted)

    def _lets(self, path: Path, wanted: int) -> bool:
        status = path.stat()
        if _has_acl(path):
            return True  # more than mode bits decide there, and whoever set it up meant something by it
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.groups else 0
        return (status.st_mode >> shift) & wanted == wanted


def daemon_user(storage: Path | None) -> Person:
    """Who runs the daemon: whose its directory of data is; before there is one, the service's user, else we ourselves.

    Root's directory beside a service's user is a mishap. `storage` is None where there is none on this host.
    """
    service = next((one.pw_uid for one in _known([SERVICE_USER])), None)
    try:
        owner = storage.stat().st_uid if storage is not None else None
    except OSError:
        owner = None  # not made yet, or hidden from us
    if owner is None or (owner == 0 and service is not None):
        owner = os.geteuid() if service is None else service
    return person(owner)


def person(uid: int) -> Person:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Person(str(uid), uid, frozenset())
    return Person(entry.pw_name, uid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))


def is_writable_by_others(mode: int) -> bool:
    return bool(mode & stat.S_IWOTH)


def _known(names: Iterable[str]) -> Iterable[pwd.struct_passwd]:
    for name in names:
        try:
            yield pwd.getpwnam(name)
        except KeyError:
            continue


def _has_acl(path: Path) -> bool:
    try:
        return b"system.posix_acl_access" in map(os.fsencode, os.listxattr(path))
    except OSError:
        return False
