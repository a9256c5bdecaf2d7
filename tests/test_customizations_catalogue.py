"""The contract: the seed's keys to the letter, examples that fit, every customization documented and tested."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from itgrix_kommo.config import HOOKS, Customizations, Hook
from itgrix_kommo.customizations import CATALOGUE, Data, Lane, Stage, read_answer

README = Path(__file__).parents[1] / "README.md"
TESTS = Path(__file__).parent

CALL = ["call_result", "call_status", "created_at", "created_by", "direction", "duration", "link", "phone"]
CONTACT = ["custom_fields_values", "name", "responsible_user_id", "tags"]
LEAD = ["_embedded", "name", "pipeline_id", "responsible_user_id", "status_id"]
TASK = ["complete_till", "created_by", "entity_id", "entity_type", "is_completed", "responsible_user_id", "task_type"]
UNSORTED = ["_embedded", "created_at", "metadata", "pipeline_id", "source_name", "source_uid"]
ORIGINATE = ["caller_id", "channel", "context", "extension", "priority", "request_data"]

KEYS: dict[Hook, tuple[list[str], list[str]]] = {
    "need_registration": (["call_full", "call_stage"], ["result"]),
    "process_call_params": (
        ["call_full", *CALL, "responsible_user_id", "source"],
        [*CALL, "responsible_user_id", "source"],
    ),
    "process_client_phone": (["phone", "call_full", "call_stage"], ["phone"]),
    "process_contact_creation_params": (["call_full", *CONTACT], CONTACT),
    "process_lead_creation_params": (["call_full", *LEAD], LEAD),
    "process_originate_params": (ORIGINATE, ORIGINATE),
    "process_record_file_path": (["path", "call_full", "conversation_id"], ["path"]),
    "process_task_creation_params": (["call_full", *TASK, "text"], [*TASK, "text"]),
    "customize_autodistribution": (
        ["number", "name", "from", "trunk", "request_data", "entity", "error"],
        ["number", "name"],
    ),
    "post_registration": (["call_full"], []),
    "process_contact_update_params": (["call_full", "id", "responsible_user_id"], ["id", "responsible_user_id"]),
    "process_lead_update_params": (["call_full", "id", "responsible_user_id"], ["id", "responsible_user_id"]),
    "process_unsorted_creation_params": (["call_full", *UNSORTED], UNSORTED),
}
"""The vendor's documentation, key by key: input and answer."""

INNER: dict[str, set[str]] = {
    "call_full": {
        "active_conversation_id", "channel", "conversations", "deal", "entity", "is_ivr", "record", "registration",
        "result",
    },
    "call_full.channel": {
        "answer_time", "end_time", "start_time", "extra", "from", "to", "trunk", "id", "is_primary", "name", "state",
        "type", "was_answered",
    },
    "call_full.conversations.1772446502.85": {"channel", "is_parked", "user"},
    "metadata": {
        "called_at", "duration", "from", "is_call_event_needed", "link", "phone", "service_code", "uniq",
    },
    "_embedded": {"contacts", "leads"},
    "_embedded.contacts.0": {"custom_fields_values", "name", "tags"},
    "_embedded.contacts.0.custom_fields_values.0": {"field_id", "values"},
    "_embedded.contacts.0.custom_fields_values.0.values.0": {"enum_code", "value"},
    "_embedded.leads.0": {"name", "pipeline_id", "tags"},
    "_embedded.leads.0.tags.0": {"name"},
}  # fmt: skip


def at(value: Any, place: str) -> Any:
    for step in re.findall(r"\d+\.\d+|[^.]+", place):
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


class TestContract:
    def test_names_the_hooks_of_the_configuration_in_the_vendors_order(self) -> None:
        assert tuple(CATALOGUE) == HOOKS == tuple(KEYS)
        assert [spec.number for spec in CATALOGUE.values()] == list(range(1, 14))

    @pytest.mark.parametrize("hook", HOOKS)
    def test_has_the_vendors_keys(self, hook: Hook) -> None:
        spec = CATALOGUE[hook]
        given, answered = KEYS[hook]
        assert set(spec.params) == set(given)
        assert sorted(field.alias or name for name, field in spec.input.model_fields.items()) == sorted(given)
        assert sorted(spec.keys) == sorted(answered)

    @pytest.mark.parametrize("place", INNER)
    def test_has_the_vendors_inner_keys(self, place: str) -> None:
        params = CATALOGUE["process_unsorted_creation_params"].params
        assert set(at(params, place)) == INNER[place]

    @pytest.mark.parametrize("hook", HOOKS)
    def test_gives_examples_that_keep_it(self, hook: Hook) -> None:
        spec = CATALOGUE[hook]
        assert spec.misfits(spec.params) == []
        answer = read_answer(hook, spec.params, spec.answer)
        assert answer == Data(spec.answer.get("data", {}))

    def test_examples_are_the_readers_own(self) -> None:
        spec = CATALOGUE["process_call_params"]
        spec.params["call_full"]["channel"]["id"] = "changed"
        assert spec.params["call_full"]["channel"]["id"] == "1772446500.84"

    def test_tells_where_params_are_not_what_a_hook_must_be_given(self) -> None:
        spec = CATALOGUE["process_call_params"]
        params = {**spec.params, "duration": "88", "uniq": "1.1"}
        del params["phone"]
        assert spec.misfits(params) == [
            "params.duration: input should be a valid integer",
            "params.phone: missing",
            "params.uniq: extra inputs are not permitted",
        ]

    def test_three_of_them_can_not_cancel(self) -> None:
        assert [hook for hook, spec in CATALOGUE.items() if spec.cancels is None] == [
            "need_registration",
            "customize_autodistribution",
            "post_registration",
        ]

    def test_who_is_waited_for_and_who_may_take_long(self) -> None:
        lanes = {hook: spec.lane for hook, spec in CATALOGUE.items() if spec.lane is not Lane.ORDINARY}
        assert lanes == {
            "process_originate_params": Lane.LIVE,
            "process_record_file_path": Lane.LONG,
            "customize_autodistribution": Lane.LIVE,
        }
        times = Customizations()
        assert [times.timeout_of(hook) for hook in ("need_registration", *lanes)] == [3, 3, 10, 0.5]

    def test_two_of_them_are_asked_at_each_stage_of_a_call(self) -> None:
        stages = (
            Stage.CONVERSATION_REQUESTED,
            Stage.CONVERSATION_ACCEPTED,
            Stage.CONVERSATION_ENDED,
            Stage.CALL_ENDED,
        )
        assert {hook for hook, spec in CATALOGUE.items() if spec.stages == stages} == {
            "need_registration",
            "process_client_phone",
        }

    @pytest.mark.parametrize("hook", HOOKS)
    def test_what_goes_on_unchanged_is_what_an_answer_could_be(self, hook: Hook) -> None:
        spec = CATALOGUE[hook]
        unchanged = spec.unchanged(spec.params)
        assert "call_full" not in unchanged
        assert read_answer(hook, spec.params, {"state": "success", "data": unchanged}) == Data(unchanged)

    def test_a_failing_need_registration_registers(self) -> None:
        assert CATALOGUE["need_registration"].unchanged({}) == {"result": True}


class TestDocumentation:
    def test_the_readme_describes_every_hook(self) -> None:
        chapter = re.search(r"^## Customizations\n(.*?)(?=^## |\Z)", README.read_text(), re.MULTILINE | re.DOTALL)
        assert chapter, "README.md has no chapter '## Customizations'"
        described = {
            match["name"]: match["words"]
            for match in re.finditer(r"^\| \d+ \| `(?P<name>\w+)` \| (?P<words>.*) \|$", chapter[1], re.MULTILINE)
        }
        assert list(described) == list(HOOKS)
        for hook, spec in CATALOGUE.items():
            assert spec.sentence in described[hook], f"{hook}: the README does not say: {spec.sentence}"
            assert spec.cancels is None or spec.cancels in described[hook], f"{hook}: empty data is not explained"
            for stage in spec.stages:
                assert f"`{stage.value}`" in described[hook], f"{hook}: the README does not name {stage.value}"

    @pytest.mark.parametrize("hook", HOOKS)
    def test_every_hook_is_tested_by_name(self, hook: Hook) -> None:
        sources = "\n".join(path.read_text() for path in TESTS.glob("test_customizations_[!c]*.py"))
        assert re.search(rf"def test_{hook}\b", sources), f"no test is called test_{hook}"
