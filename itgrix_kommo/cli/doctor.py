"""`itgrix-kommo check`: what the doctor found, on a terminal, in a file, or as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from itgrix_kommo import config, doctor, log
from itgrix_kommo.cli.terminal import CONFIG_PATH, ConfigOption, JsonOption, out
from itgrix_kommo.doctor import Result, StrayThreads, Verdict
from itgrix_kommo.doctor.findings import fault, skipped, split
from itgrix_kommo.errors import ConfigError

_MARKS: Final = {Verdict.OK: "✓", Verdict.WARNING: "!", Verdict.FAULT: "✗", Verdict.SKIPPED: "·"}
_PLAIN_MARKS: Final = {Verdict.OK: "+", Verdict.WARNING: "!", Verdict.FAULT: "x", Verdict.SKIPPED: "-"}
_STYLES: Final = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAULT: "bold red", Verdict.SKIPPED: "dim"}
_COUNTED: Final = {
    Verdict.OK: "{} in order",
    Verdict.WARNING: "warnings: {}",
    Verdict.FAULT: "faults: {}",
    Verdict.SKIPPED: "{} skipped",
}


def check(
    path: ConfigOption = CONFIG_PATH,
    *,
    run_hooks: Annotated[
        bool, typer.Option("--run-hooks", help="Call each customization once, truly, with a made-up call.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Examine everything outside that the daemon needs; say of each fault what to type.

    Nothing is changed, no call is placed, nothing is written to Kommo. Exit status 0, also with warnings; 1 with a
    fault.
    """
    # What libraries and rooms would log on the way is in the findings, in fewer words.
    logging.disable(logging.CRITICAL)
    waiting = out.status("looking at everything outside …") if out.is_terminal and not as_json else nullcontext()
    with waiting:
        results = _results(path, run_hooks=run_hooks)
    if as_json:
        out.print(json.dumps(_facts(results), indent=2), markup=False, highlight=False, soft_wrap=True)
    else:
        _print(results)
    if doctor.worst(results) is Verdict.FAULT:
        raise typer.Exit(1)


def _results(path: Path, *, run_hooks: bool) -> list[Result]:
    try:
        settings = config.load(path)
    except ConfigError as error:
        problems = [Result("configuration", "file", fault(*split(line))) for line in str(error).splitlines()]
        return [*problems, Result("configuration", "all else", skipped("it needs a configuration that can be used"))]
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(StrayThreads())
        return runner.run(doctor.examination(settings, path, run_hooks=run_hooks))


def _facts(results: Sequence[Result]) -> dict[str, Any]:
    return {
        "verdict": doctor.worst(results).value,
        "counts": _counts(results),
        "checks": [
            {
                "group": result.group,
                "name": result.name,
                "verdict": result.finding.verdict.value,
                "words": _shown(result.finding.words),
                "remedy": _shown(result.finding.remedy),
            }
            for result in results
        ],
    }


def _counts(results: Sequence[Result]) -> dict[str, int]:
    found = [result.finding.verdict for result in results]
    return {verdict.value: found.count(verdict) for verdict in Verdict}


def _print(results: Sequence[Result]) -> None:
    is_plain = not _can_show("✓✗·→")
    marks, arrow = (_PLAIN_MARKS, "->") if is_plain else (_MARKS, "→")
    for group, lines in groupby(results, key=lambda result: result.group):
        _line(Text(group, style="bold"))
        for result in lines:
            finding = result.finding
            line = Text(f"  {marks[finding.verdict]} ", style=_STYLES[finding.verdict])
            line.append(f"{result.name}: ", style="default")
            line.append(_shown(finding.words), style="dim" if finding.verdict is Verdict.SKIPPED else "default")
            _line(line)
            if finding.remedy:
                _line(Text(f"      {arrow} {_shown(finding.remedy)}", style="default"))
    told = [_COUNTED[Verdict(verdict)].format(number) for verdict, number in _counts(results).items() if number]
    _line(Text(", ".join(told), style=_STYLES[doctor.worst(results)]))


def _line(text: Text) -> None:
    plain = text.plain.encode(out.encoding, "backslashreplace").decode(out.encoding)
    out.print(text if plain == text.plain else Text(plain, style=text.style), soft_wrap=True, highlight=False)


def _can_show(marks: str) -> bool:
    try:
        marks.encode(out.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _shown(text: str) -> str:
    """What others wrote steers no terminal, and no secret is shown, whoever quoted it."""
    return log.printable(log.masked(text))
