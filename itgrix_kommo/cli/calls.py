"""`itgrix-kommo calls`: which calls there were, and all about one of them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from itgrix_kommo import config, log
from itgrix_kommo.cli.erase import erase
from itgrix_kommo.cli.terminal import (
    CONFIG_PATH,
    ConfigOption,
    JsonOption,
    failed,
    finish,
    opened_registrations,
    opened_shared,
    out,
)
from itgrix_kommo.config import Config
from itgrix_kommo.configured import number_plan
from itgrix_kommo.pipeline.casebook import Brief, Case, Casebook, Standing
from itgrix_kommo.pipeline.history import moment
from itgrix_kommo.pipeline.telling import Moment, Source, short, traced, without_links
from itgrix_kommo.pipeline.timeline import remedy, timeline
from itgrix_kommo.storage.files import daemon_of, home
from itgrix_kommo.storage.registrations import Registration
from itgrix_kommo.storage.trace import Recorded, encode

SINCE = 7 * 86_400.0
"""Seconds back that `calls list` looks by itself."""

WIDE = 200
"""Columns where there is no terminal, so that nothing is cut for `grep`."""

commands = typer.Typer(help="What happened in each call, what was decided, and why.", no_args_is_help=True)

commands.command("erase")(erase)

_COLOURS = {
    Standing.DONE: "green",
    Standing.FAILED: "red",
    Standing.WAITING: "yellow",
    Standing.HANDED: "yellow",
    Standing.SKIPPED: "dim",
    Standing.LIVE: "cyan",
}
_SOURCES = {Source.PBX: "cyan", Source.DAEMON: "white", Source.HOOK: "magenta", Source.KOMMO: "blue"}
_LEVELS = {"warning": "yellow", "error": "red"}

WhenOption = "'YYYY-MM-DD hh:mm:ss' of the PBX, Unix seconds, or ISO 8601 with zone."


@commands.command("list")
def calls_list(
    path: ConfigOption = CONFIG_PATH,
    *,
    since: Annotated[str, typer.Option(help=f"{WhenOption} A week ago, if left out.")] = "",
    until: Annotated[str, typer.Option(help="The same; now, if left out.")] = "",
    phone: Annotated[str, typer.Option(help="Any part of a number that took part.")] = "",
    only: Annotated[list[Standing] | None, typer.Option(help="What has become of it; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(help="How many, the latest first.", min=1)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List calls and what has become of each: those that go to Kommo, and those that don't, with the reason."""
    settings = config.load(path)
    now = time.time()
    begin = _moment(settings, since, "--since") if since else now - SINCE
    end = _moment(settings, until, "--until") if until else now
    briefs = finish(_cases(settings, begin, end, phone, only or [], limit))
    if as_json:
        out.print_json(json.dumps([one._asdict() for one in briefs]))
        return
    table = Table("began", "call", "from → to", "type", "result", "state", "why", box=None)
    for column in table.columns[:-1]:
        column.no_wrap = True
    for one in briefs:
        result = f"{one.result}, {one.duration} s" if one.duration else one.result
        state = f"[{_COLOURS[one.standing]}]{one.standing.value}[/]"
        texts = map(_plain, (one.call_id, one.parties, one.type, result))
        table.add_row(_when(one.started_at)[5:], *texts, state, _plain(one.reason))
    (out if out.is_terminal else Console(width=WIDE)).print(table)
    if not briefs:
        out.print("No call. Give an earlier --since, or look whether the daemon hears Asterisk.", highlight=False)


@commands.command("show")
def calls_show(
    name: Annotated[str, typer.Argument(help="A linkedid or uniqueid of the call, or its registration's id.")],
    path: ConfigOption = CONFIG_PATH,
    *,
    events: Annotated[bool, typer.Option("--events", help="With all that Asterisk said of it.")] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Write what Asterisk said of it to this file, for `itgrix-kommo replay`.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell a call's whole story: what happened, what was decided and why, what Kommo was told and what it said."""
    settings = config.load(path)
    case, frames = finish(_case(settings, name, with_frames=events or trace is not None))
    if case is None:
        raise failed(
            f"nothing is known of {name}: itgrix-kommo calls list shows the ids of calls (--phone: of one person); "
            f"they are kept for {settings.storage.retention_days} days (storage.retention_days)"
        )
    if trace is not None:
        _write_trace(trace, frames)
    moments = timeline(case.call, case.lines, case.registration)
    url = settings.storage.url.get_secret_value()
    runs = daemon_of(url) is not None or not url.startswith("sqlite")
    advice = remedy(case.registration, case.lines, behind=case.behind, call=case.call, runs=runs)
    if as_json:
        moments = sorted([*moments, *traced(case.lines)], key=lambda one: one.at)
        facts: dict[str, Any] = {"call_id": case.call_id, "call": _call_facts(case), "registration": _row_facts(case)}
        facts |= {"timeline": [{**one._asdict(), "facts": dict(one.facts)} for one in moments], "what_to_do": advice}
        if events:
            facts["events"] = [{"at": at, "headers": _headers(frame)} for at, frame in frames]
        out.print_json(log.masked(json.dumps(facts)))
        return
    _print_head(case)
    if events:
        moments += [Moment(at, Source.PBX, _event(frame), "debug") for at, frame in frames]
        moments.sort(key=lambda one: one.at)
    _print_moments(moments)
    for one in traced(case.lines):
        _say(f"  {one.facts.get('hook', '')} was given {short(one.facts.get('params'))}")
        _say(f"  {'':{len(str(one.facts.get('hook', '')))}} and answered {short(one.facts.get('data'))}")
    out.print(f"\n[bold]→[/] {_plain(advice)}", highlight=False, soft_wrap=True)


def _moment(settings: Config, text: str, option: str) -> float:
    try:
        return moment(text, settings.node.timezone)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


@contextlib.asynccontextmanager
async def _casebook(settings: Config) -> AsyncIterator[Casebook]:
    async with opened_registrations(settings) as registrations:
        plan = number_plan(settings)
        async with opened_shared(settings) as shared:
            yield Casebook(home(settings.storage.url.get_secret_value()), registrations, plan, shared)


async def _cases(
    settings: Config, since: float, until: float, phone: str, only: list[Standing], limit: int
) -> list[Brief]:
    async with _casebook(settings) as casebook:
        return await casebook.cases(since, until, phone=phone, standings=only, limit=limit)


async def _case(settings: Config, name: str, *, with_frames: bool) -> tuple[Case | None, list[Recorded]]:
    async with _casebook(settings) as casebook:
        case = await casebook.find(name)
        frames = await casebook.frames(case) if case is not None and with_frames else []
        return case, frames


def _write_trace(path: Path, frames: list[Recorded]) -> None:
    if not frames:
        raise failed("the journal has nothing of this call any more: no trace was written")
    try:
        path.touch(mode=0o600)
        path.write_bytes(b"".join(encode(at, frame) for at, frame in frames))
    except OSError as error:
        raise failed(f"{path} can't be written: {error.strerror}: give another path") from error


def _print_head(case: Case) -> None:
    call, row = case.call, case.registration
    if call is not None:
        result = call.outcome.text if call.outcome else "going on"
        talk = f", {call.duration} s" if call.was_answered and call.outcome else ""
        who = f"{call.channel.from_.number or '?'} → {call.channel.to.number or '?'}"
        head = f"[bold]{_plain(case.call_id)}[/] {_when(call.started_at)} {call.type.value}, {_plain(who)}"
        out.print(f"{head}: [bold]{_plain(result)}[/]{talk}", highlight=False, soft_wrap=True)
    else:
        out.print(f"[bold]{_plain(case.call_id)}[/]", highlight=False)
    if row is not None:
        state = f"[{_COLOURS[Standing(row.state)]}]{row.state.value}[/]"
        reason = f": {_plain(row.reason)}" if row.reason else ""
        out.print(f"registration {row.id}, {state}{reason}", highlight=False, soft_wrap=True)


def _print_moments(moments: list[Moment]) -> None:
    day = ""
    for one in moments:
        clock = datetime.fromtimestamp(one.at).astimezone()
        if f"{clock:%Y-%m-%d}" != day:
            day = f"{clock:%Y-%m-%d}"
            out.print(f"\n[dim]{day}[/]", highlight=False)
        colour = _LEVELS.get(one.level, "")
        text = f"[{colour}]{_plain(one.text)}[/]" if colour else _plain(one.text)
        source = f"[{_SOURCES[one.source]}]{one.source.value:<6}[/]"
        out.print(f"  {clock:%H:%M:%S}.{clock.microsecond // 1000:03} {source} {text}", highlight=False, soft_wrap=True)


def _call_facts(case: Case) -> dict[str, Any] | None:
    call = case.call
    if call is None:
        return None
    return {
        "type": call.type.value,
        "from": call.channel.from_.number,
        "to": call.channel.to.number,
        "client": call.client.number,
        "did": call.did,
        "trunk": call.trunk,
        "result": call.outcome.text if call.outcome else None,
        "duration_s": call.duration,
        "responsible": call.responsible.id if call.responsible else None,
        "started_at": call.started_at,
        "ended_at": call.ended_at,
        "ids": sorted(call.aliases),
    }


def _row_facts(case: Case) -> dict[str, Any] | None:
    row = case.registration
    if row is None:
        return None
    return {
        "id": row.id,
        "state": row.state.value,
        "reason": row.reason,
        "attempts": row.attempts,
        "due_at": row.due_at,
        "created_at": row.created_at,
        "behind": case.behind,
        "early_id": case.early.id if case.early else None,
        "progress": _progress(row),
    }


def _progress(row: Registration) -> Any:
    return without_links(row.progress)


def _headers(frame: bytes) -> dict[str, str]:
    lines = (line.partition(": ") for line in frame.decode("utf-8", "replace").split("\r\n"))
    return {key: value for key, _, value in lines}


def _event(frame: bytes) -> str:
    headers = _headers(frame)
    shown = {key: value for key, value in headers.items() if value and key not in {"Event", "Privilege"}}
    return f"{headers.get('Event', '?')} {', '.join(f'{key}={value}' for key, value in shown.items())}"


def _say(text: str) -> None:
    out.print(log.masked(log.printable(text)), markup=False, highlight=False, soft_wrap=True)


def _when(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"


def _plain(text: str) -> str:
    """What others wrote (callers, Kommo), so that it neither styles nor steers the terminal, and tells no secret."""
    return escape(log.masked(log.printable(text)))
