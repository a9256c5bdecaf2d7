"""The commands that begin, examine and describe the configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from itgrix_kommo import config
from itgrix_kommo.cli.terminal import CONFIG_PATH, ConfigOption, failed, out

commands = typer.Typer(help="Look at and begin the configuration.", no_args_is_help=True)


@commands.command("init")
def config_init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = CONFIG_PATH,
    *,
    force: Annotated[bool, typer.Option(help="Overwrite what is there.")] = False,
) -> None:
    """Write a configuration to begin with."""
    if path.exists() and not force:
        raise failed(f"{path} exists: choose another path, or overwrite it with --force")
    _write(path, config.starting_file())
    out.print(f"{path} is written: fill in what it asks for, then run itgrix-kommo config check", highlight=False)


@commands.command("import")
def config_import(
    vendors: Annotated[Path, typer.Argument(help="The vendor's own config.json.")] = CONFIG_PATH,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write ours.")] = CONFIG_PATH,
    *,
    force: Annotated[bool, typer.Option(help="Overwrite what is there.")] = False,
) -> None:
    """Begin a configuration with what the original module's config.json says; that file is kept, as ….vendor."""
    begun = config.imported(vendors)
    if output.exists() and output.samefile(vendors):
        _keep(vendors)
    elif output.exists() and not force:
        raise failed(f"{output} exists: choose another --output, or overwrite it with --force")
    _write(output, begun.text)
    for theirs, ours in begun.taken:
        out.print(f"[green]✓[/] {escape(theirs)} → {escape(ours)}", highlight=False, soft_wrap=True)
    for theirs in begun.left:
        words = f"[yellow]![/] {escape(theirs)}: not taken over: set what it stands for by hand"
        out.print(words, highlight=False, soft_wrap=True)
    out.print(f"{output} is written: fill in what it asks for, then run itgrix-kommo config check", highlight=False)


def _keep(path: Path) -> None:
    kept = path.with_name(f"{path.name}.vendor")
    try:
        kept.hardlink_to(path)
        path.unlink()
    except OSError as error:
        why = "it exists already" if kept.exists() else error.strerror
        raise failed(f"{path} can't be kept as {kept}: {why}: nothing was changed") from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o640)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise failed(f"{path} can't be written: {error.strerror}: run this as root, or give another path") from error


@commands.command("check")
def config_check(path: ConfigOption = CONFIG_PATH) -> None:
    """Read the configuration and tell what is wrong with it, or only worth a word."""
    settings = config.load(path)
    for warning in settings.warnings():
        out.print(f"[yellow]![/] {escape(warning)}", highlight=False, soft_wrap=True)
    out.print(f"[green]✓[/] {escape(str(path))} can be used", highlight=False, soft_wrap=True)


@commands.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    sys.stdout.write(json.dumps(config.json_schema(), indent=2, ensure_ascii=False) + "\n")
