"""In which zone and form a table writes its times is found out from its rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from itgrix_kommo.calls.cel_lines import CelRow
from itgrix_kommo.pbx.gathering import Gathered, Gathering
from itgrix_kommo.pbx.times import EventTimes, TimeValue, Written
from tests.cel_scenes import KEPT, read

MOSCOW, MADRID = ZoneInfo("Europe/Moscow"), ZoneInfo("Europe/Madrid")
WINTER = datetime(2026, 11, 22, 14, 38, 52, tzinfo=UTC).timestamp()
SUMMER = datetime(2026, 7, 1, 9, 0, 0, tzinfo=UTC).timestamp()


def sample(at: float, zone: ZoneInfo | timezone) -> tuple[TimeValue, str]:
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None), f"{int(at)}.7"


class TestZones:
    def test_the_pbx_writes_its_own_time(self) -> None:
        times = EventTimes([sample(WINTER, MADRID), sample(SUMMER, MADRID)], MADRID)
        assert times.unix(datetime(2026, 7, 1, 11, 0, 0), "1.1") == SUMMER  # noqa: DTZ001 (as a driver hands it over)
        assert times.in_column(WINTER) == datetime(2026, 11, 22, 15, 38, 52)  # noqa: DTZ001 (as above)

    def test_the_pbx_writes_universal_time(self) -> None:
        times = EventTimes([sample(WINTER, UTC), sample(SUMMER, UTC)], MADRID)
        assert times.zone is UTC

    def test_in_a_zone_without_summer_time_winter_does_not_mislead(self) -> None:
        """London's winter looks like UTC: as long as nothing speaks against it, the PBX's own zone is believed."""
        london = ZoneInfo("Europe/London")
        assert EventTimes([sample(WINTER, UTC)], london).zone is london
        assert EventTimes([sample(WINTER, UTC), sample(SUMMER, UTC)], london).zone is UTC

    def test_a_zone_that_nobody_told_of(self) -> None:
        times = EventTimes([sample(WINTER, timezone(timedelta(hours=5, minutes=45)))], MOSCOW)
        assert times.unix(sample(WINTER, timezone(timedelta(hours=5, minutes=45)))[0], "1.1") == WINTER

    def test_uniqueids_that_tell_no_time_leave_the_configured_zone(self) -> None:
        wall, _ = sample(WINTER, UTC)
        assert EventTimes([(wall, "click-7")], MOSCOW).zone is MOSCOW
        assert EventTimes([], None).zone is None

    def test_the_hour_that_is_repeated(self) -> None:
        """02:30 comes twice on the last Sunday of October; the channel's birth tells which one it was."""
        first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
        times = EventTimes([sample(SUMMER, MADRID)], MADRID)
        wall = datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001 (as a driver hands it over)
        assert times.unix(wall, f"{int(first)}.1") == first
        assert times.unix(wall, f"{int(first) + 3600}.1") == first + 3600


class TestForms:
    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (datetime(2026, 11, 22, 14, 38, 52, tzinfo=UTC), Written.ZONED),
            (int(WINTER), Written.NUMBER),
            (Decimal(str(WINTER)), Written.NUMBER),
            (f"{WINTER:.6f}", Written.NUMERIC_TEXT),
            ("2026-11-22 14:38:52.000000", Written.TEXT),
            ("2026-11-22T14:38:52", Written.TEXT),
        ],
    )
    def test_there_and_back(self, value: TimeValue, written: Written) -> None:
        times = EventTimes([(value, f"{int(WINTER)}.7")], MOSCOW)
        assert times.written is written
        assert times.unix(value, f"{int(WINTER)}.7") == WINTER
        column = times.in_column(WINTER)
        assert times.unix(column, f"{int(WINTER)}.7") == WINTER
        assert isinstance(column, str) == isinstance(value, str)

    def test_what_is_no_time(self) -> None:
        with pytest.raises(ValueError, match="soon"):
            EventTimes([], MOSCOW).unix("soon", "1.1")


class TestGathering:
    @staticmethod
    def gathered(rows: list[CelRow]) -> list[Gathered]:
        gathering = Gathering()
        found = [one for row in rows for one in gathering.feed(row)]
        return [*found, *gathering.rest()]

    def test_calls_told_in_each_others_midst_come_apart(self) -> None:
        calls = []
        for number, name in enumerate(("in_answered", "hunt", "queue_of_devices")):
            rows = read(KEPT / "22" / f"{name}.json").cel_rows()
            shift = rows[0].at - number
            calls.append([row._replace(at=row.at - shift, extra=None, peers=()) for row in rows])
        mixed = sorted((row for rows in calls for row in rows), key=lambda row: row.at)
        found = self.gathered(mixed)
        assert sorted(len(one.rows) for one in found) == sorted(map(len, calls))
        assert all(one.is_over and not one.headless for one in found)

    def test_what_is_told_is_forgotten(self) -> None:
        gathering = Gathering()
        rows = read(KEPT / "22" / "transfer_attended_by_refer.json").cel_rows()
        for row in rows:
            assert not list(gathering.feed(row))
        later = rows[0]._replace(at=rows[-1].at + 60, uniqueid="9.9", linkedid="9.9", channel="PJSIP/new-1")
        (done,) = gathering.feed(later)
        assert done.in_order() == rows
        (rest,) = gathering.rest()
        assert rest.in_order() == [later]
        assert not gathering._by_key

    def test_a_call_without_an_end_does_not_stay_for_ever(self) -> None:
        gathering = Gathering()
        lost = read(KEPT / "22" / "in_answered.json").cel_rows()[0]
        assert not list(gathering.feed(lost))
        told: list[Gathered] = []
        for number in range(1500):
            call = lost._replace(
                at=lost.at + 60 * number, uniqueid=f"8.{number}", linkedid=f"8.{number}", channel=f"x-{number}"
            )
            for event in ("CHAN_START", "HANGUP"):
                told += gathering.feed(call._replace(event=event))
        (unfinished,) = [one for one in told if not one.is_over]
        assert unfinished.in_order() == [lost]

    def test_parked_calls_share_their_lot_and_nothing_else(self) -> None:
        one = read(KEPT / "22" / "parking_by_refer.json").cel_rows()
        other = [
            row._replace(uniqueid=f"x{row.uniqueid}", linkedid=f"x{row.linkedid}", channel=f"x{row.channel}")
            for row in one
            if row.event == "CHAN_START" or row.told("bridge_technology") == "holding_bridge"
        ]
        assert len(self.gathered(sorted([*one, *other], key=lambda row: row.at))) > 1
