"""A PostgreSQL as its address names it, and as it refuses: each refusal says what helps."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from aiohttp.test_utils import unused_port
from sqlalchemy.engine import make_url

from itgrix_kommo.errors import StorageError
from itgrix_kommo.storage.servers import engine_of
from itgrix_kommo.storage.shared import SharedDatabase
from tests.pbx_servers import NOBODY, PostgreSql

IS_ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

DATABASE = "a guest's"

WITHIN = 60.0

pytestmark = pytest.mark.xdist_group("databases")


async def told(url: str, *statements: str) -> list[object]:
    """What PostgreSQL answers, in autocommit."""
    engine = engine_of(make_url(url))
    try:
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            found = [await connection.execute(sa.text(one)) for one in statements]
            return [one.scalar() if one.returns_rows else None for one in found]
    finally:
        await engine.dispose()


async def refusal(url: str) -> str:
    """Why a node can't work there, as its log and the commands say it."""
    database = SharedDatabase(url)
    try:
        with pytest.raises(StorageError) as error:
            await database.prepare()
        return str(error.value)
    finally:
        await database.close()


async def unwritable(url: str) -> str:
    """The same as the doctor finds it, who writes nothing."""
    database = SharedDatabase(url)
    try:
        with pytest.raises(StorageError) as error:
            await database.see_that_it_can_be_written()
        return str(error.value)
    finally:
        await database.close()


@pytest.fixture
async def guest(shared_server: PostgreSql) -> AsyncIterator[str]:
    """The address of a database whose user may make nothing in it."""
    await told(shared_server.address, "CREATE ROLE guest LOGIN", f'CREATE DATABASE "{DATABASE}"')
    address = shared_server.address.replace("asterisk@", "guest@").replace("/postgres", f"/{DATABASE}")
    await told(address.replace("guest@", "asterisk@"), "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    yield address
    await told(shared_server.address, f'DROP DATABASE "{DATABASE}"', "DROP ROLE guest")


class TestRefusals:
    async def test_a_database_that_is_not_there(self, shared_server: PostgreSql) -> None:
        assert "make it with createdb" in await refusal(shared_server.address.replace("/postgres", "/nowhere"))

    async def test_a_user_who_is_not_there(self, shared_server: PostgreSql) -> None:
        assert "pg_hba.conf" in await refusal(shared_server.address.replace("asterisk@", "nobody-at-all@"))

    @pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
    async def test_a_database_that_can_not_hold_every_name(self, shared_server: PostgreSql, encoding: str) -> None:
        made = f"CREATE DATABASE narrow ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        await told(shared_server.address, made)
        address = shared_server.address.replace("/postgres", "/narrow")
        try:
            words = f"the encoding of the shared database is {encoding}, which can't hold every name: make another one"
            assert words in await refusal(address)
            assert words in await unwritable(address)
        finally:
            await told(shared_server.address, "DROP DATABASE narrow")

    async def test_a_user_who_may_make_no_tables(self, guest: str) -> None:
        assert "let that user own the database" in await refusal(guest)
        assert "guest may make no tables in the shared database" in await unwritable(guest)

    async def test_a_user_whose_tables_are_anothers(self, guest: str) -> None:
        owner = SharedDatabase(guest.replace("guest@", "asterisk@"))
        await owner.prepare()
        await owner.see_that_it_can_be_written()
        await owner.close()
        words = await unwritable(guest)
        assert "guest may not write the shared database's account, claims, handed, nodes, " in words
        assert words.endswith("let that user own the database and its tables")

    async def test_a_server_at_which_nothing_can_be_written(self, shared_server: PostgreSql, guest: str) -> None:
        await told(shared_server.address, "ALTER ROLE guest SET default_transaction_read_only = on")
        assert "can only be read: give the address of the primary" in await unwritable(guest)
        assert "give the address of the primary" in await refusal(guest)

    async def test_a_server_without_a_connection_left(self, shared_server: PostgreSql, guest: str) -> None:
        await told(shared_server.address, "ALTER ROLE guest CONNECTION LIMIT 0")
        assert "raise max_connections" in await refusal(guest)

    async def test_a_setting_that_it_does_not_know(self, shared_server: PostgreSql) -> None:
        assert "PostgreSQL 13 or later" in await refusal(f"{shared_server.address}?banana=yellow")

    async def test_a_host_that_is_not_there(self) -> None:
        assert "db.invalid: " in await refusal("postgresql+asyncpg://itgrix:hidden@db.invalid/itgrix")

    async def test_nobody_listens(self) -> None:
        words = await refusal(f"postgresql+asyncpg://itgrix:hidden@127.0.0.1:{unused_port()}/itgrix")
        assert words.endswith("look after PostgreSQL")
        assert "hidden" not in words


class TestEncryption:
    """What stands behind the `?` is what it is to psql: the driver knows none of it by itself."""

    @pytest.fixture
    async def certificate(self, shared_server: PostgreSql) -> AsyncIterator[Path]:
        """The server's, which it uses until the test has ended."""
        (folder,) = await told(shared_server.address, "SHOW data_directory")
        made = await asyncio.to_thread(_certify, Path(str(folder)))
        await told(shared_server.address, "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
        await _until_encrypted(shared_server, is_it=True)
        yield made
        await told(shared_server.address, "ALTER SYSTEM RESET ssl", "SELECT pg_reload_conf()")
        await _until_encrypted(shared_server, is_it=False)

    async def test_by_its_certificate(self, shared_server: PostgreSql, certificate: Path) -> None:
        address = f"{shared_server.address}?sslmode=verify-full&sslrootcert={certificate}&application_name=pbx%201"
        assert await told(address, IS_ENCRYPTED, "SHOW application_name") == [True, "pbx 1"]
        elsewhere = address.replace("127.0.0.1", "localhost")
        assert "certificate verify failed" in await refusal(elsewhere)

    @pytest.mark.usefixtures("certificate")
    async def test_by_any(self, shared_server: PostgreSql) -> None:
        for setting in ("sslmode", "ssl"):
            assert await told(f"{shared_server.address}?{setting}=require", IS_ENCRYPTED) == [True]

    async def test_a_certificate_that_is_not_there(self, shared_server: PostgreSql) -> None:
        words = await refusal(f"{shared_server.address}?sslmode=verify-full&sslrootcert=/nowhere/db.crt")
        assert "No such file or directory: /nowhere/db.crt" in words

    async def test_a_server_without_encryption(self, shared_server: PostgreSql) -> None:
        assert "rejected SSL upgrade" in await refusal(f"{shared_server.address}?sslmode=require")


def _certify(folder: Path) -> Path:
    """Give the server a certificate, which is returned, for its next start or reload."""
    key, made = folder / "server.key", folder / "server.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=db", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(key, NOBODY, NOBODY)
    return made


async def _until_encrypted(server: PostgreSql, *, is_it: bool) -> None:
    """Who connects after the server has read its configuration anew."""
    async with asyncio.timeout(WITHIN):
        while await told(server.address, IS_ENCRYPTED) != [is_it]:
            await asyncio.sleep(0.05)
