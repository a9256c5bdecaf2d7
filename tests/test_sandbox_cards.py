"""Contacts, companies and leads in the sandbox: made, changed, tied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.test_sandbox import ANN, BORIS, CARLA, HAL, LEFT, PHONE, Api, opened, phones

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as opened_api:
        yield opened_api


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [item["id"] for item in found]


def field(field_id: int, value: object) -> dict[str, Any]:
    return {"custom_fields_values": [{"field_id": field_id, "values": [{"value": value}]}]}


class TestMaking:
    async def test_a_contact(self, api: Api) -> None:
        body = {"name": PHONE, "responsible_user_id": BORIS, "created_by": 0, "request_id": "uid-17.1"}
        answer = await api.post(
            "/v4/contacts", [body | {"custom_fields_values": phones(PHONE), "tags_to_add": [{"name": "pbx"}]}]
        )
        base = f"{api.sandbox.url}/api/v4/contacts"
        assert (answer.status, answer.content_type) == (200, HAL)
        assert answer.body == {
            "_links": {"self": {"href": base}},
            "_embedded": {
                "contacts": [
                    {
                        "id": 5501,
                        "is_deleted": False,
                        "is_unsorted": False,
                        "request_id": "uid-17.1",
                        "_links": {"self": {"href": f"{base}/5501"}},
                    }
                ]
            },
        }

    async def test_a_contact_as_it_is_read(self, api: Api) -> None:
        company_id = await api.company("+12025550100")
        contact_id = await api.contact(name="Ann Lee", tags_to_add=[{"name": "pbx"}])
        await api.post(f"/v4/contacts/{contact_id}/link", [{"to_entity_id": company_id, "to_entity_type": "companies"}])
        lead_id = await api.lead(contact_id)
        task_id = await api.task(entity_id=contact_id, entity_type="contacts", complete_till=1_760_009_999)
        assert task_id
        base = f"{api.sandbox.url}/api/v4"
        body = (await api.get(f"/v4/contacts/{contact_id}?with=leads")).body
        tag_id = body["_embedded"]["tags"][0]["id"]
        assert body == {
            "id": contact_id,
            "name": "Ann Lee",
            "first_name": "Ann Lee",
            "last_name": "",
            "responsible_user_id": ANN,
            "group_id": 0,
            "created_by": ANN,
            "updated_by": ANN,
            "created_at": body["created_at"],
            "updated_at": body["created_at"],
            "closest_task_at": 1_760_009_999,
            "is_deleted": False,
            "is_unsorted": False,
            "custom_fields_values": [
                {
                    "field_id": 801,
                    "field_name": "Phone",
                    "field_code": "PHONE",
                    "field_type": "multitext",
                    "values": [{"value": PHONE, "enum_id": 9001, "enum_code": "WORK"}],
                }
            ],
            "account_id": 31000001,
            "_links": {"self": {"href": f"{base}/contacts/{contact_id}"}},
            "_embedded": {
                "tags": [{"id": tag_id, "name": "pbx"}],
                "companies": [{"id": company_id, "_links": {"self": {"href": f"{base}/companies/{company_id}"}}}],
                "leads": [{"id": lead_id, "_links": {"self": {"href": f"{base}/leads/{lead_id}"}}}],
            },
        }
        assert "leads" not in (await api.get(f"/v4/contacts/{contact_id}")).body["_embedded"]

    async def test_a_lead_lands_in_the_first_stage_of_the_main_pipeline(self, api: Api) -> None:
        lead_id = await api.lead(await api.contact())
        body = (await api.get(f"/v4/leads/{lead_id}?with=contacts")).body
        assert (body["pipeline_id"], body["status_id"], body["closed_at"]) == (7001, 70011, None)
        assert body["custom_fields_values"] is None
        assert [(contact["id"], contact["is_main"]) for contact in body["_embedded"]["contacts"]] == [(5501, True)]
        assert "contacts" not in (await api.get(f"/v4/leads/{lead_id}")).body["_embedded"]

    async def test_a_lead_by_its_stage_alone(self, api: Api) -> None:
        lead_id = await api.lead(status_id=70022)
        assert api.account.leads[lead_id].pipeline_id == 7002
        won = await api.lead(status_id=142)
        assert (api.account.leads[won].pipeline_id, api.account.leads[won].closed_at) == (7001, api.account.now())

    async def test_no_check_for_doubles(self, api: Api) -> None:
        first, second = await api.contact(), await api.contact()
        assert first != second
        assert api.sandbox.audit.duplicates()["contacts_by_phone"] == {"2025550143": [first, second]}

    async def test_names(self, api: Api) -> None:
        answer = await api.post("/v4/contacts", [{"first_name": "Maria", "last_name": "Gomez"}, {}])
        names = [api.account.contacts[item["id"]].name for item in answer.items("contacts")]
        assert names == ["Maria Gomez", ""]
        lead_id = ids((await api.post("/v4/leads", [{}])).items("leads"))[0]
        assert api.account.leads[lead_id].name == f"Lead #{lead_id}"

    async def test_a_phone_is_kept_as_typed_and_gets_a_type(self, api: Api) -> None:
        fields = [{"field_id": 801, "values": [{"value": "+7 (999) 123-45-67"}, {"value": "8", "enum_id": 9003}]}]
        contact_id = ids((await api.post("/v4/contacts", [{"custom_fields_values": fields}])).items("contacts"))[0]
        read = (await api.get(f"/v4/contacts/{contact_id}")).body["custom_fields_values"][0]["values"]
        assert read == [
            {"value": "+7 (999) 123-45-67", "enum_id": 9001, "enum_code": "WORK"},
            {"value": "8", "enum_id": 9003, "enum_code": "MOB"},
        ]

    async def test_fields_of_every_type(self, api: Api) -> None:
        fields = [
            {"field_id": 821, "values": [{"value": "trunk 2"}]},
            {"field_id": 822, "values": [{"value": 3}]},
            {"field_id": 823, "values": [{"enum_id": 9022}]},
            {"field_id": 824, "values": [{"value": True}]},
        ]
        lead_id = await api.lead(custom_fields_values=fields)
        read = (await api.get(f"/v4/leads/{lead_id}")).body["custom_fields_values"]
        assert [field["values"] for field in read] == [
            [{"value": "trunk 2"}],
            [{"value": 3}],
            [{"value": "Web", "enum_id": 9022, "enum_code": None}],
            [{"value": True}],
        ]


class TestRefusals:
    @pytest.mark.parametrize(
        ("item", "path", "code"),
        [
            ({"tags": ["Itgrix"]}, "tags", "FieldNotExpected"),
            ({"responsible_user_id": 1}, "responsible_user_id", "NotSupportedChoice"),
            ({"responsible_user_id": LEFT}, "responsible_user_id", "NotSupportedChoice"),
            ({"responsible_user_id": 0}, "responsible_user_id", "NotSupportedChoice"),
            ({"created_by": 1}, "created_by", "NotSupportedChoice"),
            ({"tags_to_add": [{"name": " "}]}, "tags_to_add.0.name", "NotBlank"),
            ({"tags_to_add": [{}]}, "tags_to_add.0.name", "FieldMissing"),
            ({"tags_to_add": ["Itgrix"]}, "tags_to_add.0", "InvalidType"),
            ({"_embedded": {"tags": [{"id": 5}]}}, "_embedded.tags.0.id", "NotSupportedChoice"),
            ({"_embedded": {"leads": []}}, "_embedded.leads", "FieldNotExpected"),
            ({"created_at": "now"}, "created_at", "InvalidType"),
            ({"request_id": 5}, "request_id", "InvalidType"),
        ],
    )
    async def test_a_contact(self, api: Api, item: dict[str, Any], path: str, code: str) -> None:
        answer = await api.post("/v4/contacts", [item])
        assert (answer.status, answer.errors()) == (400, {path: code})

    @pytest.mark.parametrize(
        ("field", "path", "code"),
        [
            ({"field_id": 5, "values": [{"value": "x"}]}, "field_id", "NotSupportedChoice"),
            ({"field_code": "FAX", "values": [{"value": "x"}]}, "field_code", "NotSupportedChoice"),
            ({"values": [{"value": "x"}]}, "field_id", "FieldMissing"),
            ({"field_id": 801}, "values", "FieldMissing"),
            ({"field_id": 801, "values": []}, "values", "NotBlank"),
            ({"field_id": 801, "values": [{"value": 5}]}, "values.0.value", "InvalidType"),
            ({"field_id": 801, "values": [{"value": None}]}, "values.0.value", "NotNullable"),
            ({"field_id": 801, "values": [{"value": {}}]}, "values.0.value", "InvalidType"),
            ({"field_id": 801, "values": [{"enum_code": "WORK"}]}, "values.0.value", "FieldMissing"),
            (
                {"field_id": 801, "values": [{"value": "5", "enum_code": "CAR"}]},
                "values.0.enum_code",
                "NotSupportedChoice",
            ),
            ({"field_id": 801, "values": [{"value": "5", "enum_id": 9011}]}, "values.0.enum_id", "NotSupportedChoice"),
            (
                {"field_id": 803, "values": [{"value": "5", "enum_code": "WORK"}]},
                "values.0.enum_code",
                "FieldNotExpected",
            ),
        ],
    )
    async def test_a_contacts_fields(self, api: Api, field: dict[str, Any], path: str, code: str) -> None:
        answer = await api.post("/v4/contacts", [{"custom_fields_values": [field]}])
        assert answer.errors() == {f"custom_fields_values.0.{path}": code}

    @pytest.mark.parametrize(
        ("item", "path", "code"),
        [
            ({"pipeline_id": 1}, "pipeline_id", "NotSupportedChoice"),
            ({"status_id": 1}, "status_id", "NotSupportedChoice"),
            ({"status_id": 70010}, "status_id", "NotSupportedChoice"),  # nobody is put among the unsorted by hand
            ({"status_id": 70021, "pipeline_id": 7001}, "status_id", "NotSupportedChoice"),
            ({"loss_reason_id": 31}, "loss_reason_id", "NotSupportedChoice"),
            ({"status_id": 143, "loss_reason_id": 5}, "loss_reason_id", "NotSupportedChoice"),
            ({"price": "5"}, "price", "InvalidType"),
            ({"_embedded": {"contacts": [{"id": 1}]}}, "_embedded.contacts.0.id", "NotSupportedChoice"),
            ({"_embedded": {"companies": [{"id": 1}]}}, "_embedded.companies.0.id", "NotSupportedChoice"),
            (field(801, "1"), "custom_fields_values.0.field_id", "NotSupportedChoice"),
            (field(822, "many"), "custom_fields_values.0.values.0.value", "InvalidType"),
            (field(823, "Fax"), "custom_fields_values.0.values.0.value", "NotSupportedChoice"),
            (field(824, "yes"), "custom_fields_values.0.values.0.value", "InvalidType"),
        ],
    )
    async def test_a_lead(self, api: Api, item: dict[str, Any], path: str, code: str) -> None:
        answer = await api.post("/v4/leads", [item])
        assert (answer.status, answer.errors()) == (400, {path: code})


class TestChanging:
    async def test_one_by_its_path(self, api: Api) -> None:
        contact_id = await api.contact(name="Old")
        answer = await api.patch(f"/v4/contacts/{contact_id}", {"name": "New", "responsible_user_id": CARLA})
        assert answer.items("contacts")[0] == {
            "id": contact_id,
            "name": "New",
            "is_deleted": False,
            "is_unsorted": False,
            "updated_at": api.account.now(),
            "request_id": "0",
            "_links": {"self": {"href": f"{api.sandbox.url}/api/v4/contacts/{contact_id}"}},
        }
        card = api.account.contacts[contact_id]
        assert (card.name, card.responsible_user_id) == ("New", CARLA)

    async def test_the_bare_object_by_switch(self, api: Api) -> None:
        api.switches.single_patch = "object"
        lead_id, task_id = await api.lead(), await api.task()
        assert (await api.patch(f"/v4/leads/{lead_id}", {"price": 5})).body["id"] == lead_id
        assert (await api.patch(f"/v4/tasks/{task_id}", {"is_completed": True})).body["id"] == task_id

    async def test_many(self, api: Api) -> None:
        one, two = await api.lead(), await api.lead()
        changes = [
            {"id": one, "status_id": 142},
            {"id": two, "status_id": 143, "loss_reason_id": 31, "request_id": "b"},
        ]
        answer = await api.patch("/v4/leads", changes)
        assert [(item["id"], item["request_id"]) for item in answer.items("leads")] == [(one, "0"), (two, "b")]
        assert api.account.leads[two].closed_at == api.account.now()
        await api.patch(f"/v4/leads/{two}", {"status_id": 70012})
        assert api.account.leads[two].closed_at is None

    @pytest.mark.parametrize(
        ("path", "body", "error"),
        [
            ("/v4/leads", [{"status_id": 142}], {"id": "FieldMissing"}),
            ("/v4/leads", [{"id": 1}], {"id": "NotSupportedChoice"}),
            ("/v4/leads/1", {"price": 1}, {"id": "NotSupportedChoice"}),
            ("/v4/contacts/1", [{"name": "A"}], {"0": "FieldNotExpected"}),
        ],
    )
    async def test_what_is_not_there(self, api: Api, path: str, body: object, error: dict[str, str]) -> None:
        answer = await api.patch(path, body)
        assert (answer.status, answer.errors()) == (400, error)

    async def test_only_keys_that_belong_to_a_change(self, api: Api) -> None:
        lead_id = await api.lead(await api.contact())
        answer = await api.patch(f"/v4/leads/{lead_id}", {"_embedded": {"contacts": [{"id": 5501}]}})
        assert answer.errors() == {"_embedded.contacts": "FieldNotExpected"}
        assert (await api.patch(f"/v4/leads/{lead_id}", {})).status == 400

    async def test_a_responsible_who_has_left(self, api: Api) -> None:
        contact_id = await api.contact()
        answer = await api.patch(f"/v4/contacts/{contact_id}", {"responsible_user_id": LEFT})
        assert answer.errors() == {"responsible_user_id": "NotSupportedChoice"}

    async def test_a_field_is_replaced_whole_and_the_others_stay(self, api: Api) -> None:
        position = {"field_id": 803, "values": [{"value": "Boss"}]}
        made = await api.post("/v4/contacts", [{"custom_fields_values": [*phones("1", "2"), position]}])
        contact_id = ids(made.items("contacts"))[0]
        await api.patch(f"/v4/contacts/{contact_id}", {"custom_fields_values": phones("3")})
        body = (await api.get(f"/v4/contacts/{contact_id}")).body
        assert [[value["value"] for value in field["values"]] for field in body["custom_fields_values"]] == [
            ["3"],
            ["Boss"],
        ]
        await api.patch(f"/v4/contacts/{contact_id}", {"custom_fields_values": [{"field_id": 803, "values": None}]})
        body = (await api.get(f"/v4/contacts/{contact_id}")).body
        assert [field["field_code"] for field in body["custom_fields_values"]] == ["PHONE"]

    async def test_tags_are_replaced_or_added_and_removed(self, api: Api) -> None:
        contact_id = await api.contact(_embedded={"tags": [{"name": "a"}, {"name": "b"}]})

        async def tags_after(change: dict[str, Any]) -> list[str]:
            await api.patch(f"/v4/contacts/{contact_id}", change)
            embedded = (await api.get(f"/v4/contacts/{contact_id}")).body["_embedded"]
            return [tag["name"] for tag in embedded["tags"]]

        assert await tags_after({"tags_to_add": [{"name": "c"}, {"name": "A"}]}) == ["a", "b", "c"]
        assert await tags_after({"tags_to_delete": [{"name": "b"}]}) == ["a", "c"]
        assert await tags_after({"_embedded": {"tags": [{"name": "d"}]}}) == ["d"]

    async def test_another_pipeline(self, api: Api) -> None:
        lead_id = await api.lead()
        refused = await api.patch(f"/v4/leads/{lead_id}", {"status_id": 70022})
        assert refused.errors() == {"status_id": "NotSupportedChoice"}
        assert (await api.patch(f"/v4/leads/{lead_id}", {"status_id": 70022, "pipeline_id": 7002})).status == 200
        await api.patch(f"/v4/leads/{lead_id}", {"pipeline_id": 7003})
        assert api.account.leads[lead_id].status_id == 70031


class TestLinks:
    async def test_a_contact_to_a_lead(self, api: Api) -> None:
        contact_id, lead_id = await api.contact(), await api.lead()
        target = {
            "to_entity_id": contact_id,
            "to_entity_type": "contacts",
            "metadata": {"is_main": True, "updated_by": ANN},
        }
        answer = await api.post(f"/v4/leads/{lead_id}/link", [target])
        assert answer.status == 200
        assert (answer.body["_total_items"], answer.items("links")) == (
            1,
            [
                {
                    "entity_id": lead_id,
                    "entity_type": "leads",
                    "to_entity_id": contact_id,
                    "to_entity_type": "contacts",
                    "metadata": {"main_contact": True},
                }
            ],
        )
        assert (await api.get(f"/v4/leads/{lead_id}/links")).items("links") == answer.items("links")
        assert (await api.get(f"/v4/leads/{lead_id}/links?filter[to_entity_type]=companies")).status == 204
        many = await api.get(f"/v4/contacts/links?filter[entity_id][]={contact_id}")
        assert many.items("links")[0]["to_entity_id"] == lead_id

    async def test_untying_answers_204(self, api: Api) -> None:
        contact_id = await api.contact()
        lead_id = await api.lead(contact_id)
        target = {"to_entity_id": contact_id, "to_entity_type": "contacts"}
        answer = await api.post(f"/v4/leads/{lead_id}/unlink", [target])
        assert (answer.status, answer.body) == (204, None)
        assert (await api.get(f"/v4/leads/{lead_id}/links")).status == 204

    async def test_many_at_once(self, api: Api) -> None:
        contact_id, one, two = await api.contact(), await api.lead(), await api.lead()
        target = {"to_entity_id": contact_id, "to_entity_type": "contacts"}
        answer = await api.post("/v4/leads/link", [target | {"entity_id": one}, target | {"entity_id": two}])
        assert [link["entity_id"] for link in answer.items("links")] == [one, two]
        assert (await api.post("/v4/leads/link", [target])).errors() == {"entity_id": "NotSupportedChoice"}

    async def test_one_company_and_one_main_contact(self, api: Api) -> None:
        first, second = await api.contact("+12025550143"), await api.contact("+12025550144")
        company, other = await api.company("+12025550100"), await api.company("+12025550101")
        lead_id = await api.lead(first)
        await api.post(
            f"/v4/leads/{lead_id}/link",
            [
                {"to_entity_id": second, "to_entity_type": "contacts", "metadata": {"is_main": True}},
                {"to_entity_id": company, "to_entity_type": "companies"},
                {"to_entity_id": other, "to_entity_type": "companies"},
            ],
        )
        embedded = (await api.get(f"/v4/leads/{lead_id}?with=contacts")).body["_embedded"]
        assert [(contact["id"], contact["is_main"]) for contact in embedded["contacts"]] == [
            (first, False),
            (second, True),
        ]
        assert ids(embedded["companies"]) == [other]

    async def test_a_company_to_its_contacts(self, api: Api) -> None:
        contact_id, company_id = await api.contact(), await api.company("+12025550100")
        target = {"to_entity_id": contact_id, "to_entity_type": "contacts"}
        answer = await api.post(f"/v4/companies/{company_id}/link", [target])
        assert answer.items("links")[0]["entity_type"] == "companies"
        assert ids((await api.get(f"/v4/contacts/{contact_id}")).body["_embedded"]["companies"]) == [company_id]
        assert ids((await api.get(f"/v4/companies/{company_id}?with=contacts")).body["_embedded"]["contacts"]) == [
            contact_id
        ]

    async def test_a_contact_is_tied_to_a_lead_from_the_leads_side_alone(self, api: Api) -> None:
        contact_id, lead_id = await api.contact(), await api.lead()
        answer = await api.post(
            f"/v4/contacts/{contact_id}/link", [{"to_entity_id": lead_id, "to_entity_type": "leads"}]
        )
        assert answer.errors() == {"to_entity_type": "NotSupportedChoice"}

    @pytest.mark.parametrize(
        ("target", "path", "code"),
        [
            ({"to_entity_id": 1, "to_entity_type": "contacts"}, "to_entity_id", "NotSupportedChoice"),
            ({"to_entity_id": 1, "to_entity_type": "contact"}, "to_entity_type", "NotSupportedChoice"),
            ({"to_entity_type": "contacts"}, "to_entity_id", "FieldMissing"),
            (
                {"to_entity_id": 5501, "to_entity_type": "contacts", "metadata": {"main": True}},
                "metadata.main",
                "FieldNotExpected",
            ),
        ],
    )
    async def test_refusals(self, api: Api, target: dict[str, Any], path: str, code: str) -> None:
        await api.contact()
        assert (await api.post(f"/v4/leads/{await api.lead()}/link", [target])).errors() == {path: code}
        assert (await api.post("/v4/leads/1/link", [target])).status == 404
