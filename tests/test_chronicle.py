"""The chronicle: what was decided about a call is kept as it was told, and found again."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from itgrix_kommo import log
from itgrix_kommo.storage.chronicle import DAY, Chronicle, days_of, lines

NOON = 1_795_348_800.0  # 2026-11-22 12:00 UTC


@pytest.fixture
def chronicle(tmp_path: Path) -> Iterator[Chronicle]:
    made = Chronicle(tmp_path / "chronicle", now=lambda: NOON)
    yield made
    made.close()


def everything(directory: Path) -> list[dict[str, object]]:
    texts = [path.read_text() for _, path in days_of(directory)]
    return [json.loads(line) for text in texts for line in text.splitlines()]


class TestWriting:
    async def test_a_line_is_on_the_disk_after_one_turn_of_the_loop(self, chronicle: Chronicle, tmp_path: Path) -> None:
        chronicle.hear("info", {"event": "call_registered", "call_id": "1.1", "note_id": 5})
        await asyncio.sleep(0)
        assert everything(tmp_path / "chronicle") == [
            {"at": NOON, "call_id": "1.1", "event": "call_registered", "level": "info", "note_id": 5}
        ]

    def test_only_calls_and_what_makes_them_wait_is_kept(self, chronicle: Chronicle, tmp_path: Path) -> None:
        chronicle.hear("info", {"event": "phonebook_warmed", "phones": 3})
        chronicle.hear("debug", {"event": "account_problem", "words": "said already"})
        chronicle.hear("warning", {"event": "account_problem", "words": "401"})
        chronicle.flush()
        assert [line["words"] for line in everything(tmp_path / "chronicle")] == ["401"]

    def test_nobody_else_may_read_it(self, chronicle: Chronicle, tmp_path: Path) -> None:
        chronicle.hear("info", {"event": "a", "call_id": "1.1"})
        chronicle.flush()
        assert (tmp_path / "chronicle").stat().st_mode & 0o077 == 0
        assert all(path.stat().st_mode & 0o077 == 0 for _, path in days_of(tmp_path / "chronicle"))

    def test_a_full_disk_is_told_once_and_what_waited_is_written_later(
        self, chronicle: Chronicle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with capture_logs() as logs, monkeypatch.context() as patched:
            patched.setattr("os.write", full)
            for number in range(3):
                chronicle.hear("info", {"event": "a", "call_id": f"1.{number}"})
                chronicle.flush()
        assert [line["event"] for line in logs] == ["chronicle_not_written"]
        chronicle.flush()
        assert [line["call_id"] for line in everything(tmp_path / "chronicle")] == ["1.0", "1.1", "1.2"]

    def test_what_json_does_not_know_is_kept_as_its_text(self, chronicle: Chronicle, tmp_path: Path) -> None:
        try:
            raise ZeroDivisionError("mine")  # noqa: TRY301 (an exception in hand is what is tried)
        except ZeroDivisionError:
            chronicle.hear("error", {"event": "broke", "call_id": "1.1", "exc_info": True, "of": Path("/x")})
        chronicle.flush()
        (line,) = everything(tmp_path / "chronicle")
        assert (line["error"], line["of"]) == ("ZeroDivisionError('mine')", "/x")

    def test_what_json_can_not_hold_does_not_break_who_logs_it(self, chronicle: Chronicle, tmp_path: Path) -> None:
        itself: dict[Any, Any] = {("a", "b"): 1}
        chronicle.hear("info", {"event": "a", "call_id": "1.1", "body": itself})
        itself["itself"] = itself
        chronicle.hear("info", {"event": "b", "call_id": "1.1", "body": itself})
        chronicle.flush()
        first, second = everything(tmp_path / "chronicle")
        assert (first["event"], second["event"]) == ("a", "b")
        assert "('a', 'b'): 1" in str(second["facts"])


class TestFollowingTheLog:
    def test_it_hears_what_the_level_holds_back_and_shows_no_secret(self, chronicle: Chronicle, tmp_path: Path) -> None:
        root = logging.getLogger()
        level, handlers = root.level, list(root.handlers)
        log.configure("error")
        log.register_secret("hunter2hunter2")
        forget = log.follow(chronicle.hear)
        try:
            with structlog.contextvars.bound_contextvars(call_id="1.1"):
                structlog.get_logger("a").debug("lead_created", lead_id=7, words='of "hunter2hunter2"')
        finally:
            forget()
            root.handlers[:] = handlers
            root.setLevel(level)
        structlog.get_logger("a").debug("lead_created", call_id="1.1", lead_id=8)
        chronicle.flush()
        (line,) = everything(tmp_path / "chronicle")
        assert (line["call_id"], line["lead_id"], line["words"]) == ("1.1", 7, 'of "[masked]"')


class TestReading:
    def test_the_calls_own_lines_and_everybodys_in_their_order(self, tmp_path: Path) -> None:
        at = NOON - 2 * DAY
        chronicle = Chronicle(tmp_path, now=lambda: at)
        for call_id in ("1.1", "1.12", "1.2"):
            chronicle.hear("info", {"event": "a", "call_id": call_id})
        chronicle.flush()
        at += DAY
        chronicle.hear("warning", {"event": "registering_stopped", "error": "401"})
        chronicle.hear("info", {"event": "b", "call_id": "1.1"})
        chronicle.close()
        (_, first), _ = days_of(tmp_path)
        first.with_name(f"{first.name}.gz").write_bytes(gzip.compress(first.read_bytes()))
        first.unlink()
        found = [(line.call_id, line.event) for line in lines(tmp_path, 0.0, NOON, about={"1.1"})]
        assert found == [("1.1", "a"), ("", "registering_stopped"), ("1.1", "b")]
        assert [line.at for line in lines(tmp_path, at - 1, NOON, about={"1.1"})] == [at, at]
        assert [line.call_id for line in lines(tmp_path, 0.0, NOON, events={"b"})] == ["1.1"]

    def test_days_after_the_last_line_are_not_looked_at(self, tmp_path: Path) -> None:
        at = NOON - 3 * DAY
        chronicle = Chronicle(tmp_path, now=lambda: at)
        for event in ("a", "registration_closed"):
            chronicle.hear("info", {"event": event, "call_id": "1.1"})
            chronicle.flush()
            at += DAY
        chronicle.close()
        (tmp_path / "2026-11-22.jsonl.gz").write_bytes(b"whoever reads this complains")
        found = lines(tmp_path, 0.0, 2e9, about={"1.1"}, is_last=lambda line: line.event == "registration_closed")
        with capture_logs() as logs:
            assert [line.event for line in found] == ["a", "registration_closed"]
        assert not logs

    def test_damaged_lines_and_files_cost_only_themselves(self, tmp_path: Path) -> None:
        good = '{"at": 1795348800.0, "call_id": "1.1", "event": "a"}'
        bad = ['{"at": "x", "call_id": "1.1", "event": "a"}', '["1.1"]', '{"call_id": "1.1"', '"1.1"', "    "]
        (tmp_path / "2026-11-22.jsonl").write_text("\n".join([*bad, good, good[:40]]))
        (tmp_path / "2026-11-21.jsonl.gz").write_bytes(b"no gzip at all")
        (tmp_path / "2026-11-22.jsonl.bak").write_text(good)
        with capture_logs() as logs:
            assert len(list(lines(tmp_path, 0.0, 2e9, about={"1.1"}))) == 1
        assert [line["event"] for line in logs] == ["chronicle_unreadable"]

    def test_where_there_is_none_there_is_nothing(self, tmp_path: Path) -> None:
        assert list(lines(tmp_path / "none", 0.0, 2e9, about={"1.1"})) == []
