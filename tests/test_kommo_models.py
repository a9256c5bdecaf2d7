from __future__ import annotations

from typing import Any

import pytest

from itgrix_kommo.kommo.models import (
    Account,
    Contact,
    CustomField,
    Lead,
    Note,
    Pipeline,
    Task,
    Unsorted,
    User,
    Webhook,
    read,
)

ANN: dict[str, Any] = {
    "id": 5501,
    "name": "Ann Lee",
    "responsible_user_id": 9100001,
    "closest_task_at": None,
    "is_deleted": False,
    "custom_fields_values": [
        {
            "field_id": 801,
            "field_code": "PHONE",
            "values": [{"value": "+1 202 555 0143", "enum_id": 9001, "enum_code": "WORK"}, {"value": 4930123456}],
        },
        {"field_id": 802, "field_code": None, "values": [{"value": "+1 202 555 9999"}, {"value": {"odd": 1}}]},
    ],
    "_embedded": {"tags": [], "companies": [{"id": 5601}], "leads": [{"id": 6601}, {"id": "6602"}]},
}


class TestContact:
    def test_phones_are_those_of_the_phone_field_alone(self) -> None:
        assert read(Contact, ANN).phones() == ["+1 202 555 0143", "4930123456"]

    def test_what_hangs_on_it(self) -> None:
        contact = read(Contact, ANN)
        assert (contact.company_ids, contact.lead_ids) == ((5601,), (6601, 6602))

    def test_nulls_are_empty(self) -> None:
        nulls = dict.fromkeys(["name", "responsible_user_id", "is_unsorted", "custom_fields_values"])
        contact = read(Contact, {"id": "7", **nulls})
        assert (contact.id, contact.name, contact.responsible_user_id, contact.phones()) == (7, "", 0, [])
        phone = {"field_code": "PHONE", "values": None}
        assert read(Contact, {"id": 7, "custom_fields_values": [phone]}).phones() == []

    def test_odd_phone_values_are_no_phones(self) -> None:
        phone = {"field_code": "PHONE", "values": [{"value": None}, {"value": {"x": 1}}, {"value": "1"}]}
        assert read(Contact, {"id": 7, "custom_fields_values": [phone]}).phones() == ["1"]

    @pytest.mark.parametrize("value", [None, [], "x", {}, {"id": None}, {"id": "x"}])
    def test_what_has_no_id_is_refused_by_the_key_and_without_the_clients_data(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r"valid|required") as caught:
            read(Contact, value)
        assert "input_value" not in str(caught.value)

    def test_a_refusal_names_the_place_only(self) -> None:
        with pytest.raises(ValueError, match=r"^_embedded\.leads\.0\.id: ") as caught:
            read(Contact, {"id": 1, "name": "Secret Name", "_embedded": {"leads": [{"id": "call +12025550143"}]}})
        assert "Secret" not in str(caught.value)
        assert "2025550143" not in str(caught.value)


class TestLead:
    @pytest.mark.parametrize(
        ("status_id", "deleted", "is_open"),
        [(70011, False, True), (142, False, False), (143, False, False), (1, True, False)],
    )
    def test_open_is_neither_won_nor_lost_nor_deleted(self, *, status_id: int, deleted: bool, is_open: bool) -> None:
        lead = read(Lead, {"id": 1, "status_id": status_id, "is_deleted": deleted})
        assert lead.is_open is is_open

    def test_its_contacts(self) -> None:
        assert read(Lead, {"id": 1, "_embedded": {"contacts": [{"id": 5501, "is_main": True}]}}).contact_ids == (5501,)


class TestAccount:
    def test_what_with_asked_for_is_inside(self) -> None:
        account = read(Account, {"id": 31000001, "_embedded": {"task_types": [{"id": 1, "name": "Follow-up"}]}})
        assert [kind.name for kind in account.task_types] == ["Follow-up"]
        assert read(Account, {"id": 31000001, "country": None}).task_types == ()


class TestPipeline:
    def test_stages_stand_as_on_the_board_and_new_leads_go_to_some_only(self) -> None:
        statuses = [
            {"id": 143, "sort": 11000, "type": 0},
            {"id": 70012, "sort": 30, "type": 0},
            {"id": 70010, "sort": 10, "type": 1},
            {"id": 70011, "sort": 20, "type": 0},
            {"id": 142, "sort": 10000, "type": 0},
        ]
        pipeline = read(Pipeline, {"id": 7001, "_embedded": {"statuses": statuses}})
        assert [status.id for status in pipeline.statuses] == [70010, 70011, 70012, 142, 143]
        assert [status.id for status in pipeline.statuses if status.takes_leads] == [70011, 70012]


class TestOthers:
    def test_a_user_without_rights_told_is_active(self) -> None:
        assert read(User, {"id": 1}).is_active
        assert not read(User, {"id": 1, "rights": {"is_active": False}}).is_active

    @pytest.mark.parametrize(
        ("enums", "has"),
        [([{"id": 1, "value": "WORK"}], True), ([{"code": "WORK", "value": "Work"}], True), (None, False)],
    )
    def test_an_enum_is_known_by_code_or_value(self, *, enums: Any, has: bool) -> None:
        assert read(CustomField, {"id": 801, "code": "PHONE", "enums": enums}).has_enum("WORK") is has

    @pytest.mark.parametrize(
        ("params", "uniq"),
        [({"uniq": "17.1"}, "17.1"), ({"uniq": None}, ""), ({"uniq": 17}, "17"), ([], ""), (None, "")],
    )
    def test_a_call_note_is_known_by_its_uniq(self, params: Any, uniq: str) -> None:
        assert read(Note, {"id": 1, "params": params}).uniq == uniq


class TestActivities:
    def test_a_task_of_no_card(self) -> None:
        task = read(Task, {"id": 7701, "text": "x", "entity_id": None, "entity_type": None, "result": []})
        assert (task.entity_id, task.entity_type, task.is_completed) == (0, "", False)

    def test_an_incoming_lead_with_what_it_hides(self) -> None:
        cards = {"leads": [{"id": 6604}], "contacts": [{"id": 5504}], "companies": []}
        entry = read(Unsorted, {"uid": "4005c1", "metadata": {"uniq": 17.1}, "_embedded": cards})
        assert (entry.uid, entry.uniq, entry.lead_ids, entry.contact_ids) == ("4005c1", "17.1", (6604,), (5504,))
        assert read(Unsorted, {"uid": "4005c1", "metadata": []}).uniq == ""

    def test_the_secret_in_a_webhooks_address_is_not_shown(self) -> None:
        hook = read(
            Webhook, {"id": 401, "destination": "https://pbx.example.com/webhooks/kommo/s3cret", "settings": []}
        )
        assert hook.destination.endswith("s3cret")
        assert "s3cret" not in repr(hook)
