"""Customizations as tests write them: files in a directory, and a Customizer that runs them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.config import Customizations, Hook
from itgrix_kommo.customizations import CATALOGUE, Customizer

EXAMPLES = Path(__file__).parents[1] / "etc" / "customizations"


def write(path: Path, text: str) -> Path:
    """`text`, dedented, as the file `path`; what is no PHP and no Python may be executed."""
    path.write_text(textwrap.dedent(text).lstrip("\n"))
    if path.suffix in {"", ".sh"}:
        path.chmod(0o755)
    return path


def php(body: str) -> str:
    return f"<?php\n{textwrap.dedent(body)}"


@contextlib.asynccontextmanager
async def running(
    directory: Path, files: Mapping[str, str] | None = None, **settings: Any
) -> AsyncIterator[Customizer]:
    """A started Customizer over `directory`, with `files` written into it by name."""
    for name, text in (files or {}).items():
        write(directory / name, text)
    customizer = Customizer(Customizations.model_validate({"directory": str(directory), **settings}))
    try:
        await customizer.start()
        yield customizer
    finally:
        await customizer.stop()


def params(hook: Hook, **changes: Any) -> dict[str, Any]:
    return {**CATALOGUE[hook].params, **changes}


def demand_php(*programs: str) -> None:
    """These tests are about the real PHP: without it they fail, they are never skipped."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        pytest.fail(f"{', '.join(missing)} not found: apt-get install php-cgi php-cli", pytrace=False)


async def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    """Wait until `condition` holds, for `within` seconds at most."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether the process `pid` lives; one that is dead and not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def ended(pid: int) -> None:
    await until(lambda: not runs(pid))


async def number_in(path: Path) -> int:
    """Wait until somebody has written a whole line into the file `path`; the number in it."""

    def text() -> str:
        return path.read_text() if path.exists() else ""

    await until(lambda: text().endswith("\n"))
    return int(text())
