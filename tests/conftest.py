"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa

from itgrix_kommo import log
from itgrix_kommo.storage.shared import SharedDatabase, metadata
from tests.hosts import no_namespaces
from tests.pbx_servers import PostgreSql, a_postgresql

pytest_plugins = ["tests.lab.fixtures"]


def pytest_report_header() -> str:
    """What stands for the hosts of several PBXs differs from machine to machine."""
    reason = no_namespaces()
    return f"hosts of several PBXs: {f'processes of this one ({reason})' if reason else 'network namespaces'}"


@pytest.fixture(autouse=True)
def _secrets_of_its_own() -> Iterator[None]:
    """A secret of one test hides nothing in what the next one reads: hypothesis makes secrets of any letters."""
    kept = log._mask._forms, log._mask._any_form
    yield
    log._mask._forms, log._mask._any_form = kept


@pytest.fixture(scope="session")
def shared_server() -> Iterator[PostgreSql]:
    """A PostgreSQL for nodes to share; who uses it is of the group `databases`, so that it is started once."""
    with a_postgresql() as made:
        yield made


@pytest.fixture
async def shared(shared_server: PostgreSql) -> AsyncIterator[SharedDatabase]:
    """With empty tables."""
    database = SharedDatabase(shared_server.address)
    await database.prepare()

    def empty(connection: sa.Connection) -> None:
        for table in metadata.sorted_tables:
            connection.execute(sa.delete(table))

    await database.write(empty)
    yield database
    await database.close()
