"""The command `read-call`: calls of the past, from the PBX's CEL table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from datetime import tzinfo
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from itgrix_kommo import config, log
from itgrix_kommo.cli.terminal import opened_registrations
from itgrix_kommo.configured import number_plan
from itgrix_kommo.errors import ConfigError
from itgrix_kommo.pipeline.history import Fate, History, Read, moment, opened_history

NICE = 10
"""The PBX's own work on this host comes first."""

CONFIG_PATH = Path("/etc/itgrix_amo/config.json")

_COLOURS = {Fate.REGISTERED: "green", Fate.KNOWN: "dim", Fate.SKIPPED: "dim", Fate.FAILED: "red"}

out = Console()
err = Console(stderr=True)


def read_call(
    path: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = CONFIG_PATH,
    *,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="A call's linkedid or uniqueid; may be repeated.")
    ] = None,
    since: Annotated[
        str, typer.Option("--from", help="'YYYY-MM-DD hh:mm:ss' of the PBX, Unix seconds, or ISO 8601 with zone.")
    ] = "",
    until: Annotated[str, typer.Option("--to", help="The same; now, if left out.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each call.")] = False,
) -> None:
    """Register calls of the past from the PBX's CEL table: each once, however often this is run."""
    if bool(ids) == bool(since) or (until and not since):
        raise typer.BadParameter("give either --id (once or more), or --from and perhaps --to")
    settings = config.load(path)
    log.configure("warning", "console")
    period = None
    try:
        if since:
            zone = settings.node.timezone
            period = (moment(since, zone), moment(until, zone) if until else time.time())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if period and period[0] > period[1]:
        raise typer.BadParameter("--from is later than --to")
    if settings.database is None:
        raise ConfigError("database: not given: name the PBX's database with its CEL table there")
    counts = asyncio.run(_read_calls(settings, settings.database, ids or [], period, as_json=as_json))
    if not as_json:
        out.print(_summary(counts), highlight=False)
        if counts[Fate.REGISTERED]:
            told = "the running daemon sends them: itgrix-kommo registrations list shows how far they are"
            out.print(told, highlight=False, soft_wrap=True)
    if counts[Fate.FAILED]:
        raise typer.Exit(1)


async def _read_calls(
    settings: config.Config,
    database: config.PbxDatabase,
    ids: list[str],
    period: tuple[float, float] | None,
    *,
    as_json: bool,
) -> dict[Fate, int]:
    os.nice(NICE)
    zone = settings.node.timezone
    counts = dict.fromkeys(Fate, 0)
    async with _history(settings, database) as history:
        reads = history.of_period(*period) if period else history.of_ids(ids)
        with _progress() as progress:
            done = 0.0
            task = progress.add_task("", total=(period[1] - period[0]) if period else len(ids))
            async for read in reads:
                counts[read.fate] += 1
                done = max(done, read.ended_at - period[0]) if period else done + 1
                progress.update(task, completed=done, description=_summary(counts))
                out.print(
                    json.dumps(read.facts(zone)) if as_json else _line(read, zone), highlight=False, soft_wrap=True
                )
            progress.update(task, completed=progress.tasks[0].total)
    return counts


@contextlib.asynccontextmanager
async def _history(settings: config.Config, database: config.PbxDatabase) -> AsyncIterator[History]:
    async with contextlib.AsyncExitStack() as stack:
        registrations = await stack.enter_async_context(opened_registrations(settings))
        plan, zone = number_plan(settings), settings.node.timezone
        yield await stack.enter_async_context(opened_history(database, zone, registrations, plan))


def _progress() -> Progress:
    """A bar on the terminal, and nothing where there is none; lines that are piped elsewhere stay out of it."""
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=err, disable=not err.is_terminal, redirect_stdout=sys.stdout.isatty())


def _summary(counts: dict[Fate, int]) -> str:
    return ", ".join(f"{count} {fate}" for fate, count in counts.items() if count) or "no calls"


def _line(read: Read, zone: tzinfo | None) -> str:
    who = f"{read.type} {read.client}".strip()
    reason = f": {escape(read.reason)}" if read.reason else ""
    return f"{read.ended(zone):19}  {read.call_id}  {who}  [{_COLOURS[read.fate]}]{read.fate}[/]{reason}"
