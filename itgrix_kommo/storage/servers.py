"""Database servers: what their addresses mean to the drivers, and what helps where PostgreSQL refuses."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

LOOK_AFTER = "look after PostgreSQL"
"""Where nothing better is known."""

_SQLALCHEMYS = "prepared_statement_cache_size"

REMEDIES = {
    "08P01": "give the address of PostgreSQL itself, not of a pooler before it",
    "25006": "give the address of the primary server, for at this one nothing can be written",
    "28000": "let this host and user in by PostgreSQL's pg_hba.conf; what it has as hostssl wants ?sslmode=require",
    "28P01": "mend the user or the password; in an address % of a password is written %25, and @ %40",
    "3D000": "mend the database's name in the address, or make it with createdb",
    "42501": "let that user own the database and its tables",
    "42704": "it has to be PostgreSQL 13 or later, and to know what stands behind the ? of its address",
    "53300": "raise max_connections of PostgreSQL, or the CONNECTION LIMIT of the user or database",
    "57014": "let the user's statements take longer: his statement_timeout is too short",
    "57P03": "wait until PostgreSQL has started; a standby is of no use here",
}
"""By SQLSTATE: the words are in the server's own language."""


def engine_of(url: sa.URL, **more: Any) -> AsyncEngine:
    """Of a server. Raises ModuleNotFoundError for a driver that is not installed.

    What stands behind the `?` of a PostgreSQL's address is what it is to psql (sslmode, sslrootcert, …): unknown to the
    driver's `connect`, it would be a TypeError at the first use.
    """
    query = dict(url.query)
    if url.drivername == "postgresql+asyncpg" and query:
        kept = {key: query.pop(key) for key in [_SQLALCHEMYS] if key in query}
        if "ssl" in query:  # as SQLAlchemy has it
            query.setdefault("sslmode", query.pop("ssl"))
        settings = {key: value if isinstance(value, str) else ",".join(value) for key, value in query.items()}
        more["connect_args"] = {**more.get("connect_args", {}), "dsn": f"postgresql://?{urlencode(settings)}"}
        url = url.set(query=kept)
    return create_async_engine(url, hide_parameters=True, **more)  # tokens and phones don't belong into a log


def cause_of(error: Exception, url: sa.URL) -> str:
    """In words, as far as there are any."""
    if isinstance(error, socket.gaierror):
        return f"{url.host}: {error.strerror}"
    if isinstance(error, OSError) and error.filename is None and isinstance(error, FileNotFoundError | PermissionError):
        files = [value for key, value in url.query.items() if key.startswith("ssl") and str(value).startswith("/")]
        return f"{error.strerror}: {' or '.join(map(str, files)) or url.host}"
    return str(getattr(error, "orig", None) or error)


def remedy_of(error: Exception) -> str:
    return REMEDIES.get(str(getattr(getattr(error, "orig", None), "sqlstate", None)), LOOK_AFTER)
