"""The tables' histories: each is a directory of Alembic revisions, carried out in order when a database is opened.

A database that is up to date is told so by one look, without Alembic. All else happens in one transaction, which the
caller holds: a migration that was cut short has not happened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from itgrix_kommo.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = Path(__file__).parent

_LOCK = 0x69746772
"""Of PostgreSQL's advisory locks: two nodes that start at once migrate one after the other."""


class History(NamedTuple):
    """`name` is its directory, `version_table` tells which of its revisions a database is at, `metadata` the last."""

    name: str
    version_table: str
    metadata: sa.MetaData

    @property
    def directory(self) -> Path:
        return _HERE / self.name

    def revisions(self) -> Sequence[str]:
        """All of them in order: the file ``v0001_baseline.py`` holds revision ``0001``."""
        return sorted(path.name[1:5] for path in (self.directory / "versions").glob("v[0-9][0-9][0-9][0-9]_*.py"))


def is_up_to_date(connection: sa.Connection, history: History, setting: str) -> bool:
    """Whether nothing is to be done. Raises StorageError, which names `setting`, for a database of a newer program."""
    revisions, found = history.revisions(), _revision(connection, history)
    if found is not None and found not in revisions:
        raise StorageError(
            f"{setting}: its schema is {found}, this program knows {revisions[-1]} at most: it was made by a newer "
            "itgrix-kommo: install that version again, or put back the database of before"
        )
    return found == revisions[-1]


def bring_up_to_date(connection: sa.Connection, history: History, setting: str) -> bool:
    """Carry out what is left to do, within the open transaction of `connection`; False where there was nothing.

    What has tables but no revision was made before there were revisions: its tables are completed.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    if is_up_to_date(connection, history, setting):
        return False
    _upgrade(connection, history)
    _check_columns(connection, history, setting)
    return True


def _revision(connection: sa.Connection, history: History) -> str | None:
    if not sa.inspect(connection).has_table(history.version_table):
        return None
    table = sa.table(history.version_table, sa.column("version_num"))
    found: str | None = connection.execute(sa.select(table.c.version_num)).scalar()
    return found


def _upgrade(connection: sa.Connection, history: History) -> None:
    from alembic.operations import Operations  # noqa: PLC0415 (a tenth of a second that most starts don't need)
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory(str(history.directory))
    context = MigrationContext.configure(
        connection,
        opts={
            "fn": lambda revision, _: scripts._upgrade_revs("head", revision),  # noqa: SLF001 (as Alembic's own env.py)
            "version_table": history.version_table,
            "transactional_ddl": True,
        },
    )
    with Operations.context(context):
        context.run_migrations()


def _check_columns(connection: sa.Connection, history: History, setting: str) -> None:
    """A table of an unknown past keeps its name but not its columns: better said now than at the first call."""
    inspector = sa.inspect(connection)
    for table in history.metadata.tables.values():
        missing = set(table.columns.keys()) - {column["name"] for column in inspector.get_columns(table.name)}
        if missing:
            raise StorageError(
                f"{setting}: its table {table.name} has no {', '.join(sorted(missing))}: no released version made it "
                "so: move that database away, and a new one is made"
            )
