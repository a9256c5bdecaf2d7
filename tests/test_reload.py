"""The configuration read anew: what is taken over at once, and what is named for a restart."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from itgrix_kommo import config
from itgrix_kommo.config import Config
from itgrix_kommo.errors import ConfigError
from itgrix_kommo.reload import AT_ONCE, Reloads, changed, taken_over
from itgrix_kommo.service_manager import ServiceManager

GIVEN: dict[str, Any] = {
    "ami": {"username": "itgrix", "secret": "itgrix-secret"},
    "kommo": {"base_url": "https://acme.kommo.com", "access_token": "a-token-of-some-length"},
    "employees": [{"user_id": 9100001, "extension": "101", "numbers": ["+79161112233"]}],
    "numbers": {
        "region": "RU",
        "trunks": ["PJSIP/trunk"],
        "blacklist": ["102", {"match": "client", "pattern": "+7800XXXXXXX"}],
        "replacements": [{"pattern": "^8(\\d{10})$", "substitution": "+7$1"}],
    },
    "business": {
        "tasks": {"working_hours": {"mon-fri": "09:00-18:00"}},
        "routes": [{"did": "4957770101", "tags": ["A"]}],
    },
    "database": {"url": "mysql+asyncmy://user:hidden-password@127.0.0.1/asteriskcdrdb"},
    "node": {"timezone": "Europe/Madrid"},
    "http": {"trusted_proxies": ["10.0.0.0/8"], "admin": {"password": "a-long-password"}},
}


class Manager(ServiceManager):
    """A systemd that notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def reloading(self) -> None:
        self.told.append("reloading")

    def ready(self) -> None:
        self.told.append("ready")


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def loaded(**sections: Any) -> Config:
        path = tmp_path / "config.json"
        given = {
            key: {**GIVEN.get(key, {}), **value} if isinstance(value, dict) else value
            for key, value in (GIVEN | sections).items()
        }
        path.write_text(json.dumps(given))
        path.chmod(0o600)
        return config.load(path)

    return loaded


def keys_of(model: type[BaseModel], path: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        found.add(f"{path}{name}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= keys_of(field.annotation, f"{path}{name}.")
    return found


def test_the_same_file_changes_nothing(load: Any) -> None:
    assert changed(load(), load()) == []


def test_every_key_that_is_taken_over_exists() -> None:
    assert set(AT_ONCE) <= keys_of(Config)


def test_what_changed_is_named_by_its_key_and_never_its_value(load: Any) -> None:
    new = load(
        ami={"port": 5039, "secret": "another-secret"},
        numbers={"blacklist": ["103"], "region": "ES"},
        customizations={"trace": True, "php_workers": 3},
        employees=[],
        database={"url": "mysql+asyncmy://user:other-password@127.0.0.1/asteriskcdrdb"},
    )
    keys = ["ami.port", "ami.secret", "customizations.php_workers", "customizations.trace", "database.url", "employees"]
    assert sorted(changed(load(), new)) == [*keys, "numbers.blacklist", "numbers.region"]


def test_only_what_can_be_is_taken_over(load: Any) -> None:
    old = load()
    new = load(
        ami={"port": 5039},
        numbers={"blacklist": ["103"], "region": "ES"},
        customizations={"trace": True, "php_workers": 3},
        storage={"retention_days": 7, "url": "sqlite+aiosqlite:////tmp/other.db"},
        database=None,
        language="ru",
    )
    taken = taken_over(old, new)
    assert sorted(changed(old, taken)) == [
        "customizations.trace", "language", "numbers.blacklist", "storage.retention_days",
    ]  # fmt: skip
    # What waits for a restart is named again by the next reload.
    assert sorted(changed(taken, new)) == [
        "ami.port", "customizations.php_workers", "database", "numbers.region", "storage.url",
    ]  # fmt: skip


class TestReloading:
    """`users` are told in their order, the service manager before and after."""

    async def reloaded(self, first: Config, *files: Config | ConfigError, broken: bool = False) -> list[list[str]]:
        manager, given, told = Manager(), list(files), list[Config]()

        def reread() -> Config:
            found = given.pop(0)
            if isinstance(found, ConfigError):
                raise found
            return found

        def use(new: Config) -> None:
            if broken:
                raise ZeroDivisionError
            told.append(new)

        reloads = Reloads(reread, manager)
        running = asyncio.create_task(reloads.run(first, [use, told.append]))
        for number in range(len(files)):
            reloads.ask()
            async with asyncio.timeout(10):
                while manager.told.count("ready") <= number:
                    await asyncio.sleep(0.01)
        running.cancel()
        assert manager.told == ["reloading", "ready"] * len(files)
        return [changed(first, one) for one in told]

    async def test_each_change_is_told_once_and_a_refusal_never(self, load: Any) -> None:
        restart = load(language="es", ami={"port": 1})
        files = (load(language="es"), ConfigError("no"), load(language="es"), restart, load(language="ru"))
        told = await self.reloaded(load(), *files)
        assert told == [["language"]] * 4  # two of each change

    async def test_a_fault_of_ours_does_not_end_the_daemon(self, load: Any) -> None:
        with capture_logs() as logs:
            told = await self.reloaded(load(), load(language="es"), load(language="ru"), broken=True)
        assert told == [["language"], ["language"]]
        assert [line["event"] for line in logs].count("configuration_not_taken_over") == 2
