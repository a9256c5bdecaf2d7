"""The daemon's own data: its database, opened for reading alone, and the directories it writes into."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from asyncio import to_thread
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from itgrix_kommo.config import Config
from itgrix_kommo.doctor.examination import Check, Patient
from itgrix_kommo.doctor.findings import Finding, count, fault, ok, skipped, split, warning
from itgrix_kommo.doctor.people import ENTER, READ, WRITE, Person, daemon_user, is_writable_by_others
from itgrix_kommo.errors import StorageError
from itgrix_kommo.kommo.oauth import Grant
from itgrix_kommo.storage.database import grants, registrations
from itgrix_kommo.storage.files import CHRONICLE, JOURNAL, RECORDINGS, home
from itgrix_kommo.storage.names import kept_if_others, misnamed, out_of_reach
from itgrix_kommo.storage.registrations import State
from itgrix_kommo.storage.servers import engine_of

GROUP: Final = "storage"

LITTLE, TOO_LITTLE = 1 << 30, 128 << 20
"""Bytes free: a day of a busy PBX's journal and rows, and what SQLite needs to tidy up."""

FEW_INODES: Final = 2000

_STATES = ("waiting", "handed", "done", "skipped", "failed")


def checks(patient: Patient) -> list[Check]:
    config = patient.config
    return [
        Check("configuration", "file", partial(to_thread, config_file, patient.file, config)),
        Check(GROUP, "directory", partial(to_thread, directory, config)),
        Check(GROUP, "database", partial(database, config)),
        Check(GROUP, "disk", partial(to_thread, disks, places(config))),
    ]


def url_of(config: Config) -> str:
    return config.storage.url.get_secret_value()


def file_of(config: Config) -> Path | None:
    """The SQLite file; None where the storage is a server."""
    url = make_url(url_of(config))
    return Path(url.database) if url.drivername.startswith("sqlite") and url.database else None


def home_of(config: Config) -> Path:
    """The directory of the daemon's data on this host."""
    file = file_of(config)
    return file.parent if file is not None else home(url_of(config)).parent


def user_of(config: Config) -> Person:
    """Who runs the daemon."""
    return daemon_user(home_of(config))


def config_file(file: Path, config: Config) -> list[Finding]:
    found = [warning(*split(one)) for one in config.warnings()]
    status = file.stat()
    who = user_of(config)
    if is_writable_by_others(status.st_mode):
        found.insert(0, fault(f"everybody may change {file}", f"type chmod o-w {file}"))
    if not who.may(file, READ):
        found.insert(
            0,
            fault(
                f"{file} can't be read by {who.name}, who runs the daemon",
                f"type chgrp {who.name} {file}; chmod 640 {file}",
            ),
        )
    found += [
        fault(
            f"the secret in {secret} can't be read by {who.name}, who runs the daemon",
            f"type chown {who.name} {secret}; chmod 600 {secret}",
        )
        for secret in _secret_files(file)
        if secret.exists() and not who.may(secret, READ)
    ]
    return found or [ok(f"{file} can be used, mode {stat.S_IMODE(status.st_mode):03o}")]


def _secret_files(file: Path) -> Iterator[Path]:
    """Those that the configuration names as ``{"file": "/path"}``."""
    ahead = [json.loads(file.read_bytes())]
    while ahead:
        match ahead.pop():
            case {"file": str(path), **others} if not others:
                yield Path(path)
            case dict(inner):
                ahead += inner.values()
            case list(inner):
                ahead += inner


def directory(config: Config) -> list[Finding]:
    """Where the daemon writes: its database, its journal, its converted recordings."""
    top, who = home_of(config), user_of(config)
    if not top.is_dir():
        return [
            warning(
                f"{top} does not exist yet",
                f"type systemctl start itgrix_amo, which makes it, or install -d -m 750 -o {who.name} {top}",
            )
        ]
    files = home(url_of(config))
    hidden: list[Path] = []
    found = []
    for path in (top, files, files / JOURNAL, files / CHRONICLE, files / RECORDINGS, file_of(config)):
        if path is None or not path.exists():
            continue
        wanted = READ | WRITE | (ENTER if path.is_dir() else 0)
        if not who.may(path, wanted):
            hidden.append(path)
        elif is_writable_by_others(path.stat().st_mode) and not path.stat().st_mode & stat.S_ISVTX:
            found.append(fault(f"everybody may write {path}", f"type chmod o-rwx {path}"))
    if hidden:
        paths = " and ".join(map(str, hidden))
        found.append(
            fault(f"{paths} can't be written by {who.name}, who runs the daemon", f"type chown -R {who.name} {top}")
        )
    return found or [ok(f"{top} is {who.name}'s to write")]


async def database(config: Config) -> list[Finding]:
    file = file_of(config)
    if file is not None and not file.exists():
        return [skipped(f"{file} is made at the daemon's first start")]
    name = config.node.name
    try:
        async with _reading(config) as connection:
            found = await connection.run_sync(kept_if_others, name)
            counts = await _counts(connection, name)
    except StorageError as error:
        return [fault(*split(str(error)))]
    told = [judge_counts(counts)]
    if config.storage.shared_url is None and (handed := counts.get(State.HANDED, 0)):
        told.append(warning(*out_of_reach(handed)))
    wrong = misnamed(found, name, file) if file is not None else None
    if wrong is not None and wrong.is_refused:
        return [fault(wrong.words, wrong.remedy)]
    return [*told, *([warning(wrong.words, wrong.remedy)] if wrong is not None else [])]


def judge_counts(counts: Mapping[str, int]) -> Finding:
    words = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts.get(state)) or "no calls yet"
    if failed := counts.get("failed", 0):
        return warning(
            f"{words}: {count(failed, 'registration')} failed for good",
            "type itgrix-kommo registrations list to see why, mend that, then itgrix-kommo registrations retry ID",
        )
    return ok(f"can be read: {words}")


async def stored_grant(config: Config, client_id: str) -> Grant | None:
    """The OAuth grant as the daemon keeps it. Raises StorageError."""
    file = file_of(config)
    if file is not None and not file.exists():
        return None
    async with _reading(config) as connection:
        query = sa.select(grants).where(grants.c.client_id == client_id)
        row = (await connection.execute(query)).mappings().first()
    return Grant(row["access_token"], row["refresh_token"], row["expires_at"], row["previous"]) if row else None


async def _counts(connection: AsyncConnection, name: str) -> dict[str, int]:
    query = (
        sa.select(registrations.c.state, sa.func.count())
        .where(registrations.c.node == name)
        .group_by(registrations.c.state)
    )
    return {str(state): number for state, number in await connection.execute(query)}


@asynccontextmanager
async def _reading(config: Config) -> AsyncIterator[AsyncConnection]:
    """Raises StorageError, which ends with its remedy. Nothing can be written over this connection."""
    file = file_of(config)
    url = make_url(url_of(config))
    if file is not None:
        # Without a log beside it nobody writes; to say so keeps SQLite from making files of its own there.
        is_used = file.with_name(file.name + "-wal").exists()
        how = {"mode": "ro"} if is_used else {"mode": "ro", "immutable": "1"}
        url = url.set(database=f"file:{quote(str(file))}", query={**how, "uri": "true"})
    try:
        engine = engine_of(url)
    except ModuleNotFoundError as error:
        raise StorageError(f"storage.url: the driver {error.name} is missing: install it beside the daemon") from error
    try:
        async with engine.connect() as connection:
            yield connection
    except (SQLAlchemyError, OSError) as error:
        cause = str(getattr(error, "orig", None) or error)
        place = str(file) if file is not None else f"the database {url.host}:{url.port or 5432}"
        raise StorageError(f"storage.url: {place} can't be read ({cause}): {_remedy(cause, file)}") from error
    finally:
        await engine.dispose()


def _remedy(cause: str, file: Path | None) -> str:
    if "not a database" in cause or "malformed" in cause:
        return f"stop the daemon, move {file} away or put back a copy of it, and start it again"
    if "no such table" in cause or "does not exist" in cause:
        return "start the daemon once: it makes its tables"
    if file is None:
        return "see that the server runs and that storage.url names its database, user and password"
    return f"mend the permissions of {file} and its directory"


def places(config: Config) -> dict[str, Path]:
    """What is written where."""
    found = {"the daemon's data": home_of(config), "temporary files": Path(tempfile.gettempdir())}
    if config.recordings.enabled:
        for each in config.recordings.directories:
            found[f"recordings in {each}"] = Path(each)
    return found


def disks(where: Mapping[str, Path]) -> list[Finding]:
    """Each disk once, however much lies on it."""
    found: list[Finding] = []
    seen: dict[int, str] = {}
    for what, path in where.items():
        there = next(one for one in (path, *path.parents) if _is_seen(one))
        device = there.stat().st_dev
        if device in seen:
            continue
        seen[device] = what
        inodes = os.statvfs(there)
        found.append(
            judge_disk(what, there, shutil.disk_usage(there).free, inodes.f_favail if inodes.f_files else None)
        )
    good = [one for one in found if not one.remedy]
    return [*(one for one in found if one.remedy), *([ok("; ".join(one.words for one in good))] if good else [])]


def _is_seen(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def judge_disk(what: str, path: Path, free: int, inodes: int | None) -> Finding:
    """`free` in bytes, `inodes` None where the file system has no such number."""
    room = f"{free / (1 << 30):.1f} GB" if free >= 1 << 30 else f"{free >> 20} MB"
    remedy = f"make room there (du -xh --max-depth=2 {path} | sort -h | tail shows what fills it)"
    if free < TOO_LITTLE:
        return fault(f"{room} are free for {what} ({path}): calls will be lost", remedy)
    if inodes is not None and inodes < FEW_INODES:
        return fault(f"{inodes} files more can be made for {what} ({path})", f"remove old files there (df -i {path})")
    if free < LITTLE:
        return warning(f"{room} are free for {what} ({path})", remedy)
    return ok(f"{room} free for {what}")
