"""What is made of an answer: hook by hook, then what they have in common, then what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itgrix_kommo.config import HOOKS, Hook
from itgrix_kommo.customizations import CATALOGUE, Answer, Cancelled, Data, Failed, read_answer
from itgrix_kommo.customizations.answer import LARGEST_ANSWER, decode
from itgrix_kommo.errors import HookError
from tests.hook_files import params


def answered(hook: Hook, data: Any, **changes: Any) -> Answer:
    """What `data` means as the answer to the hook's example, with `changes` in what it was given."""
    return read_answer(hook, params(hook, **changes), {"state": "success", "data": data})


def data_of(hook: Hook, data: Any) -> dict[str, Any]:
    answer = answered(hook, data)
    assert isinstance(answer, Data), answer
    return answer.data


def words_of(hook: Hook, data: Any) -> str:
    answer = answered(hook, data)
    assert isinstance(answer, Failed), answer
    return answer.words


class TestHooks:
    @pytest.mark.parametrize("no", [False, 0, "0", "", "false", 0.0])
    def test_need_registration(self, no: object) -> None:
        assert data_of("need_registration", {"result": no}) == {"result": False}
        assert data_of("need_registration", {"result": 1, "call_stage": "call_ended"}) == {"result": True}
        assert words_of("need_registration", {"result": "maybe"}) == "data.result: text where true or false is wanted"
        assert words_of("need_registration", {"result": None}) == "data.result: missing"
        assert words_of("need_registration", []) == "data: empty, and this customization can't cancel anything"

    def test_process_call_params(self) -> None:
        given = CATALOGUE["process_call_params"].unchanged(params("process_call_params"))
        as_php_writes = {**given, "duration": "88", "call_status": 2.0, "phone": 89991234567, "link": None}
        del given["link"]
        expected = {**given, "call_status": 2, "phone": "89991234567"}
        assert data_of("process_call_params", as_php_writes) == expected
        assert (
            words_of("process_call_params", {"call_status": 8})
            == "data.call_status: a call status from 1 to 7 is wanted"
        )
        assert words_of("process_call_params", {"phone": ""}) == "data.phone: empty text"
        assert words_of("process_call_params", {"direction": "sideways"}).startswith("data.direction: ")

    def test_process_client_phone(self) -> None:
        assert data_of("process_client_phone", {"phone": 89991234567.0}) == {"phone": "89991234567"}
        assert data_of("process_client_phone", {"phone": None}) == {"phone": "+79991234567"}
        assert answered("process_client_phone", {"phone": ""}) == Cancelled()
        for wrong in ("unknown", "+", "8" * 33, "1\n2", "tel:1"):
            assert words_of("process_client_phone", {"phone": wrong}).startswith("data.phone: no phone number")
        assert words_of("process_client_phone", {"phone": True}) == "data.phone: true or false where text is wanted"

    def test_process_contact_creation_params(self) -> None:
        hook: Hook = "process_contact_creation_params"
        data = {"name": "Shop", "tags": {"0": "Itgrix", "2": {"name": "VIP"}}, "custom_fields_values": [
            {"field_code": "EMAIL", "values": [{"value": "a@example.com"}]}]}  # fmt: skip
        assert data_of(hook, data) == {**data, "tags": ["Itgrix", {"name": "VIP"}]}
        assert data_of(hook, {"tags": []})["tags"] == []
        assert "tags" not in data_of(hook, {"name": "without tags"})
        assert words_of(hook, {"tags": "Itgrix"}) == "data.tags: text where a list is wanted"
        assert words_of(hook, {"tags": [True]}) == "data.tags[0]: true or false where text is wanted"

    def test_process_lead_creation_params(self) -> None:
        hook: Hook = "process_lead_creation_params"
        data = data_of(hook, {"_embedded": {"tags": [{"name": "Shop"}]}, "status_id": "7102", "price": 100})
        assert data == {
            "_embedded": {"contacts": [{"id": 5501}], "tags": [{"name": "Shop"}]},
            "name": "+79991234567 - incoming",
            "price": 100,
            "status_id": 7102,
        }
        assert data_of(hook, {"_embedded": [], "name": "x"})["_embedded"] == {"contacts": [{"id": 5501}]}
        assert words_of(hook, {"_embedded": {"contacts": [{"id": "x"}]}}) == (
            "data._embedded.contacts[0].id: text where a whole number is wanted"
        )

    def test_process_originate_params(self) -> None:
        hook: Hook = "process_originate_params"
        assert data_of(hook, {"extension": 89991234567, "priority": "2"}) == {
            "caller_id": '"+79991234567" <101>',
            "channel": "PJSIP/101",
            "context": "from-internal",
            "extension": "89991234567",
            "priority": 2,
        }
        assert words_of(hook, {"channel": "PJSIP/1\r\nAction: Command"}) == (
            "data.channel: control characters, such as a line break"
        )
        assert words_of(hook, {"context": " "}) == "data.context: empty text"
        assert data_of(hook, {"request_data": []})["request_data"] == {}

    def test_process_record_file_path(self) -> None:
        hook: Hook = "process_record_file_path"
        assert data_of(hook, {"path": "/tmp/a.mp3"}) == {"path": "/tmp/a.mp3"}
        assert answered(hook, {"path": ""}) == answered(hook, None) == Cancelled()
        assert words_of(hook, {"path": "/tmp/a\0.mp3"}) == "data.path: control characters, such as a line break"

    def test_process_task_creation_params(self) -> None:
        hook: Hook = "process_task_creation_params"
        data = data_of(hook, {"text": "Call!", "is_completed": "", "task_type": "2", "duration": 60})
        assert data == {
            "complete_till": 1772447400,
            "duration": 60,
            "entity_id": 5501,
            "entity_type": "contacts",
            "is_completed": False,
            "task_type": 2,
            "text": "Call!",
        }
        assert words_of(hook, {"complete_till": "tomorrow"}) == (
            "data.complete_till: text where a whole number is wanted"
        )

    def test_customize_autodistribution(self) -> None:
        hook: Hook = "customize_autodistribution"
        assert data_of(hook, {"number": 102}) == {"number": "102", "name": "Anna"}
        assert data_of(hook, {"number": "", "name": ""}) == {"number": "", "name": ""}
        assert words_of(hook, {}) == "data: empty, and this customization can't cancel anything"

    @pytest.mark.parametrize("answer", [{"state": "success"}, {"state": "success", "data": "anything"}])
    def test_post_registration(self, answer: object) -> None:
        assert read_answer("post_registration", params("post_registration"), answer) == Data({})
        assert read_answer("post_registration", {}, {"state": "error", "message": "no net"}) == Failed(
            "state: 'error', not 'success': no net"
        )

    def test_process_contact_update_params(self) -> None:
        hook: Hook = "process_contact_update_params"
        cleared = {"custom_fields_values": [{"field_id": 1, "values": None}]}
        assert data_of(hook, cleared) == {"id": 5501, **cleared}
        assert words_of(hook, {"responsible_user_id": False}) == (
            "data.responsible_user_id: true or false where a whole number is wanted"
        )

    def test_process_lead_update_params(self) -> None:
        hook: Hook = "process_lead_update_params"
        assert data_of(hook, {"id": "6601", "status_id": 142}) == {"id": 6601, "status_id": 142}
        assert words_of(hook, {"id": -1}) == "data.id: a number from 0 to 9007199254740991 is wanted"

    def test_process_unsorted_creation_params(self) -> None:
        hook: Hook = "process_unsorted_creation_params"
        given = params(hook)
        data = data_of(hook, {"metadata": {"duration": "5"}, "pipeline_id": "7002"})
        assert data == {
            "_embedded": given["_embedded"],
            "metadata": {**{k: v for k, v in given["metadata"].items() if k != "link"}, "duration": 5},
            "pipeline_id": 7002,
            "source_name": "itgrix_amo",
            "source_uid": "1772446500.84",
        }
        assert words_of(hook, {"_embedded": "x", "metadata": 5}) == (
            "data._embedded: text where an object is wanted; data.metadata: a number where an object is wanted"
        )


class TestEnvelope:
    @pytest.mark.parametrize("empty", [None, {}, []])
    @pytest.mark.parametrize("hook", [hook for hook in HOOKS if CATALOGUE[hook].cancels])
    def test_empty_data_cancels(self, hook: Hook, empty: object) -> None:
        assert answered(hook, empty) == Cancelled()

    @pytest.mark.parametrize("hook", [hook for hook in HOOKS if CATALOGUE[hook].keys and hook != "need_registration"])
    def test_the_whole_input_may_be_returned(self, hook: Hook) -> None:
        given = params(hook)
        assert answered(hook, given) == Data(CATALOGUE[hook].unchanged(given))

    def test_the_wrapped_form_of_old_versions_is_unwrapped(self) -> None:
        assert answered("process_client_phone", {"params": {"phone": "123"}}) == Data({"phone": "123"})

    def test_an_odd_caller_may_be_left_as_he_is(self) -> None:
        assert answered("process_client_phone", {"phone": "anonymous"}, phone="anonymous") == Data(
            {"phone": "anonymous"}
        )

    @pytest.mark.parametrize(
        ("raw", "words"),
        [
            (None, "it returned null, not an object"),
            ([1], "it returned a list, not an object"),
            ("success", "it returned text, not an object"),
            ({}, "state: missing"),
            ({"data": {"phone": "1"}}, "state: missing"),
            ({"state": True, "data": {"phone": "1"}}, "state: 'true or false', not 'success'"),
            ({"state": "fail", "error": "x" * 300}, f"state: 'fail', not 'success': {'x' * 200}"),
            ({"state": "success"}, "data: missing"),
            ({"state": "success", "data": "text"}, "data: text where an object is wanted"),
            ({"state": "success", "data": [1]}, "data: a list where an object is wanted"),
            ({"state": "success", "data": False}, "data: true or false where an object is wanted"),
        ],
    )
    def test_what_is_no_answer_is_a_failure(self, raw: object, words: str) -> None:
        answer = read_answer("process_client_phone", params("process_client_phone"), raw)
        assert isinstance(answer, Failed)
        assert answer.words.startswith(words)

    @given(st.sampled_from(HOOKS), st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["phone", "result", "id", "_embedded", "metadata", "contacts", "tags", "params", "text"]),
            inner,
        ),
    ))  # fmt: skip
    def test_nothing_that_json_can_say_breaks_the_reading(self, hook: Hook, data: object) -> None:
        answer = answered(hook, data)
        assert isinstance(answer, Data | Cancelled | Failed)
        if isinstance(answer, Data):
            assert answered(hook, answer.data) in (answer, Cancelled()) or not CATALOGUE[hook].keys


class TestDecoding:
    def test_reads_json(self) -> None:
        assert decode(b' {"a": [1, -1.5, "\xd0\xb6"]}\n') == {"a": [1, -1.5, "ж"]}

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "no answer"),
            (b" \n", "no answer"),
            (b"rubbish", "no JSON"),
            (b'{"a": 1} {"b": 2}', "no JSON"),
            (b'{"a": NaN}', "NaN is no number"),
            (b'{"a": -Infinity}', "-Infinity is no number"),
            (b'{"a": 1e999}', "1e999 is too large a number"),
            (b'{"a": ' + b"1" * 5000 + b"}", "no JSON"),
            (b'{"a": "\xff"}', "no valid UTF-8"),
            (b'{"a": "\\ud800"}', "no valid UTF-8"),
            (b"[" * 65 + b"]" * 65, "deeper than 64"),
            (b"[" * 100_000 + b"]" * 100_000, "deeper than 64"),
            (b'"' + b"x" * LARGEST_ANSWER + b'"', "larger than 1048576 bytes"),
        ],
    )
    def test_refuses_what_json_can_not_hold(self, body: bytes, words: str) -> None:
        with pytest.raises(HookError, match=words):
            decode(body)

    def test_sixty_four_levels_are_not_too_deep(self) -> None:
        assert json.dumps(decode(b"[" * 64 + b"]" * 64)) == "[" * 64 + "]" * 64
