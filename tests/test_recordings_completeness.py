"""A recording is complete when it stopped growing and nobody writes to it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from itgrix_kommo.errors import RecordingUnfinished, RecordingUnusable, Remedy
from itgrix_kommo.recordings.completeness import Look, Patience, Watch, is_being_written, look_at, until_complete

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = Patience(quiet=1.0, absent=5.0, growing=60.0)


def look(size: int, *, changed: int = 0, written: bool | None = None) -> tuple[Look, ...]:
    return (Look(size, changed, written),)


class TestWatch:
    def test_a_quiet_file_is_complete_after_the_interval(self) -> None:
        watch = Watch(PATIENCE, 100.0)
        assert not watch.saw(look(5), 100.0)
        assert not watch.saw(look(5), 100.9)
        assert watch.saw(look(5), 101.0)

    def test_growth_begins_the_interval_anew(self) -> None:
        watch = Watch(PATIENCE, 0.0)
        assert not watch.saw(look(5), 0.0)
        assert not watch.saw(look(6), 0.75)
        assert not watch.saw(look(6, changed=1), 1.5)
        assert not watch.saw(look(6, changed=1), 2.25)
        assert watch.saw(look(6, changed=1), 2.5)

    def test_a_quiet_file_that_somebody_writes_to_is_not_complete(self) -> None:
        watch = Watch(PATIENCE, 0.0)
        for second in range(10):
            assert not watch.saw(look(5, written=True), float(second))
        assert not watch.saw(look(5, written=False), 9.5)
        assert watch.saw(look(5, written=False), 10.0)

    def test_both_files_of_a_pair_count(self) -> None:
        watch = Watch(PATIENCE, 0.0)
        assert not watch.saw(look(5) + look(1), 0.0)
        assert not watch.saw(look(5) + look(2), 1.0)
        assert watch.saw(look(5) + look(2), 2.0)

    def test_a_file_may_come_late_but_not_too_late(self) -> None:
        watch = Watch(PATIENCE, 0.0)
        assert not watch.saw((), 4.9)
        with pytest.raises(RecordingUnusable, match="there is no such file"):
            watch.saw((), 5.0)

    def test_a_file_that_vanishes_is_gone(self) -> None:
        watch = Watch(PATIENCE, 0.0)
        watch.saw(look(5), 0.0)
        with pytest.raises(RecordingUnusable, match="removed before"):
            watch.saw((), 0.5)

    def test_an_empty_file_is_no_recording(self) -> None:
        watch = Watch(PATIENCE, 0.0)
        watch.saw(look(0), 0.0)
        with pytest.raises(RecordingUnusable, match="is empty: nothing was recorded"):
            watch.saw(look(0), 1.0)

    def test_a_file_that_never_ends_is_for_later(self) -> None:
        watch = Watch(PATIENCE, 0.0)
        for second in range(60):
            assert not watch.saw(look(second), float(second))
        with pytest.raises(RecordingUnfinished, match="still being written 60 s after") as caught:
            watch.saw(look(60), 60.0)
        assert caught.value.remedy is Remedy.RETRY


async def test_looks_are_taken_until_it_is_complete() -> None:
    now = 0.0
    sizes = iter([0, 10, 20, 20, 20, 20, 20, 20, 20, 20])

    async def take() -> tuple[Look, ...]:
        return look(next(sizes))

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    await until_complete(take, PATIENCE, clock=lambda: now, sleep=sleep)

    assert now == 1.5  # the last change was seen at 0.5
    assert next(sizes) == 20


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the file open, as Asterisk has; it closes when the block ends."""
    with subprocess.Popen(
        ["sh", "-c", 'exec 3>>"$0"; echo open; read end', str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield process


class TestWriters:
    def test_another_process_that_has_it_open_is_seen(self, tmp_path: Path) -> None:
        path = tmp_path / "call.wav"
        path.write_bytes(b"sound")
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with writing(path):
                assert is_being_written(descriptor) is True
            assert is_being_written(descriptor) is False
            assert look_at(descriptor) == Look(5, path.stat().st_mtime_ns, being_written=False)
        finally:
            os.close(descriptor)

    def test_what_can_hold_no_lease_is_not_known(self) -> None:
        reading, sending = os.pipe()
        try:
            assert is_being_written(reading) is None
        finally:
            os.close(reading)
            os.close(sending)

    async def test_a_file_is_complete_as_soon_as_its_writer_is_gone(self, tmp_path: Path) -> None:
        path = tmp_path / "call.wav"
        path.write_bytes(b"sound")
        descriptor = os.open(path, os.O_RDONLY)
        looks: list[Look] = []

        async def take() -> tuple[Look, ...]:
            looks.append(look_at(descriptor))
            return (looks[-1],)

        try:
            with writing(path) as process:
                waiting = asyncio.create_task(until_complete(take, Patience(quiet=0.05, absent=5, growing=20)))
                while len(looks) < 5:
                    await asyncio.sleep(0.01)
                assert not waiting.done()
                assert process.stdin is not None
                process.stdin.close()
                await asyncio.wait_for(waiting, 10)
        finally:
            os.close(descriptor)
        assert looks[0].being_written is True
        assert looks[-1].being_written is False
