"""`itgrix-kommo nodes`: the PBXs that share the account, one that is gone for good, one that has another name now."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from itgrix_kommo import config, log
from itgrix_kommo.cli.terminal import CONFIG_PATH, ConfigOption, JsonOption, err, failed, finish, out
from itgrix_kommo.config import Config
from itgrix_kommo.doctor.findings import age, count
from itgrix_kommo.errors import ItgrixError
from itgrix_kommo.kommo.shares import ALONE_AT_MOST
from itgrix_kommo.storage import names, shared_nodes
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.names import Kept, file_of, told_of
from itgrix_kommo.storage.shared import SharedDatabase
from itgrix_kommo.storage.shared_nodes import Failed, Member, Moved

MOST_SHOWN = 20
"""Of the registrations that failed; `--json` gives all."""

commands = typer.Typer(help="The PBXs that share the account.", no_args_is_help=True)

YesOption = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


@commands.command("list")
def nodes_list(path: ConfigOption = CONFIG_PATH, *, as_json: JsonOption = False) -> None:
    """List the PBXs that share the account, as their common database has them; no daemon need run here."""
    settings = config.load(path)
    here = settings.node.name
    if settings.storage.shared_url is None:
        err.print(_alone(settings), markup=False, highlight=False, soft_wrap=True)
        if as_json:
            out.print_json("[]")
        return
    members = finish(_members(settings))
    if as_json:
        out.print_json(json.dumps([_member_facts(one, here) for one in members]))
        return
    table = Table("node", "", "waiting", "failed", "slots", "fixed share", "version", box=None)
    for one in members:
        name = f"[bold]{_plain(one.name)}[/] (this one)" if one.name == here else _plain(one.name)
        numbers = (str(number) for number in (one.waiting, one.failed, one.slots, one.fixed_share))
        table.add_row(name, _presence(one), *numbers, _plain(one.version))
    if members:
        out.print(table)
    if here not in {one.name for one in members}:
        words = f"This PBX ({here}) is not among them: start its daemon (systemctl start itgrix_amo)."
        out.print(words, markup=False, highlight=False, soft_wrap=True)


@commands.command("forget")
def nodes_forget(
    name: Annotated[str, typer.Argument(help="The node, as `nodes list` shows it.")],
    path: ConfigOption = CONFIG_PATH,
    *,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a PBX go that is gone for good: its part of the limit goes to the others at once."""
    settings = config.load(path)
    if settings.storage.shared_url is None:
        raise failed(_alone(settings))
    if name == settings.node.name:
        raise failed(f"{name} is this PBX itself: run this on one that stays")
    member, lost = finish(_look_at(settings, name))
    if not as_json:
        _tell_what_goes(member, lost)
    if not yes:
        if as_json:
            raise typer.BadParameter("--json asks nobody: add --yes")
        typer.confirm(f"Forget {name}?", abort=True)
    found = finish(_forget(settings, name))
    if as_json:
        facts = {"forgotten": name, "fixed_share": member.fixed_share, "waiting": found.waiting}
        out.print_json(json.dumps({**facts, "failed": [_failed_facts(one) for one in lost]}))
        return
    _say(f"{name} is forgotten: its fixed share of {member.fixed_share} goes to the others.")


@commands.command("rename")
def nodes_rename(
    old: Annotated[str, typer.Argument(help="What this PBX was called before.")],
    path: ConfigOption = CONFIG_PATH,
    *,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """This PBX has another `node.name` now: make what is kept under its former one its own. The daemon is stopped."""
    settings = config.load(path)
    new = settings.node.name
    if old == new:
        raise failed(f"this PBX is called {new} already: give node.name its new name first, and here the former one")
    file = file_of(settings.storage.url.get_secret_value())
    if file is None and not yes:
        if as_json:
            raise typer.BadParameter("--json asks nobody: add --yes")
        words = f"storage.url is a server: nobody here can tell whether a daemon is at work as {old} or {new}. Is none?"
        typer.confirm(words, abort=True)
    if file is not None and not file.exists():
        raise failed(f"storage.url: there is no {file}: nothing is kept here")
    here, shared = finish(_rename(settings, old))
    if as_json:
        moved = {"here": here._asdict(), "shared": shared._asdict() if shared else None}
        out.print_json(json.dumps({"from": old, "to": new, **moved}))
        return
    _say(f"{old} is {new} now:")
    _say(f"  {file or 'storage.url'}: {told_of(here)}")
    if shared is not None:
        _say(f"  the nodes' database: {told_of(Kept(*shared))}")
    _say("Start the daemon: systemctl start itgrix_amo")


@contextlib.asynccontextmanager
async def _opened(settings: Config) -> AsyncIterator[SharedDatabase]:
    url = settings.storage.shared_url
    if url is None:
        raise AssertionError("who has none is told so before")
    shared = SharedDatabase(url.get_secret_value())
    try:
        yield shared
    finally:
        await shared.close()


async def _members(settings: Config) -> list[Member]:
    async with _opened(settings) as shared:
        return await shared_nodes.members(shared)


async def _look_at(settings: Config, name: str) -> tuple[Member, list[Failed]]:
    async with _opened(settings) as shared:
        members = await shared_nodes.members(shared)
        member = next((one for one in members if one.name == name), None)
        if member is None:
            known = ", ".join(one.name for one in members) or "none"
            raise failed(f"there is no node {name}: known are {known}")
        if member.is_here:
            raise failed(f"{name} is at work: only who is gone for good is forgotten; stop its daemon first")
        return member, await shared_nodes.failed_of(shared, name)


async def _forget(settings: Config, name: str) -> Moved:
    async with _opened(settings) as shared:
        await shared.prepare()
        return await shared_nodes.forget(shared, name)


async def _rename(settings: Config, old: str) -> tuple[Kept, Moved | None]:
    """The shared database first: until all is done, the daemon here is refused, and this is run again."""
    new, moved = settings.node.name, None
    async with contextlib.AsyncExitStack() as stack:
        database = await Database.open(settings.storage.url.get_secret_value(), instead_of_daemon=True)
        stack.push_async_callback(database.close)
        await names.see_that_none_is_both(database, old, new)
        if settings.storage.shared_url is not None:
            shared = await stack.enter_async_context(_opened(settings))
            await shared.prepare()
            with err.status("waiting …") if err.is_terminal else contextlib.nullcontext() as waiting:
                tell = waiting.update if waiting is not None else lambda _: None
                await shared_nodes.wait_until_away(shared, [old, new], tell)
                was_new = await names.was_called(database, new)
                moved = await shared_nodes.rename(shared, old, new, was_new=was_new)
        here = await names.rename(database, old, new)
        if not here.registrations and not (moved and moved.registrations):
            known = await database.read(names.names)
            raise ItgrixError(
                f"nothing is kept under the name {old}; what is kept here is under {', '.join(known) or 'none'}: "
                "give the former name as it was"
            )
    return here, moved


def _tell_what_goes(member: Member, lost: list[Failed]) -> None:
    away = "is no node any more" if member.seen is None else f"has been away for {age(member.seen)}"
    _say(f"{member.name} {away}.")
    if member.fixed_share and member.seen is not None and member.seen < ALONE_AT_MOST:
        hours = math.ceil((ALONE_AT_MOST - member.seen) / 3600)
        _say(
            f"If it still runs and is only cut off, it goes on with its fixed share of {member.fixed_share} "
            f"for up to {count(hours, 'hour')} more, on top of what the others send: be sure that it is off."
        )
    if member.waiting:
        _say(f"Registrations of it that wait, and that the others finish: {member.waiting}")
    if lost:
        _say(f"Registrations of it that failed, and that nobody can retry any more: {len(lost)}")
        for one in lost[:MOST_SHOWN]:
            _say(f"  {_when(one.kept_at)}  {one.call_id}  {one.client}  {one.reason}")
        if len(lost) > MOST_SHOWN:
            _say(f"  and {len(lost) - MOST_SHOWN} more; --json lists them all")
    _say("What lay on its disk alone is lost.")


def _presence(member: Member) -> str:
    if member.is_here:
        return "[green]at work[/]"
    if member.seen is None:
        return "[red]gone[/]"
    return f"[yellow]away since {_when(time.time() - member.seen)}[/]"


def _member_facts(member: Member, here: str) -> dict[str, Any]:
    away_since = None if member.is_here or member.seen is None else _when(time.time() - member.seen)
    return {
        "name": member.name,
        "is_this_one": member.name == here,
        "is_at_work": member.is_here,
        "seen_s_ago": member.seen,
        "away_since": away_since,
        "waiting": member.waiting,
        "failed": member.failed,
        "slots": member.slots,
        "fixed_share": member.fixed_share,
        "requests_per_second": member.per_second,
        "version": member.version,
    }


def _failed_facts(one: Failed) -> dict[str, Any]:
    return {"call_id": one.call_id, "client": one.client, "ended": _when(one.kept_at), "reason": one.reason}


def _alone(settings: Config) -> str:
    return f"storage.shared_url is not set: {settings.node.name} shares the account with no other PBX"


def _when(at: float) -> str:
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"


def _say(text: str) -> None:
    out.print(log.masked(log.printable(text)), markup=False, highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    """What others wrote, so that it neither styles nor steers the terminal."""
    return escape(log.printable(text))
