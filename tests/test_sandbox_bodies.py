"""Whatever is sent to the sandbox, it is taken or refused in Kommo's words: nothing makes it stumble."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from itgrix_kommo.kommo import brackets
from itgrix_kommo.sandbox import Kind, ManualClock, Switches
from itgrix_kommo.sandbox.account import Account
from itgrix_kommo.sandbox.activity_bodies import (
    CallBody,
    LinkBody,
    NoteBody,
    NoteChange,
    TaskBody,
    TaskChange,
    WebhookBody,
)
from itgrix_kommo.sandbox.bodies import Body, parse_items, parse_object
from itgrix_kommo.sandbox.card_bodies import (
    CardBody,
    CompanyBody,
    CompanyChange,
    ContactBody,
    ContactChange,
    LeadBody,
    LeadChange,
)
from itgrix_kommo.sandbox.matching import suffix
from itgrix_kommo.sandbox.problems import ApiError
from itgrix_kommo.sandbox.unsorted_bodies import ComplexLead, FormBody, SipBody
from tests.test_sandbox import ANN

MODELS: list[type[Body]] = [
    CallBody, CompanyBody, CompanyChange, ComplexLead, ContactBody, ContactChange, FormBody, LeadBody, LeadChange,
    LinkBody, NoteBody, NoteChange, SipBody, TaskBody, TaskChange, WebhookBody,
]  # fmt: skip
CODES = {"NotSupportedChoice", "InvalidType", "NotNullable", "NotBlank", "FieldMissing", "FieldNotExpected"}
KEYS = sorted({field.alias or name for model in MODELS for name, field in model.model_fields.items()})
KEYS += ["tags", "contacts", "companies", "leads", "value", "values", "enum_code", "field_id", "field_code", "name"]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from([ANN, 5501, 6601, 801, 7001, 70011, 142, "PHONE", "WORK", "inbound", "call_in", "leads", "", "0"]),
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=20,
)


def known() -> Account:
    account = Account(ManualClock(), Switches())
    contact = account.add_card(Kind.CONTACTS, {"name": "Ann"}, by=ANN)
    lead = account.add_card(Kind.LEADS, {}, by=ANN)
    assert (contact.id, lead.id) == (5501, 6601)
    return account


def check_refusal(body: dict[str, Any]) -> None:
    assert body["status"] == 400
    for item in body["validation-errors"]:
        assert isinstance(item["request_id"], str)
        assert {error["code"] for error in item["errors"]} <= CODES


class TestHostileBodies:
    @pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
    @given(raw=anything, more=anything)
    @settings(max_examples=60, deadline=None)
    def test_taken_or_refused(self, model: type[Body], raw: Any, more: Any) -> None:
        account = known()
        try:
            items = parse_items([raw, more], model, account)
            parse_object(raw, model, account)
        except ApiError as refused:
            check_refusal(json.loads(json.dumps(refused.body)))
        else:
            for item in items:
                if isinstance(item, CardBody):
                    item.attributes(account)

    @given(raw=st.dictionaries(st.sampled_from(sorted(LeadBody.model_fields)), scalars, max_size=4))
    @settings(deadline=None)
    def test_what_is_taken_can_be_kept(self, raw: dict[str, Any]) -> None:
        account = known()
        try:
            (body,) = parse_items([raw], LeadBody, account)
        except ApiError:
            return
        lead = account.add_card(Kind.LEADS, body.attributes(account), by=ANN)
        stage = account.stage(lead.status_id, lead.pipeline_id)
        assert stage is not None
        assert stage[1].type == 0


class TestPureParts:
    @given(st.dictionaries(st.text("abc", min_size=1), st.lists(st.text(), min_size=1, max_size=3), max_size=4))
    def test_brackets_there_and_back(self, tree: dict[str, list[str]]) -> None:
        parsed = brackets.parse(brackets.flatten(tree))
        assert {key: brackets.listed(values) for key, values in parsed.items()} == tree

    @given(st.lists(st.tuples(st.text("a[]0", max_size=12), st.text(max_size=3)), max_size=8))
    def test_brackets_take_any_key(self, pairs: list[tuple[str, str]]) -> None:
        assert isinstance(brackets.parse(pairs), dict)

    @given(st.text(), st.integers(1, 12))
    def test_a_suffix_is_plain_digits(self, phone: str, length: int) -> None:
        found = suffix(phone, length)
        assert len(found) <= length
        assert found == "" or (found.isascii() and found.isdecimal())
