"""The capture: whatever fails around it, calls are heard, and kept as soon as they can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from itgrix_kommo.calls import events as ev
from itgrix_kommo.calls.call import Stage
from itgrix_kommo.calls.tracker import Tracker
from itgrix_kommo.errors import StorageError
from itgrix_kommo.pipeline import capture
from itgrix_kommo.pipeline.capture import Batch, Capture
from itgrix_kommo.pipeline.intake import registration_of
from itgrix_kommo.storage.database import Database
from itgrix_kommo.storage.journal import Journal
from itgrix_kommo.storage.registrations import NewRegistration, Registrations
from tests.story import inbound, plan

POISON = ev.Rename(0.0, "1795355557.1", "")


class TrackerWithAFault(Tracker):
    def feed(self, event: ev.Event) -> list[Stage]:
        if event is POISON:
            raise ZeroDivisionError
        return super().feed(event)


@pytest.fixture
async def registrations(tmp_path: Path) -> AsyncIterator[Registrations]:
    database = await Database.open(f"sqlite+aiosqlite:///{tmp_path}/itgrix.db")
    yield Registrations(database, "pbx1")
    await database.close()


def a_capture(journal: Path, registrations: Registrations) -> Capture:
    return Capture(
        TrackerWithAFault(plan()),
        Journal(journal),
        registrations,
        keep=lambda call: registration_of(call, plan()),
        keep_early=lambda _: None,
        on_kept=lambda: None,
        on_stage=lambda _: None,
    )


async def told(*batches: Batch) -> AsyncIterator[Batch]:
    for batch in batches:
        yield batch


def framed(events: list[ev.Event]) -> Batch:
    return [(b"Event: %d" % number, event) for number, event in enumerate(events)]


# Long ago, so that the clock of today has let every grace pass; the last event lets the tracker see it.
CALL = [*inbound(), ev.Endpoints(1_795_355_700.0, frozenset())]


async def test_an_event_that_breaks_the_tracker_costs_itself_alone(
    tmp_path: Path, registrations: Registrations
) -> None:
    heard = a_capture(tmp_path / "journal", registrations)
    with capture_logs() as logs:
        await heard.run(told(framed([CALL[0], POISON, *CALL[1:]])))
        await heard.keep_ended()
    assert [(row.client, row.call["type"]) for row in await registrations.latest(9)] == [("+79990000001", "incoming")]
    assert [line["of"] for line in logs if line["event"] == "event_not_understood"] == ["Rename"]


async def test_a_journal_that_breaks_the_tracker_does_not_end_each_start(
    tmp_path: Path, registrations: Registrations
) -> None:
    events = [CALL[0], POISON, *CALL[1:]]
    before = Journal(tmp_path / "journal")
    before.append((event.at, b"Event: %d" % number) for number, event in enumerate(events))
    before.close()
    heard = a_capture(tmp_path / "journal", registrations)
    assert heard.replay(lambda frame, _: events[int(frame.split()[1])]) == CALL[-1].at
    await heard.keep_ended()
    assert [row.client for row in await registrations.latest(9)] == ["+79990000001"]


async def test_a_database_that_fails_delays_the_keeping_alone(
    tmp_path: Path, registrations: Registrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "KEEP_AGAIN", 0.01)
    keep = registrations.keep_all
    failures = 3

    async def failing(new: Sequence[NewRegistration]) -> list[int | None]:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StorageError("database or disk is full")
        return await keep(new)

    monkeypatch.setattr(registrations, "keep_all", failing)
    heard = a_capture(tmp_path / "journal", registrations)
    with capture_logs() as logs:
        await heard.run(told(framed(CALL)))
        async with asyncio.timeout(5):
            keeping = asyncio.create_task(heard.keep_ended())
            while not heard.keeping_error:
                await asyncio.sleep(0)
            assert heard.calls_held == 1
            await keeping
    assert (heard.keeping_error, heard.calls_held) == ("", 0)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["call_not_kept"] * 3
    assert len(await registrations.latest(9)) == 1
    assert not (await registrations.latest(9))[0].attempts
