"""What the commands have in common: where they print, their options, how they get at what is kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

from itgrix_kommo import config
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.names import see_whose
from itgrix_kommo.storage.registrations import Registrations
from itgrix_kommo.storage.shared import SharedDatabase

T = TypeVar("T")

CONFIG_PATH = Path("/etc/itgrix_amo/config.json")

ConfigOption = Annotated[Path, typer.Option("--config", "-c", readable=False, help="The configuration file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

out = Console()
err = Console(stderr=True)


def finish(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def failed(words: str) -> typer.Exit:
    """What to raise once the person was told why it can't be done."""
    err.print(words, markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(1)


@contextlib.asynccontextmanager
async def opened(settings: config.Config) -> AsyncIterator[Database]:
    """The storage, which a running daemon may use meanwhile."""
    database = await Database.open(settings.storage.url.get_secret_value(), beside_daemon=True)
    try:
        yield database
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def opened_shared(settings: config.Config) -> AsyncIterator[SharedDatabase | None]:
    """The database of several nodes, where there are several; it may be away."""
    url = settings.storage.shared_url
    shared = SharedDatabase(url.get_secret_value()) if url is not None else None
    try:
        yield shared
    finally:
        if shared is not None:
            await shared.close()


@contextlib.asynccontextmanager
async def opened_registrations(settings: config.Config) -> AsyncIterator[Registrations]:
    """Raises NameChanged where what is kept is all another node's."""
    async with opened(settings) as database:
        await see_whose(database, settings.storage.url.get_secret_value(), settings.node.name)
        yield Registrations(database, settings.node.name)
