"""Reading the configuration anew while the daemon runs (SIGHUP): what changed is taken over, or named for a restart.

A file that is refused changes nothing. What is under way goes on by what it began with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import structlog
from pydantic import BaseModel

from itgrix_kommo.config import Config
from itgrix_kommo.errors import ConfigError
from itgrix_kommo.service_manager import ServiceManager

AT_ONCE = (
    "business",
    "customizations.disabled",
    "customizations.timeout_s",
    "customizations.timeouts",
    "customizations.trace",
    "employees",
    "language",
    "logging",
    "numbers.blacklist",
    "numbers.fmc_patterns_file",
    "numbers.internal_max_length",
    "numbers.outside_prefixes",
    "numbers.replacements",
    "numbers.trunks",
    "numbers.whitelist",
    "originate",
    "storage.retention_days",
)
"""Keys that a running daemon takes over, each with all below it. The others are read at the start alone."""

Model = TypeVar("Model", bound=BaseModel)

_log = structlog.get_logger(__name__)


class Reloads:
    """`reread` gives the file's configuration, or raises ConfigError."""

    def __init__(self, reread: Callable[[], Config], service_manager: ServiceManager) -> None:
        self._reread = reread
        self._service_manager = service_manager
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """The file has changed; what was asked for while one is under way is done after it."""
        self._asked.set()

    async def run(self, config: Config, users: Sequence[Callable[[Config], None]]) -> None:
        """Reload whenever it is asked for, for ever. `config` is in force; each of `users` is told what comes after."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._service_manager.reloading()
            try:
                config = await self._reload(config, users)
            finally:
                self._service_manager.ready()

    async def _reload(self, config: Config, users: Iterable[Callable[[Config], None]]) -> Config:
        try:
            new = await asyncio.to_thread(self._reread)
        except ConfigError as error:
            _log.error("configuration_refused", error=str(error), remedy="mend it; the former one stays in force")
            return config
        keys = changed(config, new)
        at_once = [key for key in keys if _is_at_once(key)]
        at_restart = [key for key in keys if not _is_at_once(key)]
        taken = taken_over(config, new)
        for use in users if at_once else ():
            try:
                use(taken)
            except Exception:  # noqa: BLE001 (a fault of ours must not end the listening)
                _log.exception("configuration_not_taken_over", remedy="systemctl restart itgrix_amo, and report this")
        _log.info("configuration_reloaded", changed=at_once)
        if at_restart:
            remedy = "systemctl restart itgrix_amo; until then their former values hold"
            _log.warning("configuration_needs_restart", keys=at_restart, remedy=remedy)
        former = config.warnings()
        for warning in new.warnings():
            if warning not in former:
                _log.warning("configuration", warning=warning)
        return taken


def changed(old: Config, new: Config) -> list[str]:
    """The keys whose values differ, such as `ami.port`; never the values."""
    return list(_changed(old, new, ""))


def taken_over(old: Config, new: Config) -> Config:
    """`old` with those values of `new` that are taken over at once."""
    return _merged(old, new, "")


def _changed(old: BaseModel, new: BaseModel, path: str) -> Iterator[str]:
    for name in type(old).model_fields:
        before, after, key = getattr(old, name), getattr(new, name), f"{path}{name}"
        if isinstance(before, BaseModel) and type(before) is type(after):
            yield from _changed(before, after, f"{key}.")
        elif before != after:
            yield key


def _merged(old: Model, new: Model, path: str) -> Model:
    values = {}
    for name in type(old).model_fields:
        before, after, key = getattr(old, name), getattr(new, name), f"{path}{name}"
        if _is_at_once(key):
            values[name] = after
        elif isinstance(before, BaseModel) and any(one.startswith(f"{key}.") for one in AT_ONCE):
            values[name] = _merged(before, after, f"{key}.")
    return old.model_copy(update=values)


def _is_at_once(key: str) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in AT_ONCE)
