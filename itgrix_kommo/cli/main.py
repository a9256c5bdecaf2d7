"""The command `itgrix-kommo`. Exit status 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.markup import escape
from rich.table import Table

from itgrix_kommo import __version__, app, config, log
from itgrix_kommo.ami.decode import decode
from itgrix_kommo.calls.call import Call, StageName
from itgrix_kommo.calls.numbers import NumberPlan
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.cli.calls import commands as calls_commands
from itgrix_kommo.cli.config import commands as config_commands
from itgrix_kommo.cli.doctor import check
from itgrix_kommo.cli.history import read_call
from itgrix_kommo.cli.hooks import commands as hooks_commands
from itgrix_kommo.cli.login import login
from itgrix_kommo.cli.nodes import commands as nodes_commands
from itgrix_kommo.cli.phonebook import commands as phonebook_commands
from itgrix_kommo.cli.terminal import (
    CONFIG_PATH,
    ConfigOption,
    JsonOption,
    err,
    finish,
    opened_registrations,
    opened_shared,
    out,
)
from itgrix_kommo.cli.widget import commands as widget_commands
from itgrix_kommo.configured import number_plan
from itgrix_kommo.errors import ItgrixError
from itgrix_kommo.sandbox import SandboxOptions, run_sandbox
from itgrix_kommo.storage.registrations import Registration
from itgrix_kommo.storage.standing import as_shared
from itgrix_kommo.storage.trace import read_trace
from itgrix_kommo.web.entrance import allow_files

_log = structlog.get_logger(__name__)

commands = typer.Typer(
    help="Connects Asterisk with Kommo: every call understood and registered once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
registration_commands = typer.Typer(help="Calls on their way into Kommo.", no_args_is_help=True)
commands.command("login")(login)
commands.command("read-call")(read_call)
commands.command("check")(check)
commands.add_typer(config_commands, name="config")
commands.add_typer(registration_commands, name="registrations")
commands.add_typer(calls_commands, name="calls")
commands.add_typer(hooks_commands, name="hooks")
commands.add_typer(nodes_commands, name="nodes")
commands.add_typer(phonebook_commands, name="phonebook")
commands.add_typer(widget_commands, name="widget")


def main() -> None:
    """Run the command line; what the connector refuses is one readable message, never a stack trace."""
    log.configure("warning", "console")
    try:
        commands()
    except ItgrixError as error:
        err.print("✗", style="bold red", end=" ")
        err.print(log.masked(str(error)), markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@commands.command()
def version() -> None:
    """Print the version."""
    out.print(__version__, highlight=False)


@commands.command()
def run(path: ConfigOption = CONFIG_PATH) -> None:
    """Run the daemon until it is told to stop (SIGTERM)."""
    settings = config.load(path)
    log.configure(settings.logging.level, settings.logging.format)
    for warning in settings.warnings():
        _log.warning("configuration", warning=warning)
    allow_files()
    serving = app.run(settings, lambda address: _log.info("serving", address=address), reread=lambda: config.load(path))
    finish(serving)


@commands.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8078,
    *,
    clients: Annotated[bool, typer.Option(help="Begin with a few invented contacts.")] = False,
) -> None:
    """Serve an invented Kommo account in memory, with a page that shows what arrives."""
    options = SandboxOptions(clients=clients)

    def tell(url: str) -> None:
        out.print(f"A Kommo account in memory: {url}/", highlight=False, markup=False, soft_wrap=True)
        words = f"kommo.base_url is that address, kommo.access_token is {options.admin_token!r}. Ctrl-C ends it."
        out.print(words, highlight=False, markup=False, soft_wrap=True)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            finish(run_sandbox(host, port, options, tell))
    except OSError as error:
        why = f"{host}:{port} can't be listened on: {error.strerror}: choose another --port, or stop what uses it"
        err.print(why, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


@commands.command()
def replay(
    trace: Annotated[Path, typer.Argument(help="A recorded AMI trace.")],
    path: Annotated[Path | None, typer.Option("--config", "-c", help="Whose numbers and trunks to go by.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Print what a recorded trace says: each call, what happened, what was decided, and why."""
    plan = number_plan(config.load(path)) if path is not None else NumberPlan()
    tracker = Tracker(plan)
    calls: list[Call] = []
    last = 0.0
    for last, frame in read_trace(trace):
        event = decode(frame, last)
        if event is not None:
            calls += [stage.call for stage in tracker.feed(event) if stage.name is StageName.CALL_ENDED]
    calls += [stage.call for stage in tracker.advance(last + 60.0) if stage.name is StageName.CALL_ENDED]
    if as_json:
        out.print_json(json.dumps([_call_facts(call) for call in calls]))
        return
    for call in calls:
        _print_call(call)
    for live in tracker.calls.values():
        out.print(f"[yellow]![/] call {_plain(live.id)} had not ended when the trace did", highlight=False)


@registration_commands.command("list")
def registrations_list(
    path: ConfigOption = CONFIG_PATH,
    *,
    limit: Annotated[int, typer.Option(help="How many, the latest first.", min=1)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List calls on their way into Kommo, and what became of them."""
    rows = finish(_latest(config.load(path), limit))
    if as_json:
        out.print_json(json.dumps([_registration_facts(row) for row in rows]))
        return
    table = Table("id", "ended", "client", "direction", "result", "state", "why")
    colours = {"done": "green", "failed": "red", "waiting": "yellow", "handed": "yellow", "skipped": "dim"}
    for row in rows:
        facts = _registration_facts(row)
        state = f"[{colours[row.state.value]}]{row.state.value}[/]"
        texts = (_plain(facts[key]) for key in ("ended", "client", "type", "result"))
        table.add_row(str(row.id), *texts, state, _plain(row.reason))
    out.print(table)


@registration_commands.command("retry")
def registrations_retry(
    number: Annotated[int, typer.Argument(help="Its id, as `registrations list` shows it.", min=1, max=2**63 - 1)],
    path: ConfigOption = CONFIG_PATH,
) -> None:
    """Put a failed registration back in line."""
    if not finish(_retry(config.load(path), number)):
        err.print(f"there is no failed registration {number}: itgrix-kommo registrations list shows them")
        raise typer.Exit(1)
    out.print(f"registration {number} waits again; the running daemon takes it up within a quarter of a minute")


async def _latest(settings: config.Config, limit: int) -> list[Registration]:
    async with opened_registrations(settings) as registrations, opened_shared(settings) as shared:
        return await as_shared(shared, await registrations.latest(limit))


async def _retry(settings: config.Config, number: int) -> bool:
    async with opened_registrations(settings) as registrations:
        return await registrations.retry(number, time.time())


def _registration_facts(row: Registration) -> dict[str, Any]:
    call = row.call
    return {
        "id": row.id,
        "call_id": row.call_id,
        "ended": f"{datetime.fromtimestamp(row.created_at).astimezone():%Y-%m-%d %H:%M:%S}",
        "client": row.client,
        "type": call["type"],
        "result": call["outcome"]["text"] if call["outcome"] else "going on",
        "duration_s": call["duration"],
        "state": row.state.value,
        "reason": row.reason,
        "attempts": row.attempts,
        "progress": row.progress,
    }


def _call_facts(call: Call) -> dict[str, Any]:
    return {
        "call_id": call.id,
        "type": call.type.value,
        "client": call.client.number,
        "did": call.did,
        "trunk": call.trunk,
        "result": call.outcome.text if call.outcome else "",
        "duration_s": call.duration,
        "responsible": call.responsible.id if call.responsible else None,
        "is_ivr": call.is_ivr,
        "conversations": [
            {
                "id": one.id,
                "channel": one.channel.name,
                "from": one.channel.from_.number,
                "to": one.channel.to.number,
                "answered": one.was_answered,
                "user": one.user.id if one.user else None,
            }
            for one in call.conversations
        ],
        "timeline": [{"at": note.at, "text": note.text} for note in call.timeline],
    }


def _print_call(call: Call) -> None:
    result = call.outcome.text if call.outcome else ""
    client = _plain(call.client.number) or "no client"
    out.print(
        f"\n[bold]{_plain(call.id)}[/] {call.type.value}, {client}: [bold]{result}[/]"
        f"{f', {call.duration} s' if call.was_answered else ''}",
        highlight=False,
        soft_wrap=True,
    )
    for note in call.timeline:
        text = f"  {note.at - call.started_at:8.2f} s  {_plain(note.text)}"
        out.print(text, highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    """What others wrote (callers, Kommo), so that it neither styles nor steers the terminal."""
    return escape(log.printable(text))
