"""The casebook: a call's story is found whole, and no further than it goes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from itgrix_kommo.pipeline.casebook import Casebook
from itgrix_kommo.pipeline.intake import EARLY, registration_of
from itgrix_kommo.storage.chronicle import DAY, Chronicle
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.files import CHRONICLE
from itgrix_kommo.storage.registrations import Registrations, State
from tests.story import ended, inbound, plan

BEGAN = time.time() - 10 * DAY


class Place:
    """A call of ten days ago, and a chronicle that is told of it day by day."""

    def __init__(self, files: Path, registrations: Registrations, number: int, call_id: str) -> None:
        self.casebook = Casebook(files, registrations, plan())
        self.call_id = call_id
        self._files = files
        self._registrations = registrations
        self._number = number
        self._at = BEGAN
        self._chronicle = Chronicle(files / CHRONICLE, now=lambda: self._at)

    def closed(self, day: int, state: State, call_id: str = "") -> None:
        self._at = BEGAN + day * DAY
        self._chronicle.hear(
            "info", {"event": "registration_closed", "call_id": call_id or self.call_id, "state": state}
        )
        self._chronicle.flush()

    def spoil(self, day: int) -> None:
        """Whoever reads it complains."""
        name = f"{datetime.fromtimestamp(BEGAN + day * DAY, UTC):%Y-%m-%d}.jsonl.gz"
        (self._files / CHRONICLE / name).write_bytes(b"no gzip")

    async def story(self, state: State) -> tuple[list[str], bool]:
        """The states it was closed with, as they are told, and whether the spoilt day was read."""
        await self._registrations.close(self._number, state)
        with capture_logs() as logs:
            case = await self.casebook.find(self.call_id)
        self._chronicle.close()
        assert case is not None
        return [str(line.facts["state"]) for line in case.lines], "chronicle_unreadable" in str(logs)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db")
    registrations = Registrations(database, "pbx1")
    new = registration_of(ended(inbound(at=BEGAN)), plan())
    assert new is not None
    number = await registrations.keep(new)
    assert number is not None
    yield Place(tmp_path / "itgrix.files", registrations, number, new.call_id)
    await database.close()


class TestStory:
    async def test_it_ends_with_the_registration(self, place: Place) -> None:
        place.closed(0, State.DONE)
        place.spoil(5)
        assert await place.story(State.DONE) == (["done"], False)

    async def test_what_failed_may_be_told_of_much_later(self, place: Place) -> None:
        place.closed(0, State.FAILED)
        place.closed(2, State.DONE)
        assert await place.story(State.DONE) == (["failed", "done"], False)

    async def test_what_has_failed_is_looked_for_up_to_now(self, place: Place) -> None:
        place.closed(0, State.FAILED)
        place.spoil(5)
        assert await place.story(State.FAILED) == (["failed"], True)

    async def test_cards_made_early_are_not_the_end(self, place: Place) -> None:
        place.closed(0, State.DONE, place.call_id + EARLY)
        place.closed(1, State.DONE)
        assert await place.story(State.DONE) == (["done", "done"], False)
