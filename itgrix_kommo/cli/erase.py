"""`itgrix-kommo calls erase`: a person wants to be forgotten."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from itgrix_kommo import config
from itgrix_kommo.cli.terminal import CONFIG_PATH, ConfigOption, JsonOption, failed, finish, opened, out
from itgrix_kommo.config import Config
from itgrix_kommo.configured import number_plan
from itgrix_kommo.kommo.phones import phone_key
from itgrix_kommo.pipeline.casebook import Casebook, Standing
from itgrix_kommo.pipeline.forgetting import ask_daemon, conversations_of, faceless
from itgrix_kommo.recordings.converted import Converted
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.erasure import Erasure, Traces, erase_shared
from itgrix_kommo.storage.files import RECORDINGS, daemon_of, home
from itgrix_kommo.storage.names import file_of
from itgrix_kommo.storage.registrations import Registrations
from itgrix_kommo.storage.shared import SharedDatabase

SHORTEST = 7
"""Digits; fewer are part of many people's numbers."""

LOOKS = 3
"""Times that what is left is looked for: a file may be compressed while it is painted over."""

OTHER_NODES = "the other nodes of this account: their own files; run the same command on each"

OUT_OF_REACH = (
    "Kommo: his contact, leads, calls, notes and tasks, and links in them; delete the contact there",
    "the PBX: its recordings, its CDR and CEL tables, its own logs",
    "the log: journald and rotated files (journalctl --vacuum-time=…), and copies of any of these files in backups",
)


def erase(
    phone: Annotated[str, typer.Option(help="The person's telephone number, as you would dial it.")],
    path: ConfigOption = CONFIG_PATH,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget a person: his calls, his recordings' copies, and what is remembered of him. It can't be undone."""
    settings = config.load(path)
    digits = _digits(settings, phone)
    is_one_of_several = settings.storage.shared_url is not None
    beyond = [*OUT_OF_REACH, *([OTHER_NODES] if is_one_of_several else [])]
    counts = finish(_found(settings, digits))
    if not as_json:
        _tell("Kept here:", counts)
    if any(counts.values()) or is_one_of_several:
        if not yes:
            if as_json:
                raise typer.BadParameter("--json asks nobody: add --yes")
            typer.confirm("Forget all this? It can't be undone.", abort=True)
        counts, left = finish(_erase(settings, digits))
        if left:
            raise failed(f"not all is gone: {', '.join(left)}: run this again")
        if not as_json:
            _tell("Forgotten:", counts)
    if as_json:
        out.print_json(json.dumps({"erased": counts, "out_of_reach": beyond}))
        return
    out.print("What this can't reach:")
    for one in beyond:
        out.print(f"  {one}", markup=False, highlight=False, soft_wrap=True)


def _digits(settings: Config, phone: str) -> str:
    plan = number_plan(settings)
    digits = phone_key(plan.client_phone(phone.strip()), settings.numbers.region).digits
    if len(digits) < SHORTEST:
        raise typer.BadParameter(f"{phone!r} names nobody: give a whole number", param_hint="--phone")
    if plan.is_fmc(phone.strip()):
        raise failed(f"{phone} is an employee's: take it out of employees and the FMC patterns first")
    return digits


def _tell(words: str, counts: dict[str, int]) -> None:
    there = [f"{name.replace('_', ' ')}: {count}" for name, count in counts.items() if count]
    out.print(f"{words} {', '.join(there) or 'nothing of this number here'}", highlight=False, soft_wrap=True)


async def _found(settings: Config, digits: str) -> dict[str, int]:
    async with opened(settings) as database:
        return _counts(settings, await _erasure(settings, database, digits).find())


async def _erase(settings: Config, digits: str) -> tuple[dict[str, int], list[str]]:
    """How many of each went; and what is left, in words."""
    url = settings.storage.url.get_secret_value()
    async with opened(settings) as database:
        casebook = Casebook(home(url), Registrations(database, settings.node.name), number_plan(settings))
        runs = daemon_of(url) is not None or not url.startswith("sqlite")
        if runs and await casebook.cases(0.0, float("inf"), phone=digits, standings=[Standing.LIVE], limit=1):
            raise failed("a call with this number goes on: run this again when it has ended")
        erasure = _erasure(settings, database, digits)
        traces = await erasure.find()
        counts = _counts(settings, traces)
        await erasure.hold_back(traces)
        left = []
        if runs and not await asyncio.to_thread(ask_daemon, home(url), digits, traces.clients):
            left.append("the daemon did not answer: if it runs, it may write anew what it remembers")
        counts["shared_registrations"] = await _erase_shared(settings, digits)
        for _ in range(LOOKS):
            for one in _cached(settings, traces):
                one.unlink(missing_ok=True)
            await erasure.erase(traces)
            traces = await erasure.find()
            if traces.is_empty:
                break
        there = {name: count for name, count in traces.counts().items() if count}
        return counts, [*left, *(f"{count} {name.replace('_', ' ')}" for name, count in there.items())]


async def _erase_shared(settings: Config, digits: str) -> int:
    if settings.storage.shared_url is None:
        return 0
    shared = SharedDatabase(settings.storage.shared_url.get_secret_value())
    try:
        return await erase_shared(shared, digits, faceless)
    finally:
        await shared.close()


def _erasure(settings: Config, database: Database, digits: str) -> Erasure:
    url = settings.storage.url.get_secret_value()
    node = settings.node.name if file_of(url) is None else None
    return Erasure(database, node, home(url), digits, conversations_of=conversations_of, faceless=faceless)


def _counts(settings: Config, traces: Traces) -> dict[str, int]:
    return {**traces.counts(), "cached_recordings": len(_cached(settings, traces))}


def _cached(settings: Config, traces: Traces) -> list[Path]:
    """The converted recordings of his calls."""
    directory = home(settings.storage.url.get_secret_value()) / RECORDINGS
    cache = Converted(directory, limit=0, days=0)
    return [path for one in traces.recordings if (path := cache.path_of(one)).exists()]
