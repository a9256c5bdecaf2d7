"""Routes, lists and working time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from itgrix_kommo.config import Business, ListEntry, WorkingHours
from itgrix_kommo.pipeline.rules import Rules, Stage, after_working_minutes
from tests.story import ended, inbound

OFFICE = WorkingHours.parse({"mon-fri": ["09:00-13:00", "14:00-18:00"], "sat": "10:00-12:00"})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class TestWorkingTime:
    @pytest.mark.parametrize(
        ("begin", "minutes", "due"),
        [
            ("2026-11-23 10:00", 15, "2026-11-23 10:15"),  # a Monday, within hours
            ("2026-11-23 12:50", 15, "2026-11-23 14:05"),  # over the break
            ("2026-11-23 20:00", 15, "2026-11-24 09:15"),  # after hours
            ("2026-11-23 07:00", 15, "2026-11-23 09:15"),  # before them
            ("2026-11-27 17:55", 15, "2026-11-28 10:10"),  # Friday evening to Saturday
            ("2026-11-28 11:50", 30, "2026-11-30 09:20"),  # over the Sunday
            ("2026-11-23 09:00", 9 * 60, "2026-11-24 10:00"),  # longer than a day
            ("2026-11-23 13:00", 0, "2026-11-23 14:00"),
        ],
    )
    def test_counts_only_the_hours_of_work(self, begin: str, minutes: int, due: str) -> None:
        assert after_working_minutes(at(begin), minutes, OFFICE) == at(due)

    def test_without_hours_every_minute_counts(self) -> None:
        assert after_working_minutes(at("2026-11-29 03:00"), 15, None) == at("2026-11-29 03:15")


def rules(blacklist: tuple[ListEntry, ...] = (), whitelist: tuple[ListEntry, ...] = (), **business: object) -> Rules:
    return Rules(
        Business.model_validate(business),
        "en",
        801,
        7001,
        70011,
        stages={7002: 70021},
        blacklist=blacklist,
        whitelist=whitelist,
    )


class TestRoutes:
    def test_the_first_that_fits_is_laid_over_business(self) -> None:
        by = rules(
            tags=["All"],
            default_user_id=1,
            routes=[
                {"trunk": "PJSIP/other", "tags": ["Other"]},
                {"did": "495777XXXX", "pipeline_id": 7002, "default_user_id": 2},
                {"trunk": "PJSIP/trunk", "tags": ["Late"]},
            ],
        )
        assert by.route(ended(inbound())) == Stage(7002, 70021, 2, ("All",))

    def test_without_one_business_stands(self) -> None:
        assert rules().route(ended(inbound())) == Stage(7001, 70011, 0, ("Itgrix",))


class TestLists:
    @pytest.mark.parametrize(
        ("match", "pattern"),
        [
            ("client", "+7999XXXXXXX"),
            ("internal", "10X"),
            ("trunk", "PJSIP/trunk"),
            ("did", "4957770101"),
        ],
    )
    def test_the_blacklist_keeps_a_call_out_by_any_of_its_sides(self, match: str, pattern: str) -> None:
        entry = ListEntry.model_validate({"match": match, "pattern": pattern})
        call = ended(inbound())
        assert (
            rules(blacklist=(entry,)).unlisted(call, call.client.number) == f"the blacklist names it: {match} {pattern}"
        )
        assert rules(whitelist=(entry,)).unlisted(call, call.client.number) == ""

    def test_a_whitelist_keeps_out_whom_it_does_not_name(self) -> None:
        entry = ListEntry.model_validate("109")
        assert rules(whitelist=(entry,)).unlisted(ended(inbound()), "+79990000001") == "the whitelist does not name it"
