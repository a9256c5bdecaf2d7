"""`itgrix-kommo phonebook`: read all clients of the account into the phonebook."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from itgrix_kommo import config
from itgrix_kommo.cli.terminal import CONFIG_PATH, ConfigOption, JsonOption, err, finish, opened, out
from itgrix_kommo.configured import connect
from itgrix_kommo.kommo.client import KommoClient
from itgrix_kommo.kommo.limiter import MOST_PER_SECOND, Limiter
from itgrix_kommo.kommo.phonebook import Phonebook, SyncProgress
from itgrix_kommo.storage.phonebook import PhonebookRows

commands = typer.Typer(help="Whom a phone number belongs to.", no_args_is_help=True)


@commands.callback()
def phonebook() -> None:
    """Keep `sync` a command of its own, though it is the only one."""


@commands.command("sync")
def sync(path: ConfigOption = CONFIG_PATH, *, as_json: JsonOption = False) -> None:
    """Read all contacts and companies of the account, so that callers are known before their first call."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} read"))
    with Progress(*columns, TimeElapsedColumn(), console=err, transient=True) as progress:
        last = finish(_sync(config.load(path), progress))
    if as_json:
        out.print_json(json.dumps(asdict(last) if last else {"phones": 0, "is_full": False}))
        return
    out.print(f"[green]✓[/] {last.phones if last else 0} phones are in the phonebook", highlight=False)
    if last is not None and last.is_full:
        out.print("[yellow]![/] it is full: the clients beyond are looked up when they call", highlight=False)
    out.print("a running daemon takes them up at its next start", highlight=False)


async def _sync(settings: config.Config, progress: Progress) -> SyncProgress | None:
    # The daemon may use its share of what Kommo bears meanwhile: this takes the rest, one request a second at least.
    limiter = Limiter(max(1, MOST_PER_SECOND - settings.kommo.requests_per_second))
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(settings))
        transport, _ = await connect(settings, database, limiter, stack)
        book = Phonebook(KommoClient(transport, region=settings.numbers.region), PhonebookRows(database))
        await book.load()
        last: SyncProgress | None = None
        bars = {noun: progress.add_task(noun, total=None) for noun in ("contacts", "companies")}
        async for last in book.sync():
            progress.update(bars[last.noun], completed=last.read)
            await book.flush()
        return last
