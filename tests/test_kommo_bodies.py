from __future__ import annotations

import copy
from typing import Any

import pytest

from itgrix_kommo.kommo.bodies import Kind, for_api, without_nulls

PHONE_FIELD = [{"field_id": 801, "values": [{"enum_code": "WORK", "value": "+12025550143"}]}]

# The seed's bodies as the hooks give them back, and what Kommo gets.
SEED: list[tuple[Kind, dict[str, Any], dict[str, Any]]] = [
    (
        "contact",
        {
            "call_full": {"result": 200},
            "custom_fields_values": PHONE_FIELD,
            "name": "Contact +12025550143",
            "responsible_user_id": 9100001,
            "tags": ["Itgrix"],
        },
        {
            "custom_fields_values": PHONE_FIELD,
            "name": "Contact +12025550143",
            "responsible_user_id": 9100001,
            "_embedded": {"tags": [{"name": "Itgrix"}]},
        },
    ),
    (
        "lead",
        {
            "call_full": {},
            "_embedded": {"contacts": [{"id": 5501}], "tags": [{"name": "Itgrix"}]},
            "name": "+12025550143 - incoming",
            "pipeline_id": 7001,
            "status_id": 70011,
        },
        {
            "_embedded": {"contacts": [{"id": 5501}], "tags": [{"name": "Itgrix"}]},
            "name": "+12025550143 - incoming",
            "pipeline_id": 7001,
            "status_id": 70011,
        },
    ),
    (
        "task",
        {"call_full": {}, "complete_till": 1760003600, "created_by": 0, "is_completed": False, "task_type": 2},
        {"complete_till": 1760003600, "created_by": 0, "is_completed": False, "task_type_id": 2},
    ),
    (
        "call",
        {"call_full": {}, "call_stage": "call_ended", "direction": "inbound", "link": None, "duration": 0},
        {"direction": "inbound", "duration": 0},
    ),
    (
        "contact_update",
        {"call_full": {}, "id": 5501, "responsible_user_id": 9100001, "tags": ["VIP"]},
        {"id": 5501, "responsible_user_id": 9100001, "tags_to_add": [{"name": "VIP"}]},
    ),
    (
        "lead_update",
        {"id": 6601, "responsible_user_id": None, "tags": [], "price": 100},
        {"id": 6601, "price": 100},
    ),
    (
        "unsorted",
        {
            "call_full": {},
            "_embedded": {
                "contacts": [{"custom_fields_values": PHONE_FIELD, "name": "Contact", "tags": ["Itgrix"]}],
                "leads": [{"name": "Lead", "pipeline_id": 7001, "tags": [{"name": "Itgrix"}]}],
            },
            "metadata": {"uniq": "17.1", "link": None},
            "source_uid": "17.1",
        },
        {
            "_embedded": {
                "contacts": [
                    {
                        "custom_fields_values": PHONE_FIELD,
                        "name": "Contact",
                        "_embedded": {"tags": [{"name": "Itgrix"}]},
                    }
                ],
                "leads": [{"name": "Lead", "pipeline_id": 7001, "_embedded": {"tags": [{"name": "Itgrix"}]}}],
            },
            "metadata": {"uniq": "17.1"},
            "source_uid": "17.1",
        },
    ),
]


@pytest.mark.parametrize(("kind", "given", "expected"), SEED, ids=[kind for kind, _, _ in SEED])
class TestSeed:
    def test_the_hooks_body_becomes_the_apis(self, kind: Kind, given: dict[str, Any], expected: dict[str, Any]) -> None:
        before = copy.deepcopy(given)
        assert for_api(kind, given) == expected
        assert given == before

    def test_a_body_in_the_apis_form_passes_through(
        self, kind: Kind, given: dict[str, Any], expected: dict[str, Any]
    ) -> None:
        del given
        assert for_api(kind, expected) == expected


class TestTags:
    @pytest.mark.parametrize(
        ("tags", "expected"),
        [
            ("Itgrix", [{"name": "Itgrix"}]),
            (["a", " b ", "", 7], [{"name": "a"}, {"name": "b"}, {"name": "7"}]),
            ({"0": "a", "2": {"name": "b"}}, [{"name": "a"}, {"name": "b"}]),
            ({"name": "a"}, [{"name": "a"}]),
            ([{"id": 301}, {}, {"name": ""}], [{"id": 301}]),
        ],
    )
    def test_they_are_read_kindly(self, tags: object, expected: object) -> None:
        assert for_api("contact", {"tags": tags})["_embedded"] == {"tags": expected}

    @pytest.mark.parametrize("tags", [[], {}, "", None, True, 1.5])
    def test_none_are_not_sent(self, tags: object) -> None:
        assert for_api("contact", {"tags": tags}) == {}
        assert for_api("contact_update", {"tags": tags}) == {}

    def test_those_of_both_places_are_joined(self) -> None:
        body = {"tags": ["a", "b"], "_embedded": {"tags": [{"name": "a"}], "companies": [{"id": 1}]}}
        assert for_api("contact", body) == {
            "_embedded": {"tags": [{"name": "a"}, {"name": "b"}], "companies": [{"id": 1}]}
        }
        assert for_api("contact_update", {"tags": ["b"], "tags_to_add": [{"name": "a"}]}) == {
            "tags_to_add": [{"name": "a"}, {"name": "b"}]
        }
        assert for_api("contact", {"tags": ["a"], "_embedded": []}) == {"_embedded": {"tags": [{"name": "a"}]}}


def test_the_apis_task_type_wins() -> None:
    assert for_api("task", {"task_type": 1, "task_type_id": 3}) == {"task_type_id": 3}
    assert for_api("task", {"text": "x"}) == {"text": "x"}


@pytest.mark.parametrize("embedded", [None, [], "x", {"leads": "x", "contacts": ["x"], "source": {"tags": ["a"]}}])
def test_an_odd_incoming_lead_goes_on_as_it_is(embedded: object) -> None:
    given = {"_embedded": embedded, "source_uid": "17.1"}
    assert for_api("unsorted", given) == without_nulls(given)


def test_nulls_vanish_at_any_depth() -> None:
    assert without_nulls({"a": None, "b": [None, {"c": None, "d": (1, None)}]}) == {"b": [{"d": [1]}]}
