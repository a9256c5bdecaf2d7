"""Finds the files of the customizations: one directory, one file per customization, named after it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from itgrix_kommo.config import HOOKS

if TYPE_CHECKING:
    from itgrix_kommo.config import Hook


class Kind(Enum):
    PHP = "php"
    PYTHON = "python"
    EXECUTABLE = "executable"


_KINDS: Final = {".php": Kind.PHP, ".py": Kind.PYTHON, ".sh": Kind.EXECUTABLE, "": Kind.EXECUTABLE}
_LIKE_A_HOOK: Final = 0.85
"""Similarity from which a file's name is taken for a misspelt customization's."""


@dataclass(frozen=True, slots=True)
class HookFile:
    hook: Hook
    path: Path
    kind: Kind


@dataclass(frozen=True, slots=True)
class Findings:
    """`errors` make the directory unusable, `warnings` don't; each says what to do."""

    files: dict[Hook, HookFile] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def find(directory: Path) -> Findings:
    """What stands in `directory`. Reads the disk; raises nothing: what the disk refuses is among the errors."""
    try:
        home = directory.resolve(strict=True)
        paths = sorted(home.iterdir())
        mode = home.stat().st_mode
    except FileNotFoundError:
        return Findings(warnings=(f"{directory}: no such directory: create it, or no customization runs",))
    except NotADirectoryError:
        return Findings(errors=(f"{directory}: no directory: give one in customizations.directory",))
    except (OSError, RuntimeError) as error:  # RuntimeError: a symbolic link that leads to itself
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "a symbolic link leads to itself"
        return Findings(errors=(f"{directory}: can't be read ({reason}): let the service's user read and enter it",))

    files: dict[Hook, HookFile] = {}
    errors: list[str] = []
    warnings: list[str] = []
    if mode & stat.S_IWOTH:
        warnings.append(f"{directory}: everybody may write here, and so run programs as the service: chmod o-w it")
    by_name: dict[str, Hook] = {hook: hook for hook in HOOKS}
    for path in paths:
        hook = by_name.get(path.stem)
        if path.suffix not in _KINDS:
            continue
        if hook is None:
            if meant := get_close_matches(path.stem.lower(), HOOKS, n=1, cutoff=_LIKE_A_HOOK):
                warnings.append(f"{path}: no customization has this name: did you mean {meant[0]}{path.suffix}?")
            continue
        if hook in files:
            errors.append(f"{path}: a second file for {hook}, beside {files[hook].path.name}: remove one of them")
            continue
        files[hook] = HookFile(hook, path, _KINDS[path.suffix])
        if problem := _problem(home, files[hook]):
            errors.append(f"{path}: {problem}")
    return Findings({} if errors else files, tuple(errors), tuple(warnings))


def _problem(home: Path, file: HookFile) -> str | None:
    try:
        target = file.path.resolve(strict=True)
    except (OSError, RuntimeError):
        return "a symbolic link that leads nowhere: remove it"
    if not target.is_relative_to(home):
        return f"a symbolic link out of the directory, to {target}: put the file itself here"
    if not target.is_file():
        return "no file: remove it or rename it"
    if not os.access(target, os.R_OK, effective_ids=True):
        return "can't be read: let the service's user read it"
    if file.kind is Kind.EXECUTABLE and not os.access(target, os.X_OK, effective_ids=True):
        return "not executable: chmod +x it"
    return None
