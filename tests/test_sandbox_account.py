"""What the sandbox tells of the account itself: settings, users, custom fields, pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.test_sandbox import ANN, BORIS, LEFT, PROBLEM, Api, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with opened() as opened_api:
        yield opened_api


class TestAccount:
    async def test_the_bare_account(self, api: Api) -> None:
        answer = await api.get("/v4/account")
        assert (answer.status, answer.content_type) == (200, "application/hal+json")
        assert answer.body == {
            "id": 31000001,
            "name": "Acme",
            "subdomain": "acme",
            "created_at": 1760000000,
            "created_by": 0,
            "updated_at": 1760000000,
            "updated_by": 0,
            "current_user_id": ANN,
            "country": "US",
            "currency": "USD",
            "currency_symbol": "$",
            "customers_mode": "disabled",
            "is_unsorted_on": True,
            "is_loss_reason_enabled": True,
            "is_helpbot_enabled": False,
            "is_technical_account": False,
            "contact_name_display_order": 1,
            "mobile_feature_version": 0,
            "_links": {"self": {"href": f"{api.sandbox.url}/api/v4/account"}},
        }

    async def test_with_gates_what_is_extra(self, api: Api) -> None:
        body = (await api.get("/v4/account?with=users_groups,task_types,is_api_filter_enabled,version")).body
        assert body["is_api_filter_enabled"] is True
        assert isinstance(body["version"], int)
        assert "amojo_id" not in body
        assert set(body["_embedded"]) == {"users_groups", "task_types"}
        assert body["_embedded"]["users_groups"] == [{"id": 0, "name": "Sales", "uuid": None}]
        assert body["_embedded"]["task_types"][0] == {
            "id": 1,
            "name": "Follow-up",
            "color": None,
            "icon_id": None,
            "code": "FOLLOW_UP",
        }

    async def test_filters_that_are_not_enabled_are_told(self, api: Api) -> None:
        api.switches.filters = "ignored_on_cards"
        assert (await api.get("/v4/account?with=is_api_filter_enabled")).body["is_api_filter_enabled"] is False

    async def test_the_current_user_is_the_tokens(self, api: Api) -> None:
        answer = await api.get("/v4/account", token=api.sandbox.options.user_token)
        assert answer.body["current_user_id"] == BORIS


class TestUsers:
    async def test_the_list_with_totals(self, api: Api) -> None:
        body = (await api.get("/v4/users")).body
        assert (body["_total_items"], body["_page"], body["_page_count"]) == (4, 1, 1)
        ann, _, _, left = body["_embedded"]["users"]
        assert (ann["id"], ann["name"], ann["rights"]["is_admin"]) == (ANN, "Ann Lee", True)
        assert ann["rights"]["leads"] == {"view": "A", "edit": "A", "add": "A", "delete": "A", "export": "A"}
        assert (left["id"], left["rights"]["is_active"]) == (LEFT, False)

    async def test_pages(self, api: Api) -> None:
        first = (await api.get("/v4/users?limit=3")).body
        assert (len(first["_embedded"]["users"]), first["_page_count"]) == (3, 2)
        second = (await api.get(first["_links"]["next"]["href"].removeprefix(api.sandbox.url))).body
        assert [user["id"] for user in second["_embedded"]["users"]] == [LEFT]
        assert "next" not in second["_links"]

    async def test_one(self, api: Api) -> None:
        assert (await api.get(f"/v4/users/{BORIS}")).body["name"] == "Boris Kim"
        assert (await api.get("/v4/users/1")).status == 204

    @pytest.mark.parametrize("path", ["/v4/users", f"/v4/users/{ANN}", "/v4/webhooks"])
    async def test_only_for_administrators(self, api: Api, path: str) -> None:
        answer = await api.get(path, token=api.sandbox.options.user_token)
        assert (answer.status, answer.content_type) == (403, PROBLEM)
        assert answer.body["title"] == "Forbidden"

    async def test_an_administrator_may_act_as_another(self, api: Api) -> None:
        as_boris = {"X-Context-User-ID": str(BORIS)}
        assert (await api.get("/v4/account", headers=as_boris)).body["current_user_id"] == BORIS
        assert (await api.get("/v4/users", headers=as_boris)).status == 403
        user = api.sandbox.options.user_token
        assert (await api.get("/v4/account", headers={"X-Context-User-ID": str(ANN)}, token=user)).status == 403
        assert (await api.get("/v4/account", headers={"X-Context-User-ID": str(LEFT)})).status == 403
        assert (await api.get("/v4/account", headers={"X-Context-User-ID": "x"})).status == 403


class TestFields:
    async def test_the_phone_field(self, api: Api) -> None:
        answer = await api.get("/v4/contacts/custom_fields")
        assert (answer.body["_total_items"], answer.body["_page"], answer.body["_page_count"]) == (4, 1, 1)
        phone = answer.items("custom_fields")[0]
        assert (phone["id"], phone["code"], phone["type"], phone["entity_type"]) == (
            801,
            "PHONE",
            "multitext",
            "contacts",
        )
        assert [enum["value"] for enum in phone["enums"]] == ["WORK", "WORKDD", "MOB", "FAX", "HOME", "OTHER"]
        assert phone["enums"][0] == {"id": 9001, "value": "WORK", "sort": 500, "code": "WORK"}

    async def test_by_type_and_by_id(self, api: Api) -> None:
        texts = (await api.get("/v4/contacts/custom_fields?filter[type][0]=text")).items("custom_fields")
        assert {field["type"] for field in texts} == {"text"}
        assert (await api.get("/v4/contacts/custom_fields/802")).body["code"] == "EMAIL"
        assert (await api.get("/v4/contacts/custom_fields/1")).status == 204
        assert (await api.get("/v4/leads/custom_fields?filter[type][]=date")).status == 204

    async def test_without_a_phone_field(self, api: Api) -> None:
        api.switches.phone_field = False
        codes = [field["code"] for field in (await api.get("/v4/contacts/custom_fields")).items("custom_fields")]
        assert "PHONE" not in codes
        refused = await api.post(
            "/v4/contacts", [{"custom_fields_values": [{"field_code": "PHONE", "values": [{"value": "1"}]}]}]
        )
        assert refused.errors() == {"custom_fields_values.0.field_code": "NotSupportedChoice"}


class TestPipelines:
    async def test_the_list(self, api: Api) -> None:
        body = (await api.get("/v4/leads/pipelines", token=api.sandbox.options.user_token)).body
        assert body["_total_items"] == 3
        main = body["_embedded"]["pipelines"][0]
        statuses = main.pop("_embedded")["statuses"]
        assert main == {
            "id": 7001,
            "name": "Sales",
            "sort": 1,
            "is_main": True,
            "is_unsorted_on": True,
            "is_archive": False,
            "account_id": 31000001,
            "_links": {"self": {"href": f"{api.sandbox.url}/api/v4/leads/pipelines/7001"}},
        }
        assert [(status["id"], status["type"], status["is_editable"]) for status in statuses] == [
            (70010, 1, False),
            (70011, 0, True),
            (70012, 0, True),
            (142, 0, False),
            (143, 0, False),
        ]
        assert [line["is_main"] for line in body["_embedded"]["pipelines"]] == [True, False, False]

    async def test_one_and_its_statuses(self, api: Api) -> None:
        assert (await api.get("/v4/leads/pipelines/7002")).body["name"] == "Shop"
        statuses = (await api.get("/v4/leads/pipelines/7002/statuses")).items("statuses")
        assert {status["pipeline_id"] for status in statuses} == {7002}
        assert (await api.get("/v4/leads/pipelines/7002/statuses/142")).body["sort"] == 10000

    @pytest.mark.parametrize(
        ("path", "detail"),
        [
            ("/v4/leads/pipelines/0", "Pipeline not found"),
            ("/v4/leads/pipelines/0/statuses", "Pipeline not found"),
            ("/v4/leads/pipelines/7001/statuses/1", "Status not found"),
        ],
    )
    async def test_unknown_ones(self, api: Api, path: str, detail: str) -> None:
        answer = await api.get(path)
        assert answer.status == 404
        assert answer.body == {
            "title": "Not Found",
            "type": "https://httpstatus.es/404",
            "status": 404,
            "detail": detail,
        }
