"""`itgrix-kommo hooks`: which customizations there are, and what one makes of a call."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table
from rich.text import Text

from itgrix_kommo import config, log, running
from itgrix_kommo.cli.terminal import CONFIG_PATH, ConfigOption, JsonOption, failed, finish, opened_registrations, out
from itgrix_kommo.config import HOOKS, Config, Hook
from itgrix_kommo.configured import number_plan, rules_of
from itgrix_kommo.customizations import CATALOGUE, Customizer, Findings, Verdict, find
from itgrix_kommo.customizations.host import HookHost
from itgrix_kommo.doctor.hooks import not_for_root
from itgrix_kommo.kommo.checks import Report
from itgrix_kommo.pipeline.intake import CALL
from itgrix_kommo.pipeline.progress import Progress
from itgrix_kommo.pipeline.trial import params_for
from itgrix_kommo.service_manager import ServiceManager

commands = typer.Typer(help="Your own programs at 13 points of a call.", no_args_is_help=True)


@commands.command("list")
def hooks_list(path: ConfigOption = CONFIG_PATH, *, as_json: JsonOption = False) -> None:
    """List the customizations: their files, whether they run, and how they fared in the running daemon."""
    settings = config.load(path)
    found = find(Path(settings.customizations.directory))
    counts, why_not = finish(_counts(settings))
    problems = list(dict.fromkeys([*found.errors, *found.warnings, *counts.get("problems", ())]))
    rows = [_facts(hook, settings, found, counts.get("hooks", {})) for hook in HOOKS]
    if as_json:
        out.print_json(json.dumps({"hooks": rows, "problems": problems, "no_counts": why_not or None}))
        return
    table = Table("№")
    table.add_column("customization", no_wrap=True)
    for title in ("file", "kind", "runs", *(() if why_not else ("calls", "failures", "time-outs"))):
        table.add_column(title, overflow="fold")
    for row in rows:
        runs = "[green]yes[/]" if row["enabled"] else f"[dim]{row['why']}[/]"
        cells = (str(row["number"]), row["hook"], row["file"] or "", row["kind"] or "", runs)
        numbers = (str(row[key]) for key in ("calls", "failures", "timeouts")) if not why_not else ()
        table.add_row(*cells, *numbers)
    out.print(table)
    for problem in problems:
        out.print(f"! {problem}", markup=False, highlight=False, soft_wrap=True)
    if why_not:
        out.print(f"No counts: {why_not}", markup=False, highlight=False, soft_wrap=True)


@commands.command("host")
def hooks_host(
    socket: Annotated[Path, typer.Option(help="The socket to make, for this user and its group alone.")],
) -> None:
    """Run the customizations for a daemon whose customizations.socket this is, as the user who runs this."""
    log.configure("info", "json")
    try:
        finish(_host(socket))
    except OSError as error:
        raise failed(f"{socket} can't be made: {error.strerror}: give a path in a directory of this user") from error


@commands.command("try")
def hooks_try(
    hook: Annotated[str, typer.Argument(help="Its name, as `hooks list` shows it.")],
    path: ConfigOption = CONFIG_PATH,
    *,
    call: Annotated[str, typer.Option(help="A call that was registered here: its linkedid, or a uniqueid of it.")] = "",
    sample: Annotated[bool, typer.Option("--sample", help="A made-up call.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a customization makes of a call. Kommo is not asked, and nothing is written to it."""
    if hook not in CATALOGUE:
        raise typer.BadParameter(f"there is no customization {hook!r}: itgrix-kommo hooks list shows them")
    if bool(call) == sample:
        raise typer.BadParameter("give either --call ID or --sample")
    name = cast("Hook", hook)
    settings = config.load(path)
    if why := not_for_root(settings):
        raise failed(f"{why}itgrix-kommo hooks try {hook} {'--sample' if sample else f'--call {call}'}")
    found = find(Path(settings.customizations.directory))
    if found.errors:
        raise failed("\n".join(found.errors))
    if name not in found.files:
        raise failed(f"{settings.customizations.directory} holds no file for {name}: put {name}.php there, say")
    params = CATALOGUE[name].params if sample else finish(_params(settings, name, call))
    verdict = finish(_try(settings, name, params, call or "sample"))
    unchanged = CATALOGUE[name].unchanged(params)
    if as_json:
        out.print_json(
            json.dumps({"input": params, **_verdict_facts(verdict), "difference": _diff(unchanged, verdict)})
        )
    else:
        _print(params, verdict, _diff(unchanged, verdict))
    if verdict.failure:
        raise typer.Exit(1)


def _facts(hook: Hook, settings: Config, found: Findings, counts: Mapping[str, Any]) -> dict[str, Any]:
    file = found.files.get(hook)
    why = "no file" if file is None else "disabled" if hook in settings.customizations.disabled else ""
    if file is not None and not settings.customizations.enabled:
        why = "all are off"
    counted = counts.get(hook, {})
    return {
        "number": CATALOGUE[hook].number,
        "hook": hook,
        "file": file.path.name if file else None,
        "kind": file.kind.value if file else None,
        "enabled": not why,
        "why": why,
        **{key: counted.get(key, 0) for key in ("calls", "failures", "timeouts")},
        "last_error": counted.get("last_error"),
    }


async def _host(socket: Path) -> None:
    host = asyncio.create_task(HookHost(socket).run(ServiceManager.of_environment().ready))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, host.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await host


async def _counts(settings: Config) -> tuple[dict[str, Any], str]:
    """What the running daemon counted, as its /status tells; else why there is nothing."""
    found, why_not = await running.status(settings)
    counts = found.get("customizer")
    if why_not or isinstance(counts, dict):
        return counts or {}, why_not
    return {}, f"{running.address(settings)}/status tells nothing of customizations: does another program answer there?"


async def _params(settings: Config, hook: Hook, call_id: str) -> dict[str, Any]:
    async with opened_registrations(settings) as registrations:
        row = await registrations.by_call(call_id)
    if row is None:
        raise failed(f"no call {call_id} was kept here: itgrix-kommo registrations list --json shows their call_id")
    call = CALL.validate_python(row.call)
    phone = number_plan(settings).client_phone(call.client.number)
    rules = rules_of(settings, Report())
    params = params_for(hook, call, Progress.model_validate(row.progress), phone, rules)
    if params is None:
        raise failed(f"call {call_id} does not lead to {hook}: try it with --sample")
    return params


async def _try(settings: Config, hook: Hook, params: dict[str, Any], call_id: str) -> Verdict:
    """Switched off or not, it is tried."""
    customizer = Customizer(settings.customizations.model_copy(update={"enabled": True, "disabled": ()}))
    try:
        await customizer.look_again()
        return await customizer.call(hook, params, call_id=call_id)
    finally:
        await customizer.stop()


def _verdict_facts(verdict: Verdict) -> dict[str, Any]:
    return {
        "hook": verdict.hook,
        "data": verdict.data,
        "cancelled": verdict.cancelled,
        "failure": verdict.failure,
        "printed": verdict.printed,
        "seconds": round(verdict.seconds, 4),
    }


def _diff(unchanged: dict[str, Any], verdict: Verdict) -> list[str]:
    """What goes on, against what would go on without the customization, as lines of a diff; empty for no difference."""
    before, after = _lines(unchanged), [] if verdict.data is None else _lines(verdict.data)
    return list(difflib.unified_diff(before, after, "without it", "with it", lineterm=""))


def _lines(data: Mapping[str, Any]) -> list[str]:
    return json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True).splitlines()


def _print(params: dict[str, Any], verdict: Verdict, difference: list[str]) -> None:
    out.rule("input")
    out.print_json(json.dumps(params))
    out.rule("output")
    if verdict.failure:
        out.print(Text(f"failed: {verdict.failure}", style="red"), soft_wrap=True)
        out.print(f"so {CATALOGUE[verdict.hook].on_failure}", highlight=False)
    elif verdict.data is None:
        out.print(f"cancelled: {CATALOGUE[verdict.hook].cancels}", highlight=False)
    else:
        out.print_json(json.dumps(verdict.data))
    if verdict.printed:
        out.rule("printed")
        out.print(Text(verdict.printed))
    out.rule("difference")
    for line in difference or ["none"]:
        out.print(Text(line, style={"+": "green", "-": "red"}.get(line[:1], "")), soft_wrap=True)
    out.print(f"{verdict.seconds * 1000:.1f} ms", style="dim", highlight=False)
