"""The customizations: what runs them, and whether each file can be run. They are called only when asked for.

A customization may do anything (send a message, write a file), so it is read and not run: PHP by ``php -l``, Python by
its own compiler, a program by its run bit and its interpreter. `--run-hooks` calls each once with a made-up call.
"""

from __future__ import annotations

import ast
import asyncio
import os
import shutil
import stat
import warnings
from asyncio import to_thread
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from itgrix_kommo.config import Config, Customizations, Hook
from itgrix_kommo.customizations import CATALOGUE, Customizer, Findings, HookFile, Kind, find
from itgrix_kommo.customizations.process import environment
from itgrix_kommo.doctor.examination import Check, Found, Patient
from itgrix_kommo.doctor.findings import Finding, count, fault, ok, skipped, split, warning
from itgrix_kommo.doctor.people import ENTER, READ, Person, person
from itgrix_kommo.doctor.storage import user_of

GROUP: Final = "customizations"

LINT_WITHIN: Final = 10.0

RUN_WITHIN: Final = 90.0
"""Seconds for all customizations together, each within its own time-out."""

_SHEBANG: Final = 256
_NO_INTERPRETER: Final = "its first line names no interpreter: begin it with #!/bin/sh or the like"


def checks(patient: Patient) -> list[Check]:
    settings = patient.config.customizations
    if not settings.enabled:
        return [Check(GROUP, "files", _switched_off)]
    found = [
        Check(GROUP, "directory", partial(directory, patient.config)),
        *([Check(GROUP, "host", partial(host, settings.socket))] if settings.socket is not None else []),
        Check(GROUP, "programs", partial(programs, settings)),
        Check(GROUP, "files", partial(files, patient.config)),
    ]
    if patient.run_hooks:
        found.append(Check(GROUP, "runs", partial(runs, patient.config), within=RUN_WITHIN))
    else:
        found.append(Check(GROUP, "runs", _not_run))
    return found


async def _switched_off() -> Finding:
    return skipped("customizations.enabled is false")


async def _not_run() -> Finding:
    return skipped("files are read, not run: itgrix-kommo check --run-hooks calls each once with a made-up call")


async def host(socket: str) -> Finding:
    """The process that runs them as another user."""
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError as error:
        return fault(
            f"the host of the customizations at {socket} can't be reached ({error.strerror or error})",
            "type systemctl start itgrix_amo_hooks, and let the daemon's user into that socket's group",
        )
    writer.close()
    return ok(f"the host of the customizations listens at {socket}")


def runner_of(config: Config) -> Person:
    """Who runs the customizations: whose the host's socket is, else the daemon's user."""
    socket = config.customizations.socket
    try:
        return person(Path(socket).stat().st_uid) if socket is not None else user_of(config)
    except OSError:
        return user_of(config)


async def directory(config: Config) -> list[Finding]:
    return await to_thread(_directory, Path(config.customizations.directory), runner_of(config))


def _directory(home: Path, who: Person) -> list[Finding]:
    findings = find(home)
    found = [fault(*split(one)) for one in findings.errors] + [warning(*split(one)) for one in findings.warnings]
    if not home.is_dir():
        return found
    if not who.may(home, READ | ENTER):
        found.append(fault(f"{home} can't be read by {who.name}, who runs them", f"type chmod o+rx {home}"))
    for path in (home, *(file.path for file in findings.files.values())):
        owner = path.stat().st_uid
        if owner not in {0, who.uid, os.geteuid()}:
            found.append(
                warning(f"{path} is user {owner}'s, who so runs programs as {who.name}", f"type chown root {path}")
            )
        if path != home and path.stat().st_mode & stat.S_IWOTH:
            found.append(
                fault(f"everybody may change {path}, and so run programs as {who.name}", f"type chmod o-w {path}")
            )
        if path != home and not who.may(path, READ):
            found.append(fault(f"{path} can't be read by {who.name}, who runs them", f"type chmod o+r {path}"))
    return found or [ok(f"{home}: {count(len(findings.files), 'customization')}")]


async def programs(settings: Customizations) -> Finding:
    """What PHP files need; Python is ours, programs bring their own."""
    wanted = _active(settings, await to_thread(find, Path(settings.directory)))
    php_files = [file for file in wanted if file.kind is Kind.PHP]
    path = environment()["PATH"]
    if not php_files:
        return skipped("no PHP file is there")
    if not shutil.which("php-cgi", path=path) and not shutil.which("php", path=path):
        return fault(f"{count(len(php_files), 'PHP file')} and no PHP on this host", "type apt-get install php-cgi")
    if not shutil.which("php-cgi", path=path):
        return warning(
            "there is php, but no php-cgi: each call takes some twenty times as long", "type apt-get install php-cgi"
        )
    return ok("php-cgi is there")


async def files(config: Config) -> Found:
    settings = config.customizations
    wanted = _active(settings, await to_thread(find, Path(settings.directory)))
    found = await asyncio.gather(*map(judge_file, wanted))
    bad = [one for one in found if one is not None]
    if bad or not wanted:
        return bad or skipped("no customization is there")
    return ok(f"{count(len(wanted), 'file')} can be run: {', '.join(file.path.name for file in wanted)}")


def _active(settings: Customizations, findings: Findings) -> Sequence[HookFile]:
    return [file for hook, file in findings.files.items() if hook not in settings.disabled]


async def judge_file(file: HookFile) -> Finding | None:
    match file.kind:
        case Kind.PHP:
            words = await _php_complaint(file.path)
        case Kind.PYTHON:
            words = await to_thread(_python_complaint, file.path, file.hook)
        case Kind.EXECUTABLE:
            words = await to_thread(_program_complaint, file.path)
    return (
        fault(f"{file.path}: {words}", f"correct the file; itgrix-kommo hooks try {file.hook} --sample tries it")
        if words
        else None
    )


async def _php_complaint(path: Path) -> str:
    """What PHP says of the file's syntax, without running it; empty if it is well."""
    where = environment()["PATH"]
    php = shutil.which("php", path=where) or shutil.which("php-cgi", path=where)
    if php is None:
        return ""  # told already
    process = await asyncio.create_subprocess_exec(
        php, "-n", "-d", "display_errors=1", "-d", "html_errors=0", "-d", "log_errors=0", "-l", str(path),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=environment(),
    )  # fmt: skip
    try:
        async with asyncio.timeout(LINT_WITHIN):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return ""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if "error" in line.lower()]
    return lines[0].replace(f" in {path}", "")[:300] if lines else "PHP can't read it"


def _python_complaint(path: Path, hook: Hook) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes(), str(path))
            compile(tree, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError, OSError) as error:
        return f"Python can't read it ({error})"
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    # A name that is imported or assigned, or defined under a condition, may be the function as well.
    elsewhere = any(
        isinstance(node, ast.alias | ast.Name)
        and hook in {getattr(node, "name", ""), getattr(node, "asname", ""), getattr(node, "id", "")}
        for node in ast.walk(tree)
    )
    return "" if hook in names or elsewhere else f"it has no function {hook}(params)"


def _program_complaint(path: Path) -> str:
    with path.open("rb") as file:
        first = file.read(_SHEBANG).partition(b"\n")[0]
    if not first.startswith(b"#!"):
        return "" if first.startswith(b"\x7fELF") else _NO_INTERPRETER
    words = first[2:].decode(errors="replace").split()
    if words and words[0].endswith("/env"):
        # env's own options and variables stand before the program.
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    if not words:
        return _NO_INTERPRETER
    is_there = shutil.which(words[0], path=environment()["PATH"])
    return "" if is_there else f"its interpreter {words[0]} is not there"


def not_for_root(config: Config) -> str:
    """Why they are not to be run here, up to the command of ours that runs them; empty where they may be."""
    who = user_of(config)
    # A host of its own runs them as whom it is to, whoever asks.
    if os.geteuid() != 0 or who.uid == 0 or config.customizations.socket is not None:
        return ""
    return f"as root, files may do what {who.name} may not: type runuser -u {who.name} -- "


async def runs(config: Config) -> Found:
    """Every customization, truly called, as `hooks try --sample` does."""
    if why := not_for_root(config):
        return skipped(f"{why}itgrix-kommo check --run-hooks")
    customizer = Customizer(config.customizations)
    try:
        await customizer.look_again()
        verdicts = [await customizer.call(hook, CATALOGUE[hook].params, call_id="doctor") for hook in customizer.hooks]
    finally:
        await customizer.stop()
    if not verdicts:
        return skipped("no customization is there")
    bad = [
        fault(
            f"{one.hook} failed with a made-up call: {one.failure}", f"type itgrix-kommo hooks try {one.hook} --sample"
        )
        for one in verdicts
        if one.failure
    ]
    slowest = max(verdicts, key=lambda one: one.seconds)
    took = f"{slowest.hook} took longest, {slowest.seconds * 1000:.0f} ms"
    return bad or ok(f"{count(len(verdicts), 'customization')} answered a made-up call; {took}")
