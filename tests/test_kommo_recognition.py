from __future__ import annotations

from typing import Any

import pytest

from itgrix_kommo.kommo.models import Contact, Lead, Note, Task, Unsorted, read
from itgrix_kommo.kommo.recognition import (
    SKEW,
    call_note_with,
    left_to_change,
    written_call,
    written_contact,
    written_lead,
    written_task,
    written_unsorted,
)

SINCE = 1_760_000_000.0
LEAD: dict[str, Any] = {"name": "+1202 - incoming"}
TASK: dict[str, Any] = {"text": "Call back", "complete_till": SINCE + 900}


def lead(lead_id: int, **more: object) -> Lead:
    return read(Lead, {"id": lead_id, "name": "+1202 - incoming", "created_at": SINCE, **more})


def task(task_id: int, **more: object) -> Task:
    return read(Task, {"id": task_id, "text": "Call back", "created_at": SINCE, "complete_till": SINCE + 900, **more})


def note(note_id: int, **params: object) -> Note:
    return read(Note, {"id": note_id, "note_type": "call_in", "params": params})


class TestContact:
    def test_the_oldest_with_the_phone_whoever_made_it(self) -> None:
        found = [read(Contact, {"id": number}) for number in (5503, 5501, 5502)]
        oldest = written_contact(found, known={5501})
        assert oldest is not None
        assert oldest.id == 5502
        assert written_contact([]) is None


class TestLead:
    @pytest.mark.parametrize(
        ("leads", "expected"),
        [
            ([lead(2), lead(1)], 1),
            ([lead(1, name="other"), lead(2)], 2),
            ([lead(1, is_deleted=True), lead(2)], 2),
            ([lead(1, created_at=SINCE - SKEW - 1), lead(2, created_at=SINCE - SKEW)], 2),
            ([lead(9), lead(10)], 10),
            ([lead(1, name="other")], None),
            ([], None),
        ],
    )
    def test_by_its_name_and_its_youth(self, leads: list[Lead], expected: int | None) -> None:
        found = written_lead(leads, LEAD, SINCE, known=[9])
        assert (found and found.id) == expected

    def test_one_that_shall_seem_older(self) -> None:
        an_hour_ago = SINCE - 3600
        body = {**LEAD, "created_at": an_hour_ago}
        assert written_lead([lead(1, created_at=an_hour_ago)], body, SINCE) is not None

    def test_one_without_a_name(self) -> None:
        assert written_lead([lead(1, name="Lead #1")], {}, SINCE) is not None


class TestTask:
    @pytest.mark.parametrize(
        ("tasks", "expected"),
        [
            ([task(2), task(1)], 1),
            ([task(1, text="other"), task(2)], 2),
            ([task(1, complete_till=SINCE + 86400)], 1),  # somebody has put it off
            ([task(1, created_at=SINCE - 86400)], 1),  # a body may make it older
            ([task(1, created_at=SINCE - 86400, complete_till=SINCE - 85500)], None),  # of an earlier call
            ([task(9)], None),
            ([], None),
        ],
    )
    def test_by_its_text_with_its_date_or_its_youth(self, tasks: list[Task], expected: int | None) -> None:
        found = written_task(tasks, TASK, SINCE, known=[9])
        assert (found and found.id) == expected


class TestCall:
    def test_by_its_uniq(self) -> None:
        notes = [note(3, uniq="17.2"), note(2, uniq="17.1"), note(1, uniq="17.1"), note(4)]
        found = written_call(notes, "17.1")
        assert found is not None
        assert found.id == 1
        assert written_call(notes, "17.3") is None
        assert written_call(notes, "") is None

    def test_it_gets_its_recording_and_keeps_what_it_had(self) -> None:
        body = call_note_with(note(1, uniq="17.1", duration=5, link=None, extra="x"), link="https://x/y.mp3")
        params = {"uniq": "17.1", "duration": 5, "link": "https://x/y.mp3"}
        assert body == {"id": 1, "note_type": "call_in", "params": params}


class TestUnsorted:
    @pytest.mark.parametrize(
        ("entry", "is_ours"),
        [
            ({"source_uid": "17.1", "metadata": {"uniq": "17.1"}}, True),
            ({"source_uid": "17.1", "metadata": []}, True),
            ({"source_uid": "pbx", "metadata": {"uniq": "17.2"}}, False),
            ({"source_uid": "17.1", "metadata": {"uniq": "17.2"}}, False),
            ({"source_uid": "", "metadata": {}}, False),
        ],
    )
    def test_by_its_source_and_its_call(self, *, entry: dict[str, Any], is_ours: bool) -> None:
        body = {"source_uid": "17.1", "metadata": {"uniq": "17.1"}}
        assert (written_unsorted([read(Unsorted, {"uid": "4005", **entry})], body) is not None) is is_ours

    def test_one_that_names_no_source_is_nobodys(self) -> None:
        assert written_unsorted([read(Unsorted, {"uid": "4005"})], {"metadata": None}) is None


class TestUpdate:
    @pytest.mark.parametrize(
        ("body", "left"),
        [
            ({"id": 1, "responsible_user_id": 9100001}, {}),
            ({"id": 1, "responsible_user_id": "9100001", "request_id": "x"}, {}),
            ({"responsible_user_id": 9100002}, {"responsible_user_id": 9100002}),
            ({"status_id": 142, "name": "x"}, {"status_id": 142}),
            ({"tags_to_add": [], "read": 1, "model_config": {}}, {"tags_to_add": [], "read": 1, "model_config": {}}),
        ],
    )
    def test_only_what_differs_is_left(self, body: dict[str, Any], left: dict[str, Any]) -> None:
        assert left_to_change(lead(1, name="x", responsible_user_id=9100001), body) == left
