"""The file of FMC patterns: read at the start, and again whenever it changes."""

from __future__ import annotations

import os
from pathlib import Path

from structlog.testing import capture_logs

from itgrix_kommo.calls.numbers import NumberPlan
from itgrix_kommo.config.fmc import FmcPatterns


def write(path: Path, text: str, at: int) -> None:
    path.write_text(text, encoding="utf-8")
    os.utime(path, (at, at))


class TestReading:
    def test_patterns_are_given_once_until_the_file_changes(self, tmp_path: Path) -> None:
        path = tmp_path / "fmc.txt"
        write(path, "8123456XXXX\n\n# remark\n +7916111223X # Ann\n", 1)
        patterns = FmcPatterns(path)
        assert patterns.read_if_changed() == ["8123456XXXX", "+7916111223X"]
        assert patterns.read_if_changed() is None
        write(path, "8123456XXXX\n", 2)
        assert patterns.read_if_changed() == ["8123456XXXX"]

    def test_no_file_is_no_patterns_and_it_may_come_later(self, tmp_path: Path) -> None:
        patterns = FmcPatterns(tmp_path / "fmc.txt")
        assert patterns.read_if_changed() == []
        assert patterns.read_if_changed() is None
        write(tmp_path / "fmc.txt", "8123456XXXX", 1)
        assert patterns.read_if_changed() == ["8123456XXXX"]
        (tmp_path / "fmc.txt").unlink()
        assert patterns.read_if_changed() == []

    def test_a_line_that_is_no_pattern_is_told_by_its_number_and_passed_over(self, tmp_path: Path) -> None:
        write(tmp_path / "fmc.txt", "8123456XXXX\n8(912)*\n", 1)
        with capture_logs() as logs:
            assert FmcPatterns(tmp_path / "fmc.txt").read_if_changed() == ["8123456XXXX"]
        assert [line["place"] for line in logs] == [f"{tmp_path}/fmc.txt:2"]

    def test_what_cannot_be_read_leaves_the_former_ones_and_is_told_once(self, tmp_path: Path) -> None:
        (tmp_path / "fmc.txt").write_bytes(b"\xff\xfe\x00")
        patterns = FmcPatterns(tmp_path / "fmc.txt")
        with capture_logs() as logs:
            assert patterns.read_if_changed() is None
            assert patterns.read_if_changed() is None
        assert [line["event"] for line in logs] == ["fmc_patterns_unreadable"]
        write(tmp_path / "fmc.txt", "8" * (1 << 20) + "8", 3)
        assert patterns.read_if_changed() is None
        blocked = FmcPatterns(tmp_path / "fmc.txt" / "below a file")
        assert blocked.read_if_changed() is None

    def test_the_plan_goes_by_them(self, tmp_path: Path) -> None:
        write(tmp_path / "fmc.txt", "8123456XXXX\n", 1)
        plan = NumberPlan()
        assert not plan.is_internal("81234560000")
        plan.use_fmc_patterns(FmcPatterns(tmp_path / "fmc.txt").read_if_changed() or [])
        assert plan.is_internal("81234560000")
        assert not plan.is_internal("81234570000")
