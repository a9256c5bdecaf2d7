"""The 13 customizations: the contract with the people who write them.

Each entry says when its file is asked, what it is given and what it may give back, what empty data means, and what goes
on when it fails. Everything else in this room follows from here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from itgrix_kommo.config import Hook
from itgrix_kommo.customizations import payloads, samples


class Stage(Enum):
    CONVERSATION_REQUESTED = "conversation_requested"
    CONVERSATION_ACCEPTED = "conversation_accepted"
    CONVERSATION_ENDED = "conversation_ended"
    CALL_ENDED = "call_ended"
    RECORDING_COMPLETE = "recording_complete"
    CLICK_TO_CALL = "click_to_call"
    AUTODISTRIBUTION = "autodistribution"


class Lane(Enum):
    """Whose workers a customization shares: one that takes its time must not keep a waiting caller."""

    LIVE = "live"
    """Somebody holds a phone meanwhile: each has workers of its own, and waiting for one counts as its time."""
    ORDINARY = "ordinary"
    LONG = "long"


@dataclass(frozen=True, slots=True)
class HookSpec:
    """One customization. `number` is the vendor's; `cancels` completes *empty data means …*, None: it means nothing."""

    name: Hook
    number: int
    sentence: str
    stages: tuple[Stage, ...]
    lane: Lane
    input: type[payloads.Input]
    output: type[payloads.Output]
    cancels: str | None
    on_failure: str = "the unchanged data goes on"
    empty_text: str = ""
    """The field of the answer whose being an empty text means the same as empty data."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The top-level keys of an answer that have a meaning here."""
        return tuple(field.alias or name for name, field in self.output.model_fields.items())

    @property
    def params(self) -> dict[str, Any]:
        """An example of what it is given, the caller's to change."""
        return copy.deepcopy(samples.PARAMS[self.name])

    @property
    def answer(self) -> dict[str, Any]:
        """An example of what it may return."""
        data = samples.DATA[self.name]
        return {"state": "success"} if data is None else {"state": "success", "data": copy.deepcopy(data)}

    def unchanged(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The data that goes on where there is no such customization, or where it failed."""
        if self.name == "need_registration":
            return {"result": True}
        return {key: params[key] for key in self.keys if params.get(key) is not None}

    def misfits(self, params: Mapping[str, Any]) -> list[str]:
        """Where `params` is not what this customization must be given, field by field; empty if it is."""
        try:
            self.input.model_validate(params, strict=True)
        except ValidationError as error:
            return field_words(error, "params")
        return []


def field_words(error: ValidationError, root: str) -> list[str]:
    """What is wrong with a payload, one line for each field; the values are not repeated."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        place = root
        for step in problem["loc"]:
            place += f"[{step}]" if isinstance(step, int) else f".{step}"
        words = "missing" if problem["type"] == "missing" else problem["msg"]
        lines.append(f"{place}: {words[:1].lower()}{words[1:]}")
    return lines


_STAGES_OF_A_CALL: Final = (
    Stage.CONVERSATION_REQUESTED,
    Stage.CONVERSATION_ACCEPTED,
    Stage.CONVERSATION_ENDED,
    Stage.CALL_ENDED,
)
_REGISTRATION: Final = (Stage.CALL_ENDED,)

_ALL: Final = (
    HookSpec(
        name="need_registration",
        number=1,
        sentence="Decides whether the call is registered at all: black and white lists by number, trunk and so on.",
        stages=_STAGES_OF_A_CALL,
        lane=Lane.ORDINARY,
        input=payloads.NeedRegistrationInput,
        output=payloads.NeedRegistrationOutput,
        cancels=None,
        on_failure="the call is registered",
    ),
    HookSpec(
        name="process_call_params",
        number=2,
        sentence="Changes the call before it is written into Kommo.",
        stages=_REGISTRATION,
        lane=Lane.ORDINARY,
        input=payloads.CallParamsInput,
        output=payloads.CallParamsOutput,
        cancels="the call itself is not written",
    ),
    HookSpec(
        name="process_client_phone",
        number=3,
        sentence="Changes the client's phone number before anything is asked of Kommo or written to it.",
        stages=_STAGES_OF_A_CALL,
        lane=Lane.ORDINARY,
        input=payloads.ClientPhoneInput,
        output=payloads.ClientPhoneOutput,
        cancels="the client has no number",
        empty_text="phone",
    ),
    HookSpec(
        name="process_contact_creation_params",
        number=4,
        sentence="Changes the contact that is about to be created.",
        stages=_REGISTRATION,
        lane=Lane.ORDINARY,
        input=payloads.ContactInput,
        output=payloads.ContactOutput,
        cancels="no contact is created",
    ),
    HookSpec(
        name="process_lead_creation_params",
        number=5,
        sentence="Changes the lead that is about to be created.",
        stages=_REGISTRATION,
        lane=Lane.ORDINARY,
        input=payloads.LeadInput,
        output=payloads.LeadOutput,
        cancels="no lead is created",
    ),
    HookSpec(
        name="process_originate_params",
        number=6,
        sentence="Changes how Asterisk is told to dial on click-to-call: channel, context, number, caller ID.",
        stages=(Stage.CLICK_TO_CALL,),
        lane=Lane.LIVE,
        input=payloads.OriginateInput,
        output=payloads.OriginateOutput,
        cancels="nothing is dialled",
    ),
    HookSpec(
        name="process_record_file_path",
        number=7,
        sentence="Names the file that holds the conversation's recording, and may convert it itself.",
        stages=(Stage.RECORDING_COMPLETE,),
        lane=Lane.LONG,
        input=payloads.RecordPathInput,
        output=payloads.RecordPathOutput,
        cancels="the conversation has no recording",
        empty_text="path",
    ),
    HookSpec(
        name="process_task_creation_params",
        number=8,
        sentence="Changes the call-back task for a missed incoming or an unanswered outgoing call.",
        stages=_REGISTRATION,
        lane=Lane.ORDINARY,
        input=payloads.TaskInput,
        output=payloads.TaskOutput,
        cancels="no task is created",
    ),
    HookSpec(
        name="customize_autodistribution",
        number=9,
        sentence="Decides to whom an incoming call is put through, and which name the phone shows.",
        stages=(Stage.AUTODISTRIBUTION,),
        lane=Lane.LIVE,
        input=payloads.AutodistributionInput,
        output=payloads.AutodistributionOutput,
        cancels=None,
    ),
    HookSpec(
        name="post_registration",
        number=10,
        sentence="Does whatever you like once the call is registered; only its state counts.",
        stages=_REGISTRATION,
        lane=Lane.ORDINARY,
        input=payloads.PostRegistrationInput,
        output=payloads.PostRegistrationOutput,
        cancels=None,
        on_failure="nothing: the call is registered already",
    ),
    HookSpec(
        name="process_contact_update_params",
        number=11,
        sentence="Changes what is updated in the contact of the call.",
        stages=_REGISTRATION,
        lane=Lane.ORDINARY,
        input=payloads.UpdateInput,
        output=payloads.UpdateOutput,
        cancels="the contact stays as it is",
    ),
    HookSpec(
        name="process_lead_update_params",
        number=12,
        sentence="Changes what is updated in the lead of the call.",
        stages=_REGISTRATION,
        lane=Lane.ORDINARY,
        input=payloads.UpdateInput,
        output=payloads.UpdateOutput,
        cancels="the lead stays as it is",
    ),
    HookSpec(
        name="process_unsorted_creation_params",
        number=13,
        sentence="Changes the entry that an unknown client's call becomes among the incoming leads.",
        stages=_REGISTRATION,
        lane=Lane.ORDINARY,
        input=payloads.UnsortedInput,
        output=payloads.UnsortedOutput,
        cancels="no entry is created",
    ),
)

CATALOGUE: Final[Mapping[Hook, HookSpec]] = MappingProxyType({spec.name: spec for spec in _ALL})
"""By name, in the vendor's order, which is that of the configuration's `HOOKS`."""
