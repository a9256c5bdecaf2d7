"""The daemon's own database: its tables, opening it, one writer at a time."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage.engines import Engine, FileEngine, ServerEngine, Work
from itgrix_kommo.storage.files import daemon_of, lock_of
from itgrix_kommo.storage.schema import History, bring_up_to_date, is_up_to_date

T = TypeVar("T")

_REMEDIES = {
    "disk is full": "free disk space",
    "disk I/O error": "free disk space, and check the disk",
    "readonly database": "mend the file's permissions",
    "unable to open": "mend the permissions of the file and its directory",
    "not a database": "move that file away, or give another path",
    "malformed": "move that file away, or put back a copy of it",
    "locked": "end what holds it open",
}
"""By SQLite's own words."""

_log = structlog.get_logger(__name__)

metadata = sa.MetaData()

registrations = sa.Table(
    "registrations",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("node", sa.String(64), nullable=False),
    sa.Column("call_id", sa.String(150), nullable=False),
    sa.Column("client", sa.String(150), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("call", sa.JSON, nullable=False),
    sa.Column("progress", sa.JSON, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    # In line the oldest come first, however many wait behind them; a client's own line is looked through for each.
    sa.Index("registrations_in_line", "node", "state", "id"),
    sa.Index("registrations_in_client_line", "node", "client", "state", "id"),
    sa.Index("registrations_due", "node", "state", "due_at"),
    sa.Index("registrations_of_client", "node", "client", "id"),
    sa.UniqueConstraint("node", "call_id"),
)

aliases = sa.Table(
    "aliases",
    metadata,
    # Every linkedid and uniqueid a call ever had: whoever meets one of them again has met the same call.
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("alias", sa.String(150), primary_key=True),
    sa.Column("registration_id", sa.ForeignKey("registrations.id", ondelete="CASCADE"), nullable=False, index=True),
)

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("client_id", sa.String(64), primary_key=True),
    sa.Column("access_token", sa.Text, nullable=False),
    sa.Column("refresh_token", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("previous", sa.Text, nullable=False, default=""),
)

phonebook = sa.Table(
    "phonebook",
    metadata,
    sa.Column("phone", sa.String(32), primary_key=True),
    sa.Column("listing", sa.JSON, nullable=False),
    sa.Column("used_at", sa.Double, nullable=False, index=True),
)


horizon = sa.Table(
    "horizon",
    metadata,
    # Finished registrations of before were cleaned away.
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("forgotten_before", sa.Double, nullable=False),
)

recordings = sa.Table(
    "recordings",
    metadata,
    sa.Column("id", sa.String(200), primary_key=True),
    sa.Column("sources", sa.JSON, nullable=False),
    sa.Column("file_name", sa.Text, nullable=False),
    sa.Column("called_at", sa.Double, nullable=False),
)


membership = sa.Table(
    "membership",
    metadata,
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("homes", sa.JSON, nullable=False),
    sa.Column("tick", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.String(36), nullable=False),
    sa.Column("heard_at", sa.Double),
)

remembered = sa.Table(
    "remembered",
    metadata,
    # Registrations of any node that this one has handed over, or worked at in the shared database.
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("call_id", sa.String(150), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("saved_at", sa.Double, nullable=False, index=True),
    sa.Column("row", sa.JSON, nullable=False),
)

LOCAL = History("local", "alembic_version", metadata)

SETTING = "storage.url"

_MIGRATING = threading.Lock()
"""Alembic's operations are those of a module: files that are opened in one process, each by its thread, take turns."""

MIGRATED_WITHIN = 10.0
"""Seconds that a command waits for a daemon that has just started."""


class Database:
    """An open database. Writers take turns, so that what is written in order is committed in order.

    What is done to it is a plain function of an SQLAlchemy connection; see `engines`.
    """

    def __init__(self, engine: Engine, lock_file: int | None) -> None:
        self._engine = engine
        self._lock_file = lock_file

    @classmethod
    async def open(cls, url: str, *, beside_daemon: bool = False, instead_of_daemon: bool = False) -> Database:
        """Open (and on first use create) the database at an SQLAlchemy `url`.

        Raises StorageError where it can't be used, or where another daemon uses this SQLite file. A command that only
        looks, or changes a row, does so `beside_daemon`; one during which none may work `instead_of_daemon`.
        """
        address = make_url(url)
        is_file = address.get_backend_name() == "sqlite"
        path = lock_file = None
        if is_file and address.database and address.database != ":memory:":
            path = Path(address.database)
            if not (beside_daemon or instead_of_daemon):
                _keep_root_out(path)
            _make_file(path)
            lock_file = None if beside_daemon else _claim(path)
        try:
            engine: Engine = FileEngine(address) if is_file else ServerEngine(address)
        except ModuleNotFoundError as error:
            raise StorageError(
                f"storage.url: the driver {error.name} is not installed: install it beside the daemon, or use SQLite"
            ) from error
        database = cls(engine, lock_file)
        try:
            await database._prepare(path if beside_daemon else None)
        except StorageError:
            await database.close()
            raise
        return database

    async def _prepare(self, beside_daemon: Path | None) -> None:
        """See to it that the tables are as this program knows them; a daemon at work on this file has seen to it."""
        if await self._is_up_to_date():
            return
        turn = await self._turn_beside_daemon(beside_daemon) if beside_daemon else None
        try:
            if await self.write(_migrate):
                _log.info("database_migrated", schema=LOCAL.revisions()[-1])
        finally:
            if turn is not None:
                os.close(turn)

    async def _is_up_to_date(self) -> bool:
        return await self.read(lambda connection: is_up_to_date(connection, LOCAL, SETTING))

    async def _turn_beside_daemon(self, path: Path) -> int | None:
        """The lock under which a command migrates; None where whoever held it was doing the same."""
        deadline = time.monotonic() + MIGRATED_WITHIN
        while True:
            try:
                return _claim(path)
            except StorageError:
                if await self._is_up_to_date():
                    return None
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"{SETTING}: the daemon that uses {path} is of an older version: restart it "
                        "(systemctl restart itgrix_amo), and it brings the database up to date"
                    ) from None
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        await self._engine.close()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    async def write(self, work: Work[T]) -> T:
        """Do `work` in one transaction; committed when this returns, rolled back on any error. Raises StorageError."""
        try:
            return await self._engine.write(work)
        except (SQLAlchemyError, OSError) as error:
            raise _storage_error(error) from error

    async def read(self, work: Work[T]) -> T:
        """What `work` finds; it changes nothing. Raises StorageError."""
        try:
            return await self._engine.read(work)
        except (SQLAlchemyError, OSError) as error:
            raise _storage_error(error) from error

    async def make_durable(self) -> None:
        """Let what was committed survive a power cut too: for the rare row that can't be had again."""
        await self.read(_check_point)

    async def empty_log(self) -> None:
        """Let what was deleted stand in no former page of SQLite's log. Raises StorageError where somebody reads on."""
        if await self.read(_is_log_in_use):
            raise StorageError(
                f"{SETTING}: what was deleted stands in the database's log as long as somebody reads there: "
                "run this again, at the latest when the daemon was restarted"
            )


def _migrate(connection: sa.Connection) -> bool:
    if connection.dialect.name != "sqlite":
        return bring_up_to_date(connection, LOCAL, SETTING)
    with _MIGRATING:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # the driver begins none for tables
        return bring_up_to_date(connection, LOCAL, SETTING)


def _check_point(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.execute(sa.text("PRAGMA wal_checkpoint(PASSIVE)"))


def _is_log_in_use(connection: sa.Connection) -> bool:
    """Empties it where it is not, after waiting as long as for any lock."""
    if connection.dialect.name != "sqlite":
        return False
    return bool(connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar_one())


def _storage_error(error: Exception) -> StorageError:
    cause = getattr(error, "orig", None) or error
    remedy = next((known for words, known in _REMEDIES.items() if words in str(cause)), "look after the database")
    return StorageError(f"storage.url: the database failed: {cause}: {remedy}")


def _keep_root_out(path: Path) -> None:
    """A daemon that root runs, to try it, would leave files behind that the service's user can't open."""
    try:
        owner = path.parent.owner() if os.geteuid() == 0 and path.parent.stat().st_uid else ""
    except (OSError, KeyError):  # not made yet; nobody by name
        return
    if owner:
        raise StorageError(
            f"storage.url: {path.parent} is {owner}'s, and root runs this: type runuser -u {owner} -- itgrix-kommo run"
        )


def _make_file(path: Path) -> None:
    """Its owner's alone, for tokens are in it; what root makes before the daemon's first start is for the daemon."""
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        is_new = not path.exists()
        path.touch(mode=0o600)
        path.chmod(0o600)  # a file put back from a backup may be anybody's to read
        if is_new:
            _hand_over(path)
    except OSError as error:
        raise StorageError(
            f"storage.url: {path} can't be written: {error.strerror}: let the daemon's user own its directory, "
            "and run commands as that user or root"
        ) from error


def _hand_over(path: Path) -> None:
    """To the directory's owner, if root made it."""
    if os.geteuid() == 0:
        home = path.parent.stat()
        os.chown(path, home.st_uid, home.st_gid)


def _claim(path: Path) -> int:
    """Hold the file for this process alone; the lock goes when the process does, however it ends."""
    try:
        is_new = not lock_of(path).exists()
        lock = os.open(lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if is_new:
            _hand_over(lock_of(path))
    except OSError as error:
        raise StorageError(
            f"storage.url: {lock_of(path)} can't be written: {error.strerror}: let the daemon's user own its directory"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        pid = daemon_of(f"sqlite:///{path}")
        raise StorageError(
            f"storage.url: another daemon{f' (pid {pid})' if pid else ''} uses {path}: "
            "stop it (systemctl stop itgrix_amo), or give each its own file"
        ) from error
    return lock
