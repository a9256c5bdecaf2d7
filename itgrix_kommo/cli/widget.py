"""`itgrix-kommo widget`: the zip that makes phone numbers in Kommo call."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from itgrix_kommo import __version__, config
from itgrix_kommo.cli.terminal import CONFIG_PATH, ConfigOption, JsonOption, failed, out
from itgrix_kommo.widget.archive import files, public_address, zipped

commands = typer.Typer(help="Click-to-call in Kommo.", no_args_is_help=True)


@commands.callback()
def widget() -> None:
    """Click-to-call in Kommo."""


@commands.command("build")
def widget_build(
    path: ConfigOption = CONFIG_PATH,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write it.")] = Path("widget.zip"),
    *,
    as_json: JsonOption = False,
) -> None:
    """Write the zip for Kommo's private integration."""
    settings = config.load(path)
    address = public_address(settings)
    contents = files(address, __version__)
    data = zipped(contents)
    try:
        output.write_bytes(data)
    except OSError as error:
        why = f"{output} can't be written: {error.strerror}: give another path with --output"
        raise failed(why) from error
    warnings = _warnings(settings, address)
    if as_json:
        facts = {
            "file": str(output),
            "version": __version__,
            "address": address,
            "sha256": hashlib.sha256(data).hexdigest(),
            "warnings": warnings,
        }
        out.print_json(json.dumps(facts))
        return
    size = f"{len(contents)} files, {len(data) / 1024:.0f} KB"
    out.print(
        f"[green]✓[/] {escape(str(output))}: version {__version__}, {size}, asks {escape(address)}",
        highlight=False,
        soft_wrap=True,
    )
    for warning in warnings:
        out.print(f"[yellow]![/] {escape(warning)}", highlight=False, soft_wrap=True)
    where = "Settings → Integrations → your private integration → Upload widget"
    out.print(f"Upload it in Kommo: {where}", highlight=False, soft_wrap=True)


def _warnings(settings: config.Config, address: str) -> list[str]:
    """What the widget needs of the daemon, and would miss."""
    found = []
    if settings.kommo.integration is None:
        found.append(
            "kommo.integration: not given, so the daemon lets nobody call: give client_id, client_secret and "
            "redirect_uri of this integration"
        )
    if not settings.employees:
        found.append("employees: empty, so nobody has a phone to ring: list user_id and extension of each")
    if address.startswith("http:"):
        found.append("recordings.public_url: this very host alone, so no other browser reaches the daemon")
    return found
